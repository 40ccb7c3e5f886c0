"""Users and groups of this machine, as mount options name them."""

import grp
import os
import pwd
from collections.abc import Sequence

from bitdustfs.errors import UsageError

ID_MAX = 2**32 - 2  #: -1 means nobody (chown(2))
#: of root's environment, what would lead a user's programs to root's folders
ROOTS_OWN = ("BITDUST_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")


def id_of(kind: str, named: str) -> int:
    """The number of a user (`kind` uid) or a group (gid), given as that or by name.

    Raises UsageError.
    """
    if named.isascii() and named.isdigit():
        if int(named[:11]) <= ID_MAX:
            return int(named)
        raise UsageError(f"{kind}={named[:20]} is no number of anybody")
    try:
        return pwd.getpwnam(named).pw_uid if kind == "uid" else grp.getgrnam(named).gr_gid
    except KeyError:
        what = "user" if kind == "uid" else "group"
        raise UsageError(f"{kind}={named}: there is no such {what} on this machine") from None


def user_of(options: Sequence[str]) -> str:
    """Whom setuid= names; "" for nobody."""
    words = [word for word in ",".join(options).split(",") if word.startswith("setuid=")]
    return words[-1].partition("=")[2] if words else ""


def become(name: str) -> None:
    """This process goes on as a user, with that user's home. Root alone can. Raises UsageError."""
    if not name:
        return
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        raise UsageError(f"setuid={name}: there is no such user on this machine") from None
    if os.geteuid() == account.pw_uid:
        return
    if os.geteuid():
        raise UsageError(f"setuid={name}: only root can mount as somebody else")
    os.initgroups(name, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)
    for variable in ROOTS_OWN:
        os.environ.pop(variable, None)
    os.environ.update({"HOME": account.pw_dir, "USER": name, "LOGNAME": name})
