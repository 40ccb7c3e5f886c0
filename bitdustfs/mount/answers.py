"""What a running mount answers to `bitdust status|sync|suppliers|verify|...`."""

import dataclasses
import logging
from typing import Any

import trio

from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import Member
from bitdustfs.errors import BitdustError
from bitdustfs.family.staffing import Staffing
from bitdustfs.net import control
from bitdustfs.vault.vault import OpenVault
from bitdustfs.vault.verify import verify

log = logging.getLogger(__name__)

SLOW = 90.0  #: seconds without any progress, with enough suppliers, after which it does
STALL = 30.0  #: seconds without any progress, with too few suppliers, after which sync gives up


class Answers:
    """The answers of one mount."""

    def __init__(self, key: VaultKey, vault: OpenVault, staffing: Staffing) -> None:
        self._key, self._vault, self._staffing = key, vault, staffing

    async def answer(self, request: control.Request, say: control.Say) -> dict[str, Any]:
        """One request. Raises BitdustError."""
        match request.get("verb"):
            case "status":
                return await self._status()
            case "sync":
                return await self._sync(say, float(request.get("patience", STALL)))
            case "suppliers":
                return {"suppliers": self._suppliers()}
            case "replace":
                return await self._replace(request, say)
            case "rebuild":
                return await self._rebuild(say)
            case "set":
                policy = {str(k): int(v) for k, v in dict(request.get("policy", {})).items()}
                await self._staffing.set_policy(policy)
                return {"ok": True}
            case "verify":
                return await self._verify(request, say)
            case verb:
                return {"error": f"{verb!r} is not known to this mount"}

    async def _sync(self, say: control.Say, patience: float) -> dict[str, Any]:
        vault = self._vault
        if vault.publisher is None:  # it was opened read-only: there is nothing to publish
            return {"ok": True}
        failure = "it was interrupted"
        async with trio.open_nursery() as nursery:
            stalled = trio.Event()
            nursery.start_soon(self._progress, say, nursery.cancel_scope, stalled, patience)
            try:
                await vault.publish()
                failure = ""
            except BitdustError as error:
                failure = str(error)
            nursery.cancel_scope.cancel()
        if stalled.is_set():
            failure = self._why_nothing_moves()
        return {"error": failure} if failure else {"ok": True}

    async def _progress(
        self, say: control.Say, scope: trio.CancelScope, stalled: trio.Event, patience: float
    ) -> None:
        """Says how far it is; ends the attempt when nothing moves because too few suppliers are there."""
        uploader = self._vault.uploader
        assert uploader is not None
        left, since = -1, trio.current_time()
        while True:
            await trio.sleep(0.3)
            await say({"progress": len(uploader.waiting())})
            if uploader.owed_positions() != left:
                left, since = uploader.owed_positions(), trio.current_time()
            enough = not self._vault.too_few()  # then they may be slow, or refuse
            if trio.current_time() - since > (max(SLOW, patience) if enough else patience):
                stalled.set()
                scope.cancel()

    def _why_nothing_moves(self) -> str:
        health = self._vault.fetcher.health.values()
        said = sorted({seen.last_error for seen in health if seen.last_error})
        return self._vault.too_few() or (
            "suppliers answer and take nothing, so that what is new stays on this machine: "
            + "; ".join(said[:3])
        )

    def _may_lose(self) -> int:
        """How many more suppliers may go before some block cannot be rebuilt."""
        return self._thinnest()[0]

    def _thinnest(self) -> tuple[int, str]:
        """The same, and the id of the block that is lost first; "" when all are alike."""
        vault = self._vault
        if vault.rebuilder is not None:
            latest = vault.rebuilder.replanned()
            return latest.margin, latest.thinnest.hex() if latest.thinnest else ""
        voters = vault.known.family.voters
        online = sum(vault.fetcher.health[m.node].reachable for m in voters)
        return online - vault.known.family.group.k, ""

    def _suppliers(self) -> list[dict[str, Any]]:
        vault = self._vault
        rows = []
        for position, member in enumerate(vault.known.family.voters):
            seen = vault.watch.history(member.node)
            rows.append(
                {
                    "position": position,
                    "node": member.node.hex(),
                    "address": address_of(member),
                    "state": vault.watch.state(member.node),
                    "uptime": seen.answered / seen.rounds if seen.rounds else None,
                    "gone": seen.gone,
                    "latency": seen.latency,
                    "away": vault.watch.away(member.node),
                    "stored": vault.space.used(member),
                    "audits": seen.audits,
                    "audits_failed": seen.audits_failed,
                }
            )
        return rows

    async def _replace(self, request: control.Request, say: control.Say) -> dict[str, Any]:
        position = int(request.get("position", -1))
        if not 0 <= position < self._vault.known.family.group.n:
            return {"error": f"there is no position {position} in this family"}

        async def progress(done: int, total: int) -> None:
            await say({"progress": done, "total": total})

        done = await self._staffing.replace(position, str(request.get("address", "")), progress)
        return {"ok": True, "bytes": done.bytes}

    def _reserve(self, member: Member) -> dict[str, Any]:
        told = self._vault.watch.kin.get(member.node)
        return {
            "node": member.node.hex(),
            "address": address_of(member),
            "state": self._vault.watch.state(member.node),
            "ready": told is not None and told.epoch == self._vault.known.family.epoch,
            "stands_in_for": None if told is None else told.standing,
        }

    async def _rebuild(self, say: control.Say) -> dict[str, Any]:
        """Makes everything that is missing now, and replaces whoever is due."""
        vault = self._vault
        if vault.rebuilder is None or vault.uploader is None or vault.read_only:
            return {"error": vault.message or "this mount is read-only: nothing can be rebuilt"}

        async def progress(done: int, total: int) -> None:
            await say({"progress": done, "total": total})

        placed = await vault.rebuilder.step(0.0, progress)
        await vault.uploader.try_all()
        replaced, failure = 0, ""
        try:
            while await self._staffing.replace_due(progress):
                replaced += 1
        except BitdustError as error:
            failure = str(error)
        latest = await vault.rebuilder.look(0.0)
        return {
            "ok": True,
            "placed": placed,
            "replaced": replaced,
            "waiting": len(latest.waiting),
            "failure": failure,
            "margin": self._may_lose(),
        }

    async def _verify(self, request: control.Request, say: control.Say) -> dict[str, Any]:
        said = 0.0

        async def progress(what: str, done: int, total: int) -> None:
            nonlocal said
            if trio.current_time() - said > 0.2:
                said = trio.current_time()
                await say({"progress": done, "total": total, "what": what})

        sample = min(1.0, max(0.0, float(request.get("sample", 1.0))))
        report = await verify(self._vault, bool(request.get("local")), sample, progress)
        return {"ok": not report.faults, "report": dataclasses.asdict(report)}

    async def _status(self) -> dict[str, Any]:
        vault = self._vault
        totals = await vault.volume.totals()
        publisher = vault.publisher
        state = "read-only" if vault.read_only else "published"
        if publisher is not None and not vault.read_only and publisher.due:
            state = "local"
        suppliers = []
        may_lose, thinnest = self._thinnest()
        full = vault.space.full()
        warnings = list(vault.troubles)
        for position, member in enumerate(vault.known.family.voters):
            health, seen = vault.fetcher.health[member.node], vault.watch.history(member.node)
            suppliers.append(
                {
                    "node": member.node.hex(),
                    "address": address_of(member),
                    "state": vault.watch.state(member.node),
                    "damaged": health.damaged,
                    "audits": seen.audits,
                    "audits_failed": seen.audits_failed,
                    "last_error": health.last_error,
                }
            )
            if seen.gone:
                warnings.append(
                    f"supplier {member.node.hex()[:16]} at {address_of(member)} is to be replaced: "
                    f"it {seen.gone}"
                )
            elif health.damaged:
                warnings.append(
                    f"supplier {member.node.hex()[:16]} at {address_of(member)} returned damaged "
                    f"data {health.damaged} times"
                )
            elif member in full:
                warnings.append(
                    f"supplier {member.node.hex()[:16]} at {address_of(member)} has much less room "
                    "left than the others"
                )
            elif lacking := vault.auditor.damaged_at(position):
                warnings.append(
                    f"supplier {member.node.hex()[:16]} at {address_of(member)} lacks {lacking} fragments "
                    f"that it should have; {seen.audits_failed} of {seen.audits} audits failed so far"
                )
        return {
            "vault": self._key.vault_id.hex(),
            "state": state,
            "message": vault.message,
            "inodes": totals.inodes,
            "live": totals.live,
            "dirty": vault.content.tally.dirty,
            "may_lose": may_lose,
            "thinnest": thinnest,
            "rebuilding": [vault.rebuilder.done, vault.rebuilder.total]
            if vault.rebuilder
            else [0, 0],
            "bench": [self._reserve(member) for member in vault.known.family.bench],
            "visits": [
                {
                    "node": visit.stand_in.hex(),
                    "position": visit.position,
                    "bytes": visit.bytes,
                    "until": visit.until,
                }
                for visit in self._staffing.visits
            ],
            "local_blocks": len(vault.uploader.waiting()) if vault.uploader else 0,
            "owed_blocks": len(vault.uploader.owed) if vault.uploader else 0,
            "suppliers": suppliers,
            "warnings": warnings,
        }


def address_of(member: Member) -> str:
    """Where a member was last reached; after a recovery it may not be known."""
    return next(iter(member.addresses), "an unknown address")
