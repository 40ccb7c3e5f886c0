"""The end of a mount: after the last request everything is settled, and whoever waits is told."""

import logging

import trio

from bitdustfs.errors import BitdustError
from bitdustfs.family.staffing import Staffing
from bitdustfs.mount.statements import Ended
from bitdustfs.net.control import Progress, Say
from bitdustfs.vault.vaults import WritableVault

log = logging.getLogger(__name__)

LAST_PUBLISH = 120.0  #: seconds that the end of a mount waits for suppliers
LAST_ATTEMPT = 15.0  #: the same, when it is known that too few are there
LAST_COPIES = 20.0  #: seconds that it then gives slow suppliers to take their share, too
LAST_RECLAIM = 5.0  #: seconds that it spends on giving space back
HEARING = 2.0  #: seconds that whoever waits for the end may take to hear of it


class NothingToSettle:
    """The end of a mount that was only looked at."""

    async def settle(self) -> str:
        """Nothing was written: nothing is left."""
        return ""


class Settling(NothingToSettle):
    """What is left to do after the last request: everything to disk, then to the suppliers."""

    def __init__(self, vault: WritableVault, staffing: Staffing) -> None:
        self._vault, self._staffing = vault, staffing

    async def settle(self) -> str:
        """Does it and gives the lease back. What could not be published and why, or ""."""
        vault, message = self._vault, ""
        try:
            await vault.committer.commit(sync=True)
            if not vault.read_only:
                await self._publish()
        except (BitdustError, trio.TooSlowError) as error:
            message = self._what_is_left(str(error))
            log.warning(message)
        await vault.lease.release()
        return message

    async def _publish(self) -> None:
        with trio.fail_after(LAST_ATTEMPT if self._vault.too_few() else LAST_PUBLISH):
            await self._vault.publish()
            await self._give_space_back()
        await self._staffing.settle()
        with trio.move_on_after(LAST_COPIES):
            await self._vault.courier.try_all()

    async def _give_space_back(self) -> None:
        """Deletes what died since the last look; what that changes is published, too."""
        vault = self._vault
        with trio.move_on_after(LAST_RECLAIM):
            await vault.reclaimer.step(compact=False)
        if vault.publisher.due or vault.volume.tree.batch:
            await vault.publish()

    def _what_is_left(self, why: str) -> str:
        why = why or self._vault.too_few() or "suppliers did not answer in time"
        return (
            f"not everything could be published ({why}); it is kept on this machine and will be "
            "published by the next mount here"
        )


class Farewell:
    """Tells those who wait for the end of a mount how it ended."""

    def __init__(self) -> None:
        self._message = ""
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
            return Ended(message=self._message)
        finally:
            self._listeners -= 1
            if not self._listeners:
                self._nobody_listens.set()

    async def tell(self, message: str) -> None:
        """The mount has ended. Returns when all who listen have been answered, or soon anyway."""
        self._message = message
        self._said.set()
        with trio.move_on_after(HEARING):
            await self._nobody_listens.wait()
