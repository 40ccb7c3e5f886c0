"""A supplier's part while the owner is away: watches its kin, stands in where the bench is called.

Every member and every reserve pings the others of its families and follows the newest root they hold. A
reserve whose turn it is asks for attestations, shows them to the others as a warrant, gathers what the
position had, and keeps it in its own shelf. It needs no key, and changes nobody else. When the member is
back before the copy is complete, or an earlier reserve of the bench stands in as well, the copy is given up.

What one vault makes a supplier do, however strange, neither stops nor delays it for the others: each has a
task of its own, and gathering another one.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import trio

from bitdustfs.blocks.fetch import Fetcher
from bitdustfs.core.records import Ballot, Family, Member, root_records
from bitdustfs.core.warrants import (
    EVIDENCE_MAX,
    attestations_needed,
    check_attestation_untrusted,
    encode_warrant,
)
from bitdustfs.errors import Malformed, PeerError, Unavailable
from bitdustfs.net.supplier import Supplier
from bitdustfs.rebuild.census import obtainable, take_census
from bitdustfs.rebuild.fill import Fill
from bitdustfs.supplier.kin import OwnShelf, Round
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.shelf import VaultRow

log = logging.getLogger(__name__)

ROUND_MIN, ROUND_MAX, ROUNDS_A_PATIENCE = 1.0, 600.0, 6  #: seconds between rounds: patience / 6
AFTER_FAILURE = 60.0  #: seconds until a vault whose round failed has its turn again
LOOK_ROUNDS = 20  #: rounds between looks whether a complete copy is complete still
CLAIM_ROUNDS = 5  #: rounds for which somebody may say that it stands in, and show no warrant
VAULTS_EVERY = 5.0  #: seconds between looks for vaults that came, or families that changed
PING_DEADLINE = 5.0
NOBODY = Ballot(0, bytes(16))  # copies into the own shelf need no ballot

#: (vault, member): a session in the member role
MemberConnect = Callable[[bytes, Member], Supplier]


class Guard:
    """The rounds of one supplier over all vaults it has a family of."""

    def __init__(self, service: SupplierService, connect: MemberConnect) -> None:
        self._service, self._connect = service, connect
        self._kin = service.kinship
        self._rounds: dict[bytes, Round] = {}
        self._calm: dict[bytes, int] = {}  # rounds since this supplier stands in
        self._claimed: dict[tuple[bytes, bytes], int] = {}  # rounds of a claim without a warrant
        self._due: dict[bytes, tuple[bytes, float]] = {}  # vault -> its family, when to ask again
        self._busy: set[bytes] = set()  # vaults whose round is under way
        self._filling: set[bytes] = set()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                wake = trio.current_time() + VAULTS_EVERY
                for vault in await trio.to_thread.run_sync(self._service.shelf.vaults):
                    wake = min(wake, self._next_turn(vault, nursery))
                await trio.sleep(max(ROUND_MIN, wake - trio.current_time()))

    def _next_turn(self, vault: bytes, nursery: trio.Nursery) -> float:
        """Starts a round of a vault if one is due; when to look again."""
        now = trio.current_time()
        if vault in self._busy:
            return now
        row = self._service.shelf.vault(vault)
        family = b"" if row is None else row.family
        known, at = self._due.get(vault, (b"", 0.0))
        asked = self._kin.leaving or vault in self._kin.hurried
        if not asked and known == family and at > now:
            return at
        self._kin.hurried.discard(vault)
        self._busy.add(vault)
        nursery.start_soon(self._turn, vault, family)
        return now

    async def _turn(self, vault: bytes, family: bytes) -> None:
        """One round, and what is to be gathered after it. Never raises: others have their turns, too."""
        pause = AFTER_FAILURE
        try:
            pause = await self.round(vault)
        except Exception:  # a strange family, a full disk, a bug
            log.exception("a round of vault %s failed", vault.hex()[:12])
        self._due[vault] = (family, trio.current_time() + pause)
        self._busy.discard(vault)
        if vault in self._filling:
            return
        self._filling.add(vault)
        try:
            await self.fill(vault)
        except Exception:
            log.exception("gathering for vault %s failed", vault.hex()[:12])
        finally:
            self._filling.discard(vault)

    async def round(self, vault: bytes) -> float:
        """Asks everybody once, and decides; seconds until the next round is due. Then `fill` is due."""
        row = self._service.shelf.vault(vault)
        family = None if row is None else self._kin.family(vault, row)
        if family is None or family.member(self._kin.own) is None:
            if family is not None and row is not None:  # others may know a newer family
                await self._follow(vault, await self._ask_all(vault, family))
            self._rounds.pop(vault, None)
            return VAULTS_EVERY
        seen = self._rounds[vault] = await self._ask_all(vault, family)
        await self._follow(vault, seen)
        await trio.to_thread.run_sync(self._service.note_visits, vault)
        try:
            if self._kin.leaving:
                await self._hurry(vault, seen)
            elif family.position(self._kin.own) is None:
                await self._stand_in(vault, seen)
        except (PeerError, Unavailable, Malformed) as error:
            log.info("standing in for vault %s waits: %s", vault.hex()[:12], error)
        return min(ROUND_MAX, max(ROUND_MIN, family.policy.patience / ROUNDS_A_PATIENCE))

    async def _ask_all(self, vault: bytes, family: Family) -> Round:
        seen = Round(family)
        others = [m for m in family.everybody if m.node != self._kin.own]

        async def ask(member: Member) -> None:
            with trio.move_on_after(PING_DEADLINE):
                try:
                    seen.answers[member.node] = await self._connect(vault, member).kin()
                except PeerError as error:
                    log.debug("%s does not answer: %s", member.node.hex()[:12], error)

        async with trio.open_nursery() as nursery:
            for member in others:
                nursery.start_soon(ask, member)
        self._believe(vault, seen)
        expected = [m for m in others if not self._kin.absent(vault, family, m.node)]
        if 2 * sum(m.node in seen.answers for m in expected) < len(expected):
            log.info("few others answer: this supplier's own network may be down")
            return seen
        for member in others:
            self._kin.observe(vault, member.node, member.node in seen.answers)
        return seen

    def _believe(self, vault: bytes, seen: Round) -> None:
        """Who stands in: those who say so and have a warrant, or had no time yet to show one."""
        row = self._service.shelf.vault(vault)
        warranted = {} if row is None else self._kin.stand_ins(vault, row)
        before = self._rounds[vault].standing if vault in self._rounds else {}
        for member in seen.family.bench:
            node, told = member.node, seen.answers.get(member.node)
            if told is None:
                if node in before and not self._kin.absent(vault, seen.family, node):
                    seen.standing[node] = before[node]
                continue
            position = told.standing
            if position is None or position >= len(seen.family.voters):
                continue
            if node in warranted.get(position, ()):
                self._claimed.pop((vault, node), None)
            else:
                self._claimed[vault, node] = self._claimed.get((vault, node), 0) + 1
            if self._claimed.get((vault, node), 0) <= CLAIM_ROUNDS:
                seen.standing[node] = position

    async def _follow(self, vault: bytes, seen: Round) -> None:
        """Learns the newest root and family, if somebody has a newer one."""
        row = self._service.shelf.vault(vault)
        own = root_records.peek_untrusted(row.root).order if row is not None and row.root else None
        newer = [n for n, k in seen.answers.items() if k.root and (own is None or k.root > own)]
        for node in newer[:3]:
            member = seen.family.member(node)
            if member is None:
                continue
            try:
                current = await self._connect(vault, member).current()
                learn = partial(self._service.learn, vault, current.root, current.family)
                await trio.to_thread.run_sync(learn)
                return
            except (PeerError, Malformed) as error:
                log.info("%s shows no newer root: %s", node.hex()[:12], error)

    async def _hurry(self, vault: bytes, seen: Round) -> None:
        """Whoever could take over should look now, not in the time that patience allows."""
        row = self._service.shelf.vault(vault)
        if row is None or not self._misses(vault, row, seen):
            return
        for node in seen.answers:
            member = seen.family.member(node)
            if member is not None:
                with suppress(PeerError):
                    await self._connect(vault, member).hurry()

    # -- standing in

    async def _stand_in(self, vault: bytes, seen: Round) -> None:
        row = self._service.shelf.vault(vault)
        if row is None:
            return
        if row.standing < 0:
            position = self._called_for(vault, seen)
            if position is None or not await self._obtain_warrant(vault, seen, position):
                return
            log.warning("standing in for position %d of vault %s", position, vault.hex()[:12])
            await trio.to_thread.run_sync(self._service.stand, vault, position)
        else:
            position = row.standing
            if self._superfluous(vault, seen, position):
                log.warning("position %d is served: its copy here is given up", position)
                await trio.to_thread.run_sync(self._service.drop_copies, vault, position)
                return
            self._calm[vault] = self._calm.get(vault, 0) + 1
            if self._gathers(vault):
                await self._renew_warrant(vault, seen, position)

    def _superfluous(self, vault: bytes, seen: Round, position: int) -> bool:
        """Whether the member is back before the copy is complete, or others have it as well."""
        if position >= len(seen.family.voters):
            return True
        member = seen.family.voters[position]
        back = member.node in seen.answers and not seen.answers[member.node].leaving
        if back and vault not in self._kin.complete:
            return True
        order = [reserve.node for reserve in seen.family.bench]
        earlier = order[: order.index(self._kin.own)]
        return any(
            node in earlier and self._has_all(vault, seen, node) for node in seen.staying(position)
        )

    def _has_all(self, vault: bytes, seen: Round, node: bytes) -> bool:
        """Whether a stand-in answers, has all that can be had, and showed a warrant."""
        answer = seen.answers.get(node)
        return answer is not None and answer.complete and (vault, node) not in self._claimed

    def _gathers(self, vault: bytes) -> bool:
        """Whether this supplier stands in and something may be missing here."""
        row = self._service.shelf.vault(vault)
        if row is None or row.standing < 0 or vault not in self._rounds:
            return False
        return vault not in self._kin.complete or self._calm.get(vault, 0) % LOOK_ROUNDS == 0

    def _called_for(self, vault: bytes, seen: Round) -> int | None:
        """The position that this reserve should take: the free ones of the bench serve in its order."""
        family = seen.family
        open_positions = [
            p for p, member in enumerate(family.voters)
            if not seen.staying(p) and self._needs_cover(vault, seen, member)
        ]  # fmt: skip
        free = [
            m.node for m in family.bench
            if m.node == self._kin.own
            or (m.node in seen.answers and m.node not in seen.standing
                and not seen.answers[m.node].leaving)
        ]  # fmt: skip
        turns = dict(zip(free, open_positions, strict=False))
        return turns.get(self._kin.own)

    def _needs_cover(self, vault: bytes, seen: Round, member: Member) -> bool:
        answer = seen.answers.get(member.node)
        leaves = answer is not None and bool(answer.leaving)
        return leaves or self._kin.absent(vault, seen.family, member.node)

    async def _obtain_warrant(self, vault: bytes, seen: Round, position: int) -> bool:
        """Gathers evidence, and shows the warrant to everybody; whether it is enough."""
        family, member = seen.family, seen.family.voters[position]
        answer = seen.answers.get(member.node)
        if answer is not None and answer.leaving:
            warrant = encode_warrant(position, self._kin.own, [answer.leaving], leaving=True)
            await self._show(vault, seen, (warrant,))
            return self._warranted(vault, position)
        await self._show(vault, seen, ())  # what others know: stand-ins among those who attest
        said: list[bytes] = []

        async def ask(peer: Member) -> None:
            try:
                record = await self._connect(vault, peer).attest(position)
                if check_attestation_untrusted(family, position, record) == peer.node:
                    said.append(record)
            except (PeerError, Malformed) as error:
                log.debug("%s does not attest: %s", peer.node.hex()[:12], error)

        async with trio.open_nursery() as nursery:
            for peer in family.everybody:
                if peer.node in seen.answers and peer.node != member.node:
                    nursery.start_soon(ask, peer)
        # stand-ins' words count only where their warrants are known: as many as fit, then
        if len(said) < attestations_needed(len(family.voters)):
            return False
        said = said[:EVIDENCE_MAX]
        await self._show(vault, seen, (encode_warrant(position, self._kin.own, said),))
        return self._warranted(vault, position)

    async def _renew_warrant(self, vault: bytes, seen: Round, position: int) -> bool:
        """The warrant again where others lack it (they were away, or the family is a newer one)."""
        if not self._warranted(vault, position):
            return await self._obtain_warrant(vault, seen, position)
        await self._show(vault, seen, ())
        return True

    def _warranted(self, vault: bytes, position: int) -> bool:
        row = self._service.shelf.vault(vault)
        return row is not None and self._kin.own in self._kin.stand_ins(vault, row).get(
            position, []
        )

    async def _show(self, vault: bytes, seen: Round, records: tuple[bytes, ...]) -> None:
        """Exchanges warrants with everybody who answers."""
        known = await self._merge(vault, records)

        async def show(member: Member) -> None:
            try:
                theirs = await self._connect(vault, member).warrants(known)
            except PeerError as error:
                log.info("%s hears no warrant: %s", member.node.hex()[:12], error)
                return
            await self._merge(vault, theirs)

        async with trio.open_nursery() as nursery:
            for member in seen.family.everybody:
                if member.node in seen.answers:
                    nursery.start_soon(show, member)

    async def _merge(self, vault: bytes, records: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return await trio.to_thread.run_sync(self._service.merge_warrants, vault, records)

    async def fill(self, vault: bytes) -> None:
        """Gathers all that the position it stands in for should have and this shelf lacks, if any."""
        row = self._service.shelf.vault(vault)
        if row is None or not self._gathers(vault) or not self._warranted(vault, row.standing):
            return
        try:
            await self._fill(vault, self._rounds[vault], row.standing)
        except (PeerError, Unavailable, Malformed) as error:
            log.info("gathering for vault %s waits: %s", vault.hex()[:12], error)

    async def _fill(self, vault: bytes, seen: Round, position: int) -> None:
        fetcher = Fetcher(seen.family, partial(self._connect, vault))
        for place, node in seen.copies().items():
            fetcher.add_stand_in(place, node)
        for node in set(fetcher.suppliers) - set(seen.answers):
            fetcher.health[node].slow()  # it was asked a moment ago
        census = await take_census(fetcher)
        have = await trio.to_thread.run_sync(self._kept, vault, position)
        missing = sorted(set(census.blocks()) - have)
        if missing:
            fill = Fill(fetcher, OwnShelf(self._service, vault), position, NOBODY, _nothing_here)
            fill.pace.rate = seen.family.policy.bandwidth
            fill.wanted = partial(self._stands, vault, position)
            await fill.run(missing)
            gathered = fill.done - len(fill.failed)
            log.info("position %d: %d of %d fragments gathered", position, gathered, fill.done)
            if fill.done < fill.total or await obtainable(fetcher, census, fill.failed):
                return
        if len(census.lists) >= seen.family.group.k:
            self._kin.complete.add(vault)

    def _stands(self, vault: bytes, position: int) -> bool:
        row = self._service.shelf.vault(vault)
        return row is not None and row.standing == position

    def _kept(self, vault: bytes, position: int) -> set[bytes]:
        keys = self._service.shelf.keys(vault, b"", 1 << 40)
        return {key[:16] for key, _ in keys if key[16] == position}

    # -- leaving

    def depending(self) -> list[bytes]:
        """Vaults that would miss this supplier: it has a position, or a copy, and nobody else has all of it."""
        found = []
        for vault in self._service.shelf.vaults():
            row = self._service.shelf.vault(vault)
            family = None if row is None else self._kin.family(vault, row)
            if row is None or family is None or family.member(self._kin.own) is None:
                continue
            needed = family.position(self._kin.own) is not None or row.standing >= 0
            seen = self._rounds.get(vault)
            if needed and (seen is None or self._misses(vault, row, seen)):
                found.append(vault)
        return found

    def _misses(self, vault: bytes, row: VaultRow, seen: Round) -> bool:
        """Whether nobody else has all that this supplier has of its position, or the one it stands in for."""
        position = seen.family.position(self._kin.own)
        if position is None:
            if row.standing < 0:
                return False
            position = row.standing
            member = seen.family.voters[position].node
            if member in seen.answers and not seen.answers[member].leaving:
                return False
        others = [node for node in seen.staying(position) if node != self._kin.own]
        return not any(self._has_all(vault, seen, node) for node in others)


async def _nothing_here(block: bytes, position: int) -> None:
    """A supplier has no blocks to make fragments of."""
    return
