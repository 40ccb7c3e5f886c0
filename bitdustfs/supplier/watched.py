"""Whose family a supplier watches, where all of them together would take too much memory.

A family, and what was seen of it, takes some times as many bytes in memory as its owner signed: up
to a megabyte, and a stranger comes by as many contracts as there is room for. So there is a bound
for all together. Where it is reached, those are left out whose families are largest for what they
keep here, until a quarter of it is free: a reserve of a usual family, which keeps nothing yet, is
pushed out by nobody whose family is a hundred times as large. No I/O.
"""

from bitdustfs.units import KIB, MIB

WATCHED_MAX = 16 * MIB  #: bytes of signed families that are watched; in memory six times as many
FREE = 64 * KIB  #: bytes that every vault is taken to keep here besides what it does: reserves


class Watched:
    """The vaults that are watched. `limit`: bytes of their signed families, in all."""

    def __init__(self, limit: int = WATCHED_MAX) -> None:
        self._limit, self._total = limit, 0
        self._vaults: dict[bytes, tuple[float, int]] = {}  # vault -> its rank, bytes of its family
        self._floor = 0.0  # the highest rank that was left out for want of room

    def take(self, vault: bytes, weight: int, used: int) -> list[bytes]:
        """A vault is to be watched, whose family has `weight` bytes, and which keeps `used` bytes.

        Those that are not watched any more because of that; it may be among them.
        """
        self.drop(vault)
        rank, room = (used + FREE) / weight, self._limit * 3 // 4 - self._total
        if rank <= self._floor and weight > room:
            return [vault]
        self._vaults[vault] = rank, weight
        self._total += weight
        return self._leave_out() if self._total > self._limit else []

    def _leave_out(self) -> list[bytes]:
        left_out = []
        for vault in sorted(self._vaults, key=lambda v: self._vaults[v][0]):
            if self._total <= self._limit * 3 // 4:
                break
            self._floor = self._vaults[vault][0]
            self.drop(vault)
            left_out.append(vault)
        return left_out

    def drop(self, vault: bytes) -> None:
        """A vault is not watched any more."""
        _, weight = self._vaults.pop(vault, (0.0, 0))
        self._total -= weight

    def __contains__(self, vault: bytes) -> bool:
        return vault in self._vaults

    def __len__(self) -> int:
        return len(self._vaults)
