"""Kills a mount at a named step or at a random time, and checks what the promises say is left.

Used by tests/t5_mount/test_crash.py (a few cycles) and scripts/crash (a hundred).
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from bitdustfs.failpoints import MOUNT_STEPS, MOUNT_WRITES

#: visits after which a kill at a point comes, at most; rare points have few
LATEST_VISIT = {
    "leaf-write": 2,
    "claimed": 1,
    "checkpoint-commit": 1,
    "checkpoint-committed": 1,
    "root-propose": 3,
    "root-proposed": 3,
    "root-accept": 3,
    "root-accepted": 3,
    "root-published": 3,
    "evict": 2,
    "evicted": 2,
    "condemn": 2,
    "condemned": 2,
    "death-told": 1,
}
#: steps that a cycle does not come by: a root of another machine, a change of the family, a
#: snapshot (t5_mount/test_real_snapshots.py)
ELSEWHERE = ("followed", "family-settle", "snapshot-mark", "snapshot-marked")
POINTS = tuple(point for point in (*MOUNT_WRITES, *MOUNT_STEPS) if point not in ELSEWHERE)


def content_of(name: str, version: int) -> bytes:
    """What a file holds: its size and bytes follow from name and version."""
    rng = random.Random(f"{name} {version}")
    size = rng.choice([30, 400, 5000, 70_000, 300_000, 2_000_000])
    head = json.dumps([name, version]).encode() + b"\n"
    return head + rng.randbytes(size)


class Worker(threading.Thread):
    """Mixed work on a mount until it fails. `sure`.

    What fsync made sure of, kept outside the mount.

    sure[name] = version: that version was fsynced, so this or a later one must be there.
    maybe[name] = the newest version that was begun (None: a removal): it may be there instead.
    """

    def __init__(self, folder: Path, seed: int, sure: dict, versions: dict) -> None:
        super().__init__(daemon=True)
        self.folder, self.rng = folder, random.Random(seed)
        self.sure, self.versions = sure, versions
        self.maybe: dict[str, list] = {}
        self.steps = 0
        self.stop = threading.Event()

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                self.step()
                self.steps += 1
        except OSError:
            pass  # the mount is dead, as was asked for

    def step(self) -> None:
        name = f"file{self.rng.randrange(40)}"
        path = self.folder / name
        action = self.rng.random()
        if action < 0.75:
            self.write(name, path)
        elif action < 0.9 and name in self.sure:
            self.remove(name, path)
        else:
            self.clutter()

    def write(self, name: str, path: Path) -> None:
        version = self.versions[name] = self.versions.get(name, 0) + 1
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            os.write(fd, content_of(name, version))
            os.fsync(fd)
        finally:
            os.close(fd)
        self.maybe.setdefault(name, []).append(version)
        os.rename(f"{path}.new", path)
        if self.rng.random() < 0.7:
            self.sync_folder()
            self.sure[name] = version
            self.maybe[name] = []

    def remove(self, name: str, path: Path) -> None:
        self.maybe.setdefault(name, []).append(None)
        path.unlink(missing_ok=True)
        self.sync_folder()
        self.sure[name] = None
        self.maybe[name] = []

    def clutter(self) -> None:
        """Work that nobody fsyncs: folders, large files, truncations."""
        folder = self.folder / f"clutter{self.rng.randrange(5)}"
        folder.mkdir(exist_ok=True)
        path = folder / f"x{self.rng.randrange(30)}"
        path.write_bytes(self.rng.randbytes(self.rng.choice([100, 600, 900_000])))
        if self.rng.random() < 0.3:
            os.truncate(path, self.rng.randrange(1_000_000))
        if self.rng.random() < 0.3:
            path.unlink()

    def sync_folder(self) -> None:
        fd = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def check(folder: Path, sure: dict, maybe: dict) -> dict:
    """Raises AssertionError unless everything sure is there, whole; what is there now."""
    found = {}
    for name in {*sure, *maybe}:
        path = folder / name
        allowed = [sure.get(name), *maybe.get(name, [])]
        if not path.exists():
            assert None in allowed, f"{name} is gone; one of {allowed} must be there"
            found[name] = None
            continue
        data = path.read_bytes()
        version = json.loads(data.split(b"\n", 1)[0])[1]
        assert version in allowed, f"{name} has version {version}, not one of {allowed}"
        assert data == content_of(name, version), f"{name} is not whole"
        found[name] = version
    return found


def tree_of(folder: Path) -> dict:
    """Every path with its size and a digest of its content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        found[str(path.relative_to(folder))] = (
            hash(path.read_bytes()) if path.is_file() else "folder"
        )
    return found


class Cycle:
    """Repeats: mount, work, kill, look. `world` is a World (world.py)."""

    def __init__(self, world, seed: int) -> None:
        self.world, self.rng = world, random.Random(seed)
        self.sure: dict = {}
        self.versions: dict = {}
        self.counted = self.idle = 0

    def run(self, point: str | None = None) -> str:
        """One kill, at a point or (None) at a random time; what happened, in a word."""
        plan = ""
        if point is not None:
            visit = self.rng.randrange(1, LATEST_VISIT.get(point, 12) + 1)
            plan = f"{point}=kill@{visit}"
        world = self.world
        world.mount("cache=16M", environment={"BITDUST_FAILPOINTS": plan}, check=False)
        pid = world.find_mount()
        if pid is None:  # it was killed while mounting, or right after
            world.detach()
            return self.look({})
        worker = Worker(world.mountpoint, self.rng.randrange(1 << 30), self.sure, self.versions)
        worker.start()
        deadline = time.monotonic() + self.rng.uniform(1.0, 6.0 if point is None else 12.0)
        while time.monotonic() < deadline and alive(pid):
            time.sleep(0.02)
        killed_itself = not alive(pid)
        if not killed_itself:
            os.kill(pid, signal.SIGKILL)
        worker.stop.set()  # before the dead mount goes: what lies under it is another disk
        worker.join(30)
        assert not worker.is_alive(), "a program hangs on a dead mount"
        world.detach()
        if worker.steps:
            self.counted += 1
        else:
            self.idle += 1
        word = self.look(worker.maybe)
        return f"{'at ' + plan if killed_itself and plan else 'at a random time'}, {word}"

    def look(self, maybe: dict) -> str:
        """Mounts again: fsynced work is there, the tree is sound; and all of it without the
        cache.
        """
        world = self.world
        world.mount("cache=16M")
        self.sure.update(check(world.mountpoint, self.sure, maybe))
        world.run("verify", world.mountpoint, "--local")
        local = tree_of(world.mountpoint)
        world.run("unmount", world.mountpoint)
        world.forget_cache()
        world.mount("cache=16M")
        assert tree_of(world.mountpoint) == local, "the suppliers have something else"
        world.run("unmount", world.mountpoint)
        return f"{len(local)} files and folders"


def alive(pid: int) -> bool:
    """Whether the process still runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def main() -> None:
    """scripts/crash [CYCLES] [SEED]"""
    import tempfile

    from world import World

    cycles = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 30)
    print(f"{cycles} kills, seed {seed}", flush=True)
    root = Path(tempfile.mkdtemp(prefix="bitdust-crash-"))
    world = World(root)
    try:
        world.start()
        world.create(space="1G")
        cycle = Cycle(world, seed)
        number = 0
        while cycle.counted < cycles:
            point = (
                POINTS[number % (2 * len(POINTS))]
                if number % (2 * len(POINTS)) < len(POINTS)
                else None
            )
            print(f"{cycle.counted:4d}  {cycle.run(point)}", flush=True)
            number += 1
        print(
            f"{cycle.counted} of {cycles} kills survived; {cycle.idle} with nothing dirty not "
            "counted"
        )
    finally:
        world.close()
        subprocess.run(["rm", "-rf", str(root)], check=False)


if __name__ == "__main__":
    main()
