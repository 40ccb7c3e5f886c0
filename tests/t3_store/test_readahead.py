"""Who reads in order is recognised; what comes next is opened once, and nobody waits in vain."""

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from bitdustfs.blocks.readahead import AHEAD_MAX, JOB, NEAR, STREAMS, ReadAhead, Streams
from bitdustfs.blocks.reader import ExtentReader
from bitdustfs.core.records import Place
from bitdustfs.core.sealing import Kind
from bitdustfs.errors import Unavailable
from bitdustfs.units import EXTENT_MAX, KIB, MIB

BLOCK = b"b" * 16


def places(numbers):
    return [Place(BLOCK, n, n * 10, 10, b"h" * 32) for n in numbers]


class Here:
    """This machine's files: they have some extents, and count who looks for them."""

    def __init__(self, ordinals):
        self.ordinals, self.reads = set(ordinals), []

    def read(self, block, offset, length):
        self.reads.append(offset // 10)
        return b"%d" % (offset // 10) if offset // 10 in self.ordinals else None

    def read_fetched(self, block, offset, length):
        return None

    def store_fetched(self, block, offset, data, limit):
        """Nothing is kept."""


class Elsewhere:
    """Suppliers that give extents when told to, and do not have some."""

    def __init__(self, missing=()):
        self.missing, self.asked, self.answer = set(missing), [], trio.Event()
        self.all_asked = trio.Event()

    async def fetch(self, place):
        self.asked.append(place.ordinal)
        if len(self.asked) == 3:
            self.all_asked.set()
        await self.answer.wait()
        if place.ordinal in self.missing:
            raise Unavailable("nobody has it")
        return b"%d" % place.ordinal


class Plainly:
    """Sealers that seal nothing."""

    def of(self, block):
        return self

    def open_untrusted(self, sealed, expected, ordinal, kind):
        assert kind == Kind.DATA and sealed == b"%d" % ordinal
        return b"plain %d" % ordinal


@pytest.fixture
def world():
    files, fetcher = Here(range(40)), Elsewhere(missing={41})
    reader = ExtentReader(Plainly(), files, fetcher, lambda: 0)
    return reader, ReadAhead(reader), files, fetcher


async def test_what_is_wanted_is_opened_once_and_in_memory_when_it_is_asked_for(world, nursery):
    reader, ahead, files, _ = world
    nursery.start_soon(ahead.run)
    await trio.testing.wait_all_tasks_blocked()
    wanted = places(range(2 * JOB + 3))
    ahead.want(wanted)
    for place in wanted:
        assert await reader.read_extent(place, Kind.DATA) == b"plain %d" % place.ordinal
    assert sorted(files.reads) == [place.ordinal for place in wanted]


async def test_while_nobody_runs_it_nothing_is_expected(world):
    reader, ahead, files, _ = world
    ahead.want(places(range(5)))
    with trio.fail_after(5):
        assert await reader.read_extent(places([3])[0], Kind.DATA) == b"plain 3"
    assert files.reads == [3]


async def test_what_suppliers_do_not_give_is_told_to_those_who_wait(world, nursery):
    reader, ahead, _, fetcher = world
    nursery.start_soon(ahead.run)
    await trio.testing.wait_all_tasks_blocked()
    ahead.want(places([40, 41, 42]))
    told = {}

    async def ask(place):
        try:
            told[place.ordinal] = await reader.read_extent(place, Kind.DATA)
        except Unavailable as error:
            told[place.ordinal] = str(error)

    with trio.fail_after(5):
        async with trio.open_nursery() as asking:
            for place in places([40, 41, 42]):
                asking.start_soon(ask, place)
            await fetcher.all_asked.wait()
            fetcher.answer.set()
    assert told == {40: b"plain 40", 41: "nobody has it", 42: b"plain 42"}
    assert sorted(fetcher.asked) == [40, 41, 42]  # once each, though two wanted it


async def test_who_waits_for_what_is_not_brought_looks_for_it_itself(world):
    reader, ahead, _, fetcher = world
    wanted, told = places(range(50, 50 + 4 * JOB)), []

    async def ask(place):
        told.append(await reader.read_extent(place, Kind.DATA))

    with trio.fail_after(5):
        async with trio.open_nursery() as asking:
            async with trio.open_nursery() as mount:
                mount.start_soon(ahead.run)
                await trio.testing.wait_all_tasks_blocked()
                ahead.want(wanted)  # suppliers do not answer yet
                asking.start_soon(ask, wanted[0])
                asking.start_soon(ask, wanted[-1])
                await trio.testing.wait_all_tasks_blocked()
                mount.cancel_scope.cancel()
            fetcher.answer.set()
    assert sorted(told) == [b"plain 50", b"plain %d" % wanted[-1].ordinal]


@given(st.integers(0, 64), st.sampled_from([4 * KIB, 64 * KIB, EXTENT_MAX, MIB]))
def test_reading_in_order_is_read_ahead_without_gap_and_not_too_far(start, size):
    streams, asked = Streams(), None
    for number in range(200):
        offset = start * MIB + number * size
        begin, stop = streams.note(1, offset, size)
        assert begin <= stop <= offset + size + AHEAD_MAX
        if begin < stop:
            assert begin == max(asked or begin, offset + size)
            asked = stop
    assert asked is not None and asked > start * MIB + 200 * size


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60))
def test_reading_here_and_there_is_not_read_ahead(slots):
    streams, before = Streams(), -1
    for slot in slots:
        if slot in {before, before + 1, before - 1, 0}:
            continue
        begin, stop = streams.note(1, slot * 4 * NEAR, 4 * KIB)
        assert begin == stop
        before = slot


def test_streams_are_remembered_up_to_a_bound():
    streams = Streams()
    for inode in range(10 * STREAMS):
        streams.note(inode, 0, MIB)
    assert len(streams._streams) == STREAMS
