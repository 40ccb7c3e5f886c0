"""Scenes of vaults alone: suppliers, other machines, many files, rebuilding, rest."""

import json
import time

from benchmarks import gauges
from benchmarks.running import run
from benchmarks.settings import GIB, MIB, Failed
from benchmarks.stage import Stage
from benchmarks.systems import python
from benchmarks.vault import Vault, cpu

CALM = 5.0  #: seconds from when all is delivered until a mount counts as idle
IDLE_SIZE = 64  #: MiB, at most, that an idle vault has
FILES_PER_SECOND = 100  #: that are made at least, when a vault is filled


class UnmountedVault(Vault):
    """A vault that is mounted nowhere yet."""

    def start(self) -> None:
        self.create()


def publish(stage: Stage) -> None:
    for size in sorted({stage.settings.big, *stage.settings.grow}):
        with stage.on(Vault) as vault:
            before = cpu(vault)
            figures = stage.work(vault, "publish", big=size)
            after, gib = cpu(vault), size * MIB / GIB
            stage.note("published", figures["rate"], size)
            stage.note("delivered", figures["delivered"], size)
            stage.note("publish-memory", gauges.usage(vault.pid()).peak, size)
            stage.note("publish-cpu", (after[0] - before[0]) / gib, size)
            stage.note("publish-cpu-suppliers", (after[1] - before[1]) / gib, size)


def far(stage: Stage) -> None:
    """Each figure on a machine of its own: what one has read is in its cache."""
    with stage.on(Vault) as vault:
        stage.work(vault, "write")
        vault.settle()
        positions = vault.positions()
        vault.unmount()
        if stage.wants("far-read", "far-cpu", "far-cpu-suppliers", "far-memory"):
            _move(vault, "read")
            before = cpu(vault)
            stage.note("far-read", stage.work(vault, "read-cold")["rate"])
            after, gib = cpu(vault), stage.settings.big * MIB / GIB
            stage.note("far-cpu", (after[0] - before[0]) / gib)
            stage.note("far-cpu-suppliers", (after[1] - before[1]) / gib)
            stage.note("far-memory", gauges.usage(vault.pid()).peak)
            vault.unmount()
        if stage.wants("far-random"):
            _move(vault, "random")
            stage.note("far-random", stage.work(vault, "random-read")["rate"])
            vault.unmount()
        # the first positions hold what is read where nobody is away: the most is to be decoded
        vault.stop_suppliers(positions[: stage.settings.n - stage.settings.k])
        if stage.wants("far-read-stopped"):
            _move(vault, "read-stopped")
            stage.note("far-read-stopped", stage.work(vault, "read-cold")["rate"])
            vault.unmount()
        if stage.wants("far-random-stopped"):
            _move(vault, "random-stopped")
            stage.note("far-random-stopped", stage.work(vault, "random-read")["rate"])


def _move(vault: Vault, machine: str) -> None:
    vault.move(machine)
    vault.mount()


def small(stage: Stage) -> None:
    count = stage.settings.small
    with stage.on(Vault) as vault:
        figures = stage.work(vault, "create-published", files=count)
        stage.note("small-create", figures["created"])
        stage.note("small-published", figures["seconds"])
        vault.unmount()
        vault.move("second")
        words = json.dumps([*map(str, vault.command(*vault.mount_words()))])
        figures = stage.work(vault, "mount-and-list", stdin=words)
        stage.note("small-mount-ls", figures["seconds"])
        stage.note("small-read", stage.work(vault, "read-small", files=count)["rate"])


def many(stage: Stage) -> None:
    """All rounds of one size in one vault: it takes long to make."""
    for count in stage.settings.many:
        with stage.on(UnmountedVault) as vault:
            limit = stage.settings.limit + count / FILES_PER_SECOND
            words = [*python("benchmarks.populate"), count, vault.addresses()[0]]
            run(words, limit, env=vault.environment)
            for number in range(stage.settings.rounds):
                _look_at_many(stage, vault, number, count)


def _look_at_many(stage: Stage, vault: Vault, number: int, count: int) -> None:
    vault.move(f"machine-{number}")
    words = json.dumps([*map(str, vault.command(*vault.mount_words()))])
    figures = stage.work(vault, "mount-and-list", stdin=words)
    stage.note("many-mount-ls", figures["seconds"], count)
    stage.note("many-ls", stage.work(vault, "list-one")["ms"], count)
    if stage.wants("many-find", "many-memory"):
        limit = stage.settings.limit + count / FILES_PER_SECOND
        stage.note("many-find", stage.work(vault, "find", files=count, limit=limit)["rate"], count)
        stage.note("many-memory", gauges.usage(vault.pid()).memory, count)
    vault.unmount()


def rebuild(stage: Stage) -> None:
    """A supplier is killed and its store deleted; another one, that runs already, is to follow."""
    with stage.on(Vault) as vault:
        stage.work(vault, "write")
        vault.settle()
        vault.run_suppliers(stage.settings.n + 2)
        if stage.wants("rebuild-local"):
            stage.note("rebuild-local", _replace_one(vault, stage.settings.n))
        if stage.wants("rebuild", "rebuild-memory"):
            vault.unmount()
            _move(vault, "second")
            stage.note("rebuild", _replace_one(vault, stage.settings.n + 1))
            stage.note("rebuild-memory", gauges.usage(vault.pid()).peak)


def _replace_one(vault: Vault, newcomer: int) -> float:
    """MB/s at which the fragments of some supplier are made again by supplier `newcomer`."""
    positions = vault.positions()
    others = {*positions} - {0}  # that one is joined by
    if not others:
        raise Failed("rebuilding takes two suppliers")
    lost = min(others)
    position, kept = positions.index(lost), vault.stored_by(lost)
    vault.lose_supplier(lost)
    began = time.perf_counter()
    address = vault.addresses()[newcomer]
    vault.bitdust("supplier", "replace", vault.mountpoint, position, "--with", address)
    return kept / (time.perf_counter() - began) / 1e6


def idle(stage: Stage) -> None:
    seconds = stage.settings.idle
    with stage.on(Vault) as vault:
        stage.work(vault, "write", big=min(IDLE_SIZE, stage.settings.big))
        vault.settle()
        time.sleep(CALM)
        mount, suppliers = vault.pid(), vault.supplier_pids()
        before = {pid: gauges.usage(pid) for pid in (mount, *suppliers)}
        carried, wakeups = gauges.packets(), gauges.Wakeups([*before])
        for _ in range(seconds):
            time.sleep(1)
            wakeups.look()
        after = {pid: gauges.usage(pid) for pid in before}
        carried_then = gauges.packets()
    stage.note("idle-packets", (carried_then[0] - carried[0]) / seconds)
    stage.note("idle-traffic", (carried_then[1] - carried[1]) / seconds)
    for suffix, pids in (("", [mount]), ("-supplier", suppliers)):
        share = 1 / len(pids)
        cpu_seconds = sum(after[pid].cpu - before[pid].cpu for pid in pids)
        woken = sum(wakeups.counts[pid] for pid in pids)
        written = sum(after[pid].written - before[pid].written for pid in pids)
        stage.note(f"idle-cpu{suffix}", 100 * cpu_seconds / seconds * share)
        stage.note(f"idle-wakeups{suffix}", woken / seconds * share)
        stage.note(f"idle-written{suffix}", written / 1024 * share)
