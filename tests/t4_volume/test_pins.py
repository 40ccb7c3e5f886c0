"""What is pinned stays on this machine: through eviction, compaction, renames and new files."""

import errno
import os
import random

import pytest
import trio
from machine import CALLER
from scenario import QUIET, forget_leaves, read_file, unlink, write_file

from bitdustfs.cache.rows import CLOSED
from bitdustfs.core.items import ROOT_INODE
from bitdustfs.errors import FsError, Unavailable, UsageError
from bitdustfs.fs.past import PAST
from bitdustfs.units import MIB
from bitdustfs.vault import pinning
from bitdustfs.vault.pinning import PIN

A = random.Random(1).randbytes(MIB)


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(pinning, "REST_LEAST", 0.0)
    monkeypatch.setattr(pinning, "AGAIN", 0.1)


async def folder_of(vault, name, folder=ROOT_INODE):
    found = await vault.volume.lookup(folder, name)
    if found is None:
        found = await vault.volume.create(folder, name, 0o40755, CALLER)
    return found.inode


async def filled(net, home):
    """A folder to be pinned with a folder in it, and another one beside it."""
    async with net.mount(home, make_root=True, **QUIET) as vault:
        pinned, other = await folder_of(vault, b"pinned"), await folder_of(vault, b"other")
        inside = await folder_of(vault, b"inside", pinned)
        await write_file(vault, b"a", A, pinned)
        await write_file(vault, b"b", os.urandom(MIB), inside)
        await write_file(vault, b"c", b"c" * MIB, other)
        await write_file(vault, b"small", b"s" * 100, inside)
        await vault.publish()
        await vault.courier.try_all()


async def pin(vault, inode, path=b"pinned"):
    await vault.pinning.add(inode, path)
    return await all_here(vault)


async def all_here(vault):
    with trio.fail_after(30):
        while True:
            [(_, figures)] = vault.pinning.rows()
            if figures.files and figures.all_here:
                return figures
            await vault.pinning.wait_settled()


async def evict(vault):
    """Everything that may go."""
    census = await vault.auditor.recent(0)
    await vault.eviction.evict(census.holders, vault.published_seq())


def off(net):
    for supplier in net.suppliers:
        supplier.break_()


async def test_what_is_pinned_on_another_machine_is_read_without_suppliers(net, tmp_path):
    await filled(net, tmp_path / "one")
    home = tmp_path / "two"
    async with net.mount(home, machine=b"n" * 16, **QUIET) as vault:
        pinned = await folder_of(vault, b"pinned")
        figures = await pin(vault, pinned)
        assert (figures.files, figures.files_here) == (5, 5)
        assert figures.size == figures.size_here == 2 * MIB + 100
        with pytest.raises(FsError) as caught:
            await vault.xattrs.get(ROOT_INODE, PIN)
        assert caught.value.errno == errno.ENODATA
        assert await vault.xattrs.get(pinned, PIN) == b"pinned"
        inside = await folder_of(vault, b"inside", pinned)
        assert await vault.xattrs.get(inside, PIN) == b"below"
    for file in home.rglob("fetched/*"):
        file.unlink()
    off(net)
    async with net.mount(home, machine=b"n" * 16, **QUIET) as vault:
        assert await read_file(vault, b"a", pinned) == A
        names = [entry.name for entry in await vault.volume.readdir(inside, 2, 10)]
        assert sorted(names) == [b"b", b"small"]
        assert len(await read_file(vault, b"b", inside)) == MIB
        await write_file(vault, b"new", b"n" * MIB, inside)
        assert vault.offline.said.startswith("offline: ")
        with pytest.raises(Unavailable):
            await read_file(vault, b"c", await folder_of(vault, b"other"))


async def test_promise_4_eviction_never_takes_what_is_pinned(net, tmp_path):
    await filled(net, tmp_path / "one")
    async with net.mount(tmp_path / "one", **QUIET) as vault:
        await vault.publish(again=True)  # else what was born for the last root stays anyhow
        vault.set_limits(1, 100 * MIB)
        pinned = await folder_of(vault, b"pinned")
        await vault.pinning.add(pinned, b"pinned")
        await evict(vault)  # before anybody looked what is pinned
        assert all(row.local for row in data_of(vault))
        await all_here(vault)
        await evict(vault)
        assert all(row.local for row in data_of(vault))
        await vault.pinning.drop(pinned)
        await vault.pinning.wait_settled()
        await evict(vault)
        assert not any(row.local for row in data_of(vault))


def data_of(vault):
    blocks = vault.state.blocks
    rows = [blocks.get(block) for block in blocks.in_state(CLOSED)]
    return [row for row in rows if not row.meta]


async def test_promise_4_what_is_moved_by_compaction_or_written_anew_stays_pinned(net, tmp_path):
    await filled(net, tmp_path / "one")
    async with net.mount(tmp_path / "one", **QUIET) as vault:
        pinned, other = await folder_of(vault, b"pinned"), await folder_of(vault, b"other")
        await pin(vault, pinned)
        [block] = {
            b for b in vault.state.blocks.in_state(CLOSED) if not vault.state.blocks.get(b).meta
        }
        await write_file(vault, b"d", os.urandom(MIB), other)
        await vault.reclaimer._compactor._empty(block)  # into the block that is open
        await write_file(vault, b"late", os.urandom(MIB), pinned)
        await vault.publish()
        await vault.courier.try_all()
        vault.set_limits(1, 100 * MIB)
        await evict(vault)
        await all_here(vault)
        await evict(vault)
        forget_leaves(vault, tmp_path / "one")
        off(net)
        assert await read_file(vault, b"a", pinned) == A
        assert len(await read_file(vault, b"late", pinned)) == MIB


async def test_a_pin_follows_the_inode_and_what_comes_and_goes_below_it(net, tmp_path):
    await filled(net, tmp_path / "one")
    async with net.mount(tmp_path / "two", machine=b"n" * 16, **QUIET) as vault:
        pinned, other = await folder_of(vault, b"pinned"), await folder_of(vault, b"other")
        before = await pin(vault, pinned)
        await vault.volume.rename(ROOT_INODE, b"pinned", other, b"moved", 0, CALLER)
        await vault.volume.rename(other, b"c", pinned, b"c", 0, CALLER)
        figures = await grown(vault, before.files + 1)
        assert figures.size == before.size + MIB
        found = await vault.volume.lookup(pinned, b"c")
        await vault.volume.link(found.inode, pinned, b"c again")  # counts once
        await vault.volume.link(found.inode, ROOT_INODE, b"c elsewhere")
        for name in (b"c", b"c again"):
            await vault.volume.unlink(pinned, name)
        await grown(vault, before.files)
        assert await vault.pinning.drop(pinned)
        assert not await vault.pinning.drop(pinned)
        await vault.pinning.wait_settled()
        assert not list(tmp_path.joinpath("two").rglob("pinned/*"))


async def grown(vault, files):
    """The figures once so many files and folders are pinned, and here."""
    with trio.fail_after(30):
        while True:
            [(_, figures)] = vault.pinning.rows()
            if figures.files == figures.files_here == files:
                return figures
            await vault.pinning.wait_settled()


async def test_more_than_the_cache_has_room_for_is_refused_or_left_out_and_said(net, tmp_path):
    await filled(net, tmp_path / "one")
    home = tmp_path / "two"
    async with net.mount(home, machine=b"n" * 16, cache_limit=2 * MIB, **QUIET) as vault:
        pinned = await folder_of(vault, b"pinned")
        with pytest.raises(UsageError, match="larger cache=SIZE"):
            await vault.pinning.measure(pinned)
        await vault.pinning.add(pinned, b"pinned")
        await vault.pinning.wait_settled()
        assert "larger cache=SIZE" in vault.pinning.why
        held = sum(file.stat().st_blocks * 512 for file in home.rglob("pinned/*"))
        assert 0 < held <= vault.pinning.room + MIB // 8


async def test_what_a_snapshot_keeps_and_what_is_not_there_cannot_be_pinned(net, tmp_path):
    await filled(net, tmp_path / "one")
    async with net.mount(tmp_path / "one", **QUIET) as vault:
        for inode in (PAST, PAST + 5, 123_456):
            with pytest.raises(UsageError):
                await vault.pinning.add(inode, b"")


async def test_after_a_crash_every_byte_is_looked_at_and_torn_ones_come_again(net, tmp_path):
    await filled(net, tmp_path / "one")
    home = tmp_path / "two"
    async with net.mount(home, machine=b"n" * 16, **QUIET) as vault:
        pinned = await folder_of(vault, b"pinned")
        await pin(vault, pinned)
        vault.pinning._pins.begin()  # as if it did not come to its end
        vault.pinning._pins.end = lambda: None
    for file in home.rglob("pinned/*"):
        torn = bytearray(file.read_bytes())
        at = len(torn) // 2
        file.write_bytes(torn[:at] + bytes(4096) + torn[at + 4096 :])
    async with net.mount(home, machine=b"n" * 16, **QUIET) as vault:
        await vault.pinning.wait_settled()
        await all_here(vault)
        off(net)
        forget_leaves(vault, home)
        assert await read_file(vault, b"a", pinned) == A
        assert len(await read_file(vault, b"b", await folder_of(vault, b"inside", pinned))) == MIB


async def test_a_pinned_file_that_is_deleted_is_pinned_no_more_and_frees_its_space(net, tmp_path):
    await filled(net, tmp_path / "one")
    async with net.mount(tmp_path / "two", machine=b"n" * 16, **QUIET) as vault:
        inode = await write_file(vault, b"file", os.urandom(MIB))
        await pin(vault, inode, b"file")
        await unlink(vault, b"file")
        with trio.fail_after(30):
            while vault.pinning.rows()[0][1].files:
                await vault.pinning.wait_settled()
