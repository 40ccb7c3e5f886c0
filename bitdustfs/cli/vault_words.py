"""What commands about a whole vault say alike: it is not mounted here, and these may know it."""

import argparse

from bitdustfs.cache.machine import known_addresses
from bitdustfs.errors import UsageError
from bitdustfs.mount.mountpoint import attached_marker, ending_marker
from bitdustfs.net.addresses import check_address


def add_bootstrap(parser: argparse.ArgumentParser) -> None:
    """For vaults that this machine may not know."""
    parser.add_argument(
        "--bootstrap", action="append", default=[], metavar="HOST:PORT",
        help="a supplier or any node of the network, where none is known here (repeatable)",
    )  # fmt: skip


def addresses_of(vault: bytes, bootstrap: list[str]) -> list[str]:
    """Whom to ask for a vault. Raises UsageError while it is mounted here."""
    if attached_marker(vault).exists() or ending_marker(vault).exists():
        raise UsageError("the vault is mounted here: bitdust unmount first")
    return [*map(check_address, bootstrap), *known_addresses(vault)]
