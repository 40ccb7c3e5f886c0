"""`bitdust list`: vaults, keys, mounts and contracts of this machine. Nobody else is asked."""

import argparse
from contextlib import suppress

from bitdustfs.cache.machine import own_supplier_folders
from bitdustfs.cli.holdings import VaultLine, vault_lines
from bitdustfs.cli.json_words import add_json, say_json
from bitdustfs.cli.named import say_named
from bitdustfs.cli.texts import NODE_DIGITS
from bitdustfs.errors import UsageError
from bitdustfs.plain import say
from bitdustfs.supplier.befriend import own_supplier
from bitdustfs.units import format_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser)
    parser.set_defaults(run=run_list)


def run_list(args: argparse.Namespace) -> int:
    """A paragraph for each vault; what this machine's suppliers keep for others at the end."""
    lines = vault_lines()
    if args.json:
        say_json(lines)
        return 0
    for line in lines:
        _say_vault(line)
    if not lines:
        say("no vault is known here: bitdust vault create makes one, bitdust key restore opens one")
    _say_suppliers()
    return 0


def _say_vault(line: VaultLine) -> None:
    where = f"mounted at {line.mountpoint}, {line.state}" if line.mountpoint else line.state
    say_named(f"vault {line.vault[:NODE_DIGITS] or '(its key is locked)'}  {where}")
    key = line.key or "not in this home"
    say(f"  key: {key}{', locked by a passphrase' if line.locked else ''}")
    if line.code:
        say(f"  code {line.code}; this machine's disk has {format_size(line.local)} of it")
    for contract in line.contracts:
        promised = f"promised {format_size(contract.space)}" if contract.space else ""
        words = (contract.node[:NODE_DIGITS] or "a supplier at", promised, contract.address)
        say_named("  " + "  ".join(filter(None, words)))


def _say_suppliers() -> None:
    for folder in own_supplier_folders():
        own = own_supplier(folder)
        said = "does not run"
        with suppress(UsageError):
            told = own.told()
            said = (
                f"{told.state}; {format_size(told.promised)} promised to {told.customers} vaults, "
                f"{format_size(told.used)} used"
            )
        node = own.key.verify_key.encode().hex()[:NODE_DIGITS]
        say_named(f"supplier {node} in {folder}  {said}")
