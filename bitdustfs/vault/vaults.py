"""An open vault on this machine that is also written, now or later.

`WritableVault` holds the pen. It turns read-only for good when the pen is lost; what was accepted
until then is kept. `WaitingVault` is read until it may be written. How a vault is opened and wired
says assemble.py; which root is followed, opening.py; one that is only looked at is in reading.py.
"""

import logging
import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

import trio

from bitdustfs.blocks.courier import Courier
from bitdustfs.blocks.evict import CacheRoom, Eviction
from bitdustfs.blocks.flow import Flow
from bitdustfs.blocks.ledger import Ledger
from bitdustfs.blocks.loans import Loans
from bitdustfs.blocks.pen import Pen
from bitdustfs.blocks.throttle import Throttle
from bitdustfs.blocks.writer import ExtentWriter
from bitdustfs.core.records import Ballot
from bitdustfs.errors import (
    BitdustError,
    DiskFull,
    LeaseHeld,
    LocalError,
    Superseded,
    Unavailable,
)
from bitdustfs.fs.content import WritableContent
from bitdustfs.fs.xattrs import WritableXattrs
from bitdustfs.net.register import Fenced
from bitdustfs.rebuild.audit import Auditor
from bitdustfs.rebuild.rebuilder import Rebuilder
from bitdustfs.tree.commit import Committer
from bitdustfs.vault.held import Held
from bitdustfs.vault.lease import RENEW_EVERY, TAKEN_OVER, Lease
from bitdustfs.vault.publish import FamilyChange, Publisher
from bitdustfs.vault.reading import Parts, ReadVault
from bitdustfs.vault.reclaim import Reclaimer
from bitdustfs.vault.settings import PUBLISH_BYTES, Settings
from bitdustfs.vault.thinning import Thinning

log = logging.getLogger(__name__)

CENSUS_FRESH = 60.0  #: seconds that a census may be old when local copies go because of it
CENSUS_HURRY = 2.0  #: the same, when somebody waits for it
USAGE_EVERY = 20.0  #: seconds between questions to suppliers about what is used
USAGE_ANYWAY = 600.0  #: the same, while nothing was placed or deleted
EVICT_EVERY = 2.0  #: seconds between looks at how much this disk keeps
WITNESS_DEADLINE = 10.0  #: seconds that the first root waits for the DHT's witness
BACK_EVERY = 1.0  #: seconds between looks whether enough suppliers are back to claim the vault
CONFIRM_AGAIN = 5.0  #: seconds until it is tried again


class WaitingVault(ReadVault):
    """A vault that is only looked at until enough suppliers answer.

    `writable` waits for that, and opens the same root for writing, with what is unpublished here.
    Entering it raises Superseded when a newer root was found, and what claiming raises. What reads
    of this vault are under way then come to their end.
    """

    def __init__(
        self,
        parts: Parts,
        message: str,
        writable: Callable[[], AbstractAsyncContextManager["WritableVault"]],
    ) -> None:
        super().__init__(parts, message)
        self.writable = writable


class WritableVault(ReadVault):
    """A vault that this machine also writes."""

    content: WritableContent
    xattrs: WritableXattrs

    def __init__(
        self,
        parts: Parts,
        content: WritableContent,
        xattrs: WritableXattrs,
        *,
        settings: Settings,
        pen: Pen,
        lease: Lease,
        writer: ExtentWriter,
        committer: Committer,
        ledger: Ledger,
        loans: Loans,
        courier: Courier,
        flow: Flow,
        throttle: Throttle,
        room: CacheRoom,
        eviction: Eviction,
        auditor: Auditor,
        rebuilder: Rebuilder,
        reclaimer: Reclaimer,
        publisher: Publisher,
        held: Held,
        thinning: Thinning,
    ) -> None:
        super().__init__(parts, "")
        self.content, self.xattrs = content, xattrs
        self._settings = settings
        self.pen, self.lease, self.writer, self.committer = pen, lease, writer, committer
        self.ledger, self.loans = ledger, loans
        self.courier, self.flow, self._throttle = courier, flow, throttle
        self._room, self.eviction = room, eviction
        self.auditor, self.rebuilder = auditor, rebuilder
        self.reclaimer, self.publisher, self.held = reclaimer, publisher, held
        self.thinning = thinning
        self._witness = trio.Event()  # set once the DHT's record was asked for
        if not settings.witness:
            self._witness.set()

    @property
    def read_only(self) -> bool:
        """Whether the pen is lost."""
        return self.pen.lost

    @property
    def message(self) -> str:
        """Why it is read-only, if it is."""
        return self.pen.why

    def set_limits(self, cache: int, audits: int) -> None:
        """From here on so many bytes of this disk, and so many that audits may fetch in a day."""
        self._room.resize(cache)
        self.auditor.allow(audits)

    # -- what other machines and the network say

    def _is_behind(self, why: str) -> None:
        self.pen.lose(why)

    def witness_asked(self) -> None:
        """The DHT record was asked for: the first root need not wait for it any more."""
        self._witness.set()

    # -- publishing

    async def publish(
        self,
        hurry: bool = True,
        change: FamilyChange | None = None,
        again: bool = False,
        snapshot: bytes = b"",
        scheduled: bool = False,
    ) -> None:
        """Publishes all that was written before the call. Raises what Publisher.publish does.

        `hurry`: somebody waits, so uploading does not make way for writers. `change`, `again`,
        `snapshot`, `scheduled`: see there.
        """
        if self.pen.waits:
            await self.committer.commit(sync=True)
            self.pen.require()
        if not self._witness.is_set():
            await self.committer.commit(sync=True)
            if (
                self.publisher.due or change or again or snapshot
            ):  # else no root has to wait for the witness
                with trio.move_on_after(WITNESS_DEADLINE):
                    await self._witness.wait()
            else:
                self.pen.require()
                return
        self.pen.require()
        try:
            with self._throttle.hurrying() if hurry else nullcontext():
                try:
                    await self.publisher.publish(change, again, snapshot, scheduled)
                except DiskFull:  # a root without what was deleted is what makes room
                    if not await trio.to_thread.run_sync(self._room.disk.give):
                        raise
                    made = snapshot and await self.catalogue.find(snapshot) is not None
                    await self.publisher.publish(
                        change, again, b"" if made else snapshot, scheduled
                    )
            self.committer.forget(self.publisher.published.generation)
        except Superseded:
            self.pen.lose(TAKEN_OVER)
            raise

    async def give_back(self) -> None:
        """Gives deleted data's space back now: somebody has to wait for it.

        Then scheduled snapshots, where that is not enough. Where what they keep counts against the
        quota, that alone helps at once; else not before what had died is deleted.
        """
        try:
            await self.thinning.for_quota()
            await self.auditor.recent(CENSUS_FRESH)
            await self._delete_dead()
            if await self.thinning.for_placeable():
                await self._delete_dead()
        except BitdustError as error:
            log.warning("no space could be given back: %s", error)
        # a writer that waits for this disk cannot wait until what was placed just now is listed
        await self._evict(CENSUS_HURRY)
        await self.space.refresh()

    async def _delete_dead(self) -> None:
        for again in (False, True):  # what dies is deleted after a root without it
            await self.publish(again=again and self._room.disk.lacking() > 0)
            await self.reclaimer.step()

    # -- tasks, each until the mount ends or the pen is lost

    async def keep_publishing(self) -> None:
        """Publishes when enough waits or enough time passed; a seat is taken at once."""
        last = -math.inf if self.publisher.wants_seat else trio.current_time()
        while not self.pen.lost:
            await trio.sleep(self._settings.publish_tick)
            late = trio.current_time() - last >= self._settings.publish_every
            due = self.publisher.due or self.publisher.wants_seat
            waits = self._settings.metered.pauses and not self.publisher.wants_seat
            if self.pen.waits:
                last = -math.inf  # what was written without suppliers waits no longer than they
                continue
            if waits or not (due and (late or self.writer.unclosed >= PUBLISH_BYTES)):
                continue
            try:
                await self.publish(hurry=self.publisher.wants_seat)
            except Superseded:
                return
            except BitdustError as error:
                log.warning("not published yet, will retry: %s", error)
            last = trio.current_time()

    async def remember_loss(self) -> None:
        """Writes down that the pen was lost: a mount without suppliers has nobody to ask."""
        await self.pen.wait_lost()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self.state.set_overtaken, True)

    async def confirm_claim(self) -> None:
        """Claims the vault as soon as enough suppliers are back, where it was opened without."""
        while self.pen.waits and not self.pen.lost:
            if self.circle.online() < self.register.needed:
                await trio.sleep(BACK_EVERY)
                continue
            try:
                await self.publisher.confirm()
                log.info("enough suppliers answer: this machine claimed the vault again")
            except (Fenced, LeaseHeld, Unavailable, LocalError) as error:
                log.warning("the vault is not claimed yet: %s", error)
                self.pen.wait_for(str(error))
                await trio.sleep(CONFIRM_AGAIN)
            except Superseded:
                self.pen.lose(TAKEN_OVER)

    async def keep_claim(self) -> None:
        """Claims again where a claim that came to nothing keeps suppliers from this machine."""
        while not self.pen.lost:
            rival = await self.lease.wait_in_the_way()
            while not await self._claim_again(rival):
                pass  # those who promised a claim that came to nothing, of this machine, are fenced
            await self.lease.renew()

    async def _claim_again(self, rival: Ballot) -> bool:
        """Whether nothing is left to do."""
        try:
            await self.publisher.claim_again(rival)
        except (Fenced, LeaseHeld, Unavailable, LocalError) as error:
            log.warning("another machine's claim still fences some suppliers: %s", error)
            await trio.sleep(RENEW_EVERY)
            return self.pen.lost
        except Superseded:
            self.pen.lose(TAKEN_OVER)
        return True

    async def keep_usage_fresh(self) -> None:
        """Keeps `df` true: what suppliers have free is asked again when it can have changed."""
        asked = -math.inf
        while True:
            now = trio.current_time()
            if self.space.stale or now - asked >= USAGE_ANYWAY:
                await self.space.refresh()
                asked = now
            await trio.sleep(USAGE_EVERY)

    async def keep_within_cache(self) -> None:
        """Evicts what the cache, or this machine's disk, has no room for."""
        while not self.pen.lost:
            await trio.sleep(EVICT_EVERY)
            if not self._room.disk.at_rest():
                await trio.to_thread.run_sync(self._room.disk.refresh)
            await self._evict(CENSUS_FRESH)

    async def _evict(self, fresh: float) -> None:
        if not self._room.surplus():
            return
        census = await self.auditor.recent(fresh)
        try:
            await self.eviction.evict(census.holders, self.published_seq())
        except LocalError as error:
            log.warning("nothing could be evicted: %s", error)

    async def give_back_for_writers(self) -> None:
        """Gives space back when a writer waits for it."""
        await self.space.give_back_for_writers(self.give_back)
