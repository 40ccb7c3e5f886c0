"""How much memory connections may take: each has holds on pools of bytes that are shared fairly.

There is a pool for what comes in and one for what goes out. All strangers together have a quarter
of a pool. One customer has half of it at most; so have all together who came as anybody from one
network (shares.py). Where there is no room, connections whose client is slower than it has to be
are ended, and theirs is given to others. A client that announces megabytes and sends a byte now and
then, or asks for megabytes and takes none, holds room only until somebody needs it.
"""

from collections import Counter
from collections.abc import Callable

import trio

from bitdustfs.supplier.shares import Portion, parts_of, weight
from bitdustfs.units import FRAGMENT_MAX, KIB

SLOWEST = 128 * KIB  #: bytes a second that a client has to come to, as its own deadlines say
PATIENCE, AHEAD = 5.0, 10.0  #: seconds of silence that are allowed, and at most after a fast start
STRANGERS: Portion = ("strangers",)  #: in whose name all strangers hold


class Buffers:
    """One pool of `limit` bytes. `slowest`: bytes a second that a client has to come to now."""

    def __init__(self, limit: int, slowest: Callable[[], float] = lambda: SLOWEST) -> None:
        self._limit, self.slowest = limit, slowest
        self._taken = 0
        self._by_share: Counter[Portion] = Counter()
        self._holds: set[Hold] = set()
        self._changed = trio.Event()

    def hold(self, owner: Portion, end: Callable[[], None]) -> "Hold":
        """A connection's hold, of no bytes yet. `end` ends the connection."""
        made = Hold(self, owner, end)
        self._holds.add(made)
        return made

    def has_room(self, owner: Portion, size: int) -> bool:
        """Whether there is room for `size` bytes more; of those who are late as many are ended for
        it as it takes, of who has the most first.
        """
        while self._over(owner, size):
            full = self._full(size)
            late = [h for h in self._holds if h.late() and (full or h.owner[0] == owner[0])]
            if not late:
                return False
            max(late, key=lambda h: (weight(h.owner, self._by_share), h.lateness())).end()
        return True

    def _full(self, size: int) -> bool:
        return self._taken + size > self._limit

    def _over(self, owner: Portion, size: int) -> bool:
        share = self._limit // 2
        if owner[:1] == STRANGERS:
            share = max(self._limit // 4, FRAGMENT_MAX + 64 * KIB)
        return self._full(size) or self._by_share[owner[:1]] + size > share

    async def changed(self) -> None:
        """When something was given back; or after a second: somebody may be late by then."""
        with trio.move_on_after(1):
            await self._changed.wait()

    def count(self, owner: Portion, size: int) -> None:
        """A hold of an owner grew by `size` bytes, or shrank."""
        self._taken += size
        for part in parts_of(owner):
            self._by_share[part] += size
            if not self._by_share[part]:
                del self._by_share[part]
        if size < 0:
            self._changed.set()
            self._changed = trio.Event()

    def remove(self, hold: "Hold") -> None:
        """The connection has ended."""
        self._holds.discard(hold)


class Hold:
    """What one connection has of a pool. Its client is late while it is waited for too long."""

    def __init__(self, pool: Buffers, owner: Portion, end: Callable[[], None]) -> None:
        self._pool, self.owner, self._end = pool, owner, end
        self._size = 0
        self._due = trio.current_time() + PATIENCE
        self._since = trio.current_time()  # when the client was waited for last, or is since
        self._waiting = False

    def take(self, size: int) -> bool:
        """Whether there was room for `size` bytes more; they are held then."""
        if not self._pool.has_room(self.owner, size):
            return False
        if not self._size:
            self._due = self._since = trio.current_time()
            self._due += PATIENCE
        self._size += size
        self._pool.count(self.owner, size)
        return True

    async def wait_for(self, size: int, seconds: float) -> bool:
        """The same, but waits for room for so long."""
        with trio.move_on_after(seconds):
            while not self.take(size):
                await self._pool.changed()
            return True
        return False

    def give_back(self, size: int) -> None:
        """So many bytes are not in memory any more."""
        size = min(size, self._size)
        self._size -= size
        self._pool.count(self.owner, -size)

    def wait_begins(self) -> None:
        """From now on it is the client that is waited for: our own slowness is not its fault."""
        now = trio.current_time()
        self._due += now - self._since
        self._since, self._waiting = now, True

    def wait_ends(self, moved: int) -> None:
        """It sent or took so many bytes."""
        self._since, self._waiting = trio.current_time(), False
        self._due = min(self._since + AHEAD, self._due + moved / self._pool.slowest())

    def late(self) -> bool:
        """Whether the client is slower than it has to be."""
        return bool(self._size) and self._waiting and self.lateness() > 0

    def lateness(self) -> float:
        """Seconds by which it is; below 0 it is not."""
        return trio.current_time() - self._due

    def move_to(self, owner: Portion) -> None:
        """The connection is another one's from now on."""
        self._pool.count(self.owner, -self._size)
        self.owner = owner
        self._pool.count(owner, self._size)

    def end(self) -> None:
        """The connection is ended, and all of it given back."""
        self.close()
        self._end()

    def close(self) -> None:
        """The connection has ended."""
        self.give_back(self._size)
        self._pool.remove(self)
