"""The ring of past roots: which of those that were the newest are kept, and the kind in memory.

Within the retention these are kept, each with its family, counted from when it was left:

    for a day       the last root of each hour
    then            the last root of each day
    and of either   the first TURNED_MAX that another ballot's root followed: what was there before
                    somebody else began, and what a rewinding left

So a hundred roots in an afternoon push out nothing of the morning, whoever signed them.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from bitdustfs.errors import Refused
from bitdustfs.supplier.shelfrows import RingRow

HOUR, DAY = 3600, 86400
TURNED_MAX = 4


class RingEntry(NamedTuple):
    """An entry without its bytes. Times are steady ones."""

    number: int
    since: int
    left: int
    turned: bool


def superfluous(roots: Iterable[RingEntry], now: int, retain: int) -> list[int]:
    """The numbers of those that go, of entries in the order of their numbers."""
    gone, turned = [], Counter[tuple[int, int]]()
    for root in roots:
        period = HOUR if now - root.left < DAY else DAY
        slot = root.left // period
        last = root.since // period != slot
        if root.turned and not last:
            turned[period, slot] += 1
        few = root.turned and turned[period, slot] <= TURNED_MAX
        if root.left + retain <= now or not (last or few):
            gone.append(root.number)
    return gone


class Ring(ABC):
    """The past roots of all vaults. Only a shelf adds and drops. Thread-safe."""

    @abstractmethod
    def of(self, vault: bytes) -> list[RingEntry]:
        """Those of a vault, in the order in which they were left."""

    @abstractmethod
    def get(self, vault: bytes, number: int) -> tuple[bytes, bytes]:
        """A signed root and its family. Raises Refused not-found."""


class MemoryRing(Ring):
    """`rows` and `families` are what is really there."""

    def __init__(self) -> None:
        self.rows: dict[bytes, dict[int, RingRow]] = {}
        self.families: dict[bytes, dict[bytes, bytes]] = {}

    def of(self, vault: bytes) -> list[RingEntry]:
        return [entry_of(number, row) for number, row in [*self._rows(vault).items()]]

    def get(self, vault: bytes, number: int) -> tuple[bytes, bytes]:
        row = self._rows(vault).get(number)
        if row is None:
            raise Refused("not-found", "that root is not kept any more")
        return row.root, self.families[vault][row.family]

    def _rows(self, vault: bytes) -> Mapping[int, RingRow]:
        return self.rows.get(vault, {})


def entry_of(number: int, row: RingRow) -> RingEntry:
    """What is said of a row."""
    return RingEntry(number, row.since, row.left, row.turned)
