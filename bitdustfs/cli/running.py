"""A mount while it runs: opens the vault, attaches it to FUSE, answers the control socket, ends well."""

import dataclasses
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyfuse3
import trio

from bitdustfs import config
from bitdustfs.cli import control
from bitdustfs.cli.connect import (
    connector,
    find_family,
    known_addresses,
    owner_credentials,
    remember_addresses,
)
from bitdustfs.cli.cpu import suite
from bitdustfs.cli.discover import ANNOUNCE_EVERY, announce_vault, joined, newest_hint
from bitdustfs.cli.hire import hire
from bitdustfs.core.items import ROOT_INODE, inode_key
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import open_root_untrusted
from bitdustfs.errors import (
    BitdustError,
    LocalError,
    PeerError,
    StateLocked,
    Superseded,
    Unavailable,
)
from bitdustfs.fuse.operations import Operations
from bitdustfs.rebuild.fill import Fill
from bitdustfs.replace import replace_member, set_policy
from bitdustfs.vault import OpenVault, Settings, open_state_folder, open_vault
from bitdustfs.verify import verify
from bitdustfs.volume import Caller

log = logging.getLogger(__name__)

HIRE_EVERY = 60.0  #: seconds between looks for suppliers that are away for too long
LAST_PUBLISH = 120.0  #: seconds that the end of a mount waits for suppliers
LAST_COPIES = 20.0  #: seconds that it then gives slow suppliers to take their share, too
LAST_RECLAIM = 5.0  #: seconds that it spends on giving space back
LOCK_WAIT = 180.0  #: seconds that a mount waits for this machine's previous one to finish
HANDLERS_MAX = 20  # libfuse keeps a buffer of 1 MiB for each


@dataclass
class MountOptions:
    """A parsed command line."""

    mountpoint: Path
    key_path: Path | None = None
    bootstrap: list[str] = field(default_factory=list)
    read_only: bool = False
    take_over: bool = False
    allow_other: bool = False
    published: bool = False
    foreground: bool = False
    cache: int | None = None


async def run_mount(options: MountOptions, key: VaultKey, ready: Callable[[str], None]) -> None:
    """Mounts, calls `ready` with a warning or "", returns when the mount ended and all is settled."""
    folder = await _state_folder(key)
    try:
        async with trio.open_nursery() as network:
            credentials = owner_credentials(key)
            addresses = [*options.bootstrap, *known_addresses(key.vault_id)]
            known = await find_family(key, addresses, credentials, network)
            connect = connector(credentials, network)
            settings = Settings(options.read_only, options.take_over)
            if options.cache is not None:
                settings.cache_limit = options.cache
            async with open_vault(folder, key, suite(), known.family, connect, settings) as vault:
                remember_addresses(vault.known.family)
                await _ensure_root(vault)
                if not vault.read_only:
                    vault.witnessing = trio.Event()
                announce = partial(_announce, key, vault, addresses)
                network.start_soon(vault.aside, "talking to the DHT", announce)
                await _Mounted(options, key, vault).run(ready)
            network.cancel_scope.cancel()
    finally:
        folder.close()


async def _announce(key: VaultKey, vault: OpenVault, addresses: list[str]) -> None:
    """Keeps the vault's DHT record fresh while it is mounted: addresses by hand may be forgotten.

    First it hears what that record bears witness of: a newer root than the suppliers showed.
    """
    members = [a for m in vault.known.family.voters for a in m.addresses]
    async with joined([*addresses, *members][:16]) as dht:
        hint = await newest_hint(dht, key.capability())
        if hint is not None:
            vault.heed_witness(hint.ballot, hint.root_seq)
        if vault.witnessing is not None:
            vault.witnessing.set()
        while not vault.read_only:
            root = open_root_untrusted(vault.state_root(), key.vault_id)
            family, raw = vault.known.family, vault.known.raw_family
            await announce_vault(dht, key, root, family, raw, suite())
            with trio.move_on_after(ANNOUNCE_EVERY):
                await vault.moved.wait()


async def _state_folder(key: VaultKey):  # type: ignore[no-untyped-def]
    """This machine's state, waiting while a mount that has just ended still uploads."""
    give_up = trio.current_time() + LOCK_WAIT
    while True:
        try:
            return open_state_folder(config.home(), key.vault_id, config.machine_id())
        except StateLocked as error:
            if _mounted_here(key) or trio.current_time() > give_up:
                raise
            log.info("%s; waiting for it to finish", error)
            await trio.sleep(0.2)


def _mounted_here(key: VaultKey) -> bool:
    """Whether a mount of this vault is attached (not merely finishing its uploads)."""
    return (config.home() / "run" / f"{key.vault_id.hex()[:16]}.attached").exists()


async def _ensure_root(vault: OpenVault) -> None:
    has_root = await vault.volume.tree.run(lambda tx: tx.get(inode_key(ROOT_INODE)) is not None)
    if not has_root and not vault.read_only:
        await vault.volume.make_root(Caller(os.getuid(), os.getgid()))


class _Mounted:
    """One attached mount."""

    def __init__(self, options: MountOptions, key: VaultKey, vault: OpenVault) -> None:
        self._options, self._key, self._vault = options, key, vault
        self._ended = trio.Event()
        self._settled = trio.Event()
        self._changing = trio.Lock()
        self._end_message = ""
        self._watchers = 0
        self._watchers_gone = trio.Event()
        self._watchers_gone.set()

    async def run(self, ready: Callable[[str], None]) -> None:
        options, vault = self._options, self._vault
        if not vault.read_only:
            orphans = await vault.volume.purge_orphans()
            if orphans:
                log.info("%d files unlinked while open were purged", orphans)
        operations = Operations(vault, self._durable)
        fuse_options = set(pyfuse3.default_options)
        fuse_options |= {"fsname=bitdust", "subtype=bitdust", "default_permissions"}
        if options.allow_other:
            fuse_options.add("allow_other")
        if vault.read_only:
            fuse_options.add("ro")
        try:
            pyfuse3.init(operations, str(options.mountpoint), fuse_options)
        except RuntimeError as error:
            raise LocalError(f"FUSE cannot mount at {options.mountpoint}: {error}") from error
        attached = config.home() / "run" / f"{self._key.vault_id.hex()[:16]}.attached"
        path = control.socket_path(options.mountpoint)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(control.serve, path, self._control)
                nursery.start_soon(self._wait_for_signal)
                nursery.start_soon(self._vault.aside, "replacing suppliers", self._replace_absent)
                attached.write_text(str(options.mountpoint))
                nursery.start_soon(_tell, ready, vault.message)
                await pyfuse3.main(max_tasks=HANDLERS_MAX)
                self._ended.set()
                attached.unlink(missing_ok=True)
                with trio.CancelScope(shield=True):
                    await self._settle()
                    await self._vault.release()  # before anybody is told that it has ended
                    self._settled.set()
                    await self._wait_watchers()
                nursery.cancel_scope.cancel()
        finally:
            attached.unlink(missing_ok=True)
            pyfuse3.close(unmount=True)

    async def _wait_for_signal(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                log.info("signal %d: unmounting", number)
                pyfuse3.terminate()

    async def _durable(self) -> None:
        """What fsync waits for; also after another machine took over, for what was accepted before."""
        if self._vault.publisher is None:
            return
        await self._vault.committer.commit(sync=True)
        if self._options.published:
            await self._vault.publish()

    async def _settle(self) -> None:
        """After the last request: everything to disk, then to the suppliers."""
        if self._vault.publisher is None:
            return
        try:
            await self._vault.committer.commit(sync=True)
            if self._vault.read_only:
                return
            with trio.fail_after(LAST_PUBLISH):
                await self._vault.publish()
                await self._last_reclaim()
            if self._vault.uploader is not None:
                with trio.move_on_after(LAST_COPIES):
                    await self._vault.uploader.try_all()
        except (BitdustError, trio.TooSlowError) as error:
            self._end_message = (
                f"not everything could be published ({error or 'suppliers did not answer in time'});"
                " it is kept on this machine and will be published by the next mount here"
            )
            log.warning(self._end_message)

    async def _last_reclaim(self) -> None:
        """Gives back what died since the last look; what that changes is published, too."""
        vault = self._vault
        if vault.reclaimer is not None and vault.publisher is not None:
            with trio.move_on_after(LAST_RECLAIM):
                await vault.reclaimer.step(compact=False)
            if vault.publisher.due or vault.volume.tree.batch:
                await vault.publish()

    async def _wait_watchers(self) -> None:
        """Lets those who wait for the end hear of it."""
        with trio.move_on_after(2):
            await self._watchers_gone.wait()

    # -- control

    async def _control(self, request: control.Request, say: control.Say) -> dict[str, Any]:
        verb = request.get("verb")
        if verb == "status":
            return await self._status()
        if verb == "sync":
            return await self._sync(say)
        if verb == "suppliers":
            return {"suppliers": self._suppliers()}
        if verb == "replace":
            return await self._replace(request, say)
        if verb == "set":
            policy = {str(k): int(v) for k, v in dict(request.get("policy", {})).items()}
            await set_policy(self._vault, self._key, policy)
            return {"ok": True}
        if verb == "verify":
            return await self._verify(request, say)
        if verb == "wait-end":
            self._watchers += 1
            self._watchers_gone = trio.Event()
            try:
                await say({"waiting": True})
                await self._settled.wait()
                return {"ok": not self._end_message, "message": self._end_message}
            finally:
                self._watchers -= 1
                if not self._watchers:
                    self._watchers_gone.set()
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
                    "address": next(iter(member.addresses), ""),
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

    async def _replace_absent(self) -> None:
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
                    "address": member.addresses[0],
                    "state": "online" if health.reachable else "absent",
                    "damaged": health.damaged,
                    "audits": health.audits,
                    "audits_failed": health.audits_failed,
                    "last_error": health.last_error,
                }
            )
            if health.damaged:
                warnings.append(
                    f"supplier {member.node.hex()[:16]} at {member.addresses[0]} returned damaged "
                    f"data {health.damaged} times"
                )
            elif member in full:
                warnings.append(
                    f"supplier {member.node.hex()[:16]} at {member.addresses[0]} has much less room "
                    "left than the others"
                )
            elif health.audits_failed:
                warnings.append(
                    f"supplier {member.node.hex()[:16]} at {member.addresses[0]} lists fragments that "
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


async def _tell(ready: Callable[[str], None], message: str) -> None:
    ready(message)
