"""Reading ahead in an open vault: files are what they were, suppliers are asked ahead of time."""

import os

import pytest
import trio
from scenario import QUIET, read_file, write_file

from bitdustfs.core.items import ROOT_INODE, extent_key
from bitdustfs.errors import Unavailable
from bitdustfs.net import wire
from bitdustfs.units import EXTENT_MAX, KIB, MIB


def extents_asked(net):
    return sum(supplier.calls.count("Read") for supplier in net.suppliers)


def count_bytes(supplier, asked, enough):
    """Adds the length of every range that a supplier is asked for; tells when it is enough."""
    call = supplier.call

    async def counted(request, payload=b""):
        if isinstance(request, wire.Read):
            asked.append(request.length)
            if sum(asked) > 4 * EXTENT_MAX:
                enough.set()
        return await call(request, payload)

    supplier.call = counted


async def test_a_stranger_reads_in_order_and_is_a_step_ahead(net, tmp_path):
    content = os.urandom(6 * MIB)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"file", content)
        await vault.publish()
    async with net.mount(tmp_path / "two", machine=b"2" * 16, take_over=True, **QUIET) as vault:
        inode = (await vault.volume.lookup(ROOT_INODE, b"file")).inode
        got, asked, enough = bytearray(), [], trio.Event()
        for supplier in net.suppliers:
            count_bytes(supplier, asked, enough)
        while len(got) < len(content):
            got += await vault.content.read(inode, len(got), 64 * KIB)
            if len(got) == 2 * EXTENT_MAX:
                with trio.fail_after(10):
                    await enough.wait()
        assert got == content
        assert len(asked) < 0.7 * len(content) / EXTENT_MAX  # ranges, and some audits
        assert sum(asked) < 1.5 * len(content)  # each once


@pytest.mark.parametrize("fault", ["break_", "corrupt_"])
async def test_promise_9_runs_are_read_around_suppliers_that_fail_or_lie(net, tmp_path, fault):
    content = os.urandom(5 * MIB)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"file", content)
        await vault.publish()
    quiet = {**QUIET, "audits": 1}  # bytes a day: reading alone is counted
    async with net.mount(tmp_path / "two", machine=b"2" * 16, take_over=True, **quiet) as vault:
        inode = (await vault.volume.lookup(ROOT_INODE, b"file")).inode
        for supplier in net.suppliers[:3]:
            getattr(supplier, fault)()
        calls = extents_asked(net)
        assert await vault.content.read(inode, 0, len(content)) == content
        # extent by extent these would be more than 200
        assert extents_asked(net) - calls < 130
        if fault == "corrupt_":
            named = {s.node for s in net.suppliers if vault.circle.health(s.node).damaged}
            assert named and named <= {supplier.node for supplier in net.suppliers[:3]}


async def test_what_k_fragments_give_of_other_slices_is_not_asked_for_again(net, tmp_path):
    content, asked = os.urandom(8 * MIB), []
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"file", content)
        await vault.publish()
        family = vault.circle.family
    async with net.mount(tmp_path / "two", machine=b"2" * 16, take_over=True, **QUIET) as vault:
        inode = (await vault.volume.lookup(ROOT_INODE, b"file")).inode
        first = {member.node for member in family.members[:3]}
        for supplier in net.suppliers:
            if supplier.node in first:
                supplier.break_()
            count_bytes(supplier, asked, trio.Event())
        assert await vault.content.read(inode, 0, 2 * MIB) == content[: 2 * MIB]  # the first slice
        assert await vault.content.read(inode, 2 * MIB, 6 * MIB) == content[2 * MIB :]
        assert sum(asked) < 2.2 * len(content)  # each slice by itself: more than three times


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


@pytest.mark.parametrize("step", [64 * KIB, 128 * KIB, 512 * KIB, 2 * MIB])
@pytest.mark.parametrize("elsewhere", [False, True], ids=["this disk", "suppliers"])
async def test_promise_5_an_extent_that_was_written_over_in_its_middle_is_read_right(
    net, tmp_path, step, elsewhere
):
    """Two items of the file lie in one extent: it is named twice, and opened once."""
    content = bytearray(os.urandom(2 * MIB))
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        inode = await write_file(vault, b"file", bytes(content))
        await vault.committer.commit(sync=True)
        for at in (60 * KIB, 300 * KIB, 310 * KIB, MIB):
            content[at : at + 4 * KIB] = os.urandom(4 * KIB)
            await vault.content.write(inode, at, bytes(content[at : at + 4 * KIB]))
            await vault.committer.commit(sync=True)
        await vault.publish()
        await vault.courier.try_all()
    home, machine = (tmp_path / "two", b"2" * 16) if elsewhere else (tmp_path / "one", b"m" * 16)
    async with net.mount(home, machine=machine, take_over=True, **QUIET) as vault:
        inode = (await vault.volume.lookup(ROOT_INODE, b"file")).inode
        for _ in range(2):  # the second time from memory
            got = bytearray()
            while len(got) < len(content):
                got += await vault.content.read(inode, len(got), step)
            assert got == content
