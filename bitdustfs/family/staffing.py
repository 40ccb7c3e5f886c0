"""Who keeps the vault, while it is mounted: fires, hires, keeps the bench, renews contracts.

One change of the family at a time. Whom to replace decides rebuild/plan.py.
"""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import trio

from bitdustfs.blocks.circle import addresses_of
from bitdustfs.cache.machine import remember_addresses
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import Member, StandDown, Visit, seal_record
from bitdustfs.errors import (
    BitdustError,
    LocalError,
    PeerError,
    Superseded,
    Unavailable,
    UsageError,
)
from bitdustfs.family.find import owner_credentials
from bitdustfs.family.hire import CONTRACT_SECONDS, hire, line_up
from bitdustfs.family.moved import is_the_same
from bitdustfs.family.replace import replace_member, set_bench, set_policy
from bitdustfs.family.resize import invited_sessions, resize
from bitdustfs.family.retaining import set_retention
from bitdustfs.family.visits import hear_visits
from bitdustfs.net.ask import ask_all
from bitdustfs.rebuild.census import list_in_time
from bitdustfs.rebuild.fill import Fill
from bitdustfs.rebuild.rebuilder import OnProgress
from bitdustfs.vault.vaults import WritableVault

log = logging.getLogger(__name__)

POLICY_DEADLINE = 30.0  #: seconds that a change of the policy may take
LAST_TEACHING = 5.0  #: seconds that the end of a mount gives to telling reserves of the family
LOOK_EVERY = 10.0  #: seconds between looks for suppliers to be replaced, at most
#: seconds after a replacement that failed until it is tried again; the pause doubles
AGAIN_FIRST, AGAIN_MAX = 2.0, 600.0
PASSED_OVER = 3600.0  #: seconds for which a newcomer that failed is not hired again
#: seconds between looks for reserves while some are lacking; the pause doubles
BENCH_FIRST, BENCH_SHORT = 5.0, 300.0
BENCH_EVERY = 600.0  #: seconds between them while none is
RENEW_EVERY = 3600.0  #: seconds between looks at when contracts end
VISITS_EVERY = 600.0  #: seconds between questions for what stand-ins have read
RENEW_BEFORE = CONTRACT_SECONDS - 30 * 86400  #: seconds left of a contract at which it is renewed


class Staffing:
    """The changes of one mounted vault's family."""

    def __init__(self, key: VaultKey, vault: WritableVault) -> None:
        self._key, self._vault = key, vault
        self._changing = trio.Lock()
        self._taught: set[tuple[bytes, int]] = set()  # (reserve, family's epoch it was told of)
        self._bench_due = self._renewal_due = self._visits_due = 0.0
        self.visits: list[Visit] = []  #: what stand-ins have read, at all suppliers together
        self._bench_pause = BENCH_FIRST
        #: newcomers that failed, until when they are not hired
        self._failed: dict[bytes, float] = {}
        self._again: dict[bytes, tuple[float, float]] = {}  # whom to replace -> when, pause after

    def _known(self) -> list[str]:
        """Addresses to join the DHT by: of those that answer, first."""
        everybody = self._vault.known.family.everybody
        there = [m for m in everybody if self._vault.circle.health(m.node).there]
        return [a for m in (there or everybody) for a in self._at(m)]

    def _at(self, member: Member) -> tuple[str, ...]:
        return addresses_of(self._vault.circle, member)

    async def set_policy(self, policy: dict[str, int]) -> None:
        """Another policy from here on.

        Raises what publishing raises, and Unavailable when that takes long.
        """
        self._vault.pen.require()  # before anybody promises anything
        async with self._alone():
            with trio.move_on_after(POLICY_DEADLINE):
                if "retain" in policy:
                    await set_retention(self._vault, self._key, policy, self._vault.circle.session)
                else:
                    await set_policy(self._vault, self._key, policy)
                return
        raise Unavailable(
            "not enough suppliers take the new policy just now; it is not sure whether it holds: "
            "try again"
        )

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Nobody else changes the family meanwhile. Raises Unavailable where somebody does."""
        with trio.move_on_after(POLICY_DEADLINE) as waiting:
            await self._changing.acquire()
        if waiting.cancelled_caught:
            raise Unavailable("a supplier is being replaced just now: try again after that")
        try:
            yield
        finally:
            self._changing.release()

    async def resize(self, size: int, tokens: Sequence[str] = ()) -> int:
        """A vault of `size` bytes from here on (resize.py); the bytes of content that it takes.

        `tokens`: by which suppliers invited the owner to more. Raises what `resize` does.
        """
        self._vault.pen.require()
        async with self._alone():
            if not tokens:
                return await resize(self._vault, self._key, size, self._vault.circle.session)
            async with invited_sessions(self._key, tokens, self._at) as session:
                return await resize(self._vault, self._key, size, session)

    async def replace(
        self,
        position: int,
        address: str,
        progress: OnProgress,
        own: bool = False,
        tokens: Sequence[str] = (),
        meant: bytes = b"",
    ) -> Fill | None:
        """Gives a position to the supplier at `address`, or to one found through the DHT.

        None: the supplier there has the position already, and is reached there from now on.

        `own`: it may be one on this machine. `tokens`: by which it invited the owner. `meant`: who
        is to go; where the position has another one by then, nothing is done. Raises UsageError,
        Unavailable, PeerError, LocalError, Superseded.
        """
        async with self._changing:
            if meant not in (b"", self._vault.known.family.members[position].node):
                raise UsageError(
                    f"position {position} has another supplier by now: nothing was done"
                )
            credentials = owner_credentials(self._key, tokens)
            if address and await is_the_same(self._vault, position, address, credentials):
                return None
            return await self._replace(position, address, progress, lambda: True, own, tokens)

    async def _replace(
        self,
        position: int,
        address: str,
        progress: OnProgress,
        wanted: Callable[[], bool],
        own: bool = False,
        tokens: Sequence[str] = (),
    ) -> Fill:
        vault = self._vault
        family = vault.known.family
        node = family.members[position].node
        member = None if address else self._stand_in(position)
        if member is None:
            credentials = owner_credentials(self._key, tokens)
            unwanted = {*self._unwanted(), *vault.circle.stand_ins.values()}
            online = [m for m in family.bench if vault.watch.state(m.node) == "online"]
            reserves = [a for m in online if vault.watch.stays(m.node) for a in self._at(m)]
            fill = sorted(map(vault.space.used, family.members))[family.group.n // 2]
            member = await hire(
                family, position, credentials, self._known(), address, unwanted, reserves, fill, own
            )
        filled = await self._hand_over(position, member, progress, wanted)
        remember_addresses(vault.known.family)
        if vault.circle.health(node).reachable:
            try:
                await self._stand_down(family.members[position], position)
            except PeerError as error:
                log.info("%s keeps what it had: %s", node.hex()[:12], error)
        return filled

    async def _hand_over(
        self, position: int, member: Member, progress: OnProgress, wanted: Callable[[], bool]
    ) -> Fill:
        """Replaces; a newcomer that has no room, or is gone meanwhile, is not hired again soon."""
        try:
            return await replace_member(self._vault, self._key, position, member, progress, wanted)
        except (PeerError, BaseExceptionGroup) as failure:  # of a group's, one is enough to tell
            error = _first(failure)
            if not isinstance(error, PeerError):
                raise error from None
            self._failed[member.node] = trio.current_time() + PASSED_OVER
            raise Unavailable(f"the new supplier failed: {error}") from error

    def _unwanted(self) -> set[bytes]:
        """Those that are gone, and those that failed lately when they were hired."""
        now = trio.current_time()
        self._failed = {node: until for node, until in self._failed.items() if until > now}
        return {*self._gone(), *self._failed}

    def _gone(self) -> set[bytes]:
        """Those that left or were caught: not hired by this machine until they are forgiven."""
        return set(self._vault.watch.reputation.gone())

    async def _stand_down(self, member: Member, position: int) -> None:
        """Has a supplier delete what it keeps of a position that is another one's."""
        family = self._vault.known.family
        body = StandDown(family.vault, member.node, position, family.epoch)
        record = seal_record(self._key.signing, "stand-down", body)
        await self._vault.circle.session(member).stand_down(record, self._vault.pen.claim)

    def _stand_in(self, position: int) -> Member | None:
        """The reserve that has a copy of a position already."""
        node = self._vault.watch.stand_in(position)
        if node is None or node in self._unwanted():
            return None
        return self._vault.known.family.member(node)

    async def run(self) -> None:
        """Looks after everything, until the mount may not write any more.

        Looking for reserves and asking for contracts may take its time; replacing does not wait for
        that.
        """
        await (
            self._vault.watch.looked.wait()
        )  # a change of the family ends the warrants of stand-ins
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._repeat, (self._replace_due, self._teach, self._dismiss))
            nursery.start_soon(self._repeat, (self._hear_visits, self._bench, self._renew))

    async def _repeat(self, tasks: Sequence[Callable[[], Awaitable[object]]]) -> None:
        while not self._vault.read_only:
            for task in tasks:
                await self._try(task)
            with trio.move_on_after(min(LOOK_EVERY, max(0.5, self._vault.watch.patience / 5))):
                await self._vault.wait_moved()  # perhaps with another policy

    async def _try(self, task: Callable[[], Awaitable[object]]) -> None:
        try:
            await task()
        except (Unavailable, PeerError, LocalError, Superseded) as error:
            log.warning("%s", error)

    async def _replace_due(self) -> None:
        await self.replace_due(_say_nothing, patient=True)

    async def replace_due(self, progress: OnProgress, patient: bool = False) -> bool:
        """Replaces the supplier whose turn it is by the plan, if any; whether there was one.

        It gives up when that supplier comes back meanwhile. `patient`: what failed a short while
        ago is not tried yet. Raises Unavailable.
        """
        vault = self._vault
        async with self._changing:
            position = (await vault.rebuilder.look()).replace
            if position is None:
                return False
            node = vault.known.family.members[position].node
            at, pause = self._again.get(node, (0.0, AGAIN_FIRST))
            if patient and trio.current_time() < at:
                return False
            try:
                await self._replace(
                    position, "", progress, lambda: vault.watch.state(node) != "online"
                )
            except BitdustError as error:
                self._again[node] = trio.current_time() + pause, min(2 * pause, AGAIN_MAX)
                raise Unavailable(
                    f"position {position} keeps its supplier for now: {error}"
                ) from error
            self._again.pop(node, None)
        log.warning("position %d has another supplier", position)
        return True

    async def _teach(self) -> None:
        """Reserves learn the family and the root, so that they know when they are called.

        Those that are silent learn it when they answer again.
        """
        vault = self._vault
        epoch, row = vault.known.family.epoch, vault.state.published()
        if row is None:
            return

        async def teach(member: Member) -> None:
            await vault.circle.session(member).accept(row.root, row.family, vault.pen.claim)
            self._taught.add((member.node, epoch))

        ignorant = [
            member for member in vault.known.family.bench
            if (member.node, epoch) not in self._taught
            and not vault.circle.health(member.node).away
        ]  # fmt: skip
        answers = await ask_all(ignorant, teach)
        for member, error in answers.failed.items():
            log.info("reserve %s is not told: %s", member.node.hex()[:12], error)

    async def settle(self) -> None:
        """Before the mount ends: reserves should know what they may be called for."""
        if not self._vault.read_only:
            with trio.move_on_after(LAST_TEACHING):
                await self._teach()

    async def _dismiss(self) -> None:
        """A member is back, or has been replaced: what reserves keep of its position goes."""
        vault, family = self._vault, self._vault.known.family
        for reserve in family.bench:
            told = vault.watch.told(reserve.node)
            if told is None:
                continue
            kept = {*told.copies, *([] if told.standing is None else [told.standing])}
            for position in sorted(kept & set(range(len(family.members)))):
                drop = partial(self._drop_copy, reserve, position)
                if await vault.loans.end(position, reserve.node, drop):
                    log.info("position %d is served: its copy is dropped", position)

    async def _drop_copy(self, reserve: Member, position: int) -> bool:
        """Has a reserve delete what it keeps of a position, if its own supplier has all of it.

        Raises PeerError.
        """
        circle = self._vault.circle
        if not await self._is_back(position) or not await self._has_all_of(reserve, position):
            return False
        if self._vault.ledger.newcomer(position) is not None:
            return False  # it may be the one that the position goes to just now
        await self._stand_down(reserve, position)
        if circle.stand_ins.get(position) == reserve.node:
            circle.drop_stand_in(position)
        circle.copies.went(position, reserve.node)
        return True

    async def _has_all_of(self, reserve: Member, position: int) -> bool:
        """Whether a position's own supplier lists whatever a reserve has of it and a root needs.

        Else the reserve may have the only fragment of a block that another machine wrote.
        """
        vault = self._vault
        listed = await list_in_time(vault.circle.session(reserve), position)
        census, needs = vault.auditor.census, vault.reclaimer.needs()
        return await trio.to_thread.run_sync(
            lambda: all(census.lists_it(b, position) or not needs(b) for b in listed)
        )

    def _places(self, bench: Sequence[Member]) -> int:
        """How many reserves the bench lacks, those who are away for too long not counted."""
        family, watch = self._vault.known.family, self._vault.watch
        there = sum(watch.state(member.node) not in ("absent", "gone") for member in bench)
        wanted = family.policy.bench
        return (len(family.members) if wanted is None else wanted) - there

    async def _is_back(self, position: int) -> bool:
        """Whether a position's own supplier answers right now, stays, and has all it should
        have.
        """
        vault = self._vault
        member = vault.known.family.members[position]
        if vault.watch.state(member.node) != "online":
            return False
        try:
            told = await vault.circle.session(member).kin()
        except PeerError:
            return False
        return not told.leaving and await vault.rebuilder.is_complete(position)

    async def _bench(self) -> None:
        """As many reserves as positions, where the network has them."""
        vault = self._vault
        if trio.current_time() < self._bench_due:
            return
        wanted = self._places(vault.known.family.bench)
        found = []
        if wanted > 0:
            credentials = owner_credentials(self._key)
            family, known = vault.known.family, self._known()
            health = vault.circle.health
            there = [m for m in family.everybody if health(m.node).there]
            found = await line_up(family, wanted, credentials, known, self._unwanted(), there)
        async with self._changing:
            family = vault.known.family  # it may have changed while others were asked
            lost = ("absent", "gone")
            staying = [m for m in family.bench if vault.watch.state(m.node) not in lost]
            new = [m for m in found if family.member(m.node) is None]
            if new or len(staying) < len(family.bench):
                await set_bench(vault, self._key, [*staying, *new])
                log.info("%d reserves are on the bench", len(vault.known.family.bench))
        self._bench_pause = BENCH_FIRST if new else min(2 * self._bench_pause, BENCH_SHORT)
        complete = self._places(vault.known.family.bench) <= 0
        self._bench_due = trio.current_time() + (BENCH_EVERY if complete else self._bench_pause)
        await self._teach()

    async def _hear_visits(self) -> None:
        if trio.current_time() < self._visits_due:
            return
        self._visits_due = trio.current_time() + VISITS_EVERY
        self.visits = await hear_visits(self._vault)

    async def _renew(self) -> None:
        """Contracts are renewed long before they end: an owner may be away for months.

        And where the supplier was away when the vault got another size.
        """
        vault = self._vault
        if trio.current_time() < self._renewal_due:
            return
        self._renewal_due = trio.current_time() + RENEW_EVERY
        now = int(time.time())
        for member in vault.known.family.everybody:
            supplier = vault.circle.session(member)
            try:
                told = await supplier.usage()
                async with self._changing:
                    present = vault.known.family.member(member.node)
                    if present is not None and (
                        told.until - now < RENEW_BEFORE or told.space != present.space
                    ):
                        await supplier.promise(present.space, now + CONTRACT_SECONDS)
                        log.info("the contract with %s is renewed", member.node.hex()[:12])
            except PeerError as error:
                log.info("no contract is renewed with %s: %s", member.node.hex()[:12], error)


def _first(error: BaseException) -> BaseException:
    """The error itself; of a group the first, a bug before what was to be expected."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    known, rest = error.split(BitdustError)
    return _first((rest or known or error).exceptions[0])


async def _say_nothing(done: int, total: int) -> None:
    """Nobody watches."""
