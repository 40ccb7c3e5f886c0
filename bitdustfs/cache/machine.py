"""Small files of this machine, beside its vaults.

Which machine it is, where suppliers were last reached.
"""

import os

from bitdustfs.cache.folder import write_durably
from bitdustfs.config import home, peers_path
from bitdustfs.core.records import Family
from bitdustfs.errors import LocalError


def machine_id() -> bytes:
    """16 bytes that tell this machine from the owner's others; made at first use."""
    path = home() / "machine"
    if not path.exists():
        write_durably(path, os.urandom(16).hex().encode())
    try:
        return bytes.fromhex(path.read_text())
    except ValueError:
        raise LocalError(f"{path} is damaged; delete it and mount again") from None


def known_addresses(vault: bytes) -> list[str]:
    """Addresses remembered from earlier."""
    try:
        return peers_path(vault).read_text().split()
    except OSError:
        return []


def remember_addresses(family: Family) -> None:
    lines = [address for member in family.everybody for address in member.addresses]
    write_durably(peers_path(family.vault), "\n".join(lines).encode())
