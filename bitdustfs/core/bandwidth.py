"""How much of a line may be used: up and down apart, by the hour of the day. No clock here.

    bandwidth = bound *("/" bound)
    bound     = [("up:" / "down:")] size ["@" hour "-" hour]

    10M                     10 MiB a second up, and as many down
    up:1M/down:8M           each way its own
    up:200K@8-23            from 8:00 to 23:00; at other hours no bound
    up:200K@8-23/up:2M      at other hours 2 MiB
    up:2M@22-6              over midnight

A size is of bytes a second, 0 for no bound. Of several bounds of one way the first counts whose
hours it is. One without hours holds at all of them.
"""

import re
from dataclasses import dataclass
from typing import Literal

from bitdustfs.errors import UsageError
from bitdustfs.units import KIB, parse_size

Direction = Literal["up", "down"]

LEAST = 8 * KIB  #: bytes a second: with less, small questions do not get through in their time
MOST = 1 << 40  #: bytes a second
BOUNDS_MAX = 16  #: bounds of one text
DAY_HOURS = 24

_BOUND = re.compile(r"(?:(up|down):)?([0-9.]+[a-z]*)(?:@([0-9]{1,2})-([0-9]{1,2}))?", re.IGNORECASE)
_EXAMPLE = "write for example 10M, up:1M/down:8M or up:200K@8-23"


@dataclass(frozen=True)
class Cap:
    """So many bytes a second (0: as many as go), from the hour `first` until before `last`.

    `way` None: of each. `first` and `last` alike: at all hours.
    """

    way: Direction | None
    rate: int
    first: int = 0
    last: int = 0

    def holds(self, way: Direction, hour: int) -> bool:
        """Whether it is about that way at that hour, of 0 to 23."""
        if self.way not in (None, way):
            return False
        if self.first <= self.last:
            return self.first == self.last or self.first <= hour < self.last
        return hour >= self.first or hour < self.last

    def __str__(self) -> str:
        way = f"{self.way}:" if self.way else ""
        hours = "" if self.first == self.last else f"@{self.first}-{self.last or DAY_HOURS}"
        return f"{way}{_size(self.rate)}{hours}"


@dataclass(frozen=True)
class Bandwidth:
    """What may be used of a line. Without any bound: all."""

    bounds: tuple[Cap, ...] = ()

    def rate(self, way: Direction, hour: int) -> int:
        """Bytes a second that may go that way at that hour of the day; 0: as many as go."""
        return next((bound.rate for bound in self.bounds if bound.holds(way, hour)), 0)

    def __str__(self) -> str:
        """As `parse_bandwidth` reads it."""
        return "/".join(map(str, self.bounds)) or "0"


UNBOUNDED = Bandwidth()


def parse_bandwidth(text: str) -> Bandwidth:
    """What a text says; 0 is no bound. Raises UsageError."""
    parts = text.strip().split("/")
    if len(parts) > BOUNDS_MAX:
        raise UsageError(f"{text!r} has more than {BOUNDS_MAX} bounds; {_EXAMPLE}")
    bounds = tuple(_parse_bound(part.strip(), text) for part in parts)
    return Bandwidth(bounds if any(bound.rate for bound in bounds) else ())


def _parse_bound(part: str, text: str) -> Cap:
    found = _BOUND.fullmatch(part)
    if found is None:
        raise UsageError(f"{text!r} is no bandwidth; {_EXAMPLE}")
    way, size, first, last = found.groups()
    rate = parse_size(size)
    if 0 < rate < LEAST:
        raise UsageError(f"{text!r}: {LEAST // KIB}K bytes a second are the least")
    if rate > MOST:
        raise UsageError(f"{text!r} is more than any line has; leave it out for no bound")
    named: Direction | None = None if way is None else "up" if way.lower() == "up" else "down"
    if first is None:
        return Cap(named, rate)
    hours = int(first), int(last)
    if max(hours) > DAY_HOURS or hours[0] % DAY_HOURS == hours[1] % DAY_HOURS:
        raise UsageError(f"{text!r}: hours are two different ones of 0 to 24, for example 8-23")
    return Cap(named, rate, hours[0] % DAY_HOURS, hours[1] % DAY_HOURS)


def _size(rate: int) -> str:
    """A size as `parse_size` reads it, exactly."""
    for unit, shift in (("G", 30), ("M", 20), ("K", 10)):
        if rate and not rate % (1 << shift):
            return f"{rate >> shift}{unit}"
    return str(rate)
