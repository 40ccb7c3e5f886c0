"""Our own file system for scenes: suppliers on this machine, a vault, and machines that mount it.

A *machine* is a BITDUST_HOME of its own: another one knows nothing, and has nothing cached.
"""

import json
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import gauges, janitor
from benchmarks.running import end_process, environment, run
from benchmarks.settings import GIB, MIB, Failed, Settings
from benchmarks.systems import System, python

SPACE_MIN = 4 * GIB  #: of a vault
TICK = 0.1  #: seconds between looks whether all is delivered


class Vault(System):
    """A vault of `settings.n` suppliers of its own, mounted on machine "first"."""

    name, title = "bitdustfs", "bitdustfs"

    def __init__(self, folder: Path, settings: Settings) -> None:
        super().__init__(folder, settings)
        self._swarm = folder / "swarm"
        self._home = folder / "first"
        self._words = ""

    @classmethod
    def version(cls) -> str:
        return run([*python("bitdustfs.cli.main"), "--version"], 30).strip()

    # -- commands

    def command(self, *words: object) -> list[object]:
        """One of ours, as words to be run."""
        return [*python("bitdustfs.cli.main"), *words]

    def bitdust(self, *words: object, stdin: str | None = None) -> str:
        """What a command of ours prints, on the machine at hand. Raises Failed."""
        env = environment(self._home)
        return run(self.command(*words), self.settings.limit, env=env, stdin=stdin)

    @property
    def environment(self) -> dict[str, str]:
        """Of the machine at hand."""
        return environment(self._home)

    # -- as a system

    def start(self) -> None:
        self.create()
        self.mount()

    def create(self) -> None:
        """Suppliers, and a vault that is mounted nowhere yet."""
        self.mountpoint.mkdir(parents=True)
        sizes = (self.settings.big, self.settings.busy, *self.settings.grow)
        space = max(SPACE_MIN, 4 * max(sizes) * MIB)
        self._space = f"{space // GIB}G"
        self.run_suppliers(self.settings.n)
        code = f"{self.settings.k}/{self.settings.n}"
        joining = ["--bootstrap", self.addresses()[0]]
        self.bitdust("vault", "create", "--ecc", code, "--space", self._space, *joining)
        self._words = self.bitdust("key", "words")

    def settle(self) -> None:
        """Published, and every supplier has its fragments."""
        self.bitdust("sync", self.mountpoint)
        give_up = time.monotonic() + self.settings.limit
        while self._status()["owed_blocks"]:
            if time.monotonic() > give_up:
                raise Failed("some supplier still lacks blocks")
            time.sleep(TICK)

    def close(self) -> None:
        for place in janitor.mounts_under(self.folder):
            janitor.detach(place)
        for pid in janitor.processes_under(self.folder):
            end_process(pid, signal.SIGKILL)

    # -- machines and mounts

    def mount(self) -> None:
        self.bitdust(*self.mount_words())

    def mount_words(self) -> list[object]:
        """The words of the command that mounts."""
        known = self._address_of_one()
        return ["mount", self.mountpoint, "-o", f"bootstrap={known}"]

    def unmount(self) -> None:
        """Publishes first."""
        self.bitdust("unmount", self.mountpoint)

    def move(self, machine: str) -> None:
        """Another machine is at hand, with the key and nothing else."""
        self._home = self.folder / machine
        self.bitdust("key", "restore", stdin=self._words)

    def pid(self) -> int:
        """Of the mount."""
        place = os.fsencode(self.mountpoint)
        for pid in janitor.processes_under(self.mountpoint):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"mount" in words and place in words:
                return pid
        raise Failed("the mount's process is gone")

    def _status(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.bitdust("status", self.mountpoint, "--json"))
        return said

    # -- suppliers

    def run_suppliers(self, count: int) -> None:
        """Starts those of the first `count` that do not run."""
        words = ["--suppliers", count, "--space", f"{2 * int(self._space[:-1])}G"]
        self.bitdust("swarm", self._swarm, *words)

    def addresses(self) -> list[str]:
        return (self._swarm / "addresses").read_text().split()

    def supplier_pids(self) -> list[int]:
        """Of those that run."""
        return [pid for pid in map(self._supplier_pid, range(len(self.addresses()))) if pid]

    def _supplier_pid(self, number: int) -> int:
        pid = int((self._home_of(number) / "pid").read_text().split()[0])
        return pid if pid in janitor.processes_under(self._swarm) else 0

    def _home_of(self, number: int) -> Path:
        return self._swarm / f"supplier-{number}"

    def _address_of_one(self) -> str:
        """Of a supplier that runs."""
        for number, address in enumerate(self.addresses()):
            if self._supplier_pid(number):
                return address
        raise Failed("no supplier runs")

    def positions(self) -> list[int]:
        """The numbers of the suppliers, by position. A mount has to be there."""
        rows = json.loads(self.bitdust("suppliers", self.mountpoint, "--json"))
        return [self.addresses().index(row["address"]) for row in rows]

    def stop_suppliers(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            pid = self._supplier_pid(number)
            if pid:
                end_process(pid, signal.SIGTERM)

    def lose_supplier(self, number: int) -> None:
        """Kills it; what it had is gone."""
        pid = self._supplier_pid(number)
        if pid:
            end_process(pid, signal.SIGKILL)
        run(["rm", "-rf", "--", self._home_of(number) / "store"], self.settings.limit)

    def stored_by(self, number: int) -> int:
        """Bytes of fragments on a supplier's disk."""
        store = self._home_of(number) / "store"
        files = (path for path in store.rglob("*") if path.is_file() and path.suffix != ".mdb")
        return sum(path.stat().st_size for path in files)


def cpu(vault: Vault) -> tuple[float, float]:
    """Processor seconds of the mount, and of all suppliers that run."""
    return gauges.usage(vault.pid()).cpu, gauges.processor_of(vault.supplier_pids())
