"""Full and failing disks.

A clean errno, nothing committed lost, and all is well once there is room.
"""

import errno
import os
import threading
from contextlib import suppress

import pytest
from machine import PowerCut
from scenario import QUIET, forget_leaves, read_file, write_file

from bitdustfs import failpoints
from bitdustfs.cache.folder import local_error
from bitdustfs.errors import DiskFull, FsError, LocalError
from bitdustfs.fuse.errno_table import errno_of
from bitdustfs.net import wire
from bitdustfs.units import MIB


@pytest.fixture(autouse=True)
def heal():
    yield
    failpoints.plan = None


def failing(text):
    failpoints.plan = failpoints.FaultPlan(text)


@pytest.mark.parametrize("action", ["enospc", "eio"])
@pytest.mark.parametrize("point", failpoints.MOUNT_WRITES)
async def test_promise_4_a_disk_that_fails_at_any_write_loses_nothing_committed(
    net, tmp_path, point, action
):
    content = os.urandom(2 * MIB)
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await write_file(vault, b"before", content)
        await vault.committer.commit(sync=True)
        await write_file(vault, b"during", content)
        failing(f"{point}={action}@1+")
        codes = set()
        for _ in range(3):
            try:
                await vault.committer.commit(sync=True)
                await vault.publish()
            except (LocalError, FsError) as error:
                codes.add(errno_of(error))
                assert isinstance(error, DiskFull) == (action == "enospc")
        assert codes == {getattr(errno, action.upper())}
        assert await read_file(vault, b"before") == content
        assert await read_file(vault, b"during") == content
        failpoints.plan = None  # there is room again
        await write_file(vault, b"after", content)
        await vault.committer.commit(sync=True)
        await vault.publish()
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        for name in (b"before", b"during", b"after"):
            assert await read_file(vault, name) == content


@pytest.mark.parametrize("point", failpoints.MOUNT_WRITES)
async def test_promise_3_a_machine_that_stops_while_its_disk_fails_has_the_last_commit(
    net, tmp_path, point
):
    content = os.urandom(MIB)
    with pytest.RaisesGroup(pytest.RaisesExc(PowerCut)):
        async with net.mount(tmp_path / "one", make_root=True) as vault:
            await write_file(vault, b"kept", content)
            await vault.committer.commit(sync=True)
            failing(f"{point}=enospc@1+")
            await write_file(vault, b"never committed", content)
            with pytest.raises(LocalError):
                await vault.committer.commit(sync=True)
                await vault.publish()
            raise PowerCut from None
    failpoints.plan = None
    async with net.mount(tmp_path / "one") as vault:
        assert await read_file(vault, b"kept") == content
        await vault.publish()


@pytest.mark.parametrize("step", ["append", "close"])
async def test_promise_3_a_block_closed_just_before_the_disk_was_full_is_uploaded(
    net, tmp_path, step
):
    data = os.urandom(20 * MIB if step == "append" else 100_000)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await vault.publish()
        real = vault.writer._create if step == "append" else vault.writer._close
        calls = 0

        def fails_once(what):
            nonlocal calls
            calls += 1
            if calls == 2:
                raise local_error(OSError(errno.ENOSPC, "full"))
            return real(what)

        setattr(vault.writer, "_create" if step == "append" else "_close", fails_once)
        inode = await write_file(vault, b"big", b"")
        for at in range(0, len(data), 100_000):
            for _ in range(2):
                try:
                    await vault.content.write(inode, at, data[at : at + 100_000])
                    break
                except DiskFull:
                    continue
        for _ in range(3):
            try:
                await vault.publish()
                break
            except DiskFull:
                continue
        assert not vault.publisher.due
    async with net.mount(tmp_path / "two", machine=b"n" * 16, **QUIET) as vault:
        assert await read_file(vault, b"big") == data


async def test_promise_4_a_full_disk_refuses_and_memory_does_not_fill(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        inode = await write_file(vault, b"file", b"")

        def full(*what):
            raise local_error(OSError(errno.ENOSPC, "full"))

        vault.writer._append = full
        refused = 0
        for number in range(64):
            try:
                await vault.content.write(inode, number * MIB, bytes(MIB))
            except DiskFull:
                refused += 1
        assert refused > 30 and vault.content.dirty < 32 * MIB
        del vault.writer._append


async def test_a_bad_sector_in_a_local_copy_is_read_from_the_suppliers(net, tmp_path):
    data = os.urandom(300_000)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"file", data)
        await vault.publish()
        await vault.courier.try_all()
        forget_leaves(vault, tmp_path / "one")
        pread = os.pread

        def bad(fd, length, offset):
            if "/blocks/" in os.readlink(f"/proc/self/fd/{fd}"):
                raise OSError(errno.EIO, "Input/output error")
            return pread(fd, length, offset)

        os.pread = bad
        try:
            assert await read_file(vault, b"file") == data
        finally:
            os.pread = pread


async def test_lmdb_errors_are_ours(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        import lmdb

        class Broken:
            def sync(self, force):
                raise lmdb.Error("mdb_env_sync: Input/output error")

        database = vault.state._database
        env, database._env = database._env, Broken()
        with pytest.raises(LocalError):
            vault.state.sync()
        database._env = env


async def test_promise_3_no_fragment_leaves_before_its_header_is_durable_here(net, tmp_path):
    """Else a power cut could make a second header for one block."""
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        database, signing, failed = vault.state._database, threading.local(), []
        change, sync = vault.state.blocks.change, database._sync

        def change_of(block, what):
            signing.now = getattr(what, "__name__", "") == "signed"
            try:
                return change(block, what)
            finally:
                signing.now = False

        def fails_once():
            if getattr(signing, "now", False) and not failed:
                failed.append(True)
                database._unsure = True
                raise OSError(errno.EIO, "Input/output error")
            sync()
            failed[:] = [False] * len(failed)

        vault.state.blocks.change, database._sync = change_of, fails_once
        lost = []  # at each put: whether a power cut would lose the header
        for supplier in net.suppliers:

            async def call(request, payload=b"", call=supplier.call):
                if isinstance(request, wire.Put):
                    lost.append(any(failed))
                return await call(request, payload)

            supplier.call = call
        await write_file(vault, b"file", os.urandom(100_000))
        for _ in range(3):
            with suppress(LocalError):  # where the courier met it while somebody waited
                await vault.publish()
        assert not vault.publisher.due
        assert failed and lost and not any(lost)
