"""Uploading makes way for those who use the mount, within bounds, unless a processor is idle."""

import os
import time

import pytest
import trio

from bitdustfs.blocks.throttle import (
    BESIDE,
    HOLD_BLOCKS,
    LATELY,
    LOOK_EVERY,
    IdleProcessors,
    Throttle,
)
from bitdustfs.units import KIB, MIB

PIECE = 64 * KIB
SENDERS = 14  #: two blocks of seven fragments


@pytest.fixture
def idle():
    """How many processors do nothing: to be changed by a test."""
    return [0.0]


@pytest.fixture
def throttle(idle):
    return Throttle(lambda: idle[0])


async def use(act):
    while True:
        act()
        await trio.sleep(LATELY / 4)


async def send(throttle, size):
    """How long it takes to send so many bytes over as many connections as there are."""

    async def one():
        for _ in range(size // SENDERS // PIECE):
            await throttle.make_way(PIECE)

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(SENDERS):
            nursery.start_soon(one)
    return trio.current_time() - began


@pytest.mark.parametrize("act", ["read", "wrote"])
async def test_who_uses_the_mount_has_most_of_the_time(throttle, act, nursery, autojump_clock):
    nursery.start_soon(use, getattr(throttle, act))
    await trio.sleep(1)
    size = 4 * SENDERS * MIB
    assert await send(throttle, size) == pytest.approx(size / BESIDE, rel=0.05)  # and not for ever


async def test_connections_go_on_in_turn(throttle, nursery, autojump_clock):
    nursery.start_soon(use, throttle.read)
    await trio.lowlevel.checkpoint()
    went = []

    async def one(name):
        for _ in range(5):
            await throttle.make_way(PIECE)
            went.append(name)

    async with trio.open_nursery() as senders:
        for name in range(3):
            senders.start_soon(one, name)
    assert all(set(went[at : at + 3]) == {0, 1, 2} for at in range(0, 15, 3))


async def test_nobody_makes_way_while_a_processor_is_idle(throttle, idle, nursery, autojump_clock):
    nursery.start_soon(use, throttle.wrote)
    await trio.sleep(1)
    idle[0] = 1.0
    assert await send(throttle, 100 * MIB) == 0


async def test_nobody_makes_way_where_nobody_uses_the_mount(throttle, autojump_clock):
    assert await send(throttle, 100 * MIB) == 0


async def test_too_many_blocks_end_the_hold(throttle, nursery, autojump_clock):
    nursery.start_soon(use, throttle.wrote)
    await trio.sleep(1)
    throttle.waiting(HOLD_BLOCKS)
    assert await send(throttle, 100 * MIB) == 0
    throttle.waiting(HOLD_BLOCKS - 1)
    assert await send(throttle, 100 * MIB) > 1


async def test_somebody_who_waits_ends_the_hold_at_once(throttle, nursery, autojump_clock):
    async def hurry():
        await trio.sleep(2)
        with throttle.hurrying():
            await trio.sleep_forever()

    nursery.start_soon(use, throttle.wrote)
    nursery.start_soon(hurry)
    await trio.lowlevel.checkpoint()
    throttle.wrote()
    assert await send(throttle, 1000 * MIB) == pytest.approx(2)


async def test_the_hold_ends_when_nobody_uses_the_mount_any_more(throttle, autojump_clock):
    throttle.read()
    assert await send(throttle, 1000 * MIB) == pytest.approx(LATELY, rel=0.05)


def test_processors_that_do_nothing_are_counted_by_the_kernel():
    measured, began = IdleProcessors(), time.monotonic()
    while time.monotonic() - began < 2 * LOOK_EVERY:
        idle = measured()
    assert 0 <= idle <= os.cpu_count() - 0.2  # this one did something
