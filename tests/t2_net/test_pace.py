"""The bandwidth of rebuilding holds, in virtual time."""

import pytest
import trio

from bitdustfs.rebuild.pace import Pace


@pytest.mark.deadline(200)  # virtual seconds
@pytest.mark.parametrize("workers", [1, 2, 8])
async def test_never_more_than_the_rate_and_one_second_of_it(workers, autojump_clock):
    moved = []
    pace = Pace(1_000_000)
    await trio.sleep(100)  # a pause saves up one second's worth, not more

    async def work():
        for _ in range(40 // workers):
            await pace.take(500_000)
            moved.append((trio.current_time() - 100, 500_000))

    async with trio.open_nursery() as nursery:
        for _ in range(workers):
            nursery.start_soon(work)
    for at, _ in moved:
        assert sum(size for when, size in moved if when <= at) <= 1_000_000 * (at + 1) + 500_000
    assert moved[-1][0] < 20.5  # 20 MB at 1 MB/s, and no slower


async def test_no_rate_is_no_wait(autojump_clock):
    before = trio.current_time()
    await Pace().take(1 << 40)
    assert trio.current_time() == before
