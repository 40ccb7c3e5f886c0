"""Room on this machine's disk: asked for often, and looked up as often as it may have changed."""

import os
from types import SimpleNamespace

import pytest

from bitdustfs.cache import diskroom
from bitdustfs.cache.diskroom import PLENTY, DiskRoom
from bitdustfs.units import GIB, MIB


@pytest.fixture
def disk(monkeypatch):
    """A disk of 100 GiB; `free` says how much is left, `asked` how often it was looked up."""
    disk = SimpleNamespace(free=50 * GIB, asked=0, now=1000.0)

    def statvfs(path):
        disk.asked += 1
        return SimpleNamespace(
            f_blocks=100 * GIB // 4096, f_frsize=4096, f_bavail=disk.free // 4096
        )

    monkeypatch.setattr(os, "statvfs", statvfs)
    monkeypatch.setattr(diskroom.time, "monotonic", lambda: disk.now)
    return disk


def test_every_write_asks_and_the_disk_is_looked_up_now_and_then(disk, tmp_path):
    room = DiskRoom(tmp_path)
    before = disk.asked
    for _ in range(1000):
        disk.now += 0.001
        assert not room.is_short(MIB)
    assert disk.asked - before <= 11


def test_a_disk_that_fills_is_noticed_at_once(disk, tmp_path):
    room = DiskRoom(tmp_path)
    assert not room.is_short(0)
    disk.free = room.low + PLENTY // 2  # less than plenty: from here on each call looks
    disk.now += 0.2
    assert not room.is_short(0)
    disk.free = room.low - 4096
    assert room.is_short(0)


def test_plenty_is_reckoned_beyond_what_is_owed(disk, tmp_path):
    room = DiskRoom(tmp_path)
    assert not room.is_short(0)
    assert room.is_short(disk.free)


def test_a_disk_with_room_and_its_reserve_is_at_rest(disk, tmp_path, monkeypatch):
    monkeypatch.setattr(diskroom, "RESERVE_MAX", MIB)
    room = DiskRoom(tmp_path)
    assert room.at_rest()
    disk.free = 0
    assert not room.at_rest()
    room.refresh()
    assert not (tmp_path / "reserve").exists()
    disk.free = 50 * GIB
    assert not room.at_rest()  # the reserve is to be taken again
    room.refresh()
    assert room.at_rest() and (tmp_path / "reserve").exists()
