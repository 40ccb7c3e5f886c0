"""A vault that is only looked at, and shows each new root of whoever writes it.

    heard of a newer root (net/hearing.py) -> a quorum holds it (RootRegister.look)
    -> its journal, and what differs of its leaves, is fetched; this machine's state follows
    -> the kernel forgets what it knows otherwise, and keeps nothing that it is told meanwhile
    -> the tree turns, with no await in between -> the kernel is told once more

So each look is at one root. A request that waits meanwhile goes on where it was, or is planned
again. Inodes are never numbered again, so handles stay what they are.
"""

import logging
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

import msgspec
import trio

from bitdustfs.blocks.circle import Circle
from bitdustfs.cache.rows import Batch, Published
from bitdustfs.cache.state import State
from bitdustfs.core.items import ROOT_INODE, SNAPSHOT_PREFIX, key_kind, key_object
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.quorum import Known, newest_held
from bitdustfs.core.records import Ballot, RootContent, root_records
from bitdustfs.core.roots import descends, open_root_content_untrusted
from bitdustfs.errors import LocalError, Malformed, Unavailable
from bitdustfs.fs.lookups import Lookups
from bitdustfs.fs.outdated import SHOWN, Outdated, outdated
from bitdustfs.net.hearing import Hearing
from bitdustfs.tree.differences import Difference, between, changed_by
from bitdustfs.tree.tree import Tree
from bitdustfs.vault.opening import adopt, load_journal, objection
from bitdustfs.vault.reading import Parts, ReadVault

log = logging.getLogger(__name__)

LOOK_ANYWAY = 300.0  #: seconds after which all voters are asked, whatever some of them say
PAUSE_TOLD = 2.0  #: after that status says that it is not
PAUSE_FIRST, PAUSE_MAX = 0.25, 15.0  #: seconds until a root is asked for again that was not held

RootChanges = Mapping[bytes, bytes | None]  #: items by their keys; None deletes
Warn = Callable[[str], None]


class Beholder(Protocol):
    """Whoever keeps what it was shown: the kernel."""

    def looking_away(self) -> AbstractContextManager[None]:
        """What is answered meanwhile is not kept by it."""

    async def forget(self, what: Outdated) -> None:
        """This is not so from the next turn on."""

    def tell(self, what: Outdated) -> None:
        """This is not so any more. It does not wait."""

    def opened(self) -> Collection[int]:
        """The inodes that programs have open."""

    def listing(self) -> Collection[int]:
        """The turns (fs/showing.py) that listings of folders go on with."""


class Following(NamedTuple):
    """How a vault follows. `seq`, `time`: of the root that is shown (Unix seconds).

    `heard`: seconds since any voter answered; None where none has. `why`: why a newer root that was
    heard of is not shown, "" where none is, or it was only just heard of.
    """

    seq: int
    time: int
    heard: float | None
    why: str


class _NextRoot(NamedTuple):
    """What is to be shown next, all of it in memory.

    `other`: the tree of a root that stands on other leaves. Otherwise `changes` are those of the
    one that is shown.
    """

    changes: RootChanges
    other: Tree | None
    outdated: Outdated


class Follower:
    """Turns the tree of one vault to each new root. `machine`: the name that this one has."""

    def __init__(
        self,
        key: VaultKey,
        machine: bytes,
        parts: Parts,
        circle: Circle,
        lookups: Lookups,
    ) -> None:
        self._key, self._machine = key, machine
        self._tree, self._xattrs, self._catalogue = parts.volume.tree, parts.xattrs, parts.catalogue
        self._reader, self._state, self._circle = parts.reader, parts.state, circle
        self._register, self._followed, self._lookups = parts.register, parts.followed, lookups
        self._shown = self._followed.known
        self._content = open_root_content_untrusted(key, self._shown.root)
        self._showing = parts.showing
        self._kept = False  # whether this machine's state is what is shown, and stands as it does
        self._heard: float | None = None
        self._why = ""
        self.settled = False  #: whether a quorum was found to hold any root since the mount began

    @property
    def order(self) -> tuple[Ballot, int]:
        """Of the root that is shown."""
        return self._shown.root.order

    def following(self) -> Following:
        """How it is now."""
        root = self._shown.root
        heard = None if self._heard is None else trio.current_time() - self._heard
        return Following(root.seq, root.time, heard, self._why)

    async def run(self, beholder: Beholder, warn: Warn) -> None:
        """Until cancelled."""
        while True:
            family = self._followed.known.family
            hearing = Hearing(
                self._key.vault_id, family, self._circle.session, self.order, self._answered
            )
            async with trio.open_nursery() as nursery:
                nursery.start_soon(hearing.run)
                await self._follow(hearing, beholder, warn)
                nursery.cancel_scope.cancel()

    def _answered(self) -> None:
        self._heard = trio.current_time()

    async def _follow(self, hearing: Hearing, beholder: Beholder, warn: Warn) -> None:
        """Until the family is another."""
        family, pause = self._followed.known.raw_family, PAUSE_FIRST
        while self._followed.known.raw_family == family:
            if hearing.newest > self.order:
                self._showing.expect()
            if await self._look_if_it_can_be(beholder, warn):
                pause = PAUSE_FIRST
            elif hearing.newest > self.order or not self.settled:
                if not self._why and hearing.newest > self.order and pause > PAUSE_TOLD:
                    self._why = f"too few suppliers hold root {hearing.newest[1]} as yet"
                with trio.move_on_after(pause):
                    await hearing.wait_newer(max(hearing.newest, self.order))
                pause = min(2 * pause, PAUSE_MAX)
                continue
            with trio.move_on_after(LOOK_ANYWAY):
                await hearing.wait_newer(self.order)

    async def _look_if_it_can_be(self, beholder: Beholder, warn: Warn) -> bool:
        try:
            return await self._look(beholder, warn)
        except (Unavailable, Malformed) as error:
            log.warning("a newer root cannot be shown yet: %s", error)
            self._why = str(error)
            return False

    async def _look(self, beholder: Beholder, warn: Warn) -> bool:
        """Whether a newer root is shown now. Raises Unavailable, Malformed."""
        view = await self._register.look()
        if view.shown:
            self._answered()
        known = newest_held(view.shown)
        self.settled = self.settled or known is not None
        if known is None or known.root.order <= self.order:
            return False
        self._why = objection(self._key, known, self._state, self._machine)
        if self._why:
            return False
        content = open_root_content_untrusted(self._key, known.root)
        before = self._shown.root
        replaced = descends(known.root, content, before.seq, before.uid) is False
        self._followed.follow(known)  # what it names lies with its family
        with beholder.looking_away():
            turn = await self._prepare(content)
            await self._keep(known, content, turn)
            await beholder.forget(turn.outdated)
            # no await from here on
            self._showing.move(
                self._tree, turn.outdated.unlinked, beholder.opened(), beholder.listing()
            )
            if replaced:
                self._showing.forget()
            told = turn.outdated.without(self._showing.departed)
            self._turn(turn, told)
            self._shown, self._content, self._why = known, content, ""
            beholder.tell(told)
        log.info("root %d is shown now", known.root.seq)
        if replaced:
            warn(
                f"the history of this vault was replaced: root {known.root.seq}, which is shown "
                f"now, does not stand on root {before.seq}, which was shown before"
            )
        return True

    async def _prepare(self, content: RootContent) -> _NextRoot:
        """Fetches all that is needed, and finds out what the kernel knows otherwise."""
        before, tree = self._content, self._tree
        shared = len(before.journal)
        if content.index == before.index and content.journal[:shared] == before.journal:
            newer = msgspec.structs.replace(content, journal=content.journal[shared:])
            changes = await load_journal(self._reader, newer)
            found = await changed_by(tree, changes, self._wants)
            return _NextRoot(changes, None, self._outdated(found))
        changes = await load_journal(self._reader, content)
        other = tree.beside(content.index, changes)
        known = self._lookups.known()

        def wanted(low: bytes, high: bytes) -> bool:
            """Who is not known here was looked up since, and what it was told is not kept."""
            at = bisect_left(known, key_object(low))
            return at < len(known) and known[at] <= key_object(high)

        found = await between(tree, other, wanted)
        return _NextRoot(changes, other, self._outdated(found)._replace(snapshots=True))

    def _wants(self, low: bytes, high: bytes) -> bool:
        return low.startswith(SNAPSHOT_PREFIX) or (
            key_kind(low) in SHOWN and self._knows(key_object(low))
        )

    def _knows(self, inode: int) -> bool:
        return inode == ROOT_INODE or self._lookups.held(inode) > 0

    def _outdated(self, found: Collection[Difference]) -> Outdated:
        return outdated([each for each in found if self._wants(each.key, each.key)])

    async def _keep(self, known: Known, content: RootContent, turn: _NextRoot) -> None:
        """This machine's state follows, before anything is shown of the root (promise 8).

        A disk that refuses does not keep the root from being shown.
        """
        try:
            if self._kept and turn.other is None:
                await trio.to_thread.run_sync(self._append, known, content, turn.changes)
            else:
                changes = turn.changes
                if turn.other is None:  # of what was committed here, not all need be in the root
                    changes = await load_journal(self._reader, content)
                await trio.to_thread.run_sync(adopt, self._state, known, content, changes)
            self._kept = True
        except LocalError as error:
            log.warning("this machine does not remember root %d: %s", known.root.seq, error)
            self._kept = False

    def _append(self, known: Known, content: RootContent, changes: RootChanges) -> None:
        row = self._state.published()
        assert row is not None
        generation, batch = row.generation, None
        if changes:
            generation += 1
            batch = Batch(generation, tuple(sorted(changes.items())))
        size = sum(len(k) + len(v or b"") for k, v in changes.items())
        published = Published(
            known.raw, known.raw_family, generation, content.journal, row.journal_bytes + size,
            row.based_on, bool(content.features.incompatible),
        )  # fmt: skip
        self._state.follow(published, batch)

    def _turn(self, turn: _NextRoot, told: Outdated) -> None:
        tree, changed = self._tree, told.contents
        if turn.other is None:
            tree.turn(turn.changes, changed)
        else:
            tree.turn_to(turn.other, changed)
        self._xattrs.turned()
        if turn.outdated.snapshots:
            self._catalogue.turned()


class FollowingVault(ReadVault):
    """A vault that is only looked at, by somebody who wants to see what is new."""

    def __init__(self, parts: Parts, message: str, follower: Follower) -> None:
        super().__init__(parts, message)
        self._follower = follower
        self._witness: tuple[Ballot, int] | None = None

    async def follow(self, beholder: Beholder) -> None:
        """Shows each new root, until cancelled."""
        await self._follower.run(beholder, self.warn)

    def following(self) -> Following:
        """How it follows just now."""
        return self._follower.following()

    @property
    def message(self) -> str:
        """Also why what is shown may be old, while that is so."""
        too_few = "" if self._follower.settled else self._message
        if self._witness is None or self._witness <= self._follower.order:
            return too_few
        return "; ".join(filter(None, (too_few, self._behind(*self._witness))))

    def heed_witness(self, ballot: Ballot, seq: int) -> None:
        """As for all; it may still be heard of."""
        self._witness = ballot, seq

    def _behind(self, ballot: Ballot, seq: int) -> str:
        return (
            f"the network remembers root {seq} of this vault, and the suppliers show only root "
            f"{self._follower.order[1]}: some of them may hide the newer one"
        )


def has_own_work(state: State, known: Known) -> bool:
    """Whether this machine has commits that the root it opened with does not name."""
    published, proposed = state.published(), state.proposed()
    own = [row for row in (published, proposed) if row is not None]
    fitting = [row for row in own if root_records.peek_untrusted(row.root).uid == known.root.uid]
    return all(row.generation != state.last_generation() for row in fitting)
