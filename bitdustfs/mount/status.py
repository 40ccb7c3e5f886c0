"""A mount described: the one place where an open vault becomes statements."""

from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import Member
from bitdustfs.family.staffing import Staffing
from bitdustfs.mount.statements import (
    RebuildingLine,
    ReserveLine,
    Status,
    SupplierLine,
    Suppliers,
    VisitLine,
)
from bitdustfs.mount.supplier_warnings import thin_warning, warning_of
from bitdustfs.vault.vaults import ReadVault, WritableVault


class Describer:
    """Describes one mounted vault, that is only looked at, as it is at the call."""

    def __init__(self, key: VaultKey, vault: ReadVault) -> None:
        self._key, self._vault = key, vault

    async def status(self) -> Status:
        """How safe the content is, and who keeps it."""
        totals = await self._vault.volume.totals()
        may_lose, thinnest = await self._thinnest()
        local_blocks, owed_blocks = self._waiting()
        lines = self._lines()
        return Status(
            vault=self._key.vault_id.hex(),
            state=self._state(),
            message=self._vault.message,
            inodes=totals.inodes,
            live=totals.live,
            dirty=self._vault.content.dirty,
            may_lose=may_lose,
            thinnest=thinnest,
            rebuilding=self._rebuilding(),
            bench=[self._reserve(member) for member in self._vault.known.family.bench],
            visits=self._visits(),
            local_blocks=local_blocks,
            owed_blocks=owed_blocks,
            thin_blocks=len(self._thin()),
            suppliers=lines,
            warnings=[
                *self._vault.troubles,
                *filter(None, (thin_warning(len(self._thin()), lines), *map(warning_of, lines))),
            ],
        )

    def suppliers(self) -> Suppliers:
        """Who keeps the vault."""
        return Suppliers(suppliers=self._lines())

    async def may_lose(self) -> int:
        """How many more suppliers may go before some block cannot be rebuilt."""
        return (await self._thinnest())[0]

    def _state(self) -> str:
        return "read-only"

    async def _thinnest(self) -> tuple[int, str]:
        """How many may go, and the block that is lost first; "" when all are alike."""
        circle, k = self._vault.circle, self._vault.known.family.group.k
        return max(circle.online_elsewhere() - k, min(circle.online() - k, 0)), ""

    def _thin(self) -> list[bytes]:
        """Published blocks that fewer suppliers hold than should."""
        return []

    def _waiting(self) -> tuple[int, int]:
        """Blocks that are only here, and blocks that some supplier has not acknowledged."""
        return 0, 0

    def _rebuilding(self) -> RebuildingLine:
        return RebuildingLine()

    def _lacks(self, position: int) -> int:
        """Fragments that a position was found without."""
        return 0

    def _visits(self) -> list[VisitLine]:
        return []

    def _lines(self) -> list[SupplierLine]:
        full = self._vault.space.full()
        return [
            self._line(position, member, member in full)
            for position, member in enumerate(self._vault.known.family.members)
        ]

    def _line(self, position: int, member: Member, full: bool) -> SupplierLine:
        watch, health = self._vault.watch, self._vault.circle.health(member.node)
        seen = watch.history(member.node)
        return SupplierLine(
            position=position,
            node=member.node.hex(),
            address=address_of(member),
            state=watch.state(member.node),
            uptime=seen.answered / seen.rounds if seen.rounds else None,
            gone=seen.gone,
            latency=seen.latency,
            away=watch.away(member.node),
            stored=self._vault.space.used(member),
            full=full,
            audits=seen.audits,
            audits_failed=seen.audits_failed,
            lacks=self._lacks(position),
            damaged=health.damaged,
            last_error=health.last_error,
            own=self._vault.circle.is_beside(member.node),
        )

    def _reserve(self, member: Member) -> ReserveLine:
        told = self._vault.watch.told(member.node)
        return ReserveLine(
            node=member.node.hex(),
            address=address_of(member),
            state=self._vault.watch.state(member.node),
            ready=told is not None and told.epoch == self._vault.known.family.epoch,
            stands_in_for=None if told is None else told.standing,
            keeps_for=sorted(self._vault.circle.copies.kept_by(member.node)),
        )


class WritableDescriber(Describer):
    """The same of one that is also written."""

    def __init__(self, key: VaultKey, vault: WritableVault, staffing: Staffing) -> None:
        super().__init__(key, vault)
        self._writable, self._staffing = vault, staffing

    def _state(self) -> str:
        if self._writable.read_only:
            return "read-only"
        unwritten = self._vault.content.dirty or self._vault.volume.tree.has_written()
        return "local" if unwritten or self._writable.committer.changed_in else "published"

    async def _thinnest(self) -> tuple[int, str]:
        latest = await self._writable.rebuilder.replanned()
        return latest.margin, latest.thinnest.hex() if latest.thinnest else ""

    def _waiting(self) -> tuple[int, int]:
        ledger = self._writable.ledger
        return len(ledger.waiting()), ledger.owed_blocks

    def _thin(self) -> list[bytes]:
        return self._vault.state.blocks.thin()

    def _rebuilding(self) -> RebuildingLine:
        return RebuildingLine(self._writable.rebuilder.done, self._writable.rebuilder.total)

    def _lacks(self, position: int) -> int:
        return self._writable.auditor.damaged_at(position)

    def _visits(self) -> list[VisitLine]:
        return [
            VisitLine(
                node=visit.stand_in.hex(),
                position=visit.position,
                bytes=visit.bytes,
                until=visit.until,
            )
            for visit in self._staffing.visits
        ]


def address_of(member: Member) -> str:
    """Where a member was last reached; after a recovery it may not be known."""
    return next(iter(member.addresses), "an unknown address")
