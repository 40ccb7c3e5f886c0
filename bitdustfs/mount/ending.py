"""The end of a mount: after the last request everything is settled, and whoever waits is told."""

import logging

import trio

from bitdustfs.errors import BitdustError
from bitdustfs.family.staffing import Staffing
from bitdustfs.mount.statements import Ended
from bitdustfs.net.control import Progress, Say
from bitdustfs.vault.account import lost_at_the_end
from bitdustfs.vault.reading import ReadVault
from bitdustfs.vault.vaults import WritableVault

log = logging.getLogger(__name__)

LAST_PUBLISH = 120.0  #: seconds that the end of a mount waits for suppliers
LAST_ATTEMPT = 5.0  #: the same, where too few suppliers just answered
LAST_COPIES = 20.0  #: seconds that it then gives slow suppliers to take their share, too
LAST_RECLAIM = 5.0  #: seconds that it spends on giving space back
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


class Settling(ReadSettling):
    """What is left to do after the last request: everything to disk, then to the suppliers."""

    def __init__(self, vault: WritableVault, staffing: Staffing) -> None:
        super().__init__(vault)
        self._writable, self._staffing = vault, staffing

    async def settle(self) -> Ended:
        """Does it, and gives the lease back. How it ended."""
        vault, why = self._writable, ""
        try:
            await vault.committer.commit(sync=True)
        except BitdustError as error:
            said = lost_at_the_end(str(error))
            ended = Ended(message=said, verdict=f"NOT safe: {said}")
        else:
            try:
                if not vault.read_only:
                    await self._publish()
            except (BitdustError, trio.TooSlowError) as error:
                why = str(error)
            ended = await self._ended(why)
        if ended.message:
            log.warning(ended.message)
        await vault.lease.release()
        return ended

    async def _publish(self) -> None:
        vault = self._writable
        await vault.watch.glance()
        with trio.fail_after(LAST_ATTEMPT if vault.too_few() else LAST_PUBLISH):
            await vault.publish()
            await self._give_space_back()
        await self._staffing.settle()
        members, health = vault.known.family.members, vault.circle.health
        there = [p for p, member in enumerate(members) if health(member.node).there]
        if vault.ledger.owes(there):  # who is known to be away is not waited for
            with trio.move_on_after(LAST_COPIES):
                await vault.courier.try_all()

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
