"""Small files of this machine, beside its vaults.

Which machine it is, where suppliers were last reached, which suppliers run here.
"""

import os
import re
from contextlib import suppress
from pathlib import Path

from bitdustfs.cache.folder import write_durably
from bitdustfs.config import home, own_suppliers_path, peers_path
from bitdustfs.core.records import Family
from bitdustfs.errors import LocalError

NOWHERE = Path()  #: the folder of a supplier that is not known
NODE_NAME = re.compile("[0-9a-f]{64}")  #: of an own supplier's file


def machine_id() -> bytes:
    """16 bytes that tell this machine from the owner's others; made at first use."""
    path = home() / "machine"
    if not path.exists():
        write_durably(path, os.urandom(16).hex().encode())
    try:
        return bytes.fromhex(path.read_text())
    except ValueError:
        raise LocalError(f"{path} is damaged; delete it and mount again") from None


def own_suppliers() -> frozenset[bytes]:
    """Node keys of the suppliers that ran on this machine, as `note_own_supplier` kept them."""
    folder = own_suppliers_path()
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return frozenset(bytes.fromhex(name) for name in names if NODE_NAME.fullmatch(name))


def own_supplier_folders() -> list[Path]:
    """Folders of suppliers that ran on this machine and are still there, as they were noted."""
    folder, found = own_suppliers_path(), set()
    for path in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError):
            if NODE_NAME.fullmatch(path.name) and (named := path.read_bytes()):
                found.add(Path(os.fsdecode(named)))
    return sorted(path for path in found if (path / "node.key").is_file())


def note_own_supplier(node: bytes, folder: Path = NOWHERE) -> None:
    """Keeps the node key of a supplier that runs here, and where. Raises LocalError."""
    path = own_suppliers_path() / node.hex()
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_durably(path, b"" if folder == NOWHERE else os.fsencode(folder.absolute()))
    except OSError as error:
        raise LocalError(f"{path} cannot be kept: {error.strerror}") from error


def known_addresses(vault: bytes) -> list[str]:
    """Addresses remembered from earlier."""
    try:
        return peers_path(vault).read_text().split()
    except OSError:
        return []


def remember_addresses(family: Family) -> None:
    lines = [address for member in family.everybody for address in member.addresses]
    write_durably(peers_path(family.vault), "\n".join(lines).encode())
