"""What a running mount does when it is asked: one class a command that takes time.

`MountAnswers` only finds who does it. What can be asked is in commands.py, what is said in
statements.py.
"""

import math
from typing import assert_never

import msgspec
import trio

from bitdustfs.errors import BitdustError, Unavailable, UsageError
from bitdustfs.family.staffing import Staffing
from bitdustfs.mount.attachment import Attachment
from bitdustfs.mount.blockmap import map_of
from bitdustfs.mount.commands import (
    AskGone,
    AskMap,
    AskPins,
    AskPolicy,
    AskRisk,
    AskSchedule,
    AskSnapshots,
    AskStatus,
    AskSuppliers,
    DropSnapshot,
    Forgive,
    Keep,
    MakeSnapshot,
    MountCommand,
    Pin,
    Rebuild,
    Replace,
    SetPolicy,
    SetSpace,
    Sync,
    Turn,
    Unmounted,
    Unpin,
    Verify,
    WaitEnd,
)
from bitdustfs.mount.ending import Farewell
from bitdustfs.mount.foresight import Foresight
from bitdustfs.mount.pinned import PinAnswers
from bitdustfs.mount.reckoner import ASKED
from bitdustfs.mount.snapshotting import Snapshotting, list_snapshots
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
from bitdustfs.mount.syncing import Syncing
from bitdustfs.mount.thinned import schedule_said
from bitdustfs.net.control import Completed, Progress, Say, Statement
from bitdustfs.vault.reading import ReadVault
from bitdustfs.vault.vaults import WritableVault
from bitdustfs.vault.verify import verify

VERIFY_TICK = 0.2  #: seconds between words about how far verify is
POSITION_DIGITS = 2  #: of a position in decimal: fewer than anybody writes of a key
BEGAN_READ_ONLY = "this mount began with -o ro: unmount it, then mount it again without"


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
        self._forgiving, self._pinned = Forgiving(vault), PinAnswers(vault)
        self._foresight = Foresight(vault)

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
            case AskRisk():
                return await self._foresight.reckon(ASKED, Counted(say))
            case AskMap():
                return await map_of(self._vault)
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
            case AskSnapshots():
                return await list_snapshots(self._vault)
            case AskSchedule():
                return schedule_said(self._vault)
            case Pin():
                return await self._pinned.pin(command, say)
            case Unpin():
                return await self._pinned.unpin(command)
            case AskPins():
                return self._pinned.said()
            case WaitEnd(now=now):
                if now:
                    self._farewell.hurry.begin()
                return await self._farewell.listen(say)
            case Unmounted():
                self._attachment.let_go()
                return Completed()
            case Rebuild() | Replace() | SetPolicy() | SetSpace() | MakeSnapshot() | DropSnapshot():
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
        self._snapshotting = Snapshotting(vault, self._syncing)
        self._rebuilding = Rebuilding(vault, staffing)
        self._replacing = Replacing(vault, staffing)

    async def answer(self, command: MountCommand, say: Say) -> Statement:
        """As for all, and what changes something."""
        match command:
            case Sync(patience=patience, within=within):
                time = math.inf if within is None else within
                return await self._syncing.run(patience, say, time)
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
            case MakeSnapshot():
                return await self._snapshotting.make(command, say)
            case DropSnapshot():
                return await self._snapshotting.drop(command, say)
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


class Replacing:
    """Gives a position to another supplier because its owner says so."""

    def __init__(self, vault: WritableVault, staffing: Staffing) -> None:
        self._vault, self._staffing = vault, staffing

    async def run(self, asked: Replace, say: Say) -> Replaced:
        """Raises UsageError for a position that is not there, and what Staffing.replace raises."""
        if not 0 <= asked.position < self._vault.known.family.group.n:
            raise UsageError(f"there is no position {asked.position} in this family")
        done = await self._staffing.replace(
            asked.position, asked.address, Counted(say), asked.own, asked.tokens,
            bytes.fromhex(asked.node),
        )  # fmt: skip
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
        vault.pen.require()
        placed = await vault.rebuilder.step(0.0, progress)
        await vault.courier.try_all()
        replaced, failure = await self._replace_all_due(progress)
        latest = await vault.rebuilder.look(0.0)
        account = await vault.account()
        return RebuildOutcome(
            placed=placed,
            replaced=replaced,
            waiting=len(latest.waiting),
            lost=len(latest.lost),
            incomplete=vault.rebuilder.incomplete(),
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
