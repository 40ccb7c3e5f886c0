"""Checks: can this user mount here, and how well?"""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from shlex import quote

from bitdustfs.mount.mountable import DEVICE, FUSE_CONF
from bitdustfs.mount.mountpoint import OURS, mounted_at
from bitdustfs.mount.places import BACKGROUND_MAX, CONTROL
from bitdustfs.system.diagnosis import Observation, ok, warning, wrong

ALLOWED = "user_allow_other"
FSTAB = Path("/etc/fstab")
HELPERS = (Path("/sbin"), Path("/usr/sbin"))  #: where mount(8) looks for mount.TYPE
KINDS = ("bitdust", OURS)  #: types of our lines in fstab


def check_device(uid: int, device: Path = DEVICE) -> Iterator[Observation]:
    """The kernel's side of FUSE."""
    if not device.exists():
        yield wrong(
            "device", f"there is no {device}",
            "modprobe fuse, as root (a container needs --device /dev/fuse and --cap-add SYS_ADMIN)",
        )  # fmt: skip
    elif uid and not os.access(device, os.R_OK | os.W_OK):
        yield wrong("device", f"you may not use {device}", f"chmod 666 {device}, as root")
    else:
        yield ok("device", f"{device} is there")


def check_fusermount(
    uid: int, which: Callable[[str], str | None] = shutil.which
) -> Iterator[Observation]:
    """By which users mount, and everybody unmounts."""
    tool = which("fusermount3")
    if tool is None:
        say = wrong if uid else warning
        yield say("fusermount3", "fusermount3 is missing", "apt install fuse3")
        return
    found = os.stat(tool)
    if uid and not (found.st_mode & stat.S_ISUID and found.st_uid == 0):
        yield wrong(
            "fusermount3", f"{tool} does not run as root: you cannot mount",
            f"chown root {quote(tool)}; chmod u+s {quote(tool)}; as root",
        )  # fmt: skip
    else:
        yield ok("fusermount3", f"{tool} is there")


def check_allow_other(
    uid: int, conf: Path = FUSE_CONF, fstab: Path = FSTAB, wanted: bool = False
) -> Iterator[Observation]:
    """Where a user wants others let in: by a mount option of fstab or (`wanted`) config.toml."""
    if uid == 0:
        yield ok("allow_other", "root may let other users into a mount")
        return
    try:
        allowed = ALLOWED in map(str.strip, conf.read_text().splitlines())
    except (OSError, UnicodeDecodeError):
        allowed = False
    lines = [line for line in fstab_lines(fstab) if "allow_other" in line[3].split(",")]
    if allowed:
        yield ok("allow_other", f"{ALLOWED} is in {conf}: -o allow_other works")
    elif wanted or lines:
        where = f"the line of {lines[0][1]} in {fstab}" if lines else "config.toml"
        yield wrong(
            "allow_other", f"{where} says allow_other, and {conf} does not let users do that",
            f"echo {ALLOWED} | sudo tee -a {conf}",
        )  # fmt: skip
    else:
        yield ok("allow_other", f"{ALLOWED} is not in {conf}; only -o allow_other would need it")


def check_control(uid: int, control: Path = CONTROL) -> Iterator[Observation]:
    """By which more than a dozen reads may wait for absent suppliers at once."""
    if uid == 0 or mounted_at(control) is not None:
        yield ok("fusectl", f"{BACKGROUND_MAX} reads may wait for suppliers at once")
    else:
        yield warning(
            "fusectl", "a dozen reads that wait for absent suppliers hold up local work",
            f"mount -t fusectl none {control}, as root (systemd does it at boot)",
        )  # fmt: skip


def check_fstab(fstab: Path = FSTAB, helpers: tuple[Path, ...] = HELPERS) -> Iterator[Observation]:
    """Lines for vaults, and what mount(8) needs for them."""
    lines = fstab_lines(fstab)
    if not lines:
        return
    missing = [
        kind for kind in sorted({line[2] for line in lines})
        if not any(os.access(folder / _helper(kind), os.X_OK) for folder in helpers)
    ]  # fmt: skip
    for kind in missing:
        yield wrong(
            "fstab", f"{fstab} has a vault of type {kind}, and there is no "
            f"{helpers[0] / _helper(kind)}",
            "bitdust install, as root: it links it",
        )  # fmt: skip
    for _, folder, _, words in lines:
        if not Path(folder).is_dir():
            yield wrong("fstab", f"{fstab} names {folder}, which is no folder", f"mkdir {folder}")
        if "_netdev" not in words.split(",") or "nofail" not in words.split(","):
            yield warning(
                "fstab", f"the line of {folder} lacks _netdev or nofail: a boot may wait for it",
                f"write _netdev,nofail into its options in {fstab}",
            )  # fmt: skip
    if not missing:
        yield ok("fstab", f"{len(lines)} lines of {fstab} are vaults")


def _helper(kind: str) -> str:
    """The program that mount(8) runs for a type: for fuse.X, mount.fuse or mount.fuse.X."""
    return f"mount.{kind}"


def fstab_lines(fstab: Path) -> list[list[str]]:
    """What, where, type and options of the lines that are vaults (fstab(5))."""
    try:
        lines = fstab.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    fields = [line.split() for line in lines if not line.lstrip().startswith("#")]
    return [
        [unescaped(word) for word in line[:4]] for line in fields
        if len(line) >= 4 and line[2] in KINDS
    ]  # fmt: skip


def unescaped(word: str) -> str:
    """Blanks, tabs and backslashes are octal in fstab."""
    for code, character in (("040", " "), ("011", "\t"), ("012", "\n"), ("134", "\\")):
        word = word.replace(f"\\{code}", character)
    return word
