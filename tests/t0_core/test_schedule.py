"""When a scheduled snapshot is due and which are kept, whatever clocks do."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdustfs.core.policy import read_policy
from bitdustfs.core.schedule import (
    AHEAD,
    DAY,
    HOUR,
    OFF,
    USUAL,
    Made,
    Schedule,
    auto_name,
    has_begun,
    is_due,
    kept_by_rows,
    read_schedule,
    schedule_words,
)

NOW = 1_795_000_000
ROW = st.integers(0, 5)
SCHEDULES = st.builds(Schedule, ROW, ROW, ROW, ROW)
#: near each other, so that hours and days are shared, and as a clock that is wrong has them
TIMES = st.integers(NOW - 60 * DAY, NOW) | st.integers(NOW - 3 * HOUR, NOW) | st.integers(0, 2**33)


def numbered(times):
    return [Made(number, time) for number, time in enumerate(times)]


MADE = st.lists(TIMES, max_size=30).map(numbered)


@given(MADE, SCHEDULES, st.randoms(use_true_random=False))
def test_each_row_keeps_the_newest_of_its_last_hours_days_weeks_and_months(made, schedule, rng):
    kept = kept_by_rows(made, schedule, NOW)
    assert kept_by_rows(kept, schedule, NOW) == kept, "idempotent"
    assert kept_by_rows(rng.sample(made, len(made)), schedule, NOW) == kept, "in any order"
    then = {m: datetime.fromtimestamp(m.time, UTC) for m in made if m.time <= NOW + AHEAD}
    wanted = {m for m in made if m not in then} | {*made[-1:]}
    for count, key in (
        (schedule.hourly, lambda d: (d.date(), d.hour)),
        (schedule.daily, lambda d: d.date()),
        (schedule.weekly, lambda d: d.isocalendar()[:2]),
        (schedule.monthly, lambda d: (d.year, d.month)),
    ):
        last = sorted({key(d) for d in then.values()}, reverse=True)[:count]
        wanted |= {max(m for m, d in then.items() if key(d) == bucket) for bucket in last}
    assert kept == wanted


@given(MADE, MADE, SCHEDULES, st.integers(0, 90 * DAY))
def test_what_was_thinned_before_would_not_be_kept_later(before, later, schedule, passed):
    """Thinning each hour and thinning once at the end keep the same, whatever the clocks said."""
    later = [Made(len(before) + number, time) for number, time in later]
    at_once = kept_by_rows(before + later, schedule, NOW + passed)
    first = kept_by_rows(before, schedule, NOW)
    assert kept_by_rows([*first, *later], schedule, NOW + passed) == at_once
    if not later:
        assert at_once <= first


@given(MADE, SCHEDULES, TIMES)
def test_one_more_pushes_out_one_of_each_row_at_most(made, schedule, time):
    """So a clock that leaps, in whatever direction, does not delete the past."""
    kept = kept_by_rows(made, schedule, time)
    more = kept_by_rows([*kept, Made(len(made), time)], schedule, time)
    assert len(kept - more) <= 5  # one a row, and the one that was kept only for being the last
    beyond = {m for m in made if m.time > time + AHEAD}
    assert beyond <= more, "what seems to come from the future waits"


def test_a_year_of_hours_leaves_what_the_default_says():
    made, start = [], datetime(2026, 1, 1, tzinfo=UTC)
    for hour in range(365 * 24):
        time = int((start + timedelta(hours=hour)).timestamp())
        made.append(Made(hour, time))
        if hour % 24 == 23:
            made = sorted(kept_by_rows(made, USUAL, time))
    names = [auto_name(m.time) for m in made]
    assert names == sorted(names)
    assert names[-24:] == [f"auto-2026-12-31T{hour:02}:00Z" for hour in range(24)]
    assert names[-53:-24] == [f"auto-2026-12-{day:02}T23:00Z" for day in range(2, 31)]
    weeks = ["11-15", "11-22", "11-29"]  # five are among the days
    months = ["01-31", "02-28", "03-31", "04-30", "05-31", "06-30"]
    months += ["07-31", "08-31", "09-30", "10-31", "11-30"]
    assert names[:-53] == [f"auto-2026-{day}T23:00Z" for day in sorted(weeks + months)]


def test_an_hour_is_looked_at_once_and_no_clock_makes_a_flood():
    """A day of minutes on a clock that leaps to and fro by hours, and by years."""
    rng, made, looked = random.Random(7), [], NOW // HOUR
    for minute in range(24 * 60):
        leap = rng.choice((0, 0, 0, -3 * HOUR, 5 * HOUR, 10 * 365 * DAY, -20 * 365 * DAY))
        now = NOW + 60 * minute + leap
        if has_begun(now, looked):
            if is_due(now, made):
                made.append(Made(len(made), now))
            looked = now // HOUR
    assert len({m.time // HOUR for m in made}) == len(made)
    assert len(made) <= 24 + 5 + 24 + 24 + 4, "each hour that a clock showed, once"


@pytest.mark.parametrize(
    ("now", "due"),
    [
        (NOW, False),
        (NOW + HOUR, True),
        (NOW - HOUR, False),  # set back: until the hour has passed again
        (NOW - 23 * HOUR, False),
        (NOW - 2 * DAY, True),  # it was wrong when that one was made, or is wrong now
    ],
)
def test_a_snapshot_of_another_clock(now, due):
    assert is_due(now, [Made(1, NOW)]) is due
    assert has_begun(now, NOW // HOUR) is due


@given(st.integers(0, 253_402_300_799))
def test_names_are_those_of_the_calendar(time):
    assert auto_name(time) == f"auto-{datetime.fromtimestamp(time, UTC):%Y-%m-%dT%H:%MZ}"


def test_a_schedule_is_a_part_of_the_policy():
    assert read_policy({}).schedule == OFF and not OFF.on
    assert read_policy({"patience": 60, **schedule_words(USUAL)}).schedule == USUAL
    assert read_schedule({"snapshot-hourly": 2**63, "snapshot-share": -1}) == Schedule(
        1000, share=0
    )
