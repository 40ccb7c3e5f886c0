"""The folders that programs have open, and of which root their listings are.

The kernel asks for a listing in several steps. All of them are of the root that was shown at the
first one, whatever is shown meanwhile: so each name is listed that the folder had then, once.
"""

from collections.abc import Collection


class Listings:
    """By handles. A turn is a number of `Showing` (fs/showing.py)."""

    def __init__(self) -> None:
        self._inodes: dict[int, int] = {}
        self._turns: dict[int, int] = {}  # of those that are neither at their beginning nor end
        self._next = 1

    def open(self, inode: int) -> int:
        """The handle of an open folder."""
        handle, self._next = self._next, self._next + 1
        self._inodes[handle] = inode
        return handle

    def inode(self, handle: int) -> int:
        return self._inodes[handle]

    def turn(self, handle: int, begins: bool, now: int) -> int:
        """Which root a listing is of. `begins`: it is listed from the first name on, also again."""
        if begins or handle not in self._turns:
            self._turns[handle] = now
        return self._turns[handle]

    def end(self, handle: int) -> None:
        """The last name was listed."""
        self._turns.pop(handle, None)

    def close(self, handle: int) -> None:
        self._inodes.pop(handle, None)
        self.end(handle)

    @property
    def turns(self) -> Collection[int]:
        """Those that listings go on with."""
        return set(self._turns.values())
