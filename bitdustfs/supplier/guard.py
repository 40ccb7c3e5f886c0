"""A supplier's part while the owner is away: watches its kin, stands in where the bench is called.

Theory of operation. Every member and every reserve of a family asks all others how they stand: six
times a patience, and every ten minutes at least. It follows the newest root and family that any of
them holds. Members do no more than that, and sign what their own pings saw when they are asked to
attest. A reserve goes through these states, one vault at a time:

    state      what holds                         leaves it when                       for
    watching   row.standing is -1                 a position is served by nobody (its  called
                                                  member leaves, or is away past the
                                                  patience, and no stand-in stays)
                                                  and it is this reserve's turn
    called     asks the others to attest          its warrant holds here               warranted
                                                  too few attest, this round           watching
    warranted  row.standing is the position; the  at once                              gathering
               others know the warrant and let
               it read, within a budget
    gathering  copies and remakes fragments into  nothing that can be had is missing   complete
               its own shelf                      the member is back, or an earlier    given up
                                                  reserve of the bench has it all
    complete   says so to its kin; looks again    an earlier reserve of the bench has  given up
               every 20 rounds                    it all, too
    given up   deletes its copies                 at once                              watching

The owner ends it, too. It makes the reserve the position's member: the copies are its own then. Or
it sends a signed stand-down: the copies are given up, as they are when a new family has no such
position.

A reserve says of itself that it stands in. Whether the others believe it:

    it has shown a warrant                 yes
    it has shown none                      for five rounds, since showing takes time
    it was believed, and does not answer   until it is away past the patience

A supplier needs no key for all this, and changes nobody else.

What one vault makes a supplier do, however strange, neither stops nor delays it for the others:
each has a task of its own, and gathering another one. Where all families together would take too
much memory, some are not watched (watched.py).

Here are the rounds. What a reserve does about them is in standin.py, the copying in gather.py.
"""

import logging
from contextlib import suppress
from functools import partial

import trio

from bitdustfs.core.records import Family, Member, root_records
from bitdustfs.errors import Malformed, PeerError, Unavailable
from bitdustfs.supplier.dials import Dials
from bitdustfs.supplier.kin import MemberConnect, Round
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.shelfrows import VaultRow
from bitdustfs.supplier.standin import StandIn
from bitdustfs.supplier.watched import Watched

log = logging.getLogger(__name__)

ROUND_MIN, ROUND_MAX, ROUNDS_A_PATIENCE = 1.0, 600.0, 6  #: seconds between rounds: patience / 6
AFTER_FAILURE = 60.0  #: seconds until a vault whose round failed has its turn again
CLAIM_ROUNDS = 5  #: rounds for which somebody may say that it stands in, and show no warrant
VAULTS_EVERY = 5.0  #: seconds between looks for vaults that came, or families that changed
PING_DEADLINE = 5.0


class Guard:
    """The rounds of one supplier over all vaults it has a family of."""

    def __init__(
        self, service: SupplierService, connect: MemberConnect, dials: Dials | None = None
    ) -> None:
        self._service, self._connect = service, connect
        self._kin = service.kinship
        self._stand_in = StandIn(service, connect)
        self._dials = dials or Dials()
        self._watched = Watched()
        self._rounds: dict[bytes, Round] = {}
        self._claimed: dict[tuple[bytes, bytes], int] = {}  # rounds of a claim without a warrant
        self._due: dict[bytes, tuple[bytes, float]] = {}  # vault -> its family, when to ask again
        self._busy: set[bytes] = set()  # vaults whose round is under way
        self._filling: set[bytes] = set()

    # -- turns

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                wake = trio.current_time() + VAULTS_EVERY
                rows = self._service.shelf.all_rows()
                self._forget_but({vault for vault, _ in rows})
                for vault, row in rows:
                    wake = min(wake, self._next_turn(vault, row.family, nursery))
                await trio.sleep(max(ROUND_MIN, wake - trio.current_time()))

    def _forget_but(self, there: set[bytes]) -> None:
        """Nothing is remembered of vaults that are not kept any more."""
        for vault in (self._due.keys() | self._rounds.keys()) - there - self._busy:
            self._due.pop(vault, None)
            self._forget(vault)
        for claim in [claim for claim in self._claimed if claim[0] not in self._watched]:
            del self._claimed[claim]

    def _forget(self, vault: bytes) -> None:
        """Nothing of what was seen of a vault's family is remembered."""
        self._watched.drop(vault)
        self._rounds.pop(vault, None)
        self._kin.forget(vault)

    def _next_turn(self, vault: bytes, family: bytes, nursery: trio.Nursery) -> float:
        """Starts a round of a vault if one is due; when to look again."""
        now = trio.current_time()
        if vault in self._busy:
            return now
        known, at = self._due.get(vault, (b"", 0.0))
        asked = self._kin.take_hurry(vault) or self._kin.leaving
        if not asked and known == family and at > now:
            return at
        self._busy.add(vault)
        nursery.start_soon(self._turn, vault, family)
        return now

    async def _turn(self, vault: bytes, family: bytes) -> None:
        """One round, and what is to be gathered after it. Never raises: others have their turns."""
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
        """Asks everybody once, and decides; seconds until the next one is due. Then `fill` is
        due.
        """
        row = self._service.shelf.vault(vault)
        family = None if row is None else self._kin.family(vault, row)
        if row is None or family is None or not self._concerns(row, family):
            self._forget(vault)
            return VAULTS_EVERY
        for left_out in self._watched.take(vault, len(row.family), row.used):
            self._forget(left_out)
        if vault not in self._watched and not self._kin.leaving:  # who leaves has to look at all
            return AFTER_FAILURE
        if family.member(self._kin.own) is None:
            await self._follow(vault, await self._ask_all(vault, family))
            self._rounds.pop(vault, None)
            return VAULTS_EVERY
        seen = self._rounds[vault] = await self._ask_all(vault, family)
        await self._follow(vault, seen)
        await trio.to_thread.run_sync(self._service.standing.note_visits, vault)
        try:
            if self._kin.leaving:
                await self._hurry(vault, seen)
            elif family.position(self._kin.own) is None:
                await self._stand_in.step(vault, seen)
        except (PeerError, Unavailable, Malformed) as error:
            log.info("standing in for vault %s waits: %s", vault.hex()[:12], error)
        return min(ROUND_MAX, max(ROUND_MIN, family.policy.patience / ROUNDS_A_PATIENCE))

    def _concerns(self, row: VaultRow, family: Family) -> bool:
        """Whether others are dialled for a vault: it keeps something here, or may call for help."""
        own = self._kin.own
        reserve = family.member(own) is not None and family.position(own) is None
        return row.fragments > 0 or reserve or self._kin.leaving

    async def fill(self, vault: bytes) -> None:
        """Gathers all that the position it stands in for should have and this shelf lacks, if
        any.
        """
        seen = self._rounds.get(vault)
        if seen is None:
            return
        try:
            await self._stand_in.fill(vault, seen)
        except (PeerError, Unavailable, Malformed) as error:
            log.info("gathering for vault %s waits: %s", vault.hex()[:12], error)

    # -- a round

    async def _ask_all(self, vault: bytes, family: Family) -> Round:
        seen = Round(family)
        others = [m for m in family.everybody if m.node != self._kin.own]

        async def ask(member: Member) -> None:
            async with self._dials.at_once:
                with trio.move_on_after(PING_DEADLINE):
                    try:
                        seen.answers[member.node] = await self._connect(vault, member).kin()
                    except PeerError as error:
                        log.debug("%s does not answer: %s", member.node.hex()[:12], error)
            if member.node not in seen.answers and self._dials.is_unasked(vault, member.node):
                seen.unasked.add(member.node)

        async with trio.open_nursery() as nursery:
            for member in others:
                nursery.start_soon(ask, member)
        self._believe(vault, seen)
        expected = [
            m for m in others
            if m.node not in seen.unasked and not self._kin.absent(vault, family, m.node)
        ]  # fmt: skip
        if 2 * sum(m.node in seen.answers for m in expected) < len(expected):
            log.info("few others answer: this supplier's own network may be down")
            self._kin.observe(vault, family, None)
        else:
            self._kin.observe(vault, family, seen.answers, seen.unasked)
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
            if position is None or position >= len(seen.family.members):
                continue
            if node in warranted.get(position, ()):
                self._claimed.pop((vault, node), None)
            else:
                self._claimed[vault, node] = self._claimed.get((vault, node), 0) + 1
            if self._claimed.get((vault, node), 0) <= CLAIM_ROUNDS:
                seen.standing[node] = position
        seen.unproven.update(m.node for m in seen.family.bench if (vault, m.node) in self._claimed)

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
                learn = partial(self._service.voter.learn, vault, current)
                await trio.to_thread.run_sync(learn)
                return
            except (PeerError, Malformed) as error:
                log.info("%s shows no newer root: %s", node.hex()[:12], error)

    # -- leaving

    async def _hurry(self, vault: bytes, seen: Round) -> None:
        """Whoever could take over should look now, not in the time that patience allows."""
        row = self._service.shelf.vault(vault)
        if row is None or not self._misses(row, seen):
            return
        for node in seen.answers:
            member = seen.family.member(node)
            if member is not None:
                with suppress(PeerError):
                    await self._connect(vault, member).hurry()

    def depending(self) -> list[bytes]:
        """Vaults that would miss this supplier.

        It has a position, or a copy of one, and nobody else has all of it.
        """
        found = []
        for vault, _ in self._service.shelf.all_rows():
            row = self._service.shelf.vault(vault)
            family = None if row is None else self._kin.family(vault, row)
            if row is None or family is None or family.member(self._kin.own) is None:
                continue
            needed = family.position(self._kin.own) is not None or row.standing >= 0
            seen = self._rounds.get(vault)
            if needed and (seen is None or self._misses(row, seen)):
                found.append(vault)
        return found

    def _misses(self, row: VaultRow, seen: Round) -> bool:
        """Whether nobody else has all that this supplier has of its position, or stands in for."""
        position = seen.family.position(self._kin.own)
        if position is None:
            if row.standing < 0:
                return False
            position = row.standing
            if seen.there(seen.family.members[position].node):
                return False
        others = [node for node in seen.staying(position) if node != self._kin.own]
        return not any(seen.has_all(node) for node in others)
