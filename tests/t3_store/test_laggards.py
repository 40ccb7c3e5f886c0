"""Whoever is slow holds up nobody else, and is not sent the same again."""

import pytest
import trio
import trio.testing

from bitdustfs.blocks.laggards import LAG, LET_GO_MAX, LOOK_EVERY, Laggards


@pytest.fixture
async def laggards(nursery):
    made, ended = None, []
    made = Laggards(lambda: ended.append(trio.current_time()))
    made.ended = ended
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
async def test_no_more_are_let_go_than_memory_has_room_for(laggards, autojump_clock):
    done = []
    for position in range(LET_GO_MAX):
        await laggards.put_all({position: taking(1000, done, position)}, lambda: True)
    assert not done
    await laggards.put_all({9: taking(500, done, 9)}, lambda: True)
    assert done == [9]


@pytest.mark.deadline(1000)
async def test_whoever_gives_up_takes_back_what_it_began(laggards, autojump_clock):
    done = []
    with trio.move_on_after(5):
        await laggards.put_all({0: taking(9, done, 0), 1: taking(1, done, 1)}, lambda: True)
    await trio.sleep(100)
    assert done == [1] and not laggards.ended


async def test_while_nobody_runs_it_all_are_waited_for(autojump_clock):
    done = []
    await Laggards(lambda: None).put_all({p: taking(50, done, p) for p in (0, 1)}, lambda: True)
    assert sorted(done) == [0, 1]
