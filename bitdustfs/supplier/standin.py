"""A reserve that stands in: whose turn it is, the warrant it needs, the copy it makes.

The states and what moves a reserve from one to the next are in guard.py; each decision there is a
function here. Of all this only the row's `standing` and its warrants are durable: a reserve that
restarts gathers on, and looks again whether its copy is complete.
"""

import logging

import trio

from bitdustfs.core.records import Member
from bitdustfs.core.warrants import (
    attestations_needed,
    choose_evidence,
    encode_warrant,
)
from bitdustfs.errors import PeerError
from bitdustfs.supplier.gather import gather
from bitdustfs.supplier.kin import MemberConnect, Round
from bitdustfs.supplier.service import SupplierService

log = logging.getLogger(__name__)

LOOK_ROUNDS = 20  #: rounds between looks whether a complete copy is complete still


class StandIn:
    """One supplier as a reserve on the benches of its vaults."""

    def __init__(self, service: SupplierService, connect: MemberConnect) -> None:
        self._service, self._connect = service, connect
        self._standing, self._kin = service.standing, service.kinship
        self._calm: dict[bytes, int] = {}  # vault -> rounds since this supplier stands in

    async def step(self, vault: bytes, seen: Round) -> None:
        """What follows from one round. Raises PeerError, Unavailable, Malformed.

        The next one goes on.
        """
        row = self._service.shelf.vault(vault)
        if row is None:
            return
        if row.standing < 0:
            position = self._called_for(vault, seen)
            if position is None or not await self._obtain_warrant(vault, seen, position):
                return
            log.warning("standing in for position %d of vault %s", position, vault.hex()[:12])
            await trio.to_thread.run_sync(self._standing.stand, vault, position)
            return
        position = row.standing
        if self._superfluous(vault, seen, position):
            log.warning("position %d is served: its copy here is given up", position)
            await trio.to_thread.run_sync(self._standing.drop_copies, vault, position)
            return
        self._calm[vault] = self._calm.get(vault, 0) + 1
        if self._gathers(vault):
            await self._renew_warrant(vault, seen, position)

    async def fill(self, vault: bytes, seen: Round) -> None:
        """Gathers what the position lacks here, if it stands in for one. Raises as `step`."""
        row = self._service.shelf.vault(vault)
        if row is None or row.standing < 0 or not self._gathers(vault):
            return
        position = row.standing
        if not self._standing.warranted(vault, position):
            return

        def wanted() -> bool:
            now = self._service.shelf.vault(vault)
            return now is not None and now.standing == position

        if await gather(self._service, self._connect, vault, seen, position, wanted):
            self._kin.gathered(vault, True)

    # -- decisions: nothing is asked, nothing changed

    def _called_for(self, vault: bytes, seen: Round) -> int | None:
        """The position that this reserve should take.

        The free ones of the bench take the positions that nobody serves, both in their order.
        """
        open_positions = [
            position for position, member in enumerate(seen.family.members)
            if not seen.staying(position) and self._needs_cover(vault, seen, member)
        ]  # fmt: skip
        free = [
            m.node for m in seen.family.bench
            if m.node == self._kin.own or (seen.there(m.node) and m.node not in seen.standing)
        ]  # fmt: skip
        return dict(zip(free, open_positions, strict=False)).get(self._kin.own)

    def _needs_cover(self, vault: bytes, seen: Round, member: Member) -> bool:
        return seen.leaving(member.node) or self._kin.absent(vault, seen.family, member.node)

    def _superfluous(self, vault: bytes, seen: Round, position: int) -> bool:
        """Whether the member is back before the copy is complete, or others have it as well.

        Not where the owner gave some of it: he reckons with that, and says when it may go.
        """
        if position >= len(seen.family.members):
            return True
        row = self._service.shelf.vault(vault)
        if row is not None and position in row.copies:
            return False
        if seen.there(seen.family.members[position].node) and not self._kin.complete(vault):
            return True
        order = [reserve.node for reserve in seen.family.bench]
        earlier = order[: order.index(self._kin.own)]
        return any(node in earlier and seen.has_all(node) for node in seen.staying(position))

    def _gathers(self, vault: bytes) -> bool:
        """Whether something may be missing in the copy here."""
        return not self._kin.complete(vault) or self._calm.get(vault, 0) % LOOK_ROUNDS == 0

    # -- the warrant

    async def _obtain_warrant(self, vault: bytes, seen: Round, position: int) -> bool:
        """Gathers evidence, and shows the warrant to everybody; whether it is enough."""
        member = seen.family.members[position]
        if seen.leaving(member.node):
            left = [seen.answers[member.node].leaving]
            warrant = encode_warrant(position, self._kin.own, left, leaving=True)
            await self._show(vault, seen, (warrant,))
            return self._standing.warranted(vault, position)
        await self._show(vault, seen, ())  # what others know: stand-ins among those who attest
        said = await self._ask_to_attest(vault, seen, position)
        # stand-ins' words count only where their warrants are known: as many as fit, then
        if len(said) < attestations_needed(len(seen.family.members)):
            return False
        evidence = choose_evidence(seen.family, said)
        warrant = encode_warrant(position, self._kin.own, evidence)
        await self._show(vault, seen, (warrant,))
        return self._standing.warranted(vault, position)

    async def _ask_to_attest(
        self, vault: bytes, seen: Round, position: int
    ) -> list[tuple[bytes, bytes]]:
        """What the others sign: their own pings to the position's member fail past patience.

        Each with who signed it.
        """
        absent = seen.family.members[position].node
        said: list[tuple[bytes, bytes]] = []

        async def ask(peer: Member) -> None:
            try:
                record = await self._connect(vault, peer).attest(position)
            except PeerError as error:
                log.debug("%s does not attest: %s", peer.node.hex()[:12], error)
                return
            if self._kin.attested(seen.family, position, record, peer.node):
                said.append((peer.node, record))

        async with trio.open_nursery() as nursery:
            for peer in seen.family.everybody:
                if peer.node in seen.answers and peer.node != absent:
                    nursery.start_soon(ask, peer)
        return said

    async def _renew_warrant(self, vault: bytes, seen: Round, position: int) -> None:
        """The warrant again where others lack it: they were away, or the family is a newer one.

        Another warrant, with fresh words, long before the present one is too old.
        """
        if self._standing.freshly_warranted(vault, position):
            await self._show(vault, seen, ())
        else:
            await self._obtain_warrant(vault, seen, position)

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
        return await trio.to_thread.run_sync(self._standing.merge_warrants, vault, records)
