"""Fragments that were found wrong, or that their suppliers say they lost, until they are made anew.

Whoever reads notes what he finds: programs' reads, audits, repairs and `verify`. All of them check
against what the owner signed, so nobody can be blamed for what he has. Whoever repairs is told
(`reported`), and `status` counts what is noted as lacking from then on.
"""

from dataclasses import dataclass

import trio


@dataclass(frozen=True)
class Finding:
    """One fragment that is wrong at a supplier. `again`: although it was made again before."""

    block: bytes
    position: int
    node: bytes
    again: bool


class Damage:
    """What was found of one vault since the mount."""

    def __init__(self) -> None:
        self._at: dict[bytes, frozenset[int]] = {}  # sets are replaced, so that a copy is cheap
        self._codes: dict[bytes, tuple[int, int]] = {}
        self._made_again: set[tuple[bytes, int]] = set()
        self._new: list[Finding] = []
        self._is_new = trio.Event()

    def found(self, block: bytes, position: int, node: bytes, code: tuple[int, int] | None) -> None:
        """A position's supplier lacks its fragment. `code`: k and n of the block, where known."""
        if code is not None:
            self._codes[block] = code
        at = self._at.get(block, frozenset())
        if position in at:
            return
        self._at[block] = at | {position}
        again = (block, position) in self._made_again
        self._new.append(Finding(block, position, node, again))
        self._is_new.set()

    async def reported(self) -> list[Finding]:
        """Waits for findings; each is given out until it was `heard` or is mended. For one task."""
        while True:
            self._new = [f for f in self._new if f.position in self._at.get(f.block, ())]
            if self._new:
                return list(self._new)
            self._is_new = trio.Event()
            await self._is_new.wait()

    def heard(self, finding: Finding) -> None:
        """Nobody has to be told of it again."""
        self._new.remove(finding)

    def mended(self, block: bytes, positions: list[int]) -> None:
        """These positions have their fragment again."""
        for position in self._at.get(block, frozenset()).intersection(positions):
            self._made_again.add((block, position))
            self._drop(block, position)

    def moved(self, positions: set[int]) -> None:
        """These positions are other suppliers' now: what was found there is no longer so."""
        for block in list(self._at):
            for position in self._at[block] & positions:
                self._drop(block, position)
        self._made_again = {(b, p) for b, p in self._made_again if p not in positions}

    def died(self, block: bytes) -> None:
        """The block was deleted: nobody has to have it from now on."""
        self._at.pop(block, None)
        self._codes.pop(block, None)

    def _drop(self, block: bytes, position: int) -> None:
        self._at[block] -= {position}
        if not self._at[block]:
            self.died(block)

    # -- what is known

    def blocks(self) -> dict[bytes, frozenset[int]]:
        """Block -> positions that lack it."""
        return dict(self._at)

    def codes(self) -> dict[bytes, tuple[int, int]]:
        """Block -> its k and n, of those where they are known."""
        return dict(self._codes)

    def at(self, position: int) -> int:
        """How many fragments a position lacks."""
        return sum(position in at for at in self._at.values())
