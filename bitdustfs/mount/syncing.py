"""Publishing because somebody asked: how far it is, and when it is given up."""

import math

import trio

from bitdustfs.errors import BitdustError, Unavailable
from bitdustfs.mount.statements import Synced
from bitdustfs.net.control import Progress, Say
from bitdustfs.vault.vaults import WritableVault

SLOW = 90.0  #: seconds without any progress, with enough suppliers, after which sync gives up
CONFIRM = 3.0  #: seconds that voters have to say whether another machine took the vault over
SYNC_TICK = 0.3  #: seconds between looks at how far sync is
ERRORS_SHOWN = 3  #: suppliers' errors that one sentence quotes


class Syncing:
    """Publishes, says how far it is, and gives up when nothing moves."""

    def __init__(self, vault: WritableVault) -> None:
        self._vault = vault

    async def run(self, patience: float, say: Say, within: float = math.inf) -> Synced:
        """Returns when all that was written before the call is published, or after `within`
        seconds; publishing then goes on.

        Raises Unavailable, with what is not published and why, when nothing moved for `patience`
        seconds while too few suppliers answered (for SLOW while enough did), and when publishing
        failed.
        """
        before = self._vault.published_seq()
        with trio.move_on_after(within) as time:
            failure = await self.attempt(patience, say)
        if time.cancelled_caught:
            account = await self._vault.account()
            if not account.published:
                return Synced(said=account.so_far(), published=False)
            return Synced(said=account.synced())
        if failure is None and before == self._vault.published_seq():
            with trio.move_on_after(CONFIRM):  # nobody was asked whether this machine still writes
                await self._vault.lease.renew()
        account = await self._vault.account()
        if failure is not None and not account.published:
            raise Unavailable(account.left(str(failure))) from failure
        return Synced(said=account.synced())

    async def attempt(
        self, patience: float, say: Say, snapshot: bytes = b""
    ) -> BitdustError | None:
        """Publishes, and says why it failed, None where it did not.

        `snapshot`: see Publisher.publish.
        """
        failure: BitdustError | None = None
        attempt = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, attempt, patience, say)
            with attempt:
                try:
                    await self._vault.publish(snapshot=snapshot)
                except BitdustError as error:
                    failure = error
            nursery.cancel_scope.cancel()
        return Unavailable(self._why_nothing_moves()) if attempt.cancelled_caught else failure

    async def _watch(self, attempt: trio.CancelScope, patience: float, say: Say) -> None:
        """Says how far it is; cancels the attempt when nothing moves."""
        left, since, upload = None, trio.current_time(), Upload(self._vault)
        while True:
            await trio.sleep(SYNC_TICK)
            moved = self._vault.ledger.owed_positions, self._vault.courier.headway.total()
            await say(upload.progress())
            if moved != left:
                left, since = moved, trio.current_time()
            enough = not self._vault.too_few()  # then they may be slow, or refuse
            if trio.current_time() - since > (max(SLOW, patience) if enough else patience):
                attempt.cancel()

    def _why_nothing_moves(self) -> str:
        said = self._vault.circle.last_errors()
        return self._vault.too_few() or (
            "suppliers answer and take nothing: " + "; ".join(said[:ERRORS_SHOWN])
        )


class Upload:
    """How far what is to be published is, from now on, in bytes of fragments.

    A big fragment on a slow line moves it before it is acknowledged; until then it is not done.
    """

    def __init__(self, vault: WritableVault) -> None:
        self._vault, self._sent = vault, vault.flow.sent()
        self._most = 0

    def progress(self) -> Progress:
        """As it is now."""
        left = self._vault.flow.left(self._vault.ledger.is_waiting).waiting
        self._most = max(self._most, left)
        sent = max(0, self._vault.flow.sent() - self._sent)
        done = max(self._most - left, min(sent, self._most - min(left, 1)))
        return Progress(done=done, total=self._most, what="publishing", unit="B")
