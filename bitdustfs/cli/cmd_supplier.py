"""`bitdust supplier run`: a daemon that keeps other people's fragments."""

import argparse
import logging
import os
import random
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import trio
from nacl.signing import SigningKey
from tqdm import tqdm

from bitdustfs.cache.folder import OwnedFolder, write_durably
from bitdustfs.core.keys import node_id
from bitdustfs.core.records import Member
from bitdustfs.errors import LocalError, UsageError
from bitdustfs.net.addresses import acceptable, check_address, dialable, split
from bitdustfs.net.control import Request, Say, ask, ask_at
from bitdustfs.net.control import serve as serve_control
from bitdustfs.net.dht.datagram import sign_node_record
from bitdustfs.net.dht.discover import ANNOUNCE_EVERY, endpoint, is_private
from bitdustfs.net.dht.node import Dht, Endpoint
from bitdustfs.net.peer import Credentials, PeerSupplier
from bitdustfs.net.tls import make_context
from bitdustfs.supplier.diskshelf import DiskShelf
from bitdustfs.supplier.guard import Guard, MemberConnect
from bitdustfs.supplier.housekeeping import TRASH_SECONDS
from bitdustfs.supplier.server import SupplierServer
from bitdustfs.supplier.service import SupplierService
from bitdustfs.units import format_size, parse_size

log = logging.getLogger(__name__)

FIRST_TICK = 0.2  #: seconds between attempts to join
LEAVE_TICK = 0.5  #: seconds between looks at who still depends on a supplier that leaves
AFTER_FAILURE = 10.0  #: seconds until a task that failed goes on
TIDY_EVERY = 600.0  #: seconds between looks into the trash
ANNOUNCE_TICK = 2.0  #: seconds between looks at whether there is something new to announce


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True)
    run = verbs.add_parser("run", help="keep fragments for others until stopped (SIGTERM)")
    run.add_argument("--dir", type=Path, required=True, help="folder for shelf, index and key")
    run.add_argument("--space", required=True, help="bytes to donate, for example 10G")
    run.add_argument("--listen", required=True, metavar="HOST:PORT", help="address to serve at")
    run.add_argument(
        "--announce", metavar="HOST:PORT",
        help="address to be found at, where that is another one (behind a router)",
    )  # fmt: skip
    run.add_argument(
        "--bootstrap", action="append", default=[], metavar="HOST:PORT",
        help="any node of the network, to be found by others (repeatable)",
    )  # fmt: skip
    run.add_argument(
        "--trash-days", type=float, default=TRASH_SECONDS / 86400, metavar="DAYS",
        help="how long deleted blocks stay readable, where there is room (3)",
    )  # fmt: skip
    run.set_defaults(run=run_supplier)
    replace = verbs.add_parser("replace", help="give a position of a mounted vault to another one")
    replace.add_argument("mountpoint", type=Path)
    replace.add_argument("position", type=int, help="see bitdust suppliers")
    replace.add_argument(
        "--with", dest="address", default="", metavar="HOST:PORT",
        help="the new supplier (else one is found in the network)",
    )  # fmt: skip
    replace.set_defaults(run=run_replace)
    leave = verbs.add_parser(
        "leave",
        help="hand what a running supplier keeps over to others; it ends when that is done, watched or not",
    )
    leave.add_argument("--dir", type=Path, required=True, help="the supplier's folder")
    leave.set_defaults(run=run_leave)


def node_key(folder: Path) -> SigningKey:
    """The node's own key, made at first use."""
    path = folder / "node.key"
    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(path, os.urandom(32).hex().encode())
    try:
        return SigningKey(bytes.fromhex(path.read_text()))
    except ValueError:
        raise LocalError(f"{path} is damaged; a supplier without its key is another one") from None


def run_replace(args: argparse.Namespace) -> int:
    """Returns once the new supplier has everything and the old one is out."""
    if args.address:
        check_address(args.address)
    with tqdm(unit="block", desc="filling", leave=False, disable=None) as bar:
        for answer in ask(args.mountpoint, "replace", position=args.position, address=args.address):
            if "progress" in answer:
                bar.total, bar.n = answer["total"], answer["progress"]
                bar.refresh()
    print(f"position {args.position} has another supplier")
    return 0


def run_leave(args: argparse.Namespace) -> int:
    """Returns once nobody depends on the supplier any more; it has ended then."""
    with tqdm(unit="fragment", desc="handing over", leave=False, disable=None) as bar:
        for answer in ask_at(args.dir / "control", f"no supplier runs in {args.dir}", "leave"):
            if "progress" in answer:
                bar.total, bar.n = answer["total"], answer["progress"]
                bar.refresh()
    print("nobody depends on this supplier any more; it has ended, and its folder may be deleted")
    return 0


def run_supplier(args: argparse.Namespace) -> int:
    """Serves until SIGTERM or SIGINT."""
    space = parse_size(args.space)
    address = check_address(args.listen)
    found_at = check_served(args.announce or address)
    if not 0 <= args.trash_days <= 3650:
        raise UsageError("--trash-days is a number of days, up to 3650")
    key = node_key(args.dir)
    folder = OwnedFolder(args.dir / "store", "shelf", {"id": key.verify_key.encode().hex()})
    try:
        shelf = DiskShelf(folder)
        try:
            bootstrap = [check_address(a) for a in args.bootstrap]
            contacts = Contacts(args.dir / "contacts")
            there = shutil.disk_usage(folder.path).free + shelf.used_total()
            if space > there and not shelf.vaults():
                raise UsageError(
                    f"--space {args.space} is more than {folder.path} has room for: {format_size(there)}"
                )
            if space > there:  # what it keeps is served all the same
                log.warning("there is room for %s only, less than was meant", format_size(there))
                space = there
            service = SupplierService(key, shelf, space, trash_seconds=args.trash_days * 86400)
            trio.run(_serve, service, (address, found_at), bootstrap, contacts, args.dir)
        finally:
            shelf.close()
    finally:
        folder.close()
    return 0


def check_served(address: str) -> str:
    """An address that others can dial: IPv4, port from 1024 on. Raises UsageError."""
    host, port = split(address)
    if not acceptable(host, port, allow_private=True) or ":" in host:
        raise UsageError(
            f"others could not reach {address}: write the IPv4 address of this machine and a port from "
            "1024 on (behind a router: --listen here, --announce where it forwards from)"
        )
    return address


class Contacts:
    """DHT contacts that outlive the process, so that a restart needs no bootstrap."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> list[str]:
        try:
            return self._path.read_text().split()
        except OSError:
            return []

    def save(self, endpoints: list[Endpoint]) -> None:
        lines = "\n".join(f"{host}:{port}" for host, port in endpoints)
        write_durably(self._path, lines.encode())


async def _announce(
    dht: Dht, service: SupplierService, address: str, bootstrap: list[str], contacts: Contacts
) -> None:
    """Joins the DHT and keeps this node's record there, newer whenever the offer changes."""
    own = node_id(service.node.verify_key.encode())
    said, said_at = -1, 0.0
    while True:
        if not dht.contacts():
            known = [a for a in {*bootstrap, *contacts.load()} if a != address]
            await dht.bootstrap([endpoint(a) for a in known])
        offer = service.offer()
        if offer != said or trio.current_time() - said_at > ANNOUNCE_EVERY:
            seq = time.time_ns() // 1_000_000
            record = sign_node_record(service.node, seq, (address,), offer)
            if await dht.store(own, record) or not bootstrap:
                said, said_at = offer, trio.current_time()
            contacts.save(dht.contacts())
        await trio.sleep(ANNOUNCE_TICK if said >= 0 else FIRST_TICK)


async def _republish(dht: Dht) -> None:
    while True:
        await trio.sleep(ANNOUNCE_EVERY * random.uniform(0.5, 1.5))
        await dht.republish()


async def _tidy(service: SupplierService) -> None:
    while True:
        freed = await trio.to_thread.run_sync(service.tidy)
        if freed:
            log.info("%s of the trash are gone", format_size(freed))
        await trio.to_thread.run_sync(service.make_room)
        await trio.sleep(TIDY_EVERY)


async def steadily(what: str, task: Callable[[], Awaitable[None]]) -> None:
    """Runs a task without which the supplier still serves: a full disk, or a bug in it, ends nothing."""
    while True:
        try:
            await task()
            return
        except Exception:
            log.exception("%s failed; it goes on in %d s", what, AFTER_FAILURE)
            await trio.sleep(AFTER_FAILURE)


def kin_connector(
    node: SigningKey, nursery: trio.Nursery, allow_private: bool = True
) -> MemberConnect:
    """Sessions with the other suppliers of families that this node belongs to, one each.

    Where they are, a stranger says who owns the vault: see net/addresses.py.
    """
    own = node.verify_key.encode()
    context = make_context(node.encode(), server_side=False)
    sessions: dict[tuple[bytes, bytes], PeerSupplier] = {}

    def connect(vault: bytes, member: Member) -> PeerSupplier:
        addresses = dialable(member.addresses, allow_private)
        known = sessions.get((vault, member.node))
        if known is None or known.addresses != addresses:
            credentials = Credentials(vault, "member", node, own, context)
            known = PeerSupplier(member.node, addresses, credentials, nursery)
            sessions[vault, member.node] = known
        return known

    return connect


async def _serve_control(
    folder: Path, guard: Guard, service: SupplierService, running: trio.CancelScope
) -> None:
    """Answers `bitdust supplier leave`."""
    leaving = trio.Event()

    async def answer(request: Request, say: Say) -> dict[str, object]:
        if request.get("verb") != "leave":
            return {"error": "a supplier only knows how to leave"}
        service.kinship.leaving = True
        leaving.set()
        vaults = await trio.to_thread.run_sync(guard.depending)
        rows = {vault: service.shelf.vault(vault) for vault in vaults}
        counts = {vault: row.fragments for vault, row in rows.items() if row is not None}
        while depending := await trio.to_thread.run_sync(guard.depending):
            left = sum(
                max(0, counts.get(vault, 0) - len(service.kinship.handed.get(vault, ())))
                for vault in depending
            )
            total = sum(counts.values())
            await say({"progress": total - left, "total": total})
            await trio.sleep(LEAVE_TICK)
        return {"ok": True}

    async def end_when_free() -> None:
        """Also when whoever said that it leaves does not wait for it."""
        await leaving.wait()
        while True:
            depending = await trio.to_thread.run_sync(guard.depending)
            await trio.sleep(2 * LEAVE_TICK)  # whoever waits is told first
            if not depending:
                running.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(end_when_free)
        nursery.start_soon(serve_control, folder / "control", answer)


async def _serve(
    service: SupplierService,
    addresses: tuple[str, str],
    bootstrap: list[str],
    contacts: Contacts,
    folder: Path,
) -> None:
    address, found_at = addresses
    host, _, port = address.rpartition(":")
    context = make_context(service.node.encode(), server_side=True)
    try:
        listeners = await trio.open_tcp_listeners(int(port), host=host.strip("[]"))
    except OSError as error:
        raise LocalError(f"cannot listen at {address}: {error.strerror}") from error
    dht = Dht(service.node, serves=True, allow_private=is_private([address]))
    await dht.bind(host.strip("[]"), int(port))
    log.info("supplier at %s offers %s", address, format_size(service.offer()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(SupplierServer(service, context).serve, listeners)
        await nursery.start(dht.run)
        announce = partial(_announce, dht, service, found_at, bootstrap, contacts)
        nursery.start_soon(steadily, "emptying the trash", partial(_tidy, service))
        nursery.start_soon(steadily, "republishing", partial(_republish, dht))
        nursery.start_soon(steadily, "announcing this node", announce)
        guard = Guard(service, kin_connector(service.node, nursery, is_private([address])))
        nursery.start_soon(steadily, "watching the others", guard.run)
        nursery.start_soon(_serve_control, folder, guard, service, nursery.cancel_scope)
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                log.info("stopped by signal %d", number)
                nursery.cancel_scope.cancel()
                break
