"""Whoever is slow holds up nobody else, and is not sent the same again."""

import pytest
import trio
import trio.testing

from bitdustfs.blocks.laggards import (
    HELD_MAX,
    LAG,
    LET_GO_MAX,
    LET_GO_SECONDS,
    LONG_REST,
    LOOK_EVERY,
    REST,
    Laggards,
)
from bitdustfs.errors import LocalError


@pytest.fixture
async def laggards(nursery):
    ended, failed = [], []
    made = Laggards(lambda: ended.append(trio.current_time()), failed.append)
    made.ended, made.failed = ended, failed
    nursery.start_soon(made.run)
    await trio.testing.wait_all_tasks_blocked()
    return made


def taking(seconds, done, position):
    async def put():
        await trio.sleep(seconds)
        done.append(position)

    return put


@pytest.mark.deadline(1000)  # virtual seconds
async def test_those_left_are_let_go_once_nobody_waits_for_them(laggards, autojump_clock):
    done, began = [], trio.current_time()
    puts = {p: taking(300 if p == 3 else 1, done, p) for p in range(4)}
    await laggards.put_all(puts, lambda: trio.current_time() >= began + 30)
    assert sorted(done) == [0, 1, 2]
    assert 30 <= trio.current_time() - began <= 30 + LOOK_EVERY
    assert [p for p in range(4) if laggards.holds(p)] == [3] and not laggards.ended
    await trio.sleep(300)
    assert sorted(done) == [0, 1, 2, 3] and not laggards.holds(3)
    assert laggards.ended == [pytest.approx(began + 300)]


@pytest.mark.deadline(1000)
async def test_what_is_needed_is_waited_for(laggards, autojump_clock):
    done, began = [], trio.current_time()
    await laggards.put_all({1: taking(300, done, 1)}, lambda: False)
    assert done == [1] and trio.current_time() - began == pytest.approx(300)
    await laggards.put_all({1: taking(LAG - 1, done, 1)}, lambda: True)  # nor let go at once
    assert done == [1, 1]


@pytest.mark.deadline(10_000)
async def test_promise_9_eight_that_are_slow_together_hold_up_nobody(laggards, autojump_clock):
    """Of 10/18: what is bounded is how many blocks are in memory, not how many suppliers hang."""
    done = []
    for block in range(4):
        began = trio.current_time()
        puts = {
            p: taking(8000 if p < 8 else 1, done, p) for p in range(18) if not laggards.holds(p)
        }
        await laggards.put_all(puts, lambda: True)
        assert trio.current_time() - began <= LAG
        assert len(done) == 10 * (block + 1)
    assert [p for p in range(18) if laggards.holds(p)] == [*range(8)]


@pytest.mark.deadline(10_000)
async def test_no_more_blocks_are_let_go_than_memory_has_room_for(laggards, autojump_clock):
    """Suppliers that become slow one after the other: the next one has a minute, then it rests."""
    done = []
    for position in range(LET_GO_MAX):
        await laggards.put_all({position: taking(9000, done, position)}, lambda: True)
    assert not done
    began = trio.current_time()
    await laggards.put_all({8: taking(50, done, 8)}, lambda: True)
    assert done == [8]
    batch = await laggards.put_all({9: taking(500, done, 9)}, lambda: True)
    assert not batch.left and done == [8]
    assert trio.current_time() - began <= 50 + LAG + HELD_MAX + 2 * LOOK_EVERY
    assert laggards.holds(9)
    await trio.sleep(REST)
    assert not laggards.holds(9) and laggards.holds(0)


@pytest.mark.deadline(10_000)
async def test_whoever_takes_byte_after_byte_makes_a_place_for_others_in_the_end(
    laggards, autojump_clock
):
    done = []
    for position in range(LET_GO_MAX):
        await laggards.put_all({position: taking(9000, done, position)}, lambda: True)
        await trio.sleep(100)
    await trio.sleep(LET_GO_SECONDS - 200)
    await laggards.put_all({9: taking(700, done, 9)}, lambda: True)
    assert laggards.holds(9) and not done
    await trio.sleep(710)
    assert done == [9] and not laggards.holds(9)
    assert laggards.holds(0)  # it rests
    await trio.sleep(LONG_REST)
    assert not laggards.holds(0) and laggards.holds(1)


@pytest.mark.deadline(10_000)
async def test_one_put_that_ends_says_nothing_of_another_to_the_same_supplier(
    laggards, autojump_clock
):
    """Two blocks are sent at once; to the same supplier both are slow."""
    done = []
    async with trio.open_nursery() as nursery:
        for seconds in (100, 1000):
            puts = {5: taking(seconds, done, seconds)}
            nursery.start_soon(laggards.put_all, puts, lambda: True)
    assert laggards.holds(5)
    await trio.sleep(200)
    assert done == [100] and laggards.holds(5)
    await trio.sleep(1000)
    assert done == [100, 1000] and not laggards.holds(5) and not laggards.busy


def failing(seconds):
    async def put():
        await trio.sleep(seconds)
        raise LocalError("the disk is full")

    return put


@pytest.mark.deadline(1000)
async def test_a_failure_of_this_machine_is_heard_of_early_and_late(laggards, autojump_clock):
    done = []
    with pytest.raises(LocalError):
        await laggards.put_all({0: failing(1), 1: taking(3, done, 1)}, lambda: True)
    assert done == [1] and not laggards.failed
    await laggards.put_all({0: failing(100), 1: taking(3, done, 1)}, lambda: True)
    assert not laggards.failed
    await trio.sleep(100)
    assert [str(error) for error in laggards.failed] == ["the disk is full"]
    await laggards.put_all({0: taking(1, done, 0)}, lambda: True)  # it goes on
    assert done == [1, 1, 0]


@pytest.mark.deadline(1000)
async def test_whoever_gives_up_takes_back_what_it_began(laggards, autojump_clock):
    done = []
    with trio.move_on_after(5):
        await laggards.put_all({0: taking(9, done, 0), 1: taking(1, done, 1)}, lambda: True)
    await trio.sleep(100)
    assert done == [1] and not laggards.ended


async def test_while_nobody_runs_it_all_are_waited_for(autojump_clock):
    done = []
    alone = Laggards(lambda: None, lambda error: None)
    await alone.put_all({p: taking(50, done, p) for p in (0, 1)}, lambda: True)
    assert sorted(done) == [0, 1]
    with pytest.raises(LocalError):
        await alone.put_all({0: failing(1)}, lambda: True)
