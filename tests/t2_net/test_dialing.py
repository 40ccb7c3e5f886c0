"""Several addresses of one node: which is tried when, who wins, and what becomes of the others."""

import pytest
import trio

from bitdustfs.errors import PeerError, Unreachable, WrongPeer
from bitdustfs.net.dialing import LATER_AFTER, STAGGER, Race


class Ends:
    """What is at each address: seconds until the outcome, and the error or None."""

    def __init__(self, **ends):
        self._ends, self.began, self.closed, self.cut = ends, {}, [], []

    async def attempt(self, address):
        self.began[address] = trio.current_time()
        seconds, error = self._ends[address]
        try:
            await trio.sleep(seconds)
        except trio.Cancelled:
            self.cut.append(address)
            raise
        if error is not None:
            raise error("not here")
        return f"session at {address}"

    async def discard(self, session):
        self.closed.append(session)

    def race(self, *later):
        return Race(self.attempt, self.discard, *later)


async def test_a_silent_address_costs_a_quarter_of_a_second(autojump_clock):
    ends = Ends(old=(60, None), new=(0.1, None))
    began = trio.current_time()
    assert await ends.race().run(["old", "new"]) == ("new", "session at new")
    assert trio.current_time() - began == pytest.approx(STAGGER + 0.1)
    assert ends.cut == ["old"]


async def test_what_fails_at_once_makes_way_at_once(autojump_clock):
    ends = Ends(a=(0.01, WrongPeer), b=(0.01, Unreachable), c=(0.1, None))
    began = trio.current_time()
    assert (await ends.race().run(["a", "b", "c"]))[0] == "c"
    assert trio.current_time() - began == pytest.approx(0.12)


async def test_a_slow_first_address_still_wins_over_a_slower_second(autojump_clock):
    ends = Ends(near=(0.4, None), far=(9, None))
    assert (await ends.race().run(["near", "far", "near"]))[0] == "near"
    assert ends.cut == ["far"]


async def test_of_two_in_the_same_instant_one_is_closed(autojump_clock):
    now, closed = trio.Event(), []

    async def attempt(address):
        await now.wait()
        return f"session at {address}"

    async def discard(session):
        closed.append(session)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_later, now)
        address, won = await Race(attempt, discard).run(["a", "b"])
    assert won == f"session at {address}"
    assert [won, *closed] in (["session at a", "session at b"], ["session at b", "session at a"])


async def _later(event):
    await trio.sleep(2 * STAGGER)
    event.set()


@pytest.mark.parametrize("first", [(0.01, WrongPeer), (60, None)])
async def test_other_addresses_are_asked_for_when_the_known_ones_lead_nowhere(
    autojump_clock, first
):
    async def later():
        await trio.sleep(0.5)
        return ["old", "new"]

    ends = Ends(old=first, new=(0.1, None))
    began = trio.current_time()
    assert (await ends.race(later).run(["old"]))[0] == "new"
    waited = 0.01 if first[1] else LATER_AFTER
    assert trio.current_time() - began == pytest.approx(waited + 0.6)


async def test_nobody_is_asked_while_the_known_address_works(autojump_clock):
    async def later():
        raise AssertionError("asked")

    assert (await Ends(a=(0.9, None)).race(later).run(["a"]))[0] == "a"


@pytest.mark.parametrize(
    ("one", "other", "raised"),
    [
        (WrongPeer, WrongPeer, WrongPeer),
        (WrongPeer, Unreachable, Unreachable),
        (Unreachable, Unreachable, Unreachable),
    ],
)
async def test_where_all_fail_the_error_is_theirs_and_names_each(
    autojump_clock, one, other, raised
):
    with pytest.raises(PeerError) as caught:
        await Ends(a=(1, one), b=(0, other)).race().run(["a", "b"])
    assert type(caught.value) is raised
    assert "a: not here" in str(caught.value) and "b: not here" in str(caught.value)


async def test_without_an_address_nothing_is_reached():
    with pytest.raises(Unreachable, match="no address is known"):
        await Ends().race().run([])


async def test_a_bug_that_one_address_brings_out_is_no_end_of_the_race(autojump_clock):
    ends = Ends(odd=(0.01, RuntimeError), good=(0.1, None))
    assert (await ends.race().run(["odd", "good"]))[0] == "good"
    with pytest.raises(PeerError, match="odd: RuntimeError"):
        await Ends(odd=(0.01, RuntimeError)).race().run(["odd"])
