"""Who reads in order is recognised; what comes next is opened once, and nobody waits in vain."""

from itertools import pairwise

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from bitdustfs.blocks.readahead import (
    AHEAD_MAX,
    JOB,
    NEAR,
    PATIENCE,
    READERS,
    STREAMS,
    ReadAhead,
    Streams,
)
from bitdustfs.blocks.reader import ExtentReader
from bitdustfs.blocks.runs import RUN_GAP, RUN_MAX, runs, stretches
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

    def read(self, block, offset, length, alone):
        self.reads.append(offset // 10)
        return b"%d" % (offset // 10) if offset // 10 in self.ordinals else None

    def read_fetched(self, block, offset, length, alone):
        return None

    def store_fetched(self, block, offset, pieces, limit):
        """Nothing is kept."""


class Elsewhere:
    """Suppliers that give extents when told to, and do not have some."""

    def __init__(self, missing=()):
        self.missing, self.asked, self.answer = set(missing), [], trio.Event()
        self.all_asked = trio.Event()
        self.seconds = 0.0  # that a byte takes on a bounded line

    def held_up(self, length):
        return self.seconds * length

    async def fetch(self, place):
        (sealed,) = await self._sealed([place])
        if sealed is None:
            raise Unavailable("nobody has it")
        return sealed

    async def fetch_run(self, places, open_run, keep):
        opened = open_run(places, await self._sealed(places))
        return [Unavailable("nobody has it") if plain is None else plain for plain in opened]

    async def _sealed(self, places):
        self.asked.append([place.ordinal for place in places])
        if sum(map(len, self.asked)) == 3:
            self.all_asked.set()
        await self.answer.wait()
        return [None if p.ordinal in self.missing else b"%d" % p.ordinal for p in places]


class Plainly:
    """Sealers that seal nothing."""

    def of(self, block):
        return self

    def open_untrusted(self, sealed, expected, ordinal, kind):
        assert kind == Kind.DATA and sealed == b"%d" % ordinal
        return b"plain %d" % ordinal

    def open_unreferenced_untrusted(self, sealed, ordinal, kind):
        return self.open_untrusted(sealed, b"", ordinal, kind)


class NothingPinned:
    def read(self, block, offset, length):
        return None


@pytest.fixture
def world():
    files, fetcher = Here(range(40)), Elsewhere(missing={41})
    reader = ExtentReader(Plainly(), files, NothingPinned(), fetcher, lambda: 0)
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


async def test_promise_5_an_extent_that_is_wanted_twice_is_no_other_ones_content(world, nursery):
    """Something was written into the middle of it: the file refers to it before and after."""
    reader, ahead, files, _ = world
    nursery.start_soon(ahead.run)
    await trio.testing.wait_all_tasks_blocked()
    ahead.want(places([0, 1, 0, 2, 1, 3]))
    await trio.testing.wait_all_tasks_blocked()
    for place in places(range(4)):
        assert await reader.read_extent(place, Kind.DATA) == b"plain %d" % place.ordinal
    assert sorted(files.reads) == [0, 1, 2, 3]
    wanted = [7, 8, 7, 9, 8, 10]
    assert await reader.read_run(places(wanted)) == [b"plain %d" % number for number in wanted]


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
    assert fetcher.asked == [[40, 41, 42]]  # once, though two wanted it


async def test_what_one_request_needs_is_read_as_one_range_and_one_failure_is_enough(world):
    reader, _, _, fetcher = world
    fetcher.answer.set()
    assert await reader.read_run(places([39, 40, 42])) == [b"plain 39", b"plain 40", b"plain 42"]
    assert fetcher.asked == [[40, 42]]
    assert await reader.read_run(places([40, 42])) == [b"plain 40", b"plain 42"]  # from memory
    with pytest.raises(Unavailable, match="nobody has it"):
        await reader.read_run(places([40, 41, 43]))
    assert fetcher.asked[1:] == [[41, 43]]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), st.integers(1, 3))))
def test_runs_are_of_one_block_in_order_and_within_their_bound(pieces):
    unit = RUN_MAX // 8
    wanted = [
        Place(bytes([block]) * 16, n, at * unit, size * unit, b"h" * 32)
        for n, (block, at, size) in enumerate(pieces)
    ]
    made = list(runs(wanted))
    assert [place for run in made for place in run] == wanted
    for run in made:
        ends = [place.offset + place.length for place in run]
        assert {place.block for place in run} == {run[0].block}
        assert all(0 <= b.offset - end <= RUN_GAP for b, end in zip(run[1:], ends, strict=False))
        assert len(run) == 1 or ends[-1] - run[0].offset <= RUN_MAX
    for before, after in pairwise(made):  # none could have been longer
        assert len(list(runs([*before, after[0]]))) > 1


def test_pieces_that_touch_are_kept_together():
    pieces = [(10, b"ab"), (12, b"c"), (20, b"d"), (21, b"e")]
    assert list(stretches(pieces)) == [(10, [b"ab", b"c"]), (20, [b"d", b"e"])]
    assert list(stretches([])) == []


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
    streams, before = Streams(), [0]
    for slot in slots:
        if any(abs(slot - other) <= 1 for other in before):
            continue
        begin, stop = streams.note(1, slot * 4 * NEAR, 4 * KIB)
        assert begin == stop
        before.append(slot)


@given(st.integers(2, READERS), st.sampled_from([4 * KIB, EXTENT_MAX, MIB]))
def test_several_read_one_file_each_in_order(readers, size):
    streams, asked = Streams(), dict.fromkeys(range(readers), 0)
    for number in range(100):
        for reader in range(readers):
            offset = reader * 1000 * MIB + number * size
            begin, stop = streams.note(1, offset, size)
            assert offset < begin <= stop <= offset + size + AHEAD_MAX
            asked[reader] += stop - begin
    assert all(total >= 98 * size for total in asked.values())


def test_streams_are_remembered_up_to_a_bound():
    streams = Streams()
    for inode in range(10 * STREAMS):
        for place in range(3 * READERS):
            streams.note(inode, place * 10 * NEAR, MIB)
    assert len(streams._streams) == STREAMS
    assert all(len(readers) == READERS for readers in streams._streams.values())


async def test_what_came_and_is_expected_again_is_not_abandoned_by_who_brought_it_first():
    """One run of a read comes at once, another one takes its time; meanwhile the first is gone."""
    near, far = places([1, 2]), [Place(b"o" * 16, n, n * 10, 10, b"h" * 32) for n in (1, 2)]
    elsewhere, slow, came = Elsewhere(), trio.Event(), trio.Event()
    usual = elsewhere.fetch_run
    elsewhere.answer.set()

    async def fetch_run(places, open_run, keep):
        if places[0].block == BLOCK:
            came.set()
        else:
            await slow.wait()
        return await usual(places, open_run, keep)

    elsewhere.fetch_run = fetch_run
    reader = ExtentReader(Plainly(), Here([]), NothingPinned(), elsewhere, lambda: 0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.bring, reader.expect([*near, *far]))
        await came.wait()
        await trio.testing.wait_all_tasks_blocked()
        reader._plain.clear()
        reader._plain_size = 0
        again = reader.expect(near)
        slow.set()
        await reader.read_extent(far[1], Kind.DATA)
        await trio.testing.wait_all_tasks_blocked()
        assert await reader.bring(again) == ""
    assert len(reader._plain) == 4


async def test_on_a_bounded_line_little_is_read_ahead(world, nursery):
    """Whoever reads something else waits for all that was asked for."""
    reader, ahead, files, fetcher = world
    nursery.start_soon(ahead.run)
    await trio.testing.wait_all_tasks_blocked()
    wanted = places(range(16))
    fetcher.seconds = PATIENCE / sum(place.length for place in wanted[:4])
    ahead.want(wanted)
    for place in wanted[:4]:
        assert await reader.read_extent(place, Kind.DATA) == b"plain %d" % place.ordinal
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(files.reads) == [0, 1, 2, 3]
