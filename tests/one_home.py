"""A home with one mount and one supplier that answer at real control sockets, without a vault.

The mount is said to be at /proc: the kernel has something mounted there on every machine.
"""

import os
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import msgspec
import trio

from bitdustfs.cache.machine import note_own_supplier
from bitdustfs.errors import UsageError
from bitdustfs.mount import commands
from bitdustfs.mount.commands import MOUNT_COMMANDS
from bitdustfs.mount.mountpoint import socket_path
from bitdustfs.mount.statements import (
    BlockMap,
    HoldingLine,
    PolicySaid,
    RebuildingLine,
    RebuildOutcome,
    Replaced,
    SnapshotList,
    SnapshotMade,
    Status,
    SupplierLine,
    Suppliers,
    VerifyOutcome,
)
from bitdustfs.net.control import Completed, Progress
from bitdustfs.net.listening import serve
from bitdustfs.supplier import orders
from bitdustfs.supplier.orders import SUPPLIER_COMMANDS, CustomerLine, Customers, SupplierSelf
from bitdustfs.web.application import application
from bitdustfs.web.endpoints import Endpoints
from bitdustfs.web.errands import Errands
from bitdustfs.web.gate import Gate
from bitdustfs.web.looking import Looking

MOUNTPOINT = Path("/proc")
HOST = "127.0.0.1:4242"


def line(position=0, **more):
    plain = SupplierLine(
        position=position, node=f"{position:02x}" * 32, address="", state="online", uptime=0.99,
        gone="", latency=0.02, away=0.0, stored=1000, full=False, audits=10, audits_failed=0,
        lacks=0, damaged=0, last_error="", heard=1.0, space=4000,
    )  # fmt: skip
    return msgspec.structs.replace(plain, **more)


STATUS = Status(
    vault="cd" * 32, state="published", message="", inodes=5, live=6000, dirty=0, may_lose=1,
    thinnest="", rebuilding=RebuildingLine(), bench=[], visits=[], local_blocks=0, owed_blocks=0,
    suppliers=[line(0), line(1)], warnings=[f"{'01' * 8} is on this machine"], judged="safe",
    verdict="safe: everything is on 2 of 2 suppliers, 1 may be lost",
)  # fmt: skip
SELF = SupplierSelf(
    node="ef" * 32, address="127.0.0.1:4000", state="serving", uptime=9.5, space=100, promised=50,
    used=20, trash=1, free=1000, customers=1, fragments=3, received=11, served=12, asked=None,
    network=4, warnings=[],
)  # fmt: skip
CUSTOMER = CustomerLine(
    vault="ab" * 32, promised=50, used=20, fragments=3, until=2_000_000_000, invited=True,
    owner_here=False, depends=True,
)  # fmt: skip
MAP = BlockMap(lines=[HoldingLine(k=1, has=[0, 1], blocks=3, bytes=900, local=2)], more=0)
SILENT = object()  #: said instead of a status: the mount hangs


class OneHome:
    """What its mount and its supplier say, and what they were asked that changes something."""

    def __init__(self, home):
        self.home, self.shelf = home, home / "shelf"
        self.status, self.told, self.asked = STATUS, SELF, []
        self.customers = [CUSTOMER]
        self.go_on = trio.Event()

    async def _answer(self, command, say):
        return await self.mount(command, say)  # a test may have put another one there

    async def mount(self, command, say):
        match command:
            case commands.AskStatus():
                if self.status is SILENT:
                    await trio.sleep_forever()
                return self.status
            case commands.AskSuppliers():
                return Suppliers(suppliers=self.status.suppliers)
            case commands.AskPolicy():
                return PolicySaid(k=1, n=2, patience=9.0, margin=1, bandwidth=0, spread=0)
            case commands.AskMap():
                return MAP
            case commands.AskSnapshots():
                return SnapshotList(snapshots=[], held=None)
        self.asked.append(command)
        match command:
            case commands.Rebuild():
                await say(Progress(done=1, total=4, what="block"))
                await self.go_on.wait()
                return RebuildOutcome(placed=3, replaced=0, waiting=0, failure="", margin=1)
            case commands.Verify():
                return VerifyOutcome(
                    items=1, inodes=1, blocks=1, extents_checked=1, chunks_checked=1, margin=1,
                    unsent=0, faults=[], more_faults=0, verdict="nothing is wrong",
                )  # fmt: skip
            case commands.MakeSnapshot(name=name):
                return SnapshotMade(name=name, left="")
            case commands.SetPolicy():
                return Completed()
            case commands.Replace():
                return Replaced(bytes=2048)
        raise UsageError("nobody asks that here")

    async def supplier(self, command, say):
        match command:
            case orders.AskCustomers():
                return Customers(customers=self.customers)
            case orders.Pause():
                self.told = msgspec.structs.replace(self.told, state="paused")
            case orders.Donate(space=space, bandwidth=bandwidth):
                self.told = msgspec.structs.replace(
                    self.told, space=self.told.space if space is None else space,
                    bandwidth=bandwidth or self.told.bandwidth,
                )  # fmt: skip
            case orders.Resume():
                self.told = msgspec.structs.replace(self.told, state="serving")
        return self.told

    @asynccontextmanager
    async def answering(self):
        """Both sockets, as they are found through BITDUST_HOME."""
        self.shelf.mkdir()
        (self.shelf / "node.key").touch()
        note_own_supplier(bytes(32), self.shelf)
        mount = socket_path(MOUNTPOINT)
        (mount.parent / "one.attached").write_bytes(os.fsencode(MOUNTPOINT))
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve, mount, MOUNT_COMMANDS, self._answer))
            control = self.shelf / "control"
            await nursery.start(partial(serve, control, SUPPLIER_COMMANDS, self.supplier))
            yield self
            self.go_on.set()
            nursery.cancel_scope.cancel()


class Page:
    """The application in this process, and a browser that loads it."""

    def __init__(self, nursery, own=True):
        self.gate = Gate(HOST, lambda client, server: own)
        self.looking = Looking(nursery, None)
        self.errands = Errands(nursery, self.looking.note)
        self.rows = Endpoints(self.looking, self.errands).table()
        self.app = application(self.gate, self.rows)

    def browser(self):
        transport = httpx.ASGITransport(self.app, client=("127.0.0.1", 5000))
        return httpx.AsyncClient(transport=transport, base_url=self.gate.origin)

    def words(self):
        """Headers of what the page sends to change something."""
        return {"Origin": self.gate.origin, "X-Bitdust-Action": self.gate.action}


@asynccontextmanager
async def opened(own=True):
    """A page, and a browser that has its cookie."""
    async with trio.open_nursery() as nursery:
        page = Page(nursery, own)
        async with page.browser() as browser:
            if own:
                assert (await browser.get(page.gate.address)).status_code == 200
            yield page, browser
        nursery.cancel_scope.cancel()
