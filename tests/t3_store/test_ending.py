"""Whether the end of a mount waits for its uploads."""

import pytest
import trio

from bitdustfs.mount.ending import (
    HURRY_SECONDS,
    LAST_PUBLISH,
    LOOK_AFTER,
    LOOK_EVERY,
    HurriedEnd,
    Outlook,
)
from bitdustfs.units import KIB, MIB


class Line:
    """Bytes that went since `begins`, at one rate."""

    def __init__(self, rate, begins=0.0, before=0):
        self.rate, self.begins, self.before = rate, trio.current_time() + begins, before

    def __call__(self):
        return int(self.before + max(0.0, trio.current_time() - self.begins) * self.rate)


async def judged(line, left, seconds):
    """When it is found hopeless, within so many seconds; None: not."""
    outlook, began, there = Outlook(LAST_PUBLISH, line), trio.current_time(), line()
    while trio.current_time() - began < seconds:
        await trio.sleep(LOOK_EVERY)
        if outlook.of(left - (line() - there))[1]:
            return trio.current_time() - began
    return None


@pytest.mark.deadline(1000)  # virtual seconds
async def test_what_cannot_be_done_is_seen_soon(autojump_clock):
    seen = await judged(Line(100 * KIB), 100 * MIB, LAST_PUBLISH)
    assert LOOK_AFTER <= seen <= LOOK_AFTER + 2 * LOOK_EVERY


@pytest.mark.deadline(1000)
@pytest.mark.parametrize("begins", [0, 25, 60])
async def test_what_was_slow_before_or_has_not_begun_is_no_reason(begins, autojump_clock):
    """It was held back for hours, or the tree is written first. Now it takes half a minute."""
    await trio.sleep(500)
    line = Line(MIB, begins, before=MIB)
    assert await judged(line, 30 * MIB, begins + 31) is None


@pytest.mark.deadline(1000)
async def test_of_what_does_not_move_nothing_is_said(autojump_clock):
    outlook = Outlook(LAST_PUBLISH, Line(0))
    for _ in range(50):
        await trio.sleep(LOOK_EVERY)
        assert outlook.of(MIB) == ("", False)
    assert outlook.of(0) == ("", False)


@pytest.mark.deadline(1000)
async def test_nobody_waits_at_the_end_that_was_meant_and_somebody_does_at_a_later_one(
    autojump_clock,
):
    """`unmount --now` of a mount that is in use leaves it mounted."""
    hurry = HurriedEnd()
    with trio.move_on_after(10) as waiting:
        await hurry.wait()
    assert waiting.cancelled_caught
    hurry.begin()
    await trio.sleep(HURRY_SECONDS / 2)
    await hurry.wait()
    await trio.sleep(HURRY_SECONDS)
    with trio.move_on_after(10) as waiting:
        await hurry.wait()
    assert waiting.cancelled_caught
    async with trio.open_nursery() as ending:
        for _ in range(2):
            ending.start_soon(hurry.wait)  # it ends already, by umount; now somebody will not wait
        await trio.sleep(5)
        hurry.begin()
