"""The words of a schedule of snapshots: `bitdust snapshot schedule` and `vault create`."""

from collections.abc import Sequence
from dataclasses import replace

from bitdustfs.core.schedule import OFF, ROW_MAX, ROWS, USUAL, Schedule
from bitdustfs.errors import UsageError
from bitdustfs.mount.statements import ScheduleSaid, ThinnedLine

WORDS = {"off": OFF, "usual": USUAL}  #: that stand for a whole schedule
HELP = (
    "hourly=24 daily=30 weekly=8 monthly=12: so many hours, days, weeks and months keep their last "
    "snapshot; share=20: percent of the quota that snapshots may take; off: none are made; "
    "usual: hourly=24 daily=30 weekly=8 monthly=12"
)


def parse_schedule(words: Sequence[str], before: Schedule) -> Schedule:
    """What the words make of the schedule of `before`. Raises UsageError."""
    schedule = before
    for word in words:
        name, _, value = word.partition("=")
        if word in WORDS:
            schedule = WORDS[word]
        elif name in (*ROWS, "share") and value.isascii() and value.isdigit() and len(value) < 5:
            schedule = replace(schedule, **{name: int(value)})
        else:
            raise UsageError(
                f"{word!r} is no schedule; write for example hourly=24, daily=30, weekly=8, "
                "monthly=12, share=20, off or usual"
            )
    if any(getattr(schedule, row) > ROW_MAX for row in ROWS):
        raise UsageError(f"a row keeps {ROW_MAX} snapshots at most")
    if schedule.share > 100:
        raise UsageError("a share is 100 percent at most")
    return schedule


def schedule_lines(schedule: Schedule) -> list[str]:
    """A schedule in the words by which it is set, each with what it means."""
    if not schedule.on:
        return ["off: no snapshots are made by themselves"]
    rows = [
        f"{row}={getattr(schedule, row)}  {what}"
        for row, what in zip(
            ROWS,
            (
                "hours that keep their last snapshot",
                "days that do",
                "weeks that do, from Monday",
                "months that do",
            ),
            strict=True,
        )
    ]
    share = f"share={schedule.share}  percent of the quota that snapshots may take; then the "
    return [*rows, share + "oldest scheduled ones go first"]


def said(told: ScheduleSaid) -> Schedule:
    """The schedule that a mount has told."""
    return Schedule(told.hourly, told.daily, told.weekly, told.monthly, told.share)


WHY = {
    "rows": "newer ones stand for them",
    "share": "all took more than their share of the quota",
    "writers": "the room was needed for what was written",
}


def given_up(thinned: Sequence[ThinnedLine]) -> list[str]:
    """Which scheduled snapshots went and why, a sentence for each reason."""
    sentences = []
    for why, text in WHY.items():
        names = [line.name for line in thinned if line.why == why]
        if names:
            which = names[0] if len(names) == 1 else f"{len(names)}, up to {names[-1]}"
            sentences.append(f"scheduled snapshots that went in the last week: {which}; {text}")
    return sentences
