"""What audits fetch in a day is no more than their budget, however often there is a mount."""

import pytest
import trio

from bitdustfs.rebuild.allowance import BURST, DAY, DEBT_MAX, Allowance, last_pause
from bitdustfs.rebuild.audit import DAILY, DAILY_MIN, FIRST_PAUSE, GROWTH
from bitdustfs.units import CHUNK_SIZE

pytestmark = pytest.mark.deadline(4 * DAY)


class Machine:
    """Keeps the allowance from one mount to the next, and a wall clock that goes with trio's."""

    def __init__(self, daily):
        self.daily, self.kept, self.at, self.turned_back = daily, None, [], 0.0

    def allowance(self):
        return Allowance(self.daily, lambda: self.kept, self.save, self.wall)

    def save(self, raw):
        self.kept = raw

    def wall(self):
        return 1_700_000_000 + trio.current_time() - self.turned_back

    async def mount(self, seconds):
        """As an auditor that begins with quick ones."""
        allowance, pause = self.allowance(), FIRST_PAUSE
        with trio.move_on_after(seconds):
            while True:
                await trio.sleep(allowance.wait())
                allowance.spend(CHUNK_SIZE)
                self.at.append(trio.current_time())
                await trio.sleep(pause)
                pause = min(pause * GROWTH, allowance.pause)
        allowance.keep()

    def worst_day(self):
        """The most bytes that any 24 hours had."""
        most = first = 0
        for last, at in enumerate(self.at):
            while at - self.at[first] >= DAY:
                first += 1
            most = max(most, last + 1 - first)
        return most * CHUNK_SIZE


@pytest.mark.parametrize("daily", [DAILY_MIN, 10 * DAILY_MIN, DAILY])
@pytest.mark.parametrize(
    ("mounted", "apart"),
    [(3 * DAY, 0), (3600, DAY - 3600), (600, 600)],
    ids=["for days", "daily", "often"],
)
async def test_no_day_has_more_than_its_budget(daily, mounted, apart, autojump_clock):
    machine = Machine(daily)
    while trio.current_time() < 3 * DAY:
        await machine.mount(mounted)
        await trio.sleep(apart)
    assert BURST * daily / 2 < machine.worst_day() <= daily


async def test_the_quick_ones_of_the_usual_budget_are_not_held_up(autojump_clock):
    machine = Machine(DAILY)
    await machine.mount(1500)
    assert len(machine.at) > 250


async def test_what_is_looked_into_goes_on_credit_that_has_an_end(autojump_clock):
    machine = Machine(DAILY)
    allowance = machine.allowance()
    allowance.spend(100 * DAILY)
    allowance.keep()
    machine.turned_back = 1000.0  # which gives nothing
    for left in (allowance, machine.allowance()):
        owed = DEBT_MAX * DAILY + CHUNK_SIZE
        assert left.wait() == pytest.approx(owed / CHUNK_SIZE * last_pause(DAILY))
