"""What the page shows, asked of the control sockets of this home's mounts and suppliers.

Each is asked in a thread of its own, and each of two questions may take `client.ANSWERED_IN`: one
that hangs is shown as hanging then. Nobody waits for it: a look is over after PROMPT seconds, and
shows what those who are slow said last. Nobody is asked while nobody looks, and however many look,
at most once in FRESH seconds.
"""

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
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
from bitdustfs.mount.statements import PolicySaid, Status
from bitdustfs.plain import plain
from bitdustfs.supplier.orders import AskCustomers, Customers
from bitdustfs.system.diagnosis import OK, WARNING, WRONG
from bitdustfs.system.judging import judged
from bitdustfs.system.running import supplier_answer, supplier_status
from bitdustfs.web.asking import Prompt, Shared
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
PROMPT = 1.0  #: seconds that a look waits for those who are slow
ASKED_AT_ONCE = 32  #: threads that ask, and may hang for a while
READ_AT_ONCE = 4  #: threads that only read this home, and the kernel's table of mounts
MOMENTS = 240  #: of one mount's history
EVENTS = 100  #: that are kept

T = TypeVar("T")


def place_id(path: Path) -> str:
    """How a mountpoint or a folder is named in the paths of the API."""
    return hashlib.blake2b(os.fsencode(path), digest_size=6).hexdigest()


def shown_path(path: Path) -> str:
    """A path as text that is valid Unicode, in one line: its bytes need not be."""
    return plain(os.fsencode(path).decode(errors="replace"))


def risk_sentences(status: Status) -> list[str]:
    """The chance of a loss, and what would help most."""
    if status.risk is None:
        return []
    return [status.risk.said, *(remedy.said for remedy in status.risk.remedies[:1])]


class Looking:
    """Looks for whoever asks, and keeps what changed since the look before.

    `nursery`: in which those are asked who are not waited for. `only`: the mount that is meant;
    None: all of this home.
    """

    def __init__(self, nursery: trio.Nursery, only: Path | None) -> None:
        self._only = only
        self._names = Nicknames(names_path())
        self._reading = trio.CapacityLimiter(READ_AT_ONCE)
        asking = trio.CapacityLimiter(ASKED_AT_ONCE)
        self._mounts = Prompt[MountView](nursery, asking)
        self._suppliers = Prompt[SupplierView](nursery, asking)
        self._shared = Shared(FRESH, self._look)
        self._before: tuple[list[MountView], list[SupplierView]] | None = None
        self._histories: dict[str, deque[Moment]] = {}
        self._events: deque[EventLine] = deque(maxlen=EVENTS)

    async def overview(self, errands: list[ErrandLine]) -> Overview:
        """All of it."""
        mounts, suppliers = await self._shared.answer()
        return Overview(
            program=bitdustfs.__version__, at=time.time(), mounts=mounts, suppliers=suppliers,
            events=list(self._events), errands=errands,
        )  # fmt: skip

    def note(self, said: str) -> None:
        """Something happened."""
        self._events.appendleft(EventLine(at=time.time(), said=self.dress(said)))

    def forget(self) -> None:
        """Something was changed: the next who looks sees it."""
        self._shared.forget()

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
        """Not one of those that ask: whoever hangs there does not hold up the list."""
        return await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._reading)

    async def _look(self) -> tuple[list[MountView], list[SupplierView]]:
        self._names = await self._thread(lambda: Nicknames(names_path()))
        paths = sorted(await self._thread(self._mountpoints))
        folders = sorted(await self._thread(own_supplier_folders))
        mounts, suppliers = list[MountView](), list[SupplierView]()

        async def look_at_mounts() -> None:
            mounts.extend(await self._mounts.look(paths, self._mount, PROMPT, self._unheard))

        async with trio.open_nursery() as both:
            both.start_soon(look_at_mounts)
            suppliers += await self._suppliers.look(
                folders, self._supplier, PROMPT, self._supplier_unheard
            )
        mounts = [self._remembered(one) for one in mounts]
        if self._before is not None:
            changes = mounts_changed(self._before[0], mounts)
            changes += suppliers_changed(self._before[1], suppliers)
            for said in changes:
                self.note(said)
        self._before = mounts, suppliers
        return self._before

    def _remembered(self, mount: MountView) -> MountView:
        """With its history."""
        history = self._histories.setdefault(mount.id, deque(maxlen=MOMENTS))
        if mount.status is not None:
            status = mount.status
            online = [line.position for line in status.suppliers if line.state == "online"]
            moment = Moment(
                at=time.time(), rate=status.rate, only_here=status.only_here, online=online
            )
            history.append(moment)
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
            return self._silent(path, WRONG, verdict)
        except BitdustError as error:
            return self._silent(path, WRONG, str(error))
        except OSError as error:  # it ends just now
            why = f"the mount at {path} does not answer: {error.strerror}"
            return self._silent(path, WRONG, why)
        try:
            policy = asked_in_time(path, AskPolicy(), PolicySaid)
        except (BitdustError, OSError):  # the page does without
            policy = None
        return MountView(
            id=place_id(path), mountpoint=shown_path(path), grade=judged(status),
            verdict=self.dress(status.verdict),
            safety=[*map(self.dress, (*status.safety, *risk_sentences(status)))],
            warnings=[*map(self.dress, status.warnings)],
            names=self._called([line.node for line in status.suppliers]),
            status=status, policy=policy, history=[],
        )  # fmt: skip

    def _unheard(self, path: Path) -> MountView:
        return self._silent(path, WARNING, f"the mount at {path} has not answered as yet")

    def _silent(self, path: Path, grade: str, why: str) -> MountView:
        return MountView(
            id=place_id(path), mountpoint=shown_path(path), grade=grade, verdict=self.dress(why),
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
            if isinstance(error, UsageError):
                return self._supplier_silent(folder, WARNING, "does not run")
            return self._supplier_silent(folder, WRONG, f"does not answer: {error}")
        warned = told.warnings or told.reachable is False
        return SupplierView(
            id=place_id(folder), folder=shown_path(folder), grade=WARNING if warned else OK,
            said=f"the supplier in {shown_path(folder)} is {told.state}",
            names=self._called(line.vault for line in lines), told=told, customers=lines,
        )  # fmt: skip

    def _supplier_unheard(self, folder: Path) -> SupplierView:
        return self._supplier_silent(folder, WARNING, "has not answered as yet")

    def _supplier_silent(self, folder: Path, grade: str, why: str) -> SupplierView:
        return SupplierView(
            id=place_id(folder), folder=shown_path(folder), grade=grade,
            said=self.dress(f"the supplier in {folder} {why}"), names={}, told=None, customers=[],
        )  # fmt: skip
