"""Power loss: what was not synced is forgotten, promises 2 and 3 hold.

The shim remembers, for every file of the cache, what a sync made sure of: length of block files at
their last fdatasync, names at the last fsync of their folder, the state's data file at its last
sync. Losing power puts all back to that, with noise where unsynced bytes were.
"""

import os
import random
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from machine import PowerCut
from scenario import read_file, write_file

from bitdustfs.cache import blockfiles
from bitdustfs.cache.database import Database
from bitdustfs.core.items import ROOT_INODE
from bitdustfs.units import KIB
from bitdustfs.vault.verify import verify


class Disk:
    """The shim over one machine's folder `home`."""

    def __init__(self, home: Path, monkeypatch) -> None:
        self.home = home
        self.lengths: dict[Path, int] = {}
        self.names: dict[Path, set[str]] = {}
        self.state = b""
        fdatasync, write, sync = os.fdatasync, Database.write, Database.sync
        fsync_folder = blockfiles.fsync_folder

        def watched_fdatasync(fd):
            fdatasync(fd)
            path = Path(os.readlink(f"/proc/self/fd/{fd}"))
            self.lengths[path] = os.fstat(fd).st_size

        def watched_fsync_folder(path):
            fsync_folder(path)
            self.names[path] = set(os.listdir(path))

        @contextmanager
        def watched_write(state, sync):
            with write(state, sync) as txn:
                yield txn
            if sync:
                self.take_state()

        def watched_sync(state):
            sync(state)
            self.take_state()

        monkeypatch.setattr(os, "fdatasync", watched_fdatasync)
        monkeypatch.setattr(blockfiles, "fsync_folder", watched_fsync_folder)
        monkeypatch.setattr(Database, "write", watched_write)
        monkeypatch.setattr(Database, "sync", watched_sync)

    def take_state(self) -> None:
        [path] = self.home.rglob("data.mdb")  # locked by its process: one writer at a time
        self.state = path.read_bytes()

    def lose_power(self, rng: random.Random) -> None:
        """Forgets what was not synced."""
        [path] = self.home.rglob("data.mdb")
        path.write_bytes(self.state)
        (path.parent / "lock.mdb").unlink()
        for file in self.home.glob("vaults/*/blocks/*"):
            if file.name not in self.names.get(file.parent, set()):
                file.unlink()
                continue
            synced = self.lengths.get(file, 0)
            unsynced = file.stat().st_size - synced
            os.truncate(file, synced)
            with open(file, "ab") as tail:
                tail.write(rng.randbytes(rng.randrange(unsynced + 1)))


async def test_promise_2_at_most_a_second_of_work_is_at_risk(net, tmp_path, monkeypatch):
    """Nobody called fsync, and the power goes. In real time, since threads take it."""
    home = tmp_path / "one"
    disk = Disk(home, monkeypatch)
    rng = random.Random(0)
    files = {b"%d" % number: rng.randbytes(50_000) for number in range(20)}
    with pytest.RaisesGroup(pytest.RaisesExc(PowerCut)):
        async with net.mount(home, make_root=True, take_over=True) as vault:
            await trio.sleep(0.7)
            for name, content in files.items():
                await write_file(vault, name, content)
                await trio.sleep(0.03)
            await trio.sleep(1)
            raise PowerCut from None
    disk.lose_power(rng)
    async with net.mount(home, take_over=True) as vault:
        for name, content in files.items():
            assert await read_file(vault, name) == content


async def silent(what, done, total):
    """Nobody watches."""


@pytest.mark.parametrize("seed", range(6))
async def test_promise_2_and_3_hold_after_power_loss(net, tmp_path, monkeypatch, seed):
    rng = random.Random(seed)
    home = tmp_path / "one"
    disk = Disk(home, monkeypatch)
    sure: dict[bytes, bytes] = {}
    for life in range(3):
        began: dict[bytes, list[bytes]] = {}
        with pytest.RaisesGroup(pytest.RaisesExc(PowerCut)):
            async with net.mount(home, make_root=not life, take_over=True) as vault:
                for _ in range(rng.randrange(5, 40)):
                    name = b"file %d" % rng.randrange(6)
                    content = rng.randbytes(rng.choice([100, 5 * KIB, 400 * KIB, 3000 * KIB]))
                    inode = await write_file(vault, name, content)
                    await vault.content.truncate(inode, len(content))
                    began.setdefault(name, []).append(content)
                    action = rng.random()
                    if action < 0.3:
                        await vault.committer.commit(sync=True)
                        sure.update({n: versions[-1] for n, versions in began.items()})
                        began.clear()
                    elif action < 0.6:
                        await vault.committer.commit(sync=False)
                    elif action < 0.7:
                        await vault.publish()
                        sure.update({n: versions[-1] for n, versions in began.items()})
                        began.clear()
                raise PowerCut from None
        disk.lose_power(rng)
        async with net.mount(home, take_over=True) as vault:
            assert not vault.read_only, vault.message
            assert (await verify(vault, True, 0.0, silent)).faults == []
            for name, content in sure.items():
                if name not in began:
                    assert await read_file(vault, name) == content
            there = await vault.volume.readdir(ROOT_INODE, 2, 100)
            sure = {entry.name: await read_file(vault, entry.name) for entry in there}
    async with net.mount(tmp_path / "two", machine=b"n" * 16, take_over=True) as vault:
        assert (await verify(vault, False, 1.0, silent)).faults == []
