"""Which of this machine's blocks evicting spares, because something pinned is in them.

A block that was closed after it was last looked at what is pinned may hold anything: it is spared
until the next look. So compaction, which moves extents into new blocks, takes nothing away.
"""

from collections.abc import Collection


class Spared:
    """Judged by whoever knows what is pinned. `any_pins`: before the first look, all are spared."""

    def __init__(self, any_pins: bool) -> None:
        self._used: Collection[bytes] = ()
        self._judged: Collection[bytes] = ()
        self._any = any_pins

    def all(self) -> None:
        """It is not known any more which are needed."""
        self._any, self._judged = True, ()

    def none(self) -> None:
        """Nothing is pinned."""
        self._any, self._used, self._judged = False, (), ()

    def judge(self, used: Collection[bytes], judged: Collection[bytes]) -> None:
        """Something pinned is in those `used`, and in no other one of those `judged`."""
        self._any, self._used, self._judged = True, used, judged

    def has(self, block: bytes) -> bool:
        """Whether a block is to stay."""
        return self._any and (block in self._used or block not in self._judged)
