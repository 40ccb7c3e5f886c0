"""How much a vault holds and may still take: what `df` shows, and who is refused in time.

Two bounds, both in bytes of plaintext. The *quota*: live + dirty stays within what the contracts
hold less a reserve. The *placeable*: what suppliers still have free, k times the fullest one's,
less what waits on this machine; it is smaller than the quota while deleted data is not yet given
back. Data beyond either is refused with ENOSPC before it is taken (promise 4); deletes always pass.

What suppliers retain of what was deleted (retained.py) is not free, and what is deleted gives
nothing back before its time: nobody waits for that, and no snapshot is given up for it.

What only snapshots keep is not free. Those that nobody made by hand are given up for a writer who
would be refused else: what they keep counts as free, and the writer waits until it is.

Metadata (names, symbolic links, extended attributes) counts against the placeable only. What was
admitted of it is *promised* until a root has it at the suppliers.
"""

import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import trio

from bitdustfs.blocks.circle import Circle
from bitdustfs.blocks.retained import Retained
from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.cache.diskroom import DiskRoom
from bitdustfs.core.placement import acknowledgements_least, capacity, slop
from bitdustfs.core.records import Member
from bitdustfs.errors import DiskFull, NoSpace
from bitdustfs.net.ask import ask_all
from bitdustfs.units import format_size

log = logging.getLogger(__name__)

NAME_COST = 512  #: bytes of metadata that a new name is reckoned at: inode, entry, the folder's
GIVE_BACK_EVERY = 10.0  #: seconds between attempts to give space back for a writer
GIVE_BACK_DEADLINE = 20.0  #: seconds that a writer waits for it
GIVE_UP_DEADLINE = 60.0  #: the same, while giving up snapshots makes the room
SAID_FULL_EVERY = 60.0  #: seconds between log lines about writers for whom there is no room
USAGE_DEADLINE = 5.0  #: seconds that suppliers have to tell what is used


class Want(NamedTuple):
    """What a waiting writer lacks, asked again and again: bytes of each of the two bounds."""

    quota: Callable[[], int]
    placeable: Callable[[], int]

    def lacking(self) -> int:
        """Bytes that have to be given back for this writer."""
        return max(self.quota(), self.placeable())


class Yield(NamedTuple):
    """What is given up for writers, in bytes of each of the two bounds.

    Blocks that are in use give suppliers nothing back but what compaction would.
    """

    quota: int = 0
    placeable: int = 0


class Space:
    """The space of one vault. What waits here for suppliers is the block table's `pending`."""

    def __init__(self, circle: Circle, table: BlockTable, disk: DiskRoom) -> None:
        self._circle, self._table, self._disk = circle, table, disk
        self.retained = Retained(circle)
        self._said_full = -math.inf  # when it was logged last that the retention leaves no room
        self._free: dict[bytes, int] = {}  # node -> bytes free at its last answer
        self._placed: dict[bytes, int] = {}  # node -> bytes it acknowledged since
        self._untold: frozenset[bytes] = frozenset()  # who did not answer when asked last
        self._promised = 0  # bytes of metadata admitted that no root has brought to suppliers yet
        self._wanted = trio.Event()  # a writer waits for deleted data's space
        self._given = trio.Event()  # an attempt to give it back is over
        self._gave = self._waited_in_vain = -GIVE_BACK_EVERY
        self._attempts = 0  # to give space back, that are over
        self._wants: list[Want] = []  # of the writers that wait
        self._bound: int | None = None
        self._held = 0  # bytes that snapshots alone keep
        self._yields = Yield()  # of these given up
        self._helpless = -GIVE_BACK_EVERY  # when giving up snapshots helped a writer not, last

    def hold(self, size: int, yields: Yield) -> None:
        """Snapshots keep so many bytes that nothing else refers to; `yields` of these go."""
        self._held, self._yields = size, Yield() if self.retained.on else yields
        self._tell()

    @property
    def held(self) -> int:
        """Bytes of content that only snapshots keep, as far as it was looked up."""
        return self._held

    @property
    def capacity(self) -> int:
        """Bytes of content that the contracts hold."""
        return capacity(self._circle.family, self._bound)

    @contextmanager
    def bounded(self, each: int) -> Iterator[None]:
        """Meanwhile no more than `each` bytes of a contract are counted on: it gets smaller."""
        self._bound = each
        try:
            yield
        finally:
            self._bound = None

    @property
    def may_copy(self) -> bool:
        """Whether blocks may be copied to empty them: it takes room where these are retained."""
        return not self.retained.on or self.placeable() > 2 * self.reserve

    @property
    def reserve(self) -> int:
        """Bytes of it that are kept free."""
        group = self._circle.family.group
        return slop(group.k, min(member.space for member in group.members))

    def _room(self, member: Member) -> int:
        told = self._free.get(member.node, member.space)
        lost = 0 if self._bound is None else max(0, member.space - self._bound)
        return max(0, min(told, member.space) - lost - self._placed.get(member.node, 0))

    def _usual_room(self) -> int:
        """Bytes that as many suppliers have free as a root cannot do without.

        What the others say does not count: one that is full, or lies, stops nobody (promise 9).
        """
        group = self._circle.family.group
        rooms = sorted((self._room(member) for member in group.members), reverse=True)
        return rooms[acknowledgements_least(group.k, group.n, False) - 1]

    def placeable(self) -> int:
        """Bytes of content that suppliers can still take."""
        group = self._circle.family.group
        waiting = self._table.pending + self._promised // group.meta_k
        return group.k * (self._usual_room() - waiting)

    def used(self, member: Member) -> int:
        """Bytes that a supplier keeps of this vault, as far as it has told."""
        told = self._free.get(member.node, member.space)
        return member.space - min(told, member.space) + self._placed.get(member.node, 0)

    def full(self) -> list[Member]:
        """Suppliers that have much less left than the group needs of each."""
        usual = self._usual_room()
        return [m for m in self._circle.family.members if self._room(m) < usual // 2]

    def left(self, live: int, dirty: int) -> int:
        """Bytes of file content that may still be written."""
        return max(0, min(self._within_quota(live, dirty), self._to_place(dirty)))

    def _within_quota(self, live: int, dirty: int) -> int:
        return self.capacity - live - self._held - self.retained.content() - dirty

    def _to_place(self, dirty: int) -> int:
        return self.placeable() - self.reserve // 2 - dirty  # the other half is for metadata

    def free(self, live: int, dirty: int) -> tuple[int, int]:
        """Bytes that are free, and those of them that may be written: what `df` shows."""
        quota = self._within_quota(live, dirty) + self._yields.quota
        return max(0, quota), max(0, min(quota, self._to_place(dirty) + self._yields.placeable))

    # -- admitting

    async def admit(self, live: int, dirty: int, more: int) -> None:
        """Returns when `more` bytes of content are sure to find a place; else raises NoSpace.

        Where only deleted data is in the way, it is given back first. Raises DiskFull where this
        machine has no room for them.
        """
        await self._admit_here(dirty + more)
        if more <= self.left(live, dirty):
            return
        if more <= self._within_quota(live, dirty) + self._yields.quota:
            await self._wait_given(
                Want(
                    lambda: more - self._within_quota(live, dirty),
                    lambda: more - self._to_place(dirty),
                )
            )
        if more > self.left(live, dirty):
            raise self._refusal()

    async def admit_metadata(self, size: int) -> None:
        """As `admit`, for `size` bytes of names or attributes, from here on promised.

        They must not eat what deletes and compaction need.
        """
        await self._admit_here(size)
        if not self._fits(size):
            await self._wait_given(Want(lambda: 0, lambda: self._lacks(size)))
            if not self._fits(size):
                raise self._refusal()
        self._promised += size

    def _refusal(self) -> NoSpace:
        """What a writer gets for whom there is no room; why, where that is the retention, is
        logged.
        """
        now, size = trio.current_time(), self.retained.content()
        if size and now - self._said_full > SAID_FULL_EVERY:
            self._said_full = now
            log.warning(
                "a writer was refused: %s of what was deleted are kept until %s at the latest",
                format_size(size), time.strftime("%F %R", time.localtime(self.retained.until())),
            )  # fmt: skip
        return NoSpace()

    async def _admit_here(self, owed: int) -> None:
        """Returns when this machine's disk has room for `owed` bytes; else raises DiskFull.

        What suppliers have goes from here first. Who waited in vain speaks for all who come within
        GIVE_BACK_EVERY.
        """
        if not self._disk.is_short(owed):
            return
        if trio.current_time() - self._waited_in_vain > GIVE_BACK_EVERY:
            with trio.move_on_after(GIVE_BACK_DEADLINE):
                while self._disk.is_short(owed):
                    self._wanted.set()
                    await self._given.wait()
                return
            self._waited_in_vain = trio.current_time()
        raise DiskFull("this machine's disk is full; free some room for the cache")

    def _fits(self, size: int) -> bool:
        return self._lacks(size) <= 0

    def _lacks(self, size: int) -> int:
        """Bytes of content that have to be given back for so many of metadata."""
        group = self._circle.family.group
        return self.reserve // 4 + size * group.k // group.meta_k - self.placeable()

    @property
    def promised(self) -> int:
        """Bytes of metadata that were admitted and are not at the suppliers yet."""
        return self._promised

    def kept(self, promised: int) -> None:
        """A root was accepted that has what was `promised` when it was begun."""
        self._promised = max(0, self._promised - promised)

    async def _wait_given(self, want: Want) -> None:
        """Has the vault give back what it can; one attempt serves all who wait.

        It goes on as long as giving up snapshots helps. Whom that did not help speaks for all who
        come within GIVE_BACK_EVERY: else as many would wait one after the other as write.
        """
        now = trio.current_time()
        if now - self._helpless <= GIVE_BACK_EVERY:
            return
        if now - self._gave <= GIVE_BACK_EVERY and not self._helps(want):
            return
        self._wants.append(want)
        try:
            with trio.move_on_after(GIVE_UP_DEADLINE):
                vain = 0  # the first attempt may have been at its end already
                while vain < 2:
                    before = want.lacking(), self._yields
                    with trio.move_on_after(GIVE_BACK_DEADLINE) as slow:
                        await self._attempt(want)
                    if not self._helps(want):
                        return
                    vain += not slow.cancelled_caught and before == (want.lacking(), self._yields)
            self._helpless = trio.current_time()
        finally:
            self._wants.remove(want)

    async def _attempt(self, want: Want) -> None:
        """Until an attempt is over, or the room is there before."""
        attempts = self._attempts
        self._wanted.set()
        while attempts == self._attempts and want.lacking() > 0:
            await self._given.wait()

    def _helps(self, want: Want) -> bool:
        """Whether giving up snapshots, and nothing else, makes the room that a writer lacks."""
        quota, placeable = want.quota(), want.placeable()
        within = quota <= self._yields.quota and placeable <= self._yields.placeable
        return within and max(quota, placeable) > 0

    def wanted(self) -> Yield:
        """What the writers lack who wait, and whom giving up snapshots would help."""
        wants = [want for want in self._wants if self._helps(want)]
        return Yield(
            max((want.quota() for want in wants), default=0),
            max((want.placeable() for want in wants), default=0),
        )

    def _tell(self) -> None:
        """Whoever waits looks again."""
        self._given.set()
        self._given = trio.Event()

    async def give_back_for_writers(self, give_back: Callable[[], Awaitable[None]]) -> None:
        """Until cancelled: calls `give_back` when a writer waits, not too often."""
        while True:
            await self._wanted.wait()
            try:
                with trio.move_on_after(GIVE_BACK_DEADLINE):
                    await give_back()
            finally:  # whoever waits goes on, whatever went wrong
                self._gave = trio.current_time()
                self._attempts += 1
                self._wanted = trio.Event()
                self._tell()

    # -- what suppliers tell

    def placed(self, node: bytes, length: int) -> None:
        """A supplier acknowledged a fragment of `length` bytes."""
        self._placed[node] = self._placed.get(node, 0) + length

    @property
    def stale(self) -> bool:
        """Whether suppliers may say something else by now, or one has not said anything yet."""
        nodes = {member.node for member in self._circle.family.members}
        unknown = nodes - self._free.keys()
        return bool(unknown or self._untold or any(map(self._placed.get, nodes)))

    async def refresh(self) -> None:
        """Asks all suppliers what is used; who does not answer counts as at its last answer.

        Who is away is not waited for.
        """

        async def ask(node: bytes) -> None:
            before = self._placed.get(node, 0)
            await self.retained.ask(node)
            usage = await self._circle.supplier(node).usage()
            self._free[node] = usage.space - usage.used
            self._placed[node] = self._placed.get(node, 0) - before

        nodes = [member.node for member in self._circle.family.members]
        away = [node for node in nodes if self._circle.health(node).away]
        group = self._circle.family.group
        least = acknowledgements_least(group.k, group.n, False)
        answers = await ask_all(
            nodes, ask, deadline=USAGE_DEADLINE, enough=lambda told: len(told) >= least,
            unlikely=away,
        )  # fmt: skip
        self._untold = frozenset(nodes) - answers.given.keys()
        for node, error in answers.failed.items():
            log.debug("%s tells no usage: %s", node.hex()[:12], error)
