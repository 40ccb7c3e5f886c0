"""A position on its way to another supplier, who may be slow."""

from types import SimpleNamespace

import pytest
import trio

from bitdustfs.core.fragment import Fragment
from bitdustfs.core.policy import Policy
from bitdustfs.errors import Unavailable
from bitdustfs.rebuild.fill import FLOOR, PUT_SECONDS, Fill
from bitdustfs.units import MIB

BLOCKS = [bytes([number]) * 16 for number in range(100)]


class Newcomer:
    """It takes a fragment at so many bytes a second, one after the other."""

    def __init__(self, rate):
        self._rate, self._line, self.kept = rate, trio.Lock(), []

    async def put(self, block, position, claim, header, chunks, payload):
        async with self._line:
            await trio.sleep(len(payload) / self._rate)
        self.kept.append(block)


class Fetcher:
    circle = SimpleNamespace(family=SimpleNamespace(policy=Policy()))

    async def signed_header(self, block):
        return SimpleNamespace(length=4 * MIB, k=4), b"header"


async def local(block, position):
    return Fragment(position, b"", bytes(MIB))


def filling(rate, **words):
    newcomer = Newcomer(rate)
    return newcomer, Fill(Fetcher(), newcomer, 3, lambda: b"claim", local, **words)


@pytest.mark.deadline(1_000_000)  # virtual seconds
async def test_promise_11_a_newcomer_that_takes_byte_after_byte_is_given_up(autojump_clock):
    _, fill = filling(512)
    began = trio.current_time()
    with pytest.raises(Unavailable, match="choose another one"):
        await fill.run(BLOCKS)
    assert trio.current_time() - began <= 2 * (PUT_SECONDS + 2 * MIB / FLOOR)
    assert len(fill.failed) <= 3 and not fill.placed


@pytest.mark.deadline(1_000_000)
async def test_whoever_is_slow_and_comes_to_it_is_given_all(autojump_clock):
    newcomer, fill = filling(1.1 * FLOOR)
    await fill.run(BLOCKS)
    assert fill.placed == {*newcomer.kept} == {*BLOCKS} and not fill.failed


@pytest.mark.deadline(1_000_000)
async def test_on_a_bounded_line_it_may_be_slower(autojump_clock):
    _, fill = filling(512, floor=lambda: 256)
    await fill.run(BLOCKS[:4])
    assert fill.placed == {*BLOCKS[:4]}
