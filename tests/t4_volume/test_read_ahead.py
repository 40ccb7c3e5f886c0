"""Reading ahead in an open vault: files are what they were, suppliers are asked ahead of time."""

import os

import pytest
import trio
import trio.testing
from scenario import QUIET, read_file, write_file

from bitdustfs.core.items import ROOT_INODE, extent_key
from bitdustfs.errors import Unavailable
from bitdustfs.units import EXTENT_MAX, KIB, MIB

SEAMS = 12  #: extents that lie on two slices, and those of the tree


def extents_asked(net):
    return sum(supplier.calls.count("Read") for supplier in net.suppliers)


async def test_a_stranger_reads_in_order_and_is_a_step_ahead(net, tmp_path):
    content = os.urandom(6 * MIB)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"file", content)
        await vault.publish()
    async with net.mount(tmp_path / "two", machine=b"2" * 16, take_over=True, **QUIET) as vault:
        inode = (await vault.volume.lookup(ROOT_INODE, b"file")).inode
        got = bytearray()
        while len(got) < len(content):
            got += await vault.content.read(inode, len(got), 64 * KIB)
            if len(got) == 2 * EXTENT_MAX:
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert extents_asked(net) > 4  # twice of what was read
        assert got == content
        assert extents_asked(net) <= len(content) // EXTENT_MAX + SEAMS  # each once


async def test_what_changes_meanwhile_is_not_read_from_before(net, tmp_path):
    content = bytearray(os.urandom(4 * MIB))
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"file", bytes(content))
        await vault.committer.commit(sync=False)
        inode = (await vault.volume.lookup(ROOT_INODE, b"file")).inode
        got = bytearray()
        for at in range(0, len(content), 128 * KIB):
            later = min(at + MIB, len(content) - KIB)
            new = os.urandom(KIB)
            await vault.content.write(inode, later, new)  # of what is being read ahead
            content[later : later + KIB] = new
            if at % MIB == 0:
                await vault.committer.commit(sync=False)
            got += await vault.content.read(inode, at, 128 * KIB)
        assert got == content
        assert await read_file(vault, b"file") == content


async def test_damage_ahead_is_told_to_whoever_reads_there(net, tmp_path):
    content = os.urandom(2 * MIB)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        inode = await write_file(vault, b"file", content)
        await vault.committer.commit(sync=False)
        await vault.volume.tree.run(lambda tx: tx.delete(extent_key(inode, 3 * EXTENT_MAX)))
        got = await vault.content.read(inode, 0, 3 * EXTENT_MAX)
        assert got == content[: 3 * EXTENT_MAX]
        with pytest.raises(Unavailable, match="gap"):
            await vault.content.read(inode, 3 * EXTENT_MAX, 1)
