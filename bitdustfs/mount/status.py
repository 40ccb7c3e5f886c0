"""A mount described: the one place where an open vault becomes statements."""

import time
from collections.abc import Mapping

import bitdustfs
from bitdustfs.blocks.circle import addresses_of
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import Member
from bitdustfs.family.staffing import Staffing
from bitdustfs.mount.foresight import foreseen
from bitdustfs.mount.pinned import pin_lines
from bitdustfs.mount.statements import (
    FollowsLine,
    PolicySaid,
    RebuildingLine,
    ReserveLine,
    Status,
    SupplierLine,
    Suppliers,
    ThinnedLine,
    VisitLine,
)
from bitdustfs.mount.supplier_warnings import thin_warning, warning_of
from bitdustfs.mount.thinned import thinned_lately
from bitdustfs.net.line import OwnLine
from bitdustfs.units import format_size
from bitdustfs.vault.following import FollowingVault
from bitdustfs.vault.reading import ReadVault
from bitdustfs.vault.vaults import WritableVault


class Describer:
    """Describes one mounted vault, that is only looked at, as it is at the call."""

    def __init__(self, key: VaultKey, vault: ReadVault, line: OwnLine | None = None) -> None:
        self._key, self._vault, self._own_line = key, vault, line or OwnLine()

    async def status(self) -> Status:
        """How safe the content is, and who keeps it."""
        await self._vault.watch.glance()
        totals = await self._vault.volume.totals()
        thinnest = await self._thinnest()
        account = await self._vault.account()
        lines = self._lines()
        return Status(
            vault=self._key.vault_id.hex(),
            state=account.state,
            message=account.why,
            inodes=totals.inodes,
            live=totals.live,
            dirty=self._vault.content.dirty,
            may_lose=account.margin,
            thinnest=thinnest,
            rebuilding=self._rebuilding(),
            bench=[self._reserve(member) for member in self._vault.known.family.bench],
            visits=self._visits(),
            local_blocks=account.waiting,
            owed_blocks=self._vault.state.blocks.owed_count,
            thin_blocks=account.thin,
            suppliers=lines,
            warnings=[
                *self._vault.troubles,
                *filter(None, (thin_warning(account.thin, lines), *map(warning_of, lines))),
                *self._room_warnings(totals.live),
            ],
            unpublished=account.unpublished,
            verdict=account.verdict(),
            judged=account.judged,
            read_only=self._vault.read_only,
            program=bitdustfs.__version__,
            only_here=account.here,
            to_send=account.to_send,
            rate=account.rate,
            seconds_left=account.seconds_left,
            complete=account.complete,
            safety=account.safety(),
            thinned=self._thinned(),
            bandwidth=str(self._own_line.bandwidth),
            paused=account.paused,
            risk=foreseen(self._vault.state),
            follows=self._follows(),
            retain=self._vault.known.family.policy.retain,
            retained=self._vault.space.retained.content(),
            retained_until=self._vault.space.retained.until() or None,
            pins=pin_lines(self._vault),
            pins_why=self._vault.pinning.why,
        )

    def _room_warnings(self, live: int) -> list[str]:
        """That the retention leaves no room."""
        space = self._vault.space
        retained = space.retained.content()
        if not retained or space.left(live, self._vault.content.dirty) > space.capacity // 16:
            return []
        until = time.strftime("%F %R", time.localtime(space.retained.until()))
        return [
            f"hardly anything more can be written: {format_size(retained)} of what was deleted are "
            f"kept by the retention, until {until} at the latest. Wait, or make the vault larger"
        ]

    async def suppliers(self) -> Suppliers:
        """Who keeps the vault."""
        await self._vault.watch.glance()
        return Suppliers(suppliers=self._lines())

    def policy(self) -> PolicySaid:
        """What the owner wants of the family."""
        group, policy = self._vault.known.family.group, self._vault.known.family.policy
        return PolicySaid(
            k=group.k, n=group.n, patience=policy.patience, margin=policy.margin,
            bandwidth=policy.bandwidth, spread=policy.spread, retain=policy.retain,
        )  # fmt: skip

    def _follows(self) -> FollowsLine | None:
        if not isinstance(self._vault, FollowingVault):
            return None
        now = self._vault.following()
        return FollowsLine(root=now.seq, published=now.time, heard=now.heard, why=now.why)

    async def _thinnest(self) -> str:
        """The block that is lost first; "" when all are alike."""
        return ""

    def _rebuilding(self) -> RebuildingLine:
        return RebuildingLine()

    def _visits(self) -> list[VisitLine]:
        return []

    def _thinned(self) -> list[ThinnedLine]:
        return []

    def _flows(self) -> tuple[Mapping[int, int], Mapping[bytes, float]]:
        """Bytes that positions lack, and bytes a second that suppliers are sent."""
        return {}, {}

    def _lines(self) -> list[SupplierLine]:
        full, (owed, rates) = self._vault.space.full(), self._flows()
        return [
            self._line(position, member, member in full, owed, rates)
            for position, member in enumerate(self._vault.known.family.members)
        ]

    def _line(
        self,
        position: int,
        member: Member,
        full: bool,
        owed: Mapping[int, int],
        rates: Mapping[bytes, float],
    ) -> SupplierLine:
        watch, health = self._vault.watch, self._vault.circle.health(member.node)
        seen = watch.history(member.node)
        return SupplierLine(
            position=position,
            node=member.node.hex(),
            address=self._address(member),
            way=self._vault.circle.session(member).way(),
            state=watch.shown(member.node),
            uptime=seen.answered / seen.rounds if seen.rounds else None,
            gone=seen.gone,
            latency=seen.latency,
            away=watch.away(member.node),
            stored=self._vault.space.used(member),
            full=full,
            audits=seen.audits,
            audits_failed=seen.audits_failed,
            lacks=self._vault.circle.damage.at(position),
            damaged=health.damaged,
            last_error=health.last_error,
            own=self._vault.circle.is_beside(member.node),
            heard=health.silence(),
            owed=owed.get(position, 0),
            rate=rates.get(member.node, 0.0),
            space=member.space,
        )

    def _address(self, member: Member) -> str:
        """Where a member was last reached; after a recovery it may not be known."""
        return next(iter(addresses_of(self._vault.circle, member)), "an unknown address")

    def _reserve(self, member: Member) -> ReserveLine:
        told = self._vault.watch.told(member.node)
        return ReserveLine(
            node=member.node.hex(),
            address=self._address(member),
            state=self._vault.watch.shown(member.node),
            ready=told is not None and told.epoch == self._vault.known.family.epoch,
            stands_in_for=None if told is None else told.standing,
            keeps_for=sorted(self._vault.circle.copies.kept_by(member.node)),
        )


class WritableDescriber(Describer):
    """The same of one that is also written."""

    def __init__(
        self,
        key: VaultKey,
        vault: WritableVault,
        staffing: Staffing,
        line: OwnLine | None = None,
    ) -> None:
        super().__init__(key, vault, line)
        self._writable, self._staffing = vault, staffing

    async def _thinnest(self) -> str:
        latest = await self._writable.rebuilder.replanned()
        return latest.thinnest.hex() if latest.thinnest else ""

    def _flows(self) -> tuple[Mapping[int, int], Mapping[bytes, float]]:
        flow = self._writable.flow
        return flow.left(self._writable.ledger.is_waiting).owed, flow.rates()

    def _rebuilding(self) -> RebuildingLine:
        return RebuildingLine(self._writable.rebuilder.done, self._writable.rebuilder.total)

    def _thinned(self) -> list[ThinnedLine]:
        return thinned_lately(self._writable, time.time(), "share", "writers")

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
