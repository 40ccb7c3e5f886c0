"""Brings extents into memory before they are asked for.

Whoever reads a file in order is recognised, and what comes next is opened in worker threads, a run
of extents a job, while the loop answers requests. What is not on this machine is fetched meanwhile.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import NamedTuple

import trio

from bitdustfs.blocks.reader import ExtentReader
from bitdustfs.core.records import Place
from bitdustfs.units import MIB

AHEAD_MIN, AHEAD_MAX = MIB // 2, 8 * MIB  #: bytes read ahead: at first, and after a while
NEAR = 2 * MIB  #: bytes that a request may be off its turn: the kernel asks for several at a time
NEAR_NEW = MIB // 4  #: the same, of who did not read in order yet: chance is not to look like it
STREAMS = 64  #: files whose readers are remembered
READERS = 4  #: of one file
WORKERS = 4  #: jobs at a time: what they wait for is mostly suppliers
JOB = 8  #: extents in one
PATIENCE = 10.0  #: seconds that a bounded line may take for what is read ahead, and all before it


class Stream(NamedTuple):
    """Somebody reads a file in order: what comes next, what is asked for already, and how far."""

    expected: int  #: offset of the next request, if it goes on so
    ahead: int  #: offset up to which extents are on their way
    window: int  #: bytes to be ahead


class Streams:
    """The files that are being read in order, the least recently read first.

    Several may read one file in different places: each that goes on near where one of them was is
    taken for that one.
    """

    def __init__(self) -> None:
        self._streams: OrderedDict[int, list[Stream]] = OrderedDict()

    def note(self, inode: int, offset: int, length: int) -> tuple[int, int]:
        """Somebody reads [offset, offset + length). The range to read ahead now; may be empty."""
        stop = offset + length
        streams = self._streams.pop(inode, None)
        if streams is None:
            streams = [Stream(0, 0, 0)]
            if len(self._streams) >= STREAMS:
                self._streams.popitem(last=False)
        self._streams[inode] = streams
        near = [s for s in streams if abs(offset - s.expected) <= (NEAR if s.window else NEAR_NEW)]
        if not near:
            streams.append(Stream(stop, stop, 0))
            del streams[:-READERS]
            return stop, stop
        before = min(near, key=lambda stream: abs(stream.expected - offset))
        streams.remove(before)
        expected, ahead = max(stop, before.expected), max(stop, before.ahead)
        if ahead - stop > before.window // 2:
            streams.append(Stream(expected, ahead, before.window))
            return stop, stop
        window = min(AHEAD_MAX, max(AHEAD_MIN, 2 * before.window))
        streams.append(Stream(expected, stop + window, window))
        return ahead, stop + window


class ReadAhead:
    """Jobs of reading ahead, one after the other. While nobody runs it, nothing is read ahead."""

    def __init__(self, reader: ExtentReader) -> None:
        self._reader = reader
        self._jobs: deque[Sequence[Place]] = deque()
        self._due = trio.Event()
        self._working = 0

    def want(self, places: Sequence[Place]) -> None:
        """These extents of file content will be asked for, in this order."""
        if not self._working or self._jobs:
            return  # who cannot keep up gains nothing
        while places and self._reader.held_up(sum(p.length for p in places)) > PATIENCE:
            places = places[: len(places) // 2]  # others wait for what was asked for
        wanted = self._reader.expect(places)
        self._jobs += (wanted[at : at + JOB] for at in range(0, len(wanted), JOB))
        self._due.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(WORKERS):
                nursery.start_soon(self._work)

    async def _work(self) -> None:
        self._working += 1
        try:
            while True:
                if self._jobs:
                    await self._reader.bring(self._jobs.popleft())
                    continue
                if self._due.is_set():
                    self._due = trio.Event()
                await self._due.wait()
        finally:
            self._working -= 1
            while self._jobs and not self._working:
                self._reader.abandon(self._jobs.popleft())
