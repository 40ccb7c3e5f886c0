"""Where things are: BITDUST_HOME, or the XDG folders. Another BITDUST_HOME is another machine."""

import os
from pathlib import Path

import platformdirs

from bitdustfs.errors import LocalError


def home() -> Path:
    """This machine's folder for keys, state and logs; made when missing, for its owner only."""
    named = os.environ.get("BITDUST_HOME")
    path = Path(named) if named else Path(platformdirs.user_data_dir("bitdust"))
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise LocalError(f"cannot make {path}: {error.strerror}; set BITDUST_HOME") from error
    return path.absolute()


def default_key_path() -> Path:
    """Where the key lives when no file is named."""
    return home() / "keys" / "vault.key"


def peers_path(vault: bytes) -> Path:
    """Addresses of this vault's suppliers, as last known: a convenience, never needed."""
    return home() / f"peers-{vault.hex()[:16]}"


def deleting_path(vault: bytes) -> Path:
    """Which suppliers a vault that is being deleted still has to be deleted at."""
    return home() / f"deleting-{vault.hex()[:16]}"


def names_path() -> Path:
    """Names of suppliers, vaults and machines, as this machine's owner gave them."""
    return home() / "names"


def own_suppliers_path() -> Path:
    """A folder with a file for each supplier that ran on this machine, by its node key.

    In it stands the supplier's folder.
    """
    return home() / "own-suppliers"
