"""The end of a mount: after the last request everything is settled, and whoever waits is told."""

import logging
import math
from collections.abc import Callable

import trio

from bitdustfs.errors import BitdustError
from bitdustfs.family.staffing import Staffing
from bitdustfs.mount.statements import Ended
from bitdustfs.net import notify
from bitdustfs.net.control import Progress, Say
from bitdustfs.vault.account import lost_at_the_end, too_long
from bitdustfs.vault.reading import ReadVault
from bitdustfs.vault.vaults import WritableVault

log = logging.getLogger(__name__)

LAST_PUBLISH = 120.0  #: seconds that the end of a mount waits for suppliers
LAST_ATTEMPT = 5.0  #: the same, where too few suppliers just answered
LAST_COPIES = 20.0  #: seconds that it then gives slow suppliers to take their share, too
LAST_RECLAIM = 5.0  #: seconds that it spends on giving space back
LOOK_AFTER = 8.0  #: seconds of sending until it is said whether that time will do
LOOK_EVERY = 2.0  #: seconds between looks at it
HURRY_SECONDS = 60.0  #: from when it is said that nobody waits for suppliers, to the end
HEARING = 2.0  #: seconds that whoever waits for the end may take to hear of it


class ReadSettling:
    """The end of a mount that was only looked at."""

    def __init__(self, vault: ReadVault) -> None:
        self._vault = vault

    async def settle(self) -> Ended:
        """Nothing was written: what was unpublished before still is."""
        return await self._ended("")

    async def _ended(self, why: str) -> Ended:
        account = await self._vault.account()
        if account.published:
            return Ended(message="", said=account.ended(), verdict=account.verdict(ended=True))
        return Ended(message=account.left_behind(why), verdict=account.verdict(ended=True))


class Outlook:
    """Whether what is left can be sent in so many `seconds`, at the rate since the end began: how
    fast it was before says little, nobody hurried then. `sent`: bytes so far.
    """

    def __init__(self, seconds: float, sent: Callable[[], int]) -> None:
        self._over, self._sent = trio.current_time() + seconds, sent
        self._before, self._since = sent(), trio.current_time()  # of the last look without a byte

    def of(self, left: int) -> tuple[str, bool]:
        """How long so many bytes take, a sentence ("" while that is not known), and whether that is
        too long.
        """
        now, sent = trio.current_time(), self._sent() - self._before
        if not sent:
            self._since = now
        seconds = now - self._since
        if not (left and sent) or seconds < LOOK_AFTER:
            return "", False
        rate = sent / seconds
        return too_long(left, rate), left / rate > self._over - now


class HurriedEnd:
    """Whether whoever ends the mount does not want to wait for suppliers.

    That is of the end that follows soon. A mount that is in use is not taken away: it goes on, and
    ends another time as it would have.
    """

    def __init__(self) -> None:
        self._until = -math.inf
        self._began = trio.Event()

    def begin(self) -> None:
        """Somebody is about to end it so."""
        self._until = trio.current_time() + HURRY_SECONDS
        self._began.set()

    async def wait(self) -> None:
        """Returns when somebody is, or was a moment ago."""
        while trio.current_time() > self._until:
            if self._began.is_set():  # of an end that did not come
                self._began = trio.Event()
            await self._began.wait()


class Settling(ReadSettling):
    """What is left to do after the last request: everything to disk, then to the suppliers.

    Where that would take longer than the end of a mount may, it is left to the next one at once.
    `hurry`: whether anybody wants to wait for suppliers.
    """

    def __init__(self, vault: WritableVault, staffing: Staffing, hurry: HurriedEnd) -> None:
        super().__init__(vault)
        self._writable, self._staffing, self._hurry = vault, staffing, hurry
        self._hopeless = ""

    async def settle(self) -> Ended:
        """Does it, and gives the lease back. How it ended."""
        vault, why = self._writable, ""
        try:
            await vault.committer.commit(sync=True)
        except BitdustError as error:
            said = lost_at_the_end(str(error))
            ended = Ended(message=said, verdict=f"NOT safe: {said}")
        else:
            if not vault.read_only:
                why = await self._publish_if_soon()
            ended = await self._ended(why)
        if ended.message:
            log.warning(ended.message)
        await vault.lease.release()
        return ended

    async def _publish_if_soon(self) -> str:
        """Publishes; why it did not, or ""."""
        why, patience = "", trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look, patience)
            with patience:
                try:
                    await self._publish()
                except (BitdustError, trio.TooSlowError) as error:
                    why = str(error)
            nursery.cancel_scope.cancel()
        return self._hopeless if patience.cancelled_caught else why

    async def _look(self, patience: trio.CancelScope) -> None:
        """Ends the patience where the time will not do, or nobody has any."""
        flow, is_waiting = self._writable.flow, self._writable.ledger.is_waiting
        outlook = Outlook(LAST_PUBLISH, flow.sent)
        while not self._hopeless:
            with trio.move_on_after(LOOK_EVERY):
                await self._hurry.wait()
                self._hopeless = "it was ended without waiting for that"
            said, hopeless = outlook.of(flow.left(is_waiting).waiting)
            if said:
                notify.notify(notify.status_word(f"publishing: {said}"))
            if hopeless:
                self._hopeless = self._hopeless or said
        patience.cancel()

    async def _publish(self) -> None:
        vault = self._writable
        await vault.watch.glance(vault.to_publish())
        with trio.fail_after(LAST_ATTEMPT if vault.too_few() else LAST_PUBLISH):
            await vault.publish()
            await self._give_space_back()
        await self._staffing.settle()
        if self._owes_somebody_there():
            await vault.watch.glance()  # somebody may have gone just now
        if self._owes_somebody_there():
            with trio.move_on_after(LAST_COPIES):
                await vault.courier.try_all()

    def _owes_somebody_there(self) -> bool:
        """Whether a supplier lacks something; who is known to be away is not waited for."""
        members, health = self._writable.known.family.members, self._writable.circle.health
        there = [p for p, member in enumerate(members) if health(member.node).there]
        return self._writable.ledger.owes(there)

    async def _give_space_back(self) -> None:
        """Deletes what died since the last look; what that changes is published, too."""
        vault = self._writable
        with trio.move_on_after(LAST_RECLAIM):
            await vault.reclaimer.step(compact=False)
        if vault.publisher.due or vault.volume.tree.batch:
            await vault.publish()


class Farewell:
    """Tells those who wait for the end of a mount how it ended."""

    def __init__(self) -> None:
        self._ended = Ended(message="")
        self.hurry = HurriedEnd()
        self._said = trio.Event()
        self._listeners = 0
        self._nobody_listens = trio.Event()
        self._nobody_listens.set()

    async def listen(self, say: Say) -> Ended:
        """Says at once that it was understood; returns when `tell` was called."""
        if not self._listeners:
            self._nobody_listens = trio.Event()
        self._listeners += 1
        try:
            await say(Progress(done=0, total=0, what="waiting for the end"))
            await self._said.wait()
            return self._ended
        finally:
            self._listeners -= 1
            if not self._listeners:
                self._nobody_listens.set()

    async def tell(self, ended: Ended) -> None:
        """The mount has ended. Returns when all who listen have been answered, or soon anyway."""
        self._ended = ended
        self._said.set()
        with trio.move_on_after(HEARING):
            await self._nobody_listens.wait()
