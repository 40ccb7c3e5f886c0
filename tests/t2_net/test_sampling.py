"""Which fragment is audited next, and what evasive answers come to."""

import random

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from bitdustfs.errors import ProtocolViolation
from bitdustfs.net import wire
from bitdustfs.net.supplier import Supplier
from bitdustfs.rebuild.census import list_all
from bitdustfs.rebuild.sampling import Sample


def block(number):
    return number.to_bytes(16, "big")


def test_what_was_acknowledged_is_drawn_half_of_the_time_however_much_is_listed():
    rng, acked = random.Random(1), {block(i) for i in range(10)}
    sample = Sample(acked, [block(i) for i in range(10, 9010)])
    drawn = [sample.draw(rng) in acked for _ in range(2000)]
    assert 0.46 < sum(drawn) / 2000 < 0.54
    few = Sample([block(i) for i in range(1000)], [block(2000)])
    assert sum(few.draw(rng) == block(2000) for _ in range(2000)) < 10


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(31, 60)), st.randoms())
def test_only_what_is_there_is_drawn(acked, listed, rng):
    sample = Sample(map(block, acked), map(block, listed))
    assert len(sample) == len(acked) + len(listed)
    if len(sample):
        assert sample.draw(rng) in set(map(block, acked | listed))


@pytest.mark.parametrize("lost", [0.02, 0.1, 0.3, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_who_answers_but_for_what_it_lost_gives_itself_away(lost, seed):
    rng = random.Random(seed)
    sample, missing = Sample(map(block, range(1000)), ()), set(range(int(1000 * lost)))
    for _ in range(1400):
        drawn = sample.draw(rng)
        if int.from_bytes(drawn, "big") not in missing:
            sample.settled(drawn)
        elif sample.unsettled(drawn):
            return
    pytest.fail("it was not found out")


@pytest.mark.parametrize("away", [0.05, 0.3, 0.7, 0.95, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_who_is_often_away_is_not_suspected_for_one_fragment(away, seed):
    rng = random.Random(seed)
    sample = Sample(map(block, range(300)), ())
    for _ in range(5000):
        drawn = sample.draw(rng)
        if rng.random() < away:
            assert not sample.unsettled(drawn), "that was an accident"
        else:
            sample.settled(drawn)


def test_what_is_unsettled_outlives_a_census():
    sample = Sample([block(1), block(2)], ())
    sample.unsettled(block(1))
    later = Sample([block(1), block(3)], ())
    later.keep_open(sample)
    rng = random.Random(1)
    assert sum(later.draw(rng) == block(1) for _ in range(100)) > 60


# -- what is heard of before: lists


class Endless(Supplier):
    """Lists fragments of a position for ever, in order; or always the same page."""

    def __init__(self, position, goes_on=True):
        self.node, self.pages = bytes(32), 0
        self._position, self._goes_on = bytes([position]), goes_on

    async def call(self, request, payload=b""):
        await trio.lowlevel.checkpoint()
        self.pages += 1
        first = int.from_bytes(request.after[:16], "big") + 1 if self._goes_on else 1
        keys = [(n.to_bytes(16, "big") + self._position, 1) for n in range(first, first + 1000)]
        return wire.Listed(tuple(keys), True), b""


@pytest.mark.parametrize("position", [0, 1])
async def test_a_census_ends_however_long_a_list_is(position):
    """Also where what is listed is of another position."""
    supplier = Endless(position)
    assert len(await list_all(supplier, 0, limit=5000)) == (0 if position else 5000)
    assert supplier.pages <= 4 * 5


async def test_a_list_that_goes_back_is_none():
    with pytest.raises(ProtocolViolation, match="order"):
        await list_all(Endless(0, goes_on=False), 0)
