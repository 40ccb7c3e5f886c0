"""What may fail, or come in between, at each step of sealing, committing, publishing and
deleting.
"""

import os
import threading
import time

import pytest
import trio
from scenario import QUIET, checkpoint, forget_leaves, read_file, unlink, write_file

from bitdustfs.blocks.space import Want
from bitdustfs.cache.rows import DEAD
from bitdustfs.core import leaves
from bitdustfs.core.items import ROOT_INODE
from bitdustfs.errors import FsError, Malformed, Unavailable
from bitdustfs.fs import content
from bitdustfs.units import MIB

DISK = 20  #: seconds that a slow disk takes at most
LACKS = Want(lambda: 1, lambda: 1)  #: what a writer lacks whom nothing helps


async def test_promise_3_no_block_dies_for_a_commit_that_is_still_on_its_way_to_disk(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"file", os.urandom(3 * MIB))
        await vault.publish()
        await write_file(vault, b"other", b"x" * 100)
        await vault.publish()
        await vault.courier.try_all()
        await vault.reclaimer.step()
        await unlink(vault, b"file")
        sync_open = vault.writer.sync_open

        def slowly():
            time.sleep(0.5)  # in its thread: a slow disk
            sync_open()

        vault.writer.sync_open = slowly
        async with trio.open_nursery() as nursery:
            nursery.start_soon(vault.committer.commit, True)
            await trio.sleep(0.1)
            await vault.reclaimer.step()
            assert not [b for b, row in vault.state.blocks.snapshot().items() if row.state == DEAD]
            assert not any("Kill" in supplier.calls for supplier in net.suppliers)


async def test_promise_3_a_block_that_the_next_root_needs_is_not_dead_before_it(net, tmp_path):
    """A large xattr opens a metadata block while a root is under way.

    The next journal goes there, too.
    """
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        inode = await write_file(vault, b"photo", b"y" * 100)
        await checkpoint(vault)
        await vault.reclaimer.step()
        xattrs = vault.xattrs
        for supplier in net.suppliers:
            supplier.slow_(0.3)
        await write_file(vault, b"other", b"x" * 100)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(vault.publish)
            await trio.sleep(0.5)
            await xattrs.set(inode, b"user.thumbnail", os.urandom(20_000))
        await xattrs.remove(inode, b"user.thumbnail")
        await write_file(vault, b"important", b"z" * 100)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(vault.publish)
            await trio.sleep(0.5)
            await vault.reclaimer.step()
        await vault.reclaimer.step()
        journal = {ref.place.block for ref in vault.publisher.published.journal}
        assert journal and not journal & vault.reclaimer._condemned


async def test_promise_3_what_a_root_needs_is_that_of_the_root_published_by_then(net, tmp_path):
    """Walking the leaves takes its time, and roots go on meanwhile."""
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"file", b"x" * 100)
        await checkpoint(vault)
        nodes = vault.volume.tree.nodes

        async def slowly():
            found = await nodes()
            for number in range(2):
                await write_file(vault, b"meanwhile %d" % number, b"y" * 100)
                await vault.publish()
            return found

        vault.volume.tree.nodes = slowly
        for _ in range(3):
            await vault.reclaimer.step()
            await vault.publish()
        journal = {ref.place.block for ref in vault.publisher.published.journal}
        assert journal and not journal & vault.reclaimer._condemned


async def test_promise_4_what_was_taken_to_be_sealed_is_not_forgotten_when_a_leaf_is_missing(
    net, tmp_path
):
    data = os.urandom(300_000)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"small", b"a" * 100)
        await write_file(vault, b"big", b"b" * 100_000)
        await checkpoint(vault)
    async with net.mount(tmp_path / "two", machine=b"n" * 16, **QUIET) as vault:
        await write_file(vault, b"big", data)
        await write_file(vault, b"small", b"c" * 100)
        forget_leaves(vault, tmp_path / "two")
        for supplier in net.suppliers:
            supplier.break_()
        with pytest.raises(Unavailable):
            await vault.committer.commit(sync=True)
        assert vault.content.dirty >= len(data)
        for supplier in net.suppliers:
            supplier.heal()
        await trio.sleep(2)  # until they are asked again
        await vault.publish()
    async with net.mount(tmp_path / "three", machine=b"o" * 16, **QUIET) as vault:
        assert await read_file(vault, b"big") == data


async def test_promise_4_a_leaf_that_nobody_gives_just_now_does_not_end_the_mount(net, tmp_path):
    usual = leaves.LEAF_TARGET, leaves.LEAF_SPLIT
    leaves.LEAF_TARGET, leaves.LEAF_SPLIT = 2048, 3072  # so that a small file has many leaves
    try:
        async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
            await write_file(vault, b"disk.img", os.urandom(32 * MIB))
            await checkpoint(vault)
        async with net.mount(tmp_path / "two", machine=b"n" * 16, **QUIET) as vault:
            found = await vault.volume.lookup(ROOT_INODE, b"disk.img")
            await vault.content.write(found.inode, 0, b"a" * 4096)
            await vault.committer.commit(sync=True)
            for supplier in net.suppliers:
                supplier.break_()
            await vault.content.write(found.inode, 16 * MIB, b"n" * 4096)
            await trio.sleep(3)  # the committer tries, and tries again
            for supplier in net.suppliers:
                supplier.heal()
            await trio.sleep(2)
        async with net.mount(tmp_path / "three", machine=b"o" * 16, **QUIET) as vault:
            found = await vault.volume.lookup(ROOT_INODE, b"disk.img")
            assert (await vault.content.read(found.inode, 16 * MIB, 4096)) != b""
    finally:
        leaves.LEAF_TARGET, leaves.LEAF_SPLIT = usual


async def test_promise_4_a_mount_that_ends_by_force_commits_what_it_accepted(net, tmp_path):
    with pytest.raises(ExceptionGroup):
        async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
            await write_file(vault, b"file", b"accepted")
            raise RuntimeError("a bug")
    async with net.mount(tmp_path / "one", take_over=True, **QUIET) as vault:
        assert await read_file(vault, b"file") == b"accepted"


async def test_promise_2_a_file_is_not_called_published_before_it_is(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        inode = await write_file(vault, b"file", b"x" * 1000)
        await vault.committer.commit(sync=True)
        assert await vault.xattrs.get(inode, b"user.bitdust.state") == b"local"
    async with net.mount(tmp_path / "one", **QUIET) as vault:
        # also after a remount
        assert await vault.xattrs.get(inode, b"user.bitdust.state") == b"local"
        await vault.publish()
        assert await vault.xattrs.get(inode, b"user.bitdust.state") == b"published"
        assert not vault.committer.changed_in


async def test_housekeeping_after_a_sync_does_not_make_the_vault_unpublished(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        inode = await write_file(vault, b"file", os.urandom(300_000))
        await vault.volume.unlink(ROOT_INODE, b"file")
        await vault.publish()
        await vault.volume.forget(inode, 1)  # purged only now
        await vault.committer.commit(sync=True)
        assert vault.publisher.due
        assert not vault.committer.changed_in
        await write_file(vault, b"other", b"x")
        assert vault.volume.tree.has_written() or vault.content.dirty
        await vault.committer.commit(sync=True)
        assert vault.committer.changed_in


async def test_what_audits_find_lost_holds_up_nothing_that_is_new(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, cache_limit=0, **QUIET) as vault:
        await write_file(vault, b"old", os.urandom(3 * MIB))
        await vault.publish()
        await vault.courier.try_all()
        await write_file(vault, b"other", b"x" * 100)
        await vault.publish()
        census = await vault.auditor.recent(0)
        await vault.eviction.evict(census.holders, vault.published_seq())
        lost = [block for block, row in vault.state.blocks.snapshot().items() if not row.local]
        assert lost
        await vault.ledger.lost({block: {0, 1, 2, 3} for block in lost})
        await write_file(vault, b"new", b"y" * 100_000)
        with trio.fail_after(10):
            await vault.publish()


async def test_promise_4_evicting_looks_again_at_what_changed_meanwhile(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, cache_limit=0, **QUIET) as vault:
        for number in range(2):
            await write_file(vault, b"file %d" % number, os.urandom(3 * MIB))
            await vault.publish()
        await vault.courier.try_all()
        await write_file(vault, b"other", b"x" * 100)
        await vault.publish()
        census = await vault.auditor.recent(0)
        blocks = [block for block, row in vault.state.blocks.snapshot().items() if not row.meta]
        lost = False
        is_busy = vault.eviction._is_busy

        def first_lose(block):
            nonlocal lost
            if not lost and block in blocks:  # an audit, just before this one is evicted
                lost = True
                row = vault.state.blocks.get(block)
                vault.state.blocks.put(block, type(row)(*[
                    (4, 5, 6) if field == "acked" else getattr(row, field)
                    for field in row.__struct_fields__
                ]))  # fmt: skip
            return is_busy(block)

        vault.eviction._is_busy = first_lose
        await vault.eviction.evict(census.holders, vault.published_seq())
        kept = [block for block in blocks if vault.state.blocks.get(block).local]
        assert lost and len(kept) == 1 and vault.state.blocks.get(kept[0]).acked == (4, 5, 6)


async def test_promise_11_readers_of_one_extent_do_not_wait_one_after_the_other(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"file", os.urandom(100_000))
        await vault.publish()
        await vault.courier.try_all()
    async with net.mount(tmp_path / "two", machine=b"n" * 16, **QUIET) as vault:
        found = await vault.volume.lookup(ROOT_INODE, b"file")
        for supplier in net.suppliers:
            supplier.hang_()
        took = []

        async def read():
            began = trio.current_time()
            with pytest.raises((ExceptionGroup, Unavailable)):
                await vault.content.read(found.inode, 0, 4096)
            took.append(trio.current_time() - began)

        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(read)
        assert max(took) < 25


async def test_a_writer_does_not_wait_until_what_it_wrote_is_sealed(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        data, append = os.urandom(8 * MIB), vault.writer._append
        begun, goes_on = trio.Event(), threading.Event()

        def slowly(*arguments):
            trio.from_thread.run_sync(begun.set)
            goes_on.wait(DISK)  # in its thread: a slow disk
            return append(*arguments)

        vault.writer._append = slowly
        try:
            with trio.fail_after(DISK / 2):
                await write_file(vault, b"file", data)
                await begun.wait()
        finally:
            goes_on.set()
        assert await read_file(vault, b"file") == data


async def test_a_small_file_that_grows_while_a_leaf_is_waited_for_is_committed_whole(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"file", b"x" * 100)
        tree = vault.content._tree
        run, grown = tree.run, os.urandom(5000)

        async def slowly(step, *arguments):
            if step.__name__ == "_store_inline":  # as if its leaf came from a supplier
                await write_file(vault, b"file", grown)
            return await run(step, *arguments)

        tree.run = slowly
        await vault.committer.commit(sync=True)
        tree.run = run
        assert not vault.content.holds_any()
        assert await read_file(vault, b"file") == grown


async def test_a_big_file_is_purged_in_steps_that_nobody_waits_for(net, tmp_path):
    usual, content.RESIZE_STEP = content.RESIZE_STEP, 10
    try:
        async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
            inode = await write_file(vault, b"file", b"")
            for number in range(200):
                await vault.content.write(inode, number * MIB, b"x" * 1000)
            await vault.committer.commit(sync=True)
            await unlink(vault, b"file")
            assert (await vault.volume.totals()).live > 100_000  # it has hardly begun
            while (await vault.volume.totals()).inodes > 1:
                await trio.lowlevel.checkpoint()
            assert (await vault.volume.totals()).live == 0
            held = await write_file(vault, b"held", b"y" * 1000)
            await vault.volume.unlink(ROOT_INODE, b"held")  # open still, when the mount ends
        async with net.mount(tmp_path / "one", **QUIET) as vault:
            await trio.sleep(0.1)
            with pytest.raises(FsError):
                await vault.volume.getattr(held)
            assert (await vault.volume.totals()).inodes == 1
    finally:
        content.RESIZE_STEP = usual


async def test_big_files_deleted_while_another_one_is_purged_are_purged_too(net, tmp_path):
    usual, content.RESIZE_STEP = content.RESIZE_STEP, 4
    names = [b"a", b"b", b"c"]
    try:
        async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
            for name in names:
                inode = await write_file(vault, name, b"")
                for number in range(40):
                    await vault.content.write(inode, number * MIB, b"x" * 1000)
            await vault.committer.commit(sync=True)
            for name in names:
                await unlink(vault, name)
                for _ in range(3):
                    await trio.lowlevel.checkpoint()  # purging has begun, and is not over
            with trio.fail_after(10):
                while (await vault.volume.totals()).inodes > 1:
                    await trio.lowlevel.checkpoint()
            assert (await vault.volume.totals()).live == 0
    finally:
        content.RESIZE_STEP = usual


async def test_only_a_block_that_was_closed_ends_the_courier_s_pause(net, tmp_path):
    """Else a writer would have suppliers that are away tried again with every write."""
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        kicks = []
        vault.writer._on_closed = lambda: kicks.append(1)
        for number in range(3):
            await write_file(vault, b"file", os.urandom(100_000), offset=number * 100_000)
            await vault.committer.commit(sync=True)
        assert not kicks
        await vault.writer.close_open()
        assert kicks
        vault.writer._on_closed = vault.courier.kick


async def test_promise_11_a_fault_while_giving_space_back_leaves_no_writer_waiting(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:

        async def malformed():
            raise Malformed("a list that makes no sense")

        vault.reclaimer.step = malformed
        began = trio.current_time()
        await vault.space._wait_given(LACKS)
        assert trio.current_time() - began < 5
        vault.space._gave = -1e9
        await vault.space._wait_given(LACKS)  # the task goes on
        assert trio.current_time() - began < 10 and not vault.troubles
