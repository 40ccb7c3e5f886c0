"""What a running mount answers to `bitdust status|sync|suppliers|verify|...`."""

import dataclasses
import logging
from typing import Any

import trio

from bitdustfs.cli import control
from bitdustfs.cli.connect import owner_credentials, remember_addresses
from bitdustfs.cli.hire import hire
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import Member
from bitdustfs.errors import LocalError, PeerError, Superseded, Unavailable
from bitdustfs.rebuild.fill import Fill
from bitdustfs.replace import replace_member, set_policy
from bitdustfs.vault import OpenVault
from bitdustfs.verify import verify

log = logging.getLogger(__name__)

HIRE_EVERY = 60.0  #: seconds between looks for suppliers that are away for too long


class Answers:
    """The answers of one mount, and the replacing that some of them ask for."""

    def __init__(self, key: VaultKey, vault: OpenVault) -> None:
        self._key, self._vault = key, vault
        self._changing = trio.Lock()  # one change of the family at a time

    async def answer(self, request: control.Request, say: control.Say) -> dict[str, Any]:
        """One request. Raises BitdustError."""
        match request.get("verb"):
            case "status":
                return await self._status()
            case "sync":
                return await self._sync(say)
            case "suppliers":
                return {"suppliers": self._suppliers()}
            case "replace":
                return await self._replace(request, say)
            case "set":
                policy = {str(k): int(v) for k, v in dict(request.get("policy", {})).items()}
                async with self._changing:
                    await set_policy(self._vault, self._key, policy)
                return {"ok": True}
            case "verify":
                return await self._verify(request, say)
            case verb:
                return {"error": f"{verb!r} is not known to this mount"}

    async def _sync(self, say: control.Say) -> dict[str, Any]:
        vault = self._vault
        if vault.read_only and not vault.message:
            return {"ok": True}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._progress, say)
            await vault.publish()
            nursery.cancel_scope.cancel()
        return {"ok": True}

    async def _progress(self, say: control.Say) -> None:
        while True:
            await trio.sleep(0.3)
            if self._vault.uploader is not None:
                await say({"progress": len(self._vault.uploader.waiting())})

    def _may_lose(self) -> int:
        """How many more suppliers may go before some block cannot be rebuilt."""
        vault = self._vault
        voters = vault.known.family.voters
        online = {p for p, m in enumerate(voters) if vault.watch.state(m.node) == "online"}
        margins = [len(online) - vault.known.family.groups[0].k]
        if vault.uploader is not None:  # blocks that some supplier lacks
            margins += [
                len(online & set(row.acked)) - row.k
                for row in vault.uploader.owed.values()
                if row.acked and not row.local
            ]
        return min(margins)

    def _suppliers(self) -> list[dict[str, Any]]:
        vault = self._vault
        rows = []
        for position, member in enumerate(vault.known.family.voters):
            seen, health = vault.watch.history(member.node), vault.fetcher.health[member.node]
            rows.append(
                {
                    "position": position,
                    "node": member.node.hex(),
                    "address": address_of(member),
                    "state": vault.watch.state(member.node),
                    "uptime": seen.answered / seen.rounds if seen.rounds else None,
                    "latency": seen.latency,
                    "away": vault.watch.away(member.node),
                    "stored": vault.space.used(member),
                    "audits": health.audits,
                    "audits_failed": health.audits_failed,
                }
            )
        return rows

    async def _replace(self, request: control.Request, say: control.Say) -> dict[str, Any]:
        position = int(request.get("position", -1))
        if not 0 <= position < self._vault.known.family.groups[0].n:
            return {"error": f"there is no position {position} in this family"}
        done = await self._hire_for(position, str(request.get("address", "")), say)
        return {"ok": True, "bytes": done.bytes}

    async def _hire_for(self, position: int, address: str, say: control.Say) -> Fill:
        """Fires the supplier of a position and hires another one."""

        async def progress(done: int, total: int) -> None:
            await say({"progress": done, "total": total})

        vault = self._vault
        async with self._changing:
            family = vault.known.family
            known = [a for m in family.voters for a in m.addresses]
            credentials = owner_credentials(self._key)
            member = await hire(family, position, credentials, known, address)
            fill = await replace_member(vault, self._key, position, member, progress)
        remember_addresses(vault.known.family)
        return fill

    async def replace_absent(self) -> None:
        """Replaces suppliers that were away longer than the policy allows, one after the other."""

        async def say(line: dict[str, Any]) -> None:
            log.info("replacing: %s", line)

        while not self._vault.read_only:
            with trio.move_on_after(min(HIRE_EVERY, max(0.5, self._vault.watch.patience / 5))):
                await self._vault.moved.wait()  # perhaps with another policy
            for position in self._vault.watch.absent()[:1]:
                try:
                    await self._hire_for(position, "", say)
                    log.warning("position %d was away too long and has another supplier", position)
                except (Unavailable, PeerError, LocalError, Superseded) as error:
                    log.warning("position %d is not replaced yet: %s", position, error)

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
        full = vault.space.full()
        warnings = list(vault.troubles)
        for member in vault.known.family.voters:
            health = vault.fetcher.health[member.node]
            suppliers.append(
                {
                    "node": member.node.hex(),
                    "address": address_of(member),
                    "state": "online" if health.reachable else "absent",
                    "damaged": health.damaged,
                    "audits": health.audits,
                    "audits_failed": health.audits_failed,
                    "last_error": health.last_error,
                }
            )
            if health.damaged:
                warnings.append(
                    f"supplier {member.node.hex()[:16]} at {address_of(member)} returned damaged "
                    f"data {health.damaged} times"
                )
            elif member in full:
                warnings.append(
                    f"supplier {member.node.hex()[:16]} at {address_of(member)} has much less room "
                    "left than the others"
                )
            elif health.audits_failed:
                warnings.append(
                    f"supplier {member.node.hex()[:16]} at {address_of(member)} lists fragments that "
                    f"it does not have: {health.audits_failed} of {health.audits} audits failed"
                )
        return {
            "vault": self._key.vault_id.hex(),
            "state": state,
            "message": vault.message,
            "inodes": totals.inodes,
            "live": totals.live,
            "dirty": vault.content.tally.dirty,
            "may_lose": self._may_lose(),
            "owed_blocks": len(vault.uploader.owed) if vault.uploader else 0,
            "suppliers": suppliers,
            "warnings": warnings,
        }


def address_of(member: Member) -> str:
    """Where a member was last reached; after a recovery it may not be known."""
    return next(iter(member.addresses), "an unknown address")
