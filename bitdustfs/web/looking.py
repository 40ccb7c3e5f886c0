"""What the page shows, asked of the control sockets of this home's mounts and suppliers.

Each is asked in a thread of its own, and each of two questions may take `client.ANSWERED_IN`: one
that hangs is shown as hanging. A look is over when the last of them answered or did not. Nobody is
asked while nobody looks, and however many look, at most once in FRESH seconds.
"""

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from shlex import quote
from typing import TypeVar

import msgspec
import trio

import bitdustfs
from bitdustfs.cache.machine import own_supplier_folders
from bitdustfs.cache.nicknames import Nicknames
from bitdustfs.config import names_path
from bitdustfs.errors import BitdustError, UsageError
from bitdustfs.mount.client import asked_in_time, status_of
from bitdustfs.mount.commands import AskPolicy
from bitdustfs.mount.mountpoint import attached_unasked
from bitdustfs.mount.statements import PolicySaid
from bitdustfs.plain import plain
from bitdustfs.supplier.orders import AskCustomers, Customers
from bitdustfs.system.diagnosis import OK, WARNING, WRONG
from bitdustfs.system.judging import judged
from bitdustfs.system.running import supplier_answer, supplier_status
from bitdustfs.web.news import mounts_changed, suppliers_changed
from bitdustfs.web.views import (
    ErrandLine,
    EventLine,
    Moment,
    MountView,
    Overview,
    SupplierView,
)

FRESH = 1.0  #: seconds for which what was seen is shown to everybody
ASKED_AT_ONCE = 32  #: threads
MOMENTS = 240  #: of one mount's history
EVENTS = 100  #: that are kept

T = TypeVar("T")
V = TypeVar("V")


def place_id(path: Path) -> str:
    """How a mountpoint or a folder is named in the paths of the API."""
    return hashlib.blake2b(os.fsencode(path), digest_size=6).hexdigest()


def shown_path(path: Path) -> str:
    """A path as text that is valid Unicode, in one line: its bytes need not be."""
    return plain(os.fsencode(path).decode(errors="replace"))


class Looking:
    """Looks for whoever asks, and keeps what changed since the look before.

    `only`: the mount that is meant; None: all of this home.
    """

    def __init__(self, only: Path | None) -> None:
        self._only = only
        self._names = Nicknames(names_path())
        self._turn = trio.Lock()
        self._limiter = trio.CapacityLimiter(ASKED_AT_ONCE)
        self._seen: tuple[list[MountView], list[SupplierView]] | None = None
        self._until = 0.0  # of trio's clock: what was seen is fresh
        self._histories: dict[str, deque[Moment]] = {}
        self._events: deque[EventLine] = deque(maxlen=EVENTS)

    async def overview(self, errands: list[ErrandLine]) -> Overview:
        """All of it."""
        async with self._turn:
            if self._seen is None or trio.current_time() >= self._until:
                await self._look()
        mounts, suppliers = self._seen or ([], [])
        return Overview(
            program=bitdustfs.__version__, at=time.time(), mounts=mounts, suppliers=suppliers,
            events=list(self._events), errands=errands,
        )  # fmt: skip

    def note(self, said: str) -> None:
        """Something happened."""
        self._events.appendleft(EventLine(at=time.time(), said=self.dress(said)))

    def forget(self) -> None:
        """Something was changed: the next who looks sees it."""
        self._until = 0.0

    def dress(self, text: str) -> str:
        """With the names that this machine's owner gave."""
        return self._names.dress(plain(text))

    async def mountpoint(self, place: str) -> Path:
        """Which mount an id means. Raises KeyError."""
        return {place_id(path): path for path in await self._thread(self._mountpoints)}[place]

    async def folder(self, place: str) -> Path:
        """Which supplier an id means. Raises KeyError."""
        return {place_id(path): path for path in await self._thread(own_supplier_folders)}[place]

    def _mountpoints(self) -> list[Path]:
        there = attached_unasked()
        return there if self._only is None else [p for p in there if p == self._only]

    async def _thread(self, work: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._limiter)

    async def _look(self) -> None:
        self._names = await self._thread(lambda: Nicknames(names_path()))
        mounts, suppliers = list[MountView](), list[SupplierView]()

        async def add(work: Callable[[], V], found: list[V]) -> None:
            found.append(await self._thread(work))

        async with trio.open_nursery() as asking:
            for path in await self._thread(self._mountpoints):
                asking.start_soon(add, partial(self._mount, path), mounts)
            for folder in await self._thread(own_supplier_folders):
                asking.start_soon(add, partial(self._supplier, folder), suppliers)
        mounts = [self._remembered(one) for one in sorted(mounts, key=lambda m: m.mountpoint)]
        suppliers.sort(key=lambda one: one.folder)
        if self._seen is not None:
            changes = mounts_changed(self._seen[0], mounts)
            changes += suppliers_changed(self._seen[1], suppliers)
            for said in changes:
                self.note(said)
        self._seen, self._until = (mounts, suppliers), trio.current_time() + FRESH

    def _remembered(self, mount: MountView) -> MountView:
        """With its history."""
        history = self._histories.setdefault(mount.id, deque(maxlen=MOMENTS))
        if mount.status is not None:
            status = mount.status
            history.append(Moment(at=time.time(), rate=status.rate, only_here=status.only_here))
        return msgspec.structs.replace(mount, history=list(history))

    # -- in threads

    def _mount(self, path: Path) -> MountView:
        try:
            status = status_of(path)
        except UsageError:  # the kernel has it still
            verdict = (
                f"the mount at {path} is dead, or begins just now. If it stays so: bitdust unmount "
                f"{quote(str(path))}, then mount it again: what was fsynced is kept"
            )
            return self._silent(path, verdict)
        except BitdustError as error:
            return self._silent(path, str(error))
        except OSError as error:  # it ends just now
            return self._silent(path, f"the mount at {path} does not answer: {error.strerror}")
        try:
            policy = asked_in_time(path, AskPolicy(), PolicySaid)
        except (BitdustError, OSError):  # the page does without
            policy = None
        return MountView(
            id=place_id(path), mountpoint=shown_path(path), grade=judged(status),
            verdict=self.dress(status.verdict), safety=[*map(self.dress, status.safety)],
            warnings=[*map(self.dress, status.warnings)],
            names=self._called([line.node for line in status.suppliers]),
            status=status, policy=policy, history=[],
        )  # fmt: skip

    def _silent(self, path: Path, why: str) -> MountView:
        return MountView(
            id=place_id(path), mountpoint=shown_path(path), grade=WRONG, verdict=self.dress(why),
            safety=[], warnings=[], names={}, status=None, policy=None, history=[],
        )  # fmt: skip

    def _called(self, keys: Iterable[str]) -> dict[str, str]:
        """Names by keys, of those that have one."""
        return {key: name for key in keys if (name := self._names.of(key))}

    def _supplier(self, folder: Path) -> SupplierView:
        try:
            told = supplier_status(folder)
            lines = supplier_answer(folder, AskCustomers(), Customers).customers
        except (BitdustError, OSError) as error:
            stopped = isinstance(error, UsageError)
            return SupplierView(
                id=place_id(folder), folder=shown_path(folder),
                grade=WARNING if stopped else WRONG,
                said=f"the supplier in {shown_path(folder)} does not run"
                if stopped else self.dress(f"the supplier in {folder}: {error}"),
                names={}, told=None, customers=[],
            )  # fmt: skip
        warned = told.warnings or told.reachable is False
        return SupplierView(
            id=place_id(folder), folder=shown_path(folder), grade=WARNING if warned else OK,
            said=f"the supplier in {shown_path(folder)} is {told.state}",
            names=self._called(line.vault for line in lines), told=told, customers=lines,
        )  # fmt: skip
