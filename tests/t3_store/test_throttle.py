"""Uploading makes way for a writer, within bounds."""

import trio

from bitdustfs.blocks.throttle import HOLD_BLOCKS, HOLD_MAX, Throttle


async def write_on(throttle):
    while True:
        throttle.wrote()
        await trio.sleep(0.1)


async def test_a_writer_holds_uploads_back_and_not_for_ever(nursery, autojump_clock):
    throttle = Throttle()
    nursery.start_soon(write_on, throttle)
    await trio.sleep(1)
    began = trio.current_time()
    await throttle.wait_for_quiet(lambda: 1)
    assert HOLD_MAX <= trio.current_time() - began < HOLD_MAX + 1


async def test_too_many_blocks_end_the_hold_also_when_they_come_during_it(nursery, autojump_clock):
    throttle, began = Throttle(), trio.current_time()

    def waiting():
        return HOLD_BLOCKS if trio.current_time() - began > 5 else 1

    nursery.start_soon(write_on, throttle)
    await trio.sleep(1)
    await throttle.wait_for_quiet(waiting)
    assert 5 <= trio.current_time() - began < 6


async def test_somebody_who_waits_ends_the_hold_at_once(nursery, autojump_clock):
    throttle, began = Throttle(), trio.current_time()

    async def hurry():
        await trio.sleep(2)
        with throttle.hurrying():
            await trio.sleep_forever()

    nursery.start_soon(write_on, throttle)
    nursery.start_soon(hurry)
    await trio.sleep(1)
    await throttle.wait_for_quiet(lambda: 1)
    assert trio.current_time() - began < 2.5
