"""Uploading makes way for those who use the mount, within bounds, unless a processor is idle."""

import os
import time
from itertools import pairwise

import pytest
import trio

from bitdustfs.blocks.throttle import (
    HOLD_BLOCKS,
    LOOK_EVERY,
    REST_MAX,
    SHARE,
    IdleProcessors,
    Throttle,
)

BLOCK = 0.2  #: seconds that a block's upload takes
WORKERS = 2


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
        await trio.sleep(0.1)


async def upload(throttle, waiting, starts, blocks):
    for _ in range(blocks):
        await throttle.wait_turn(waiting)
        starts.append(trio.current_time())
        await trio.sleep(BLOCK)
        throttle.uploaded(BLOCK)


async def uploads(throttle, waiting=lambda: 1, blocks=10):
    """When each block's upload began, by as many workers as there are."""
    starts = []
    async with trio.open_nursery() as nursery:
        for _ in range(WORKERS):
            nursery.start_soon(upload, throttle, waiting, starts, blocks)
    return [start - starts[0] for start in starts]


def unhindered(starts):
    """Whether both workers went on without a pause."""
    return starts[-1] == pytest.approx((len(starts) / WORKERS - 1) * BLOCK)


@pytest.mark.parametrize("act", ["read", "wrote"])
async def test_who_uses_the_mount_has_most_of_the_time(throttle, act, nursery, autojump_clock):
    nursery.start_soon(use, getattr(throttle, act))
    await trio.sleep(1)
    starts = await uploads(throttle)
    period = BLOCK / SHARE
    assert all(b - a >= period - 0.01 for a, b in pairwise(starts))
    assert starts[-1] <= (len(starts) - 1) * (period + LOOK_EVERY)  # and not for ever


async def test_nobody_makes_way_while_a_processor_is_idle(throttle, idle, nursery, autojump_clock):
    nursery.start_soon(use, throttle.wrote)
    await trio.sleep(1)
    idle[0] = 1.0
    assert unhindered(await uploads(throttle))


async def test_nobody_makes_way_where_nobody_uses_the_mount(throttle, autojump_clock):
    assert unhindered(await uploads(throttle))


async def test_too_many_blocks_end_the_hold_also_when_they_come_during_it(
    throttle, nursery, autojump_clock
):
    began = trio.current_time()
    nursery.start_soon(use, throttle.wrote)
    throttle.uploaded(REST_MAX)
    throttle.wrote()
    await throttle.wait_turn(lambda: HOLD_BLOCKS if trio.current_time() - began > 2 else 1)
    assert 2 <= trio.current_time() - began < 2.5


async def test_somebody_who_waits_ends_the_hold_at_once(throttle, nursery, autojump_clock):
    began = trio.current_time()

    async def hurry():
        await trio.sleep(2)
        with throttle.hurrying():
            await trio.sleep_forever()

    nursery.start_soon(use, throttle.wrote)
    nursery.start_soon(hurry)
    throttle.uploaded(REST_MAX)
    throttle.wrote()
    await throttle.wait_turn(lambda: 1)
    assert trio.current_time() - began == pytest.approx(2)


def test_processors_that_do_nothing_are_counted_by_the_kernel():
    measured, began = IdleProcessors(), time.monotonic()
    while time.monotonic() - began < 2 * LOOK_EVERY:
        idle = measured()
    assert 0 <= idle <= os.cpu_count() - 0.2  # this one did something
