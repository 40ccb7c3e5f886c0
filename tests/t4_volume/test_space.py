"""Space comes back: dead blocks are deleted, thin ones emptied, and nothing needed is touched."""

import os
import random
import stat

import pytest
import trio
import trio.testing
from machine import CALLER, Net, PowerCut
from scenario import QUIET, read_file, unlink, write_file

from bitdustfs.cache.rows import DEAD
from bitdustfs.core.items import ROOT_INODE
from bitdustfs.errors import NoSpace, Refused, Unavailable
from bitdustfs.net import wire
from bitdustfs.units import KIB, MIB


def stored(net):
    """Bytes that suppliers count for the vault, as bytes of data at k of n."""
    used = sum(service.shelf.rows[net.key.vault_id].used for service in net.services)
    return used * net.k / len(net.services)


async def settle(vault, rounds=4):
    """Publishes and reclaims until there is nothing more to do."""
    for _ in range(rounds):
        await vault.publish()
        await vault.courier.try_all()
        await vault.reclaimer.step()


async def test_a_vault_rewritten_ten_times_takes_less_than_half_more_than_its_content(
    net, tmp_path
):
    rng = random.Random(1)
    files = {f"file {i}".encode(): rng.randbytes(3 * MIB) for i in range(6)}
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        for _ in range(10):
            files = {name: rng.randbytes(3 * MIB) for name in files}
            for name, content in files.items():
                await write_file(vault, name, content)
            await settle(vault, 1)
        await settle(vault)
        live = sum(map(len, files.values()))
        assert stored(net) < 1.5 * live
        for name, content in files.items():
            assert await read_file(vault, name) == content
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        for name, content in files.items():
            assert await read_file(vault, name) == content


async def test_thin_blocks_are_emptied_and_files_stay_right(net, tmp_path):
    rng = random.Random(2)
    content = bytearray(rng.randbytes(24 * MIB))
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        inode = await write_file(vault, b"file", bytes(content))
        await settle(vault, 1)
        for _ in range(6):  # most of each block dies, here and there something lives on
            for at in range(0, len(content), 128 * KIB):
                if rng.random() < 0.5:
                    data = rng.randbytes(100 * KIB)
                    content[at + 7 : at + 7 + len(data)] = data
                    await vault.content.write(inode, at + 7, data)
            await settle(vault, 1)
        await settle(vault, 12)
        assert stored(net) < 1.5 * len(content)
        assert await read_file(vault, b"file") == content
        totals = await vault.volume.totals()
        assert totals.live == len(content)
    for supplier in net.suppliers[:3]:
        supplier.break_()
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        assert await read_file(vault, b"file") == content


async def test_many_small_blocks_are_merged(net, tmp_path):
    files = {}
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        for i in range(40):
            name = f"small {i}".encode()
            files[name] = os.urandom(20 * KIB)
            await write_file(vault, name, files[name])
            await vault.publish()
        before = len([row for _, row in vault.state.blocks.snapshot().items() if not row.meta])
        await settle(vault)
        after = [
            row
            for _, row in vault.state.blocks.snapshot().items()
            if not row.meta and row.state != DEAD
        ]
        assert before == 40 and len(after) < 12  # 32 at a time
        for name, content in files.items():
            assert await read_file(vault, name) == content


async def test_nothing_that_is_done_again_and_again_goes_through_all_blocks(
    net, tmp_path, monkeypatch
):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        for name in (b"one", b"two"):
            await write_file(vault, name, os.urandom(3 * MIB))
            await settle(vault, 1)
        await vault.auditor.recent(3600.0)  # a census does
        monkeypatch.setattr(vault.state.blocks, "snapshot", None)
        await vault.rebuilder.replanned()
        before = stored(net)
        await unlink(vault, b"one")
        await settle(vault)
        assert stored(net) < before - 2 * MIB


async def test_a_supplier_that_was_away_deletes_later(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await write_file(vault, b"file", os.urandom(3 * MIB))
        await settle(vault, 1)
        net.suppliers[6].break_()
        await unlink(vault, b"file")
        await settle(vault)
        used = [service.shelf.rows[net.key.vault_id].used for service in net.services]
        assert used[6] > MIB // 2 > max(used[:6])
        assert any(row.state == DEAD for _, row in vault.state.blocks.snapshot().items())
        net.suppliers[6].heal()
        await write_file(vault, b"another root", b"which the sixth hears of")
        await settle(vault)
        assert net.services[6].shelf.rows[net.key.vault_id].used < MIB // 2
        assert not any(row.state == DEAD for _, row in vault.state.blocks.snapshot().items())


async def test_promise_4_a_writer_gets_the_room_of_what_was_deleted(net, tmp_path):
    net = Net(space=(256 + 24) * MIB // 4)
    await net.create()
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        for i in range(24):  # ten times what fits, deleted again and again
            content = os.urandom(10 * MIB)
            await write_file(vault, b"%d" % i, content)
            await vault.publish()
            assert await read_file(vault, b"%d" % i) == content
            found = await vault.volume.lookup(ROOT_INODE, b"%d" % i)
            await vault.content.truncate(found.inode, 0)


async def test_metadata_of_old_checkpoints_goes(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        for rounds in range(8):
            for i in range(500):
                await write_file(vault, f"{rounds} {i}".encode(), b"x" * 400)
            generation = await vault.committer.commit(sync=True, freeze=True)
            await vault.publisher._checkpoint(generation)
            await settle(vault, 1)
        await settle(vault)
        alive = [row for _, row in vault.state.blocks.snapshot().items() if row.state != DEAD]
        assert sum(row.length for row in alive) < 4 * MIB
        assert len(alive) < 8
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        for rounds in range(8):
            for i in range(0, 500, 50):
                assert await read_file(vault, f"{rounds} {i}".encode()) == b"x" * 400


async def test_what_a_dead_machine_left_unpublished_goes(net, tmp_path):
    content = os.urandom(3 * MIB)
    with pytest.RaisesGroup(pytest.RaisesExc(PowerCut)):
        async with net.mount(tmp_path / "one", make_root=True) as vault:
            await write_file(vault, b"published", content)
            await vault.publish()
            await write_file(vault, b"not published", os.urandom(5 * MIB))
            await vault.committer.commit(sync=True)
            await vault.writer.close_open()
            await vault.courier.try_all()
            raise PowerCut from None
    before = stored(net)
    async with net.mount(tmp_path / "two", machine=b"n" * 16, take_over=True) as vault:
        await vault.auditor.recent(0)
        await write_file(vault, b"another root", b"x" * 1000)
        await settle(vault)
        told = sum(supplier.calls.count("Kill") for supplier in net.suppliers)
        await write_file(vault, b"a third root", b"x" * 1000)
        await settle(vault)  # the census is old: what it lists is not deleted again and again
        assert sum(supplier.calls.count("Kill") for supplier in net.suppliers) < told + 14
        await write_file(vault, b"and another", b"x" * 1000)
        await settle(vault)
        assert stored(net) < before - 4 * MIB
        assert await read_file(vault, b"published") == content
    async with net.mount(tmp_path / "three", machine=b"o" * 16) as vault:
        assert await read_file(vault, b"published") == content


async def set_attributes(vault, inode, upto, size=60_000):
    """Sets attributes until one is refused; how many were taken."""
    for number in range(upto):
        try:
            await vault.xattrs.set(inode, b"user.%d" % number, os.urandom(size))
        except NoSpace:
            return number
    return upto


async def test_promise_4_attributes_are_refused_before_they_eat_what_deletes_need(tmp_path):
    net = Net(space=(256 + 32) * MIB // 4)
    await net.create()
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await vault.space.refresh()
        inode = await write_file(vault, b"file", b"")
        taken = await set_attributes(vault, inode, 3500)
        assert 500 < taken < 3500
        await vault.publish()
        await vault.space.refresh()
        assert vault.space.placeable() >= vault.space.reserve // 4
        for number in range(0, taken, 2):
            await vault.xattrs.remove(inode, b"user.%d" % number)
        await unlink(vault, b"file")
        await settle(vault)
        await write_file(vault, b"there is room again", b"x" * MIB)
        await vault.publish()
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        assert await read_file(vault, b"there is room again") == b"x" * MIB


@pytest.mark.deadline(180)  # twenty seconds of processor: five times that on a busy machine
async def test_promise_4_a_vault_beyond_its_quota_finds_back_by_deleting(tmp_path, monkeypatch):
    """However it came there: here nothing was ever refused."""
    net = Net(space=(256 + 32) * MIB // 4)
    await net.create()
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        kept = os.urandom(MIB)
        await write_file(vault, b"kept", kept)
        await vault.publish()
        with monkeypatch.context() as patched:
            patched.setattr(vault.space, "_fits", lambda size: True)
            inode = await write_file(vault, b"file", b"")
            assert await set_attributes(vault, inode, 3500) == 3500
            await vault.committer.commit(sync=True)
            for _ in range(2):  # and a sync ends, with the reason
                with pytest.raises(Unavailable, match="no room"), trio.fail_after(40):
                    await vault.publish()
        await unlink(vault, b"file")
        await write_file(vault, b"after", b"x" * 1000)
        await vault.publish()
        await settle(vault)
        await vault.volume.create(ROOT_INODE, b"one more", stat.S_IFREG | 0o644, CALLER)
        await vault.publish()
        assert stored(net) < 64 * MIB
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        assert await read_file(vault, b"kept") == kept
        assert await read_file(vault, b"after") == b"x" * 1000


async def test_one_full_supplier_while_others_are_away_is_not_called_want_of_room(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await vault.publish()

        answer = net.suppliers[6].call

        async def full(request, payload=b""):
            if isinstance(request, wire.Put):
                raise Refused("quota", "the contract is used up")
            return await answer(request, payload)

        net.suppliers[6].call = full
        for supplier in net.suppliers[:3]:
            supplier.break_()
        await write_file(vault, b"file", b"x" * MIB)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(vault.publish)  # waits for those that are away
            rounds = vault.courier.rounds
            while vault.courier.rounds < rounds + 4:
                await trio.testing.wait_all_tasks_blocked(0.05)
            for supplier in net.suppliers[:3]:
                supplier.heal()
        assert not vault.publisher.due
