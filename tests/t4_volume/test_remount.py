"""A vault over seven memory suppliers: written here, read there, with suppliers gone or lying."""

import os
import random
import stat

import pytest
import trio
from machine import CALLER, Net, PowerCut
from scenario import photos, read_file, write_file

from bitdustfs.blocks import courier, deferral
from bitdustfs.core.items import ROOT_INODE
from bitdustfs.errors import FsError, LeaseHeld, NoSpace, Superseded, Unavailable
from bitdustfs.supplier.shelf import counted
from bitdustfs.units import EXTENT_MAX, MIB


async def test_promise_6_another_machine_reads_everything_with_three_of_seven_gone(net, tmp_path):
    files = {
        **photos(),
        b"empty": b"",
        b"small": b"few bytes",
        b"exact": os.urandom(EXTENT_MAX),
        b"text": b"compressible " * 50_000,
    }
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        for name, content in files.items():
            await write_file(vault, name, content)
        for name, content in files.items():
            assert await read_file(vault, name) == content
        await vault.publish()
    for supplier in net.suppliers[:3]:
        supplier.break_()
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        for name, content in files.items():
            assert await read_file(vault, name) == content
        listed = await vault.volume.readdir(ROOT_INODE, 0, 100)
        assert {entry.name for entry in listed} == {b".", b"..", *files}


async def test_promise_8_a_lying_supplier_is_named_and_reads_are_right(net, tmp_path):
    files = photos()
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        for name, content in files.items():
            await write_file(vault, name, content)
        await vault.publish()
    net.suppliers[1].corrupt_()
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        for name, content in files.items():
            assert await read_file(vault, name) == content
        nodes = [member.node for member in vault.known.family.members]
        damaged = [node for node in nodes if vault.circle.health(node).damaged]
        assert damaged == [net.suppliers[1].node]


async def test_promise_5_too_few_suppliers_is_an_error_never_zeros(net, tmp_path):
    files = photos(1)
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        for name, content in files.items():
            await write_file(vault, name, content)
        await vault.publish()
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        found = await vault.volume.lookup(ROOT_INODE, b"photo 0.jpg")
        for supplier in net.suppliers[:4]:
            supplier.break_()
        with pytest.raises(Unavailable):
            await vault.content.read(found.inode, 0, 1000)
        net.suppliers[0].heal()
        assert await read_file(vault, b"photo 0.jpg") == files[b"photo 0.jpg"]
        for supplier in net.suppliers:
            supplier.heal()


async def test_committed_work_survives_without_unmount_and_is_published_later(net, tmp_path):
    content = random.Random(9).randbytes(2 * MIB)
    with pytest.RaisesGroup(pytest.RaisesExc(PowerCut)):
        async with net.mount(tmp_path / "one", make_root=True) as vault:
            await write_file(vault, b"kept", content)
            await vault.committer.commit(sync=True)
            await write_file(vault, b"lost", b"never committed" * 100)
            raise PowerCut from None
    async with net.mount(tmp_path / "one") as vault:
        assert await read_file(vault, b"kept") == content
        await vault.publish()
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        assert await read_file(vault, b"kept") == content


async def test_promise_10_a_superseded_machine_keeps_its_work_and_turns_read_only(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True) as first:
        await first.publish()
        with pytest.raises(LeaseHeld, match=r"machine 6d6d6d6d \(seen 0 s ago\) has this vault"):
            async with net.mount(tmp_path / "two", machine=b"n" * 16):
                pass
        async with net.mount(tmp_path / "two", machine=b"n" * 16, take_over=True) as second:
            await write_file(second, b"theirs", b"written by the second")
            await second.publish()
            await write_file(first, b"ours", b"written by the first" * 1000)
            await first.committer.commit(sync=True)
            with pytest.raises(Superseded):
                await first.publish()
            assert first.read_only
            assert await read_file(first, b"ours") == b"written by the first" * 1000
    async with net.mount(tmp_path / "one", take_over=True) as again:
        assert again.read_only and "read-only" in again.message
        assert await read_file(again, b"ours") == b"written by the first" * 1000
    async with net.mount(tmp_path / "three", machine=b"o" * 16, take_over=True) as third:
        assert await third.volume.lookup(ROOT_INODE, b"ours") is None
        assert await read_file(third, b"theirs") == b"written by the second"


async def test_promise_8_a_machine_that_saw_a_newer_root_refuses_to_go_back(net, tmp_path):
    def rows():
        return [service.shelf.rows[net.key.vault_id] for service in net.services]

    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await write_file(vault, b"old", b"old")
        await vault.publish()
        old = rows()
        await write_file(vault, b"new", b"new")
        await vault.publish()
    for service, row in zip(net.services, old, strict=True):
        service.shelf.rows[net.key.vault_id] = row
    async with net.mount(tmp_path / "one") as vault:
        assert vault.read_only and "hide the newer one" in vault.message
        assert await read_file(vault, b"new") == b"new"
    for service, row in zip(net.services, old, strict=True):  # and claims nothing
        assert service.shelf.rows[net.key.vault_id].promised == row.promised


async def test_promise_8_a_newer_root_in_the_dht_record_turns_the_mount_read_only(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await vault.publish()
        ballot, seq = vault._found
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        ballot, seq = vault._found  # as the voters showed it, under its writer's ballot
        vault.heed_witness(ballot, seq)
        assert not vault.read_only
        await write_file(vault, b"file", b"not published")
        vault.heed_witness(ballot, seq + 1)
        assert vault.read_only and "may hide the newer one" in vault.message
        with pytest.raises(Superseded), trio.fail_after(5):
            await vault.publish()
    async with net.mount(tmp_path / "three", machine=b"o" * 16, read_only=True) as vault:
        ballot, seq = vault._found
        vault.heed_witness(ballot, seq)
        assert not vault.message
        vault.heed_witness(ballot, seq + 1)
        assert "may hide the newer one" in vault.message


async def test_promise_9_a_minority_of_voters_shows_what_is_here_and_keeps_local_work(
    net, tmp_path
):
    with pytest.RaisesGroup(pytest.RaisesExc(PowerCut)):
        async with net.mount(tmp_path / "one", make_root=True) as vault:
            await write_file(vault, b"published", b"p" * 100_000)
            await vault.publish()
            await write_file(vault, b"local", b"l" * 100_000)
            await vault.committer.commit(sync=True)
            raise PowerCut from None
    for supplier in net.suppliers[:4]:
        supplier.break_()
    for home, names in (("one", [b"local", b"published"]), ("two", [b"published"])):
        machine = home.encode().ljust(16, b"m") if home == "two" else b"m" * 16
        async with net.mount(tmp_path / home, machine=machine) as vault:
            assert vault.read_only == (home == "two")  # which did not write last
            said = vault.message if vault.read_only else vault.pen.waits
            assert "only 3 of 7 suppliers answered and 4 are needed" in said
            listed = await vault.volume.readdir(ROOT_INODE, 2, 10)
            assert sorted(entry.name for entry in listed) == names
    for supplier in net.suppliers:
        supplier.heal()
    async with net.mount(tmp_path / "one", take_over=True) as vault:
        assert not vault.read_only
        assert await read_file(vault, b"local") == b"l" * 100_000
        await vault.publish()
    async with net.mount(tmp_path / "two", machine=b"two".ljust(16, b"m")) as vault:
        assert await read_file(vault, b"local") == b"l" * 100_000


async def test_promise_9_publishing_goes_on_with_three_away_and_waits_with_four(
    net, tmp_path, monkeypatch
):
    monkeypatch.setattr(deferral, "SOON", 1.0)
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        for supplier in net.suppliers[4:]:
            supplier.break_()
        await write_file(vault, b"file", os.urandom(MIB))
        await vault.publish()
        net.suppliers[3].break_()
        await write_file(vault, b"more", os.urandom(MIB))
        usual, courier.WAIT_DEADLINE = courier.WAIT_DEADLINE, 2.0
        try:
            with pytest.raises(Unavailable, match="stays on this machine"):
                await vault.publish()
        finally:
            courier.WAIT_DEADLINE = usual
        assert "3 of 7 suppliers answer and 4 are needed" in vault.too_few()
        tries = net.suppliers[1].calls.count("Put") + vault.courier.rounds
        assert tries < 100, "it spins instead of waiting"
        net.suppliers[3].heal()
        await vault.publish()


async def test_promise_4_only_what_suppliers_hold_is_evicted(net, tmp_path):
    files = photos(6, 8 * MIB)
    async with net.mount(tmp_path / "one", make_root=True, cache_limit=4 * MIB) as vault:
        for supplier in net.suppliers[:3]:
            supplier.break_()  # five of seven are needed
        for name, content in files.items():
            await write_file(vault, name, content)
        await vault.committer.commit(sync=True)
        await vault.writer.close_open()
        await vault.courier.try_all()
        for supplier in net.suppliers[:2]:
            supplier.heal()
        assert await vault.eviction.evict(lambda block: range(7), vault.published_seq()) == 0
        await vault.publish()
        await write_file(vault, b"another root", b"names what was named")
        await vault.publish()
        census = await vault.auditor.recent(0)
        assert await vault.eviction.evict(lambda block: (), vault.published_seq()) == 0
        await vault.eviction.evict(census.holders, vault.published_seq())
        owed = [b for b in vault.state.blocks.owed() if not vault.state.blocks.get(b).meta]
        assert any(not vault.state.blocks.get(b).local for b in owed)
        for name, content in files.items():
            assert await read_file(vault, name) == content
        net.suppliers[2].heal()  # what it lacks is made from the others
        await vault.courier.try_all()
        await vault.rebuilder.step(0.0)
        assert not vault.state.blocks.owed()
    for supplier in net.suppliers[3:6]:
        supplier.break_()
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        for name, content in files.items():
            assert await read_file(vault, name) == content


async def test_promise_4_beyond_the_contracts_is_enospc_and_what_was_accepted_is_kept(
    net, tmp_path
):
    net = Net(space=(256 + 8) * MIB // 4)  # room for 8 MiB of content
    await net.create()
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        assert vault.space.capacity == 8 * MIB
        content = os.urandom(6 * MIB)
        await write_file(vault, b"fits", content)
        with pytest.raises(NoSpace):
            await write_file(vault, b"too much", os.urandom(3 * MIB))
        await vault.publish()
        assert await read_file(vault, b"fits") == content
        await vault.volume.unlink(ROOT_INODE, b"too much")
        found = await vault.volume.lookup(ROOT_INODE, b"fits")
        await vault.content.truncate(found.inode, 0)
        await write_file(vault, b"now it fits", content)
        await vault.publish()
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        assert await read_file(vault, b"now it fits") == content


async def test_promise_4_full_suppliers_refuse_before_data_is_taken(net, tmp_path, monkeypatch):
    monkeypatch.setattr(deferral, "SOON", 1.0)
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        for service in net.services[:3]:  # three of seven may say what they like
            row = service.shelf.rows[net.key.vault_id]
            service.shelf.rows[net.key.vault_id] = counted(row, row.space - row.used, 0)
        await vault.space.refresh()
        await write_file(vault, b"nobody is stopped", os.urandom(2 * MIB))
        await vault.publish()
        assert len(vault.space.full()) == 3
        for service in net.services[3:4]:
            row = service.shelf.rows[net.key.vault_id]
            used = row.space - row.used - vault.space.reserve // 8 - MIB // 4
            service.shelf.rows[net.key.vault_id] = counted(row, used, 0)
        await vault.space.refresh()
        await write_file(vault, b"fits", os.urandom(MIB // 2))
        with pytest.raises(NoSpace):
            await write_file(vault, b"too much", os.urandom(2 * MIB))
        await vault.publish()


async def test_many_files_through_checkpoints(net, tmp_path):
    names = [f"file {i:05d}".encode() for i in range(3000)]
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        for rounds in range(3):
            for name in names[rounds * 1000 : rounds * 1000 + 1000]:
                await write_file(vault, name, name * 2)
            generation = await vault.committer.commit(sync=True, freeze=True)
            await vault.publisher._checkpoint(generation)
            await vault.volume.unlink(ROOT_INODE, names[rounds * 1000])
        await vault.publish()
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        assert vault.volume.tree.base is not None
        seen, cookie = [], 0
        while page := await vault.volume.readdir(ROOT_INODE, cookie, 97):
            seen += [entry.name for entry in page]
            cookie = page[-1].cookie
        gone = {names[0], names[1000], names[2000]}
        assert sorted(seen) == sorted([b".", b"..", *(set(names) - gone)])
        for name in names[5::500]:
            assert await read_file(vault, name) == name * 2
        with pytest.raises(FsError):
            await vault.volume.unlink(ROOT_INODE, names[0])


async def test_random_writes_truncates_and_holes_match_a_plain_file(net, tmp_path):
    rng = random.Random(5)
    model = bytearray()
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        found = await vault.volume.create(ROOT_INODE, b"f", stat.S_IFREG | 0o644, CALLER)
        for step in range(400):
            action = rng.random()
            if action < 0.6:
                offset, size = rng.randrange(600_000), rng.choice([1, 100, 4096, 150_000])
                data = rng.randbytes(size)
                if offset > len(model):
                    model += bytes(offset - len(model))
                model[offset : offset + size] = data
                await vault.content.write(found.inode, offset, data)
            elif action < 0.75:
                size = rng.choice([0, 10, 500, 513, rng.randrange(700_000)])
                if size < len(model):
                    del model[size:]
                else:
                    model += bytes(size - len(model))
                await vault.content.truncate(found.inode, size)
            elif action < 0.85:
                await vault.committer.commit(sync=False)
            else:
                at = rng.randrange(700_000)
                got = await vault.content.read(found.inode, at, 50_000)
                assert got == bytes(model[at : at + 50_000]), f"step {step}"
        assert await read_file(vault, b"f") == bytes(model)
        await vault.publish()
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        assert await read_file(vault, b"f") == bytes(model)


async def test_promise_7_mounting_and_listing_fetch_as_much_of_10_000_files_as_of_500(
    net, tmp_path
):
    fetched = []
    for count in (500, 10_000):
        home = tmp_path / str(count)
        async with net.mount(home, make_root=count == 500, publish_every=1e9) as vault:
            folder = await vault.volume.create(
                ROOT_INODE, b"many %d" % count, stat.S_IFDIR | 0o755, CALLER
            )
            for number in range(count):
                await vault.volume.create(
                    folder.inode, b"file %d" % number, stat.S_IFREG | 0o644, CALLER
                )
            few = await vault.volume.create(
                ROOT_INODE, b"few %d" % count, stat.S_IFDIR | 0o755, CALLER
            )
            for number in range(20):
                await vault.volume.create(
                    few.inode, b"file %d" % number, stat.S_IFREG | 0o644, CALLER
                )
            generation = await vault.committer.commit(sync=True, freeze=True)
            await vault.publisher._checkpoint(generation)
            await vault.publish()
            await vault.courier.try_all()
        async with net.mount(tmp_path / f"another {count}", machine=b"n" * 16) as vault:
            before = sum(supplier.calls.count("Read") for supplier in net.suppliers)
            await vault.volume.readdir(ROOT_INODE, 0, 100)
            found = await vault.volume.lookup(ROOT_INODE, b"few %d" % count)
            assert len(await vault.volume.readdir(found.inode, 0, 100)) == 22
            fetched.append(sum(supplier.calls.count("Read") for supplier in net.suppliers) - before)
    assert fetched[1] <= fetched[0] + 4 and fetched[1] < 20, fetched
