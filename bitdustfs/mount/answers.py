"""What a running mount does when it is asked: one class a command that takes time.

`MountAnswers` only finds who does it. What can be asked is in commands.py, what is said in
statements.py.
"""

from typing import assert_never

import msgspec
import trio

from bitdustfs.errors import BitdustError, Unavailable, UsageError
from bitdustfs.family.staffing import Staffing
from bitdustfs.mount.attachment import Attachment
from bitdustfs.mount.commands import (
    AskGone,
    AskPolicy,
    AskStatus,
    AskSuppliers,
    Forgive,
    Keep,
    MountCommand,
    Rebuild,
    Replace,
    SetPolicy,
    SetSpace,
    Sync,
    Turn,
    Unmounted,
    Verify,
    WaitEnd,
)
from bitdustfs.mount.ending import Farewell
from bitdustfs.mount.statements import (
    Forgiven,
    GoneLine,
    GoneSuppliers,
    RebuildOutcome,
    Replaced,
    Resized,
    Synced,
    VerifyOutcome,
)
from bitdustfs.mount.status import Describer, WritableDescriber
from bitdustfs.mount.supplier_warnings import NAME_DIGITS
from bitdustfs.net.control import Completed, Progress, Say, Statement
from bitdustfs.vault.reading import ReadVault
from bitdustfs.vault.vaults import WritableVault
from bitdustfs.vault.verify import verify

SLOW = 90.0  #: seconds without any progress, with enough suppliers, after which sync gives up
CONFIRM = 3.0  #: seconds that voters have to say whether another machine took the vault over
SYNC_TICK = 0.3  #: seconds between looks at how far sync is
VERIFY_TICK = 0.2  #: seconds between words about how far verify is
POSITION_DIGITS = 2  #: of a position in decimal: fewer than anybody writes of a key
BEGAN_READ_ONLY = "this mount began with -o ro: unmount it, then mount it again without"
ERRORS_SHOWN = 3  #: suppliers' errors that one sentence quotes


class MountAnswers:
    """The answers of a mount that is only looked at."""

    def __init__(
        self,
        vault: ReadVault,
        describer: Describer,
        attachment: Attachment,
        farewell: Farewell,
    ) -> None:
        self._vault, self._describer = vault, describer
        self._attachment, self._farewell = attachment, farewell
        self._verifying = Verifying(vault)
        self._forgiving = Forgiving(vault)

    async def answer(self, command: MountCommand, say: Say) -> Statement:
        """The last statement to one command. Raises BitdustError."""
        match command:
            case AskStatus():
                return await self._describer.status()
            case AskSuppliers():
                return await self._describer.suppliers()
            case AskGone():
                return self._forgiving.gone()
            case AskPolicy():
                return self._describer.policy()
            case Forgive(supplier=supplier):
                return self._forgiving.forgive(supplier)
            case Sync():
                account = await self._vault.account()
                if not account.published:
                    raise Unavailable(account.left())
                return Synced(said=account.synced())
            case Keep() | Turn(read_only=True):
                return Completed()  # nothing is written
            case Turn():
                raise Unavailable(self._vault.message or BEGAN_READ_ONLY)
            case Verify(local=local, sample=sample):
                return await self._verifying.run(local, sample, say)
            case WaitEnd():
                return await self._farewell.listen(say)
            case Unmounted():
                self._attachment.let_go()
                return Completed()
            case Rebuild() | Replace() | SetPolicy() | SetSpace():
                raise Unavailable(self._vault.message or "this mount is read-only")
            case _:
                assert_never(command)


class WritableMountAnswers(MountAnswers):
    """The answers of a mount that is also written."""

    def __init__(
        self,
        vault: WritableVault,
        describer: WritableDescriber,
        staffing: Staffing,
        attachment: Attachment,
        farewell: Farewell,
    ) -> None:
        super().__init__(vault, describer, attachment, farewell)
        self._writable, self._staffing = vault, staffing
        self._syncing = Syncing(vault)
        self._rebuilding = Rebuilding(vault, staffing)
        self._replacing = Replacing(vault, staffing)

    async def answer(self, command: MountCommand, say: Say) -> Statement:
        """As for all, and what changes something."""
        match command:
            case Sync(patience=patience):
                return await self._syncing.run(patience, say)
            case Keep() | Turn(read_only=True):
                await self._writable.committer.commit(sync=True)
                return Completed()
            case Turn():
                if self._writable.read_only:
                    raise Unavailable(self._writable.message)
                return Completed()
            case Rebuild():
                return await self._rebuilding.run(say)
            case Replace():
                return await self._replacing.run(command, say)
            case SetPolicy(words=words):
                await self._staffing.set_policy(words)
                return Completed()
            case SetSpace(size=size, tokens=tokens):
                return Resized(capacity=await self._staffing.resize(size, tokens))
            case _:
                return await super().answer(command, say)


class Counted:
    """Passes on how far something is: (done, total) from whoever works, to whoever asked."""

    def __init__(self, say: Say) -> None:
        self._say = say

    async def __call__(self, done: int, total: int) -> None:
        await self._say(Progress(done=done, total=total))


class Syncing:
    """Publishes, says how far it is, and gives up when nothing moves."""

    def __init__(self, vault: WritableVault) -> None:
        self._vault = vault

    async def run(self, patience: float, say: Say) -> Synced:
        """Returns when all that was written before the call is published.

        Raises Unavailable, with what is not published and why, when nothing moved for `patience`
        seconds while too few suppliers answered (for SLOW while enough did), and when publishing
        failed.
        """
        before = self._vault.published_seq()
        failure = await self._publish(patience, say)
        if failure is None and before == self._vault.published_seq():
            with trio.move_on_after(CONFIRM):  # nobody was asked whether this machine still writes
                await self._vault.lease.renew()
        account = await self._vault.account()
        if failure is not None and not account.published:
            raise Unavailable(account.left(str(failure))) from failure
        return Synced(said=account.synced())

    async def _publish(self, patience: float, say: Say) -> BitdustError | None:
        """Why it failed, None where it did not."""
        failure: BitdustError | None = None
        attempt = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, attempt, patience, say)
            with attempt:
                try:
                    await self._vault.publish()
                except BitdustError as error:
                    failure = error
            nursery.cancel_scope.cancel()
        return Unavailable(self._why_nothing_moves()) if attempt.cancelled_caught else failure

    async def _watch(self, attempt: trio.CancelScope, patience: float, say: Say) -> None:
        """Says how far it is; cancels the attempt when nothing moves."""
        left, since, upload = -1, trio.current_time(), Upload(self._vault)
        while True:
            await trio.sleep(SYNC_TICK)
            positions = self._vault.ledger.owed_positions
            await say(upload.progress())
            if positions != left:
                left, since = positions, trio.current_time()
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


class Replacing:
    """Gives a position to another supplier because its owner says so."""

    def __init__(self, vault: WritableVault, staffing: Staffing) -> None:
        self._vault, self._staffing = vault, staffing

    async def run(self, asked: Replace, say: Say) -> Replaced:
        """Raises UsageError for a position that is not there, and what Staffing.replace raises."""
        if not 0 <= asked.position < self._vault.known.family.group.n:
            raise UsageError(f"there is no position {asked.position} in this family")
        done = await self._staffing.replace(
            asked.position, asked.address, Counted(say), asked.own, asked.tokens
        )
        await self._vault.space.refresh()  # who asks for the suppliers now sees what is there
        return Replaced(bytes=0, same=True) if done is None else Replaced(bytes=done.bytes)


class Rebuilding:
    """Makes everything that is missing now, and replaces whoever is due."""

    def __init__(self, vault: WritableVault, staffing: Staffing) -> None:
        self._vault, self._staffing = vault, staffing

    async def run(self, say: Say) -> RebuildOutcome:
        """Raises Unavailable where nothing can be rebuilt."""
        vault, progress = self._vault, Counted(say)
        if vault.read_only:
            raise Unavailable(vault.message or "this mount is read-only: nothing can be rebuilt")
        placed = await vault.rebuilder.step(0.0, progress)
        await vault.courier.try_all()
        replaced, failure = await self._replace_all_due(progress)
        latest = await vault.rebuilder.look(0.0)
        account = await vault.account()
        return RebuildOutcome(
            placed=placed,
            replaced=replaced,
            waiting=len(latest.waiting),
            failure=failure,
            margin=account.margin,
            safety=account.may_lose(),
        )

    async def _replace_all_due(self, progress: Counted) -> tuple[int, str]:
        """How many suppliers were replaced, and why the next one was not."""
        replaced = 0
        try:
            while await self._staffing.replace_due(progress):
                replaced += 1
        except BitdustError as error:
            return replaced, str(error)
        return replaced, ""


class Forgiving:
    """Takes back what this machine holds against a supplier."""

    def __init__(self, vault: ReadVault) -> None:
        self._vault = vault

    def gone(self) -> GoneSuppliers:
        """Who counts as gone, and why."""
        gone = self._vault.watch.reputation.gone()
        return GoneSuppliers(
            suppliers=[GoneLine(node=node.hex(), why=why) for node, why in sorted(gone.items())]
        )

    def forgive(self, supplier: str) -> Forgiven:
        """Raises UsageError unless one supplier is meant, and it counts as gone."""
        voters = self._vault.known.family.members
        gone = self._vault.watch.reputation.gone()
        if supplier.isascii() and supplier.isdigit() and len(supplier) <= POSITION_DIGITS:
            meant = [m.node for p, m in enumerate(voters) if p == int(supplier)]
        else:
            meant = [node for node in gone if supplier and node.hex().startswith(supplier.lower())]
        if len(meant) != 1:
            raise UsageError(
                f"{supplier} does not name one of the suppliers that count as gone; "
                "bitdust supplier forgive lists them"
            )
        [node] = meant
        if node not in gone:
            raise UsageError(f"supplier {node.hex()[:NAME_DIGITS]} does not count as gone")
        self._vault.watch.forgive(node)
        return Forgiven(node=node.hex())


class Verifying:
    """Checks tree, local copies and fragments."""

    def __init__(self, vault: ReadVault) -> None:
        self._vault = vault

    async def run(self, local: bool, sample: float, say: Say) -> VerifyOutcome:
        """Says how far it is now and then: looking at one item takes no time."""
        said = 0.0

        async def progress(what: str, done: int, total: int) -> None:
            nonlocal said
            if trio.current_time() - said > VERIFY_TICK:
                said = trio.current_time()
                await say(Progress(done=done, total=total, what=what))

        report = await verify(self._vault, local, sample, progress)
        return msgspec.convert(report, VerifyOutcome, from_attributes=True)
