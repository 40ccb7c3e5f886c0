"""`bitdust vault recover`: a tree again, from blocks alone, when all roots are lost."""

import argparse
import shutil
import sys
from pathlib import Path

import trio

from bitdustfs import config
from bitdustfs.cache.machine import known_addresses, machine_id
from bitdustfs.cli.cmd_key import load_key
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import RootContent
from bitdustfs.errors import PeerError, UsageError
from bitdustfs.family.find import owner_credentials
from bitdustfs.mount.cpu import suite
from bitdustfs.net.addresses import check_address
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.vault.recover import Recovered, build_tree, find_index, look, new_root
from bitdustfs.vault.vault import Settings, open_state_folder, open_vault

TEXT = """\
The last resort, when no supplier knows a root of the vault any more. Give the addresses of all suppliers
that kept it, as far as you know them. What their blocks tell is put together to a tree again and published
as a new root; nothing is deleted. If the tree itself is lost, too, files come back under the paths they
had when they were written; files of up to 512 bytes are then lost, and deleted ones may be back."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = TEXT
    parser.add_argument("--key", type=Path, help="the key file")
    parser.add_argument(
        "--supplier", action="append", default=[], metavar="HOST:PORT",
        help="a supplier's address (repeatable; those remembered here are asked as well)",
    )  # fmt: skip
    parser.add_argument(
        "--over-root", action="store_true", help="although a root is known that is of no use"
    )
    parser.set_defaults(run=run_recover)


def run_recover(args: argparse.Namespace) -> int:
    key = load_key(args.key)
    addresses = [check_address(a) for a in args.supplier]
    addresses += [a for a in known_addresses(key.vault_id) if a not in addresses]
    if not addresses:
        raise UsageError("no supplier's address is known here; name them with --supplier")
    outcome = trio.run(_recover, key, addresses, args.over_root)
    if outcome.index:
        print(f"the tree is whole again, from {outcome.blocks} blocks; mount the vault")
    else:
        print(
            f"{outcome.files} files were put together from {outcome.blocks} blocks, {outcome.unnamed} "
            "of them without a known name (in lost+found); mount the vault and look"
        )
    if outcome.unreadable:
        print(f"{outcome.unreadable} blocks could not be read; more suppliers would help")
    return 0


async def _recover(key: VaultKey, addresses: list[str], over_root: bool) -> Recovered:
    credentials = owner_credentials(key)
    async with trio.open_nursery() as nursery:
        suppliers = []
        for address in addresses:
            peer = PeerSupplier(b"", (address,), credentials, nursery)
            try:
                await peer.ping()
                suppliers.append(peer)
            except PeerError as error:
                _say(f"{address}: {error}")
        try:
            return await _rebuild(key, suppliers, over_root)
        finally:
            for peer in suppliers:
                await peer.aclose()
            nursery.cancel_scope.cancel()


async def _rebuild(key: VaultKey, suppliers: list[PeerSupplier], over_root: bool) -> Recovered:
    found = await look(key, suppliers, over_root, _say)
    content = await find_index(key, found)
    if content is not None:
        await new_root(key, suite(), found, content)
        return Recovered(True, len(found.headers), found.unreadable)
    await new_root(key, suite(), found, RootContent(None, (), key.name_key, 0, 0))
    scratch = config.home() / "recovering"
    shutil.rmtree(scratch, ignore_errors=True)
    folder = open_state_folder(scratch, key.vault_id, machine_id())
    try:
        async with open_vault(
            folder,
            key,
            suite(),
            found.family,
            found.connect,
            Settings(take_over=True, reclaims=False),
        ) as vault:
            outcome = await build_tree(vault, found)
            await vault.publish()
        return outcome
    finally:
        folder.close()
        shutil.rmtree(scratch, ignore_errors=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr)
