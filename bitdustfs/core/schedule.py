"""Snapshots by themselves: when one is due, and which are kept. Arithmetic on Unix seconds, UTC.

A schedule has four *rows*: so many hours, days, weeks (from Monday) and months. A row keeps the
newest snapshot of each of the last so many in which one was made, whenever that was: a clock that
leaps ahead deletes nothing by that, and each snapshot made by it pushes out one in each row at
most. What was made more than AHEAD later than it is now was made by a clock that was wrong, then or
now: it is in no row, and stays until its time has come.

In a family's words the rows are `snapshot-hourly` and so on, the share `snapshot-share`. A family
without such words, as those of older vaults are, has no schedule.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

HOUR, DAY = 3600, 86400
AHEAD = DAY  #: seconds that clocks of machines, and time zones taken for another, may differ
ROW_MAX = 1000  #: hours, days, weeks or months that are kept at most
SHARE = 20  #: percent of the quota that snapshots may take
ROWS = ("hourly", "daily", "weekly", "monthly")
PREFIX = "snapshot-"  #: of the words


@dataclass(frozen=True)
class Schedule:
    """How many of which are kept, and what they may take together."""

    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    share: int = SHARE  #: percent of the quota

    @property
    def on(self) -> bool:
        """Whether any are made."""
        return bool(self.hourly or self.daily or self.weekly or self.monthly)


OFF = Schedule()
USUAL = Schedule(hourly=24, daily=30, weekly=8, monthly=12)  #: what most people want


def read_schedule(words: Mapping[str, int]) -> Schedule:
    """The schedule that a family's words say, whatever whoever signed them wrote there."""

    def row(name: str) -> int:
        return min(max(0, words.get(PREFIX + name, 0)), ROW_MAX)

    share = min(max(0, words.get(PREFIX + "share", SHARE)), 100)
    return Schedule(row("hourly"), row("daily"), row("weekly"), row("monthly"), share)


def schedule_words(schedule: Schedule) -> dict[str, int]:
    """How a schedule is written into a family's words."""
    return {PREFIX + name: getattr(schedule, name) for name in (*ROWS, "share")}


class Made(NamedTuple):
    """A scheduled snapshot: numbers rise with each that is made, times may be any clock's."""

    number: int
    time: int


def has_begun(now: int, looked: int) -> bool:
    """Whether an hour began since the hour (Unix time / HOUR) that was looked at last.

    A clock that was set back by less than AHEAD begins none until it has passed that hour again.
    """
    hour = now // HOUR
    return hour > looked or hour < looked - AHEAD // HOUR


def is_due(now: int, made: Iterable[Made]) -> bool:
    """Whether none of these was made in this hour, or since by a clock that was set back."""
    times = (m.time for m in made if m.time <= now + AHEAD)
    return max(times, default=-HOUR) // HOUR < now // HOUR


def kept_by_rows(made: Collection[Made], schedule: Schedule, now: int) -> set[Made]:
    """Those that are kept; the one made last always is."""
    then = [m for m in made if m.time <= now + AHEAD]
    kept = set(made).difference(then)
    if made:
        kept.add(max(made))
    for name, bucket in zip(ROWS, (_hour, _day, _week, _month), strict=True):
        newest: dict[int, Made] = {}
        for m in sorted(then):
            newest[bucket(m.time)] = m
        last = sorted(newest, reverse=True)[: getattr(schedule, name)]
        kept.update(newest[number] for number in last)
    return kept


def _hour(time: int) -> int:
    return time // HOUR


def _day(time: int) -> int:
    return time // DAY


def _week(time: int) -> int:
    return (time // DAY + 3) // 7  # 1970 began on a Thursday


def _month(time: int) -> int:
    year, month, _ = civil(time // DAY)
    return 12 * year + month


def civil(days: int) -> tuple[int, int, int]:
    """Year, month and day that so many days after 1970-01-01 are (H. Hinnant, chrono-Compatible
    Low-Level Date Algorithms): years that begin in March, in eras of 400.
    """
    era, day = divmod(days + 719_468, 146_097)
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    of_year = day - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    day_of_month = of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    return 400 * era + year + (month <= 2), month, day_of_month


def auto_name(now: int) -> str:
    """What a scheduled snapshot is called that is made now: names sort like their times."""
    year, month, day = civil(now // DAY)
    minute = now % DAY // 60
    return f"auto-{year:04}-{month:02}-{day:02}T{minute // 60:02}:{minute % 60:02}Z"
