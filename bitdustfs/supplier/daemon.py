"""What `bitdust supplier run` does: one supplier as a process, until it is stopped or has left.

It listens, is found through the DHT, watches its kin, tidies up, and answers its control socket.
Serving alone must go on: if that fails, the process ends. All else goes on after a failure, some
seconds later.
"""

import logging
import random
import resource
import shutil
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import trio

from bitdustfs.cache.deals import DealFolder
from bitdustfs.cache.folder import OwnedFolder
from bitdustfs.cache.machine import note_own_supplier
from bitdustfs.cache.secrecy import lock_node_key
from bitdustfs.core.keys import derive
from bitdustfs.errors import LocalError, UsageError
from bitdustfs.net import notify
from bitdustfs.net.addresses import dialable, split
from bitdustfs.net.dht.dialback import Dialling
from bitdustfs.net.dht.discover import ANNOUNCE_EVERY
from bitdustfs.net.dht.node import Dht
from bitdustfs.net.dht.seeker import located
from bitdustfs.net.dht.udp import UdpSocket
from bitdustfs.net.lan.multicast import Multicast
from bitdustfs.net.lan.nearby import Calling, Near, Nearby, NobodyNear, links_of
from bitdustfs.net.line import OwnLine
from bitdustfs.net.listening import serve as serve_control
from bitdustfs.net.routers.mapper import map_first
from bitdustfs.net.tls import make_context
from bitdustfs.net.whereabouts import AddressBook
from bitdustfs.plain import set_log_level
from bitdustfs.supplier.admission import Admission, read_admission
from bitdustfs.supplier.desk import Desk
from bitdustfs.supplier.dials import Dials
from bitdustfs.supplier.diskshelf import DiskShelf
from bitdustfs.supplier.guard import Guard
from bitdustfs.supplier.halfway import Crossing
from bitdustfs.supplier.kindials import kin_book, kin_connector
from bitdustfs.supplier.mapping import PortMapping
from bitdustfs.supplier.nodekey import node_key
from bitdustfs.supplier.offering import Offering, remember, with_donated
from bitdustfs.supplier.orders import SUPPLIER_COMMANDS
from bitdustfs.supplier.outside import Doors, meeting_itself
from bitdustfs.supplier.presence import Contacts, OwnRecord, private_wanted
from bitdustfs.supplier.proofs import Proofs
from bitdustfs.supplier.relay import RELAYED_HOST, Relay
from bitdustfs.supplier.relaycircle import circle_of
from bitdustfs.supplier.reload import SupplierReload
from bitdustfs.supplier.server import SupplierServer
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.shelf import Shelf
from bitdustfs.supplier.standby import StandingBy
from bitdustfs.units import format_size

log = logging.getLogger(__name__)

AFTER_FAILURE = 10.0  #: seconds until a task that failed goes on
TIDY_EVERY = 600.0  #: seconds between looks into the trash
DESCRIPTORS = 4096  #: open files and connections, where this machine allows so many


def run(settings: Offering) -> None:
    """Serves until SIGTERM, SIGINT, or until it has left. Raises UsageError, LocalError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < DESCRIPTORS:
        wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    set_log_level(settings.log)
    key = node_key(settings.folder)
    lock_node_key(key)
    try:
        note_own_supplier(key.verify_key.encode(), settings.folder)
    except LocalError as error:  # it serves all the same
        log.warning("a vault of this machine may take this supplier for another's: %s", error)
    identity = {"id": key.verify_key.encode().hex()}
    folder = OwnedFolder(settings.folder / "store", "shelf", identity)
    try:
        shelf = DiskShelf(folder)
        try:
            remember(settings)
            wanted = with_donated(settings).space
            space = check_space(wanted, folder.path, shelf)
            deals = DealFolder(settings.folder)
            admission = read_admission(settings.customers, key.verify_key.encode(), deals.standing)
            service = SupplierService(
                key, shelf, space, trash_seconds=settings.trash_seconds, admission=admission,
                deals=deals,
            )  # fmt: skip
            trio.run(Daemon(service, settings).run)
        finally:
            shelf.close()
    finally:
        folder.close()


def check_space(space: int, path: Path, shelf: Shelf) -> int:
    """The bytes that can be donated of those that were meant.

    Raises UsageError where the disk has less and nothing is kept yet.
    """
    there = shutil.disk_usage(path).free + shelf.used_total()
    if space <= there:
        return space
    if not shelf.all_rows():
        raise UsageError(
            f"--space {format_size(space)} is more than {path} has room for: {format_size(there)}"
        )
    # what it keeps is served all the same
    log.warning("there is room for %s only, less than was meant", format_size(there))
    return there


class Daemon:
    """The tasks of one supplier's process."""

    def __init__(self, service: SupplierService, settings: Offering) -> None:
        self._service, self._settings = service, settings
        self._line = OwnLine(with_donated(settings).bandwidth)
        self._relay = self._make_relay()

    async def run(self) -> None:
        """Until a signal comes, or nobody depends on a supplier that leaves."""
        service, settings, address = self._service, self._settings, self._settings.listen
        host, port = split(address)
        context = make_context(service.node.encode(), server_side=True)
        try:
            every = host == "::"  # trio's way to say both families
            listeners = await trio.open_tcp_listeners(port, host=None if every else host)
        except OSError as error:
            raise LocalError(f"cannot listen at {address}: {error.strerror}") from error
        private = private_wanted(
            address, settings.through or settings.announced, settings.bootstrap
        )
        server = SupplierServer(service, context, self._relay, self._line)
        # nobody could ask a node that is behind a router
        dht = Dht(
            service.node, serves=not settings.through, allow_private=private,
            make_socket=partial(UdpSocket, self._line),
            dial_backs=Dialling(service.node, private, line=self._line),
        )  # fmt: skip
        await dht.bind(host, port)
        standing_by = self._standing_by(server, dht)
        doors = self._doors(dht)
        presence = OwnRecord(
            service, dht, address, settings.announced, settings.bootstrap,
            Contacts(settings.folder / "contacts"), friends=lambda: self._friends(private),
            through=standing_by.addresses if standing_by else None, outside=doors,
        )  # fmt: skip
        offer, customers = format_size(service.housekeeping.offer()), " ".join(settings.customers)
        log.info("supplier at %s offers %s, for %s", address, offer, customers)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, listeners)
            if standing_by is not None:
                nursery.start_soon(steadily, "standing by at relays", standing_by.run)
            await nursery.start(dht.run)
            nursery.start_soon(steadily, "emptying the trash", self._tidy)
            nursery.start_soon(steadily, "republishing", partial(_republish, dht))
            nursery.start_soon(steadily, "announcing this node", presence.run)
            finding = partial(doors.run, presence.maybe)
            nursery.start_soon(steadily, "finding a way through the router", finding)
            book, dials = self._kin_book(dht, nursery), Dials(service.share_of)
            connect = kin_connector(service.node, nursery, private, book, dials, self._line)
            guard = Guard(service, connect, dials)
            nursery.start_soon(steadily, "watching the others", guard.run)
            desk = Desk(
                service, guard, presence.addresses, doors, self._settings,
                lambda: len(dht.contacts()), nursery.cancel_scope, self._line, self._relay,
            )  # fmt: skip
            nursery.start_soon(desk.end_when_free)
            nursery.start_soon(steadily, "saying how it is reached", desk.log_changes)
            control = self._settings.folder / "control"
            nursery.start_soon(serve_control, control, SUPPLIER_COMMANDS, desk.answer)
            reload = SupplierReload(
                service, settings, self._room, self._admit, self._line, self._relay
            )
            wanted = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
            with trio.open_signal_receiver(*wanted) as signals:
                notify.ready(f"offers {offer} at {address}, for {customers}")
                async for number in signals:
                    if number == signal.SIGHUP:  # also where the terminal that started it is gone
                        notify.reloading()
                        await trio.to_thread.run_sync(reload.reread)
                        notify.ready(f"serving at {address}")
                        continue
                    log.info("stopped by signal %d", number)
                    notify.stopping("stopped")
                    nursery.cancel_scope.cancel()
                    break

    def _make_relay(self) -> Relay | None:
        settings = self._settings
        if settings.relay == ("off",) or settings.through:
            return None
        circle = circle_of(self._service, settings.relay)
        secret = derive(self._service.node.encode(), b"relay")
        return Relay(circle, with_donated(settings).caps, secret)

    def _doors(self, dht: Dht) -> Doors:
        settings = self._settings
        wanted = settings.port_mapping and not settings.announced and not settings.through
        node = self._service.node
        first = partial(map_first, derive(node.encode(), b"router"))
        mapping = PortMapping(settings.listen, first) if wanted else None
        return Doors(Proofs(dht), mapping, meeting_itself(node.verify_key.encode()))

    def _kin_book(self, dht: Dht, nursery: trio.Nursery) -> AddressBook:
        return kin_book(dht, nursery, self._nearby(nursery), self._service.share_of)

    def _nearby(self, nursery: trio.Nursery) -> Near:
        """Listens, and calls, in this machine's networks."""
        settings = self._settings
        if not settings.lan:
            return NobodyNear()
        cast = Multicast(lambda: links_of(settings.listen))
        nearby = Nearby(cast)
        calling = Calling(self._service.node, settings.listen, nearby, cast)
        nursery.start_soon(nearby.run)
        nursery.start_soon(steadily, "calling in the local network", calling.run)
        return nearby

    def _standing_by(self, server: SupplierServer, dht: Dht) -> StandingBy | None:
        if not self._settings.through:
            return None

        async def serve(circuit: trio.abc.Stream, crossing: Crossing) -> None:
            await server.serve_one(circuit, (RELAYED_HOST, 0), crossing)

        locate, relays = partial(located, dht), self._settings.through
        return StandingBy(self._service.node, relays, serve, self._line, locate)

    def _admit(self, customers: tuple[str, ...]) -> Admission:
        own, deals = self._service.node.verify_key.encode(), self._service.friendship.deals
        return read_admission(customers, own, deals.standing)

    def _room(self, space: int) -> int:
        return check_space(space, self._settings.folder, self._service.shelf)

    def _friends(self, private: bool) -> list[str]:
        """Where friends are, as far as they said so: the network is joined by them as well."""
        deals = self._service.friendship.deals.all().values()
        return sorted(dialable((a for deal in deals for a in deal.addresses), private))

    async def _tidy(self) -> None:
        housekeeping = self._service.housekeeping
        while True:
            freed = await trio.to_thread.run_sync(housekeeping.tidy)
            if freed:
                log.info("%s of the trash are gone", format_size(freed))
            await trio.to_thread.run_sync(self._service.retention.tidy_pasts)
            await trio.to_thread.run_sync(housekeeping.make_room)
            await trio.sleep(TIDY_EVERY)


async def _republish(dht: Dht) -> None:
    while True:
        await trio.sleep(ANNOUNCE_EVERY * random.uniform(0.5, 1.5))
        await dht.republish()


async def steadily(what: str, task: Callable[[], Awaitable[None]]) -> None:
    """Runs a task without which the supplier still serves.

    A full disk, or a bug in it, ends nothing.
    """
    while True:
        try:
            await task()
            return
        except Exception:
            log.exception("%s failed; it goes on in %d s", what, AFTER_FAILURE)
            await trio.sleep(AFTER_FAILURE)
