"""`bitdust vault create`: suppliers promise space, the first root is accepted, a key file is left."""

import argparse
import os
from pathlib import Path

import trio

from bitdustfs import config
from bitdustfs.cache import keyfile
from bitdustfs.cache.machine import known_addresses, machine_id, remember_addresses
from bitdustfs.cache.state import State
from bitdustfs.cli import cmd_recover as recover
from bitdustfs.cli.cmd_key import load_key
from bitdustfs.cli.policy import HELP, parse_policy
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.placement import default_k, metadata_k, parse_ecc, promise_each
from bitdustfs.core.records import (
    FORMAT,
    Ballot,
    Family,
    Features,
    Group,
    Member,
    Root,
    open_family_untrusted,
    open_root_untrusted,
    seal_record,
)
from bitdustfs.core.sealing import Suite
from bitdustfs.core.spread import Spread, apart
from bitdustfs.errors import Malformed, PeerError, Unavailable, UsageError
from bitdustfs.family import refound as refounding
from bitdustfs.family.find import (
    connector,
    find_family,
    owner_credentials,
)
from bitdustfs.family.hire import contract
from bitdustfs.mount.cpu import suite
from bitdustfs.net.addresses import check_address
from bitdustfs.net.control import ask
from bitdustfs.net.dht.discover import announce_vault, find_suppliers, joined
from bitdustfs.net.dht.node import Dht
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.net.register import Known, RootRegister
from bitdustfs.units import MIB, format_size, parse_size
from bitdustfs.vault.publish import first_root
from bitdustfs.vault.vault import open_state_folder

SMALLEST = 16 * MIB
SEARCHES = 4  #: searches for suppliers while too few are found
CHOICE = 3  #: times as many suppliers as are needed are looked for: some may be neighbours


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True)
    create = verbs.add_parser("create", help="make a new vault and its key file")
    create.add_argument("--ecc", metavar="K/N", help="any K of N suppliers rebuild all (4/7)")
    create.add_argument("--space", default="10G", help="size of the vault (10G)")
    create.add_argument("--key", type=Path, help="where to write the key file")
    create.add_argument(
        "--supplier", action="append", default=[], metavar="HOST:PORT",
        help="a supplier's address; give as many as the code needs",
    )  # fmt: skip
    create.add_argument(
        "--bootstrap", action="append", default=[], metavar="HOST:PORT",
        help="any node of the network: suppliers are found through it",
    )  # fmt: skip
    create.add_argument("--policy", action="append", default=[], metavar="NAME=VALUE", help=HELP)
    create.set_defaults(run=run_create)
    policy = verbs.add_parser("set", help="change the policy of a mounted vault")
    policy.add_argument("mountpoint", type=Path)
    policy.add_argument("policy", nargs="+", metavar="NAME=VALUE", help=HELP)
    policy.set_defaults(run=run_set)
    text = "a new family, of those that are left, when a majority of the suppliers is gone for good"
    new = verbs.add_parser("refound", help=text, description=refounding.__doc__)
    new.add_argument("--key", type=Path, help="the key file")
    new.add_argument(
        "--bootstrap", action="append", default=[], metavar="HOST:PORT",
        help="a supplier, a reserve or any node of the network",
    )  # fmt: skip
    new.add_argument("--yes", action="store_true", help="the risk is known: do not ask")
    new.set_defaults(run=run_refound)
    text = "a tree again, from blocks alone, when all roots are lost"
    recover.add_arguments(verbs.add_parser("recover", help=text))


def run_set(args: argparse.Namespace) -> int:
    for _ in ask(args.mountpoint, "set", policy=parse_policy(args.policy)):
        pass
    print("the vault's family knows of it from now on")
    return 0


RISK = """\
This signs a new family without the old one's majority. What only the lost suppliers know of the newest
changes is lost; and if they are merely cut off and another machine writes there, the two histories never
come together: the new one wins. Do this when they are gone for good. Go on? [y/N] """


def run_refound(args: argparse.Namespace) -> int:
    """Says the risk, asks, and founds the new family."""
    key = load_key(args.key)
    if not args.yes and input(RISK).strip().lower() not in ("y", "yes"):
        print("nothing was changed")
        return 1
    bootstrap = [check_address(a) for a in args.bootstrap]
    family = trio.run(_refound, key, bootstrap)
    remember_addresses(family)
    print(
        f"the vault has a family of {len(family.voters)} again (epoch {family.epoch}); mount it as usual"
    )
    return 0


async def _refound(key: VaultKey, bootstrap: list[str]) -> Family:
    credentials = owner_credentials(key)
    addresses = [*bootstrap, *known_addresses(key.vault_id)]
    async with trio.open_nursery() as nursery:
        known = await find_family(key, addresses, credentials, nursery)
        connect = connector(credentials, nursery)
        own = _own_root(key)
        family = await refounding.refound(key, known.family, connect, machine_id(), own)
        nursery.cancel_scope.cancel()
    return family


def _own_root(key: VaultKey) -> Known | None:
    """The newest root that this machine knows to have been accepted. Raises StateLocked while it is mounted."""
    folder = open_state_folder(config.home(), key.vault_id, machine_id())
    try:
        state = State(folder.path / "state", key.cache_key, key.vault_id, Suite(suite()))
        try:
            row = state.published()
        finally:
            state.close()
    finally:
        folder.close()
    if row is None:
        return None
    root = open_root_untrusted(row.root, key.vault_id)
    return Known(root, row.root, open_family_untrusted(row.family, key.vault_id), row.family)


def run_create(args: argparse.Namespace) -> int:
    addresses = [check_address(a) for a in args.supplier]
    bootstrap = [check_address(a) for a in args.bootstrap]
    if args.ecc:
        k, n = parse_ecc(args.ecc)
    else:
        n = len(addresses) or 7
        k = default_k(n)
    if len(addresses) < n and not bootstrap:
        raise UsageError(
            f"{k}/{n} needs {n} suppliers and {len(addresses)} were named; name more with "
            "--supplier, or a node of the network with --bootstrap to find them"
        )
    path = args.key or config.default_key_path()
    if path.exists():
        raise UsageError(f"{path} exists already; name another file with --key")
    size, policy = parse_size(args.space), parse_policy(args.policy)
    if size < SMALLEST:
        raise UsageError(f"a vault has {format_size(SMALLEST)} at least")
    if policy.get("margin", 0) > n - k:
        raise UsageError(f"with {k}/{n} the margin is at most {n - k}")
    key = VaultKey(os.urandom(32))
    keyfile.save(path, key)
    try:
        family = trio.run(
            _create, key, addresses[:n], bootstrap or addresses[:1], k, n, size, policy
        )
    except BaseException:
        path.unlink()
        raise
    remember_addresses(family)
    print(f"vault {key.vault_id.hex()[:16]} of {format_size(size)} on {n} suppliers, key in {path}")
    print(f"any {n - k} of the {n} suppliers may be lost without losing anything")
    print("write its 24 words down now: bitdust key words")
    return 0


async def _create(
    key: VaultKey,
    addresses: list[str],
    bootstrap: list[str],
    k: int,
    n: int,
    size: int,
    policy: dict[str, int],
) -> Family:
    near = 0
    async with joined(bootstrap) as dht:
        if len(addresses) < n and not dht.contacts():
            raise Unavailable(f"nobody answers at {', '.join(bootstrap)}")
        if len(addresses) < n:
            found = await _find_enough(dht, n - len(addresses), promise_each(size, k))
            new = [address for address in found if address not in addresses]
            fit = apart(new, addresses, policy.get("spread", Spread.NETWORK))
            near = len(new) - len(fit)
            addresses = [*addresses, *fit][:n]
        if len(addresses) < n:
            raise Unavailable(
                f"{k}/{n} needs {n} suppliers that offer {format_size(promise_each(size, k))} each; "
                f"{len(addresses)} were found. Ask for less --space, or another --ecc"
                + (
                    f", or take {near} of networks that are there already: --policy spread=none"
                    if near
                    else ""
                )
            )
        family, root, raw_family = await _contract(key, addresses, k, size, policy)
        await announce_vault(dht, key, root, family, raw_family, Suite(suite()))
    return family


async def _find_enough(dht: Dht, count: int, space: int) -> list[str]:
    """Addresses of suppliers, at least `count` where there are so many: answers get lost on a busy network."""
    found: list[str] = []
    for _ in range(SEARCHES):
        more = await find_suppliers(dht, CHOICE * count, space)
        found += [address for address in more if address not in found]
        if len(found) >= count:
            break
    return found


async def _contract(
    key: VaultKey, addresses: list[str], k: int, size: int, policy: dict[str, int]
) -> tuple[Family, Root, bytes]:
    credentials = owner_credentials(key)
    async with trio.open_nursery() as nursery:
        suppliers = [PeerSupplier(b"", (a,), credentials, nursery) for a in addresses]
        try:
            return await _establish(key, suppliers, k, size, policy)
        finally:
            for supplier in suppliers:
                await supplier.aclose()
            nursery.cancel_scope.cancel()


async def _establish(
    key: VaultKey, suppliers: list[PeerSupplier], k: int, size: int, policy: dict[str, int]
) -> tuple[Family, Root, bytes]:
    per_supplier = promise_each(size, k)
    members: list[Member] = []
    for supplier in suppliers:
        address = supplier.addresses[0]
        try:
            members.append(await contract(supplier, per_supplier))
        except (PeerError, Malformed) as error:
            raise Unavailable(f"the supplier at {address} made no contract: {error}") from error
    if len({m.node for m in members}) != len(members):
        raise UsageError("two of the addresses lead to the same supplier")
    body = Family(
        FORMAT, Features(), key.vault_id, 0, bytes(32), key.capability().read_proof_public,
        (Group(k, metadata_k(k), tuple(members)),), words=policy,
    )  # fmt: skip
    family = seal_record(key.signing, "family", body)
    register = RootRegister(key.vault_id, {s.node: s for s in suppliers})
    ballot = Ballot(1, os.urandom(16))
    await register.prepare(key.signing, ballot, False)
    root = first_root(key, Suite(suite()), ballot, family)
    await register.accept(root, family)
    await register.release(ballot)
    opened = open_root_untrusted(root, key.vault_id)
    return open_family_untrusted(family, key.vault_id), opened, family
