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
STREAMS = 64  #: files whose readers are remembered
WORKERS = 4  #: jobs at a time: what they wait for is mostly suppliers
JOB = 8  #: extents in one


class Stream(NamedTuple):
    """Somebody reads a file in order: what comes next, what is asked for already, and how far."""

    expected: int  #: offset of the next request, if it goes on so
    ahead: int  #: offset up to which extents are on their way
    window: int  #: bytes to be ahead


class Streams:
    """The files that are being read in order, the least recently read first."""

    def __init__(self) -> None:
        self._streams: OrderedDict[int, Stream] = OrderedDict()

    def note(self, inode: int, offset: int, length: int) -> tuple[int, int]:
        """Somebody reads [offset, offset + length). The range to read ahead now; may be empty."""
        stop = offset + length
        before = self._streams.pop(inode, Stream(0, 0, 0))
        if not before.expected - NEAR <= offset <= before.expected + NEAR:
            self._keep(inode, Stream(stop, stop, 0))
            return stop, stop
        expected = max(stop, before.expected)
        ahead, window = max(stop, before.ahead), before.window
        if ahead - stop > window // 2:
            self._keep(inode, Stream(expected, ahead, window))
            return stop, stop
        window = min(AHEAD_MAX, max(AHEAD_MIN, 2 * window))
        self._keep(inode, Stream(expected, stop + window, window))
        return ahead, stop + window

    def _keep(self, inode: int, stream: Stream) -> None:
        self._streams[inode] = stream
        if len(self._streams) > STREAMS:
            self._streams.popitem(last=False)


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
