"""verify finds what is wrong, and nothing where nothing is."""

import os
import random
import re
import stat

import pytest
import trio
from machine import CALLER
from scenario import write_file

from bitdustfs.blocks.ledger import Ledger
from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.core.items import ROOT_INODE, decode_inode, encode_item, inode_key, use_key
from bitdustfs.errors import LocalError
from bitdustfs.net import wire
from bitdustfs.rebuild import audit, rebuilder
from bitdustfs.rebuild.audit import DAILY_MIN
from bitdustfs.units import CHUNK_SIZE, MIB
from bitdustfs.vault import reading
from bitdustfs.vault.fragments import RUN_MAX, in_a_row
from bitdustfs.vault.verify import verify

NO_AUDITS = 1  # byte a day: only the test itself looks for what it spoils


async def silent(what, done, total):
    """Nobody watches."""


async def until(happened):
    deadline = trio.current_time() + 20
    while not happened():
        assert trio.current_time() < deadline
        await trio.sleep(0.05)


async def faults(vault, local_only=False, sample=1.0):
    return (await verify(vault, local_only, sample, silent)).faults


async def busy_vault(vault):
    """Folders, files of all sizes, renames, links, holes, truncations, deletions."""
    rng = random.Random(3)
    volume = vault.volume
    folder = await volume.create(ROOT_INODE, b"folder", stat.S_IFDIR | 0o755, CALLER)
    inner = await volume.create(folder.inode, b"inner", stat.S_IFDIR | 0o755, CALLER)
    for i in range(60):
        size = rng.choice([0, 10, 512, 513, 5000, 300_000])
        where = rng.choice([ROOT_INODE, folder.inode, inner.inode])
        inode = await write_file(vault, b"f%d" % i, rng.randbytes(size), where)
        if i % 5 == 0:
            await vault.content.truncate(inode, size // 2 + 100_000)
        if i % 7 == 0:
            await volume.rename(where, b"f%d" % i, ROOT_INODE, b"moved %d" % i, 0, CALLER)
        if i % 9 == 0:
            await volume.link(inode, inner.inode, b"link %d" % i)
        if i % 11 == 0:
            await vault.content.write(inode, 1_000_000, b"after a hole")
    await volume.rename(folder.inode, b"inner", ROOT_INODE, b"inner", 0, CALLER)
    await write_file(vault, b"large", rng.randbytes(3 * MIB))
    await write_file(vault, b"gone", rng.randbytes(MIB))
    await volume.unlink(ROOT_INODE, b"gone")


async def test_a_sound_vault_has_no_faults_at_any_time(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await busy_vault(vault)
        await vault.committer.commit(sync=True)
        assert await faults(vault, local_only=True) == []
        generation = await vault.committer.commit(sync=True, freeze=True)
        await vault.publisher._checkpoint(generation)
        await vault.publish()
        await vault.courier.try_all()
        assert await faults(vault) == []
        report = await verify(vault, False, 1.0, silent)
        assert report.margin == 3 and report.chunks_checked > 100 and report.extents_checked > 20
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        assert await faults(vault) == []


async def test_damage_here_and_there_is_named(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await write_file(vault, b"file", os.urandom(3 * MIB))
        await vault.publish()
        await vault.courier.try_all()
        [path] = [p for p in (tmp_path / "one").rglob("blocks/*") if p.stat().st_size > MIB]
        data = bytearray(path.read_bytes())
        data[100_000] ^= 1
        path.write_bytes(data)
        [fault] = await faults(vault, local_only=True)
        assert "this machine's copy of block" in fault
        rot(net, 2)
        damaged = [f for f in await faults(vault) if "position 2" in f]
        assert len(damaged) == 2
        net.services[4].shelf.kept.clear()
        assert (await verify(vault, False, 0.0, silent)).margin == 2


def rot(net, position):
    """A byte in the middle of every fragment that a supplier keeps goes bad."""
    kept = net.services[position].shelf.kept
    for name, (header, chunks, payload, digest) in list(kept.items()):
        rotten = bytearray(payload)
        rotten[len(payload) // 2] ^= 1
        kept[name] = (header, chunks, rotten, digest)
    return len(kept)


@pytest.mark.parametrize("elsewhere", [True, False])
async def test_promise_9_what_verify_finds_wrong_counts_as_lost_and_is_made_again(
    net, tmp_path, elsewhere
):
    """By this machine's own copies, and elsewhere from other suppliers."""
    async with net.mount(tmp_path / "one", make_root=True, audits=NO_AUDITS) as vault:
        await write_file(vault, b"file", os.urandom(3 * MIB))
        await vault.publish()
        await vault.courier.try_all()
    where = ("two", b"n" * 16) if elsewhere else ("one", b"m" * 16)
    async with net.mount(tmp_path / where[0], machine=where[1], audits=NO_AUDITS) as vault:
        rotten = rot(net, 2)
        await vault.auditor.recent(0)
        found = await faults(vault)
        assert len(found) == rotten and all("position 2" in fault for fault in found)
        if elsewhere:  # nothing is made again before the rebuilder looks
            account = await vault.account()
            assert (account.complete, account.margin) == (6, 2)
            assert account.verdict() == "safe: everything is on 6 of 7 suppliers, 2 may be lost"
            assert vault.circle.damage.at(2) == rotten
            await vault.rebuilder.step()
        await until(lambda: not vault.circle.damage.blocks())
        assert await faults(vault) == []
        account = await vault.account()
        assert (account.complete, account.margin) == (7, 3)
        assert not vault.watch.history(net.suppliers[2].node).gone


async def test_what_was_found_wrong_while_this_disk_refused_is_made_again_later(
    net, tmp_path, monkeypatch
):
    """A full disk ends no audits, and what was found meanwhile is not forgotten."""
    refuses = [True, True]

    async def lost(ledger, fragments, as_ever=Ledger.lost):
        if refuses:
            refuses.pop()
            raise LocalError("the disk is full")
        return await as_ever(ledger, fragments)

    monkeypatch.setattr(reading, "AFTER_FAILURE", 0.05)
    monkeypatch.setattr(Ledger, "lost", lost)
    async with net.mount(tmp_path / "one", make_root=True, audits=NO_AUDITS) as vault:
        await write_file(vault, b"file", os.urandom(3 * MIB))
        await vault.publish()
        await vault.courier.try_all()
        rot(net, 2)
        assert await faults(vault)
        await until(lambda: not vault.circle.damage.blocks())
        assert not refuses and not vault.troubles
        assert await faults(vault) == []


async def test_repairs_go_on_once_this_disk_takes_what_they_note(net, tmp_path, monkeypatch):
    """They run side by side: what one of them raises comes in a group, and is no bug for that."""
    refuses = [True]

    async def acknowledged(ledger, block, positions, as_ever=Ledger.acknowledged):
        if refuses:
            refuses.pop()
            raise LocalError("the disk is full")
        await as_ever(ledger, block, positions)

    monkeypatch.setattr(reading, "AFTER_FAILURE", 0.05)
    monkeypatch.setattr(rebuilder, "TICK", 0.05)
    async with net.mount(tmp_path / "one", make_root=True, audits=NO_AUDITS) as vault:
        await write_file(vault, b"file", os.urandom(3 * MIB))
        await vault.publish()
        await vault.courier.try_all()
    async with net.mount(tmp_path / "two", machine=b"n" * 16, audits=NO_AUDITS) as vault:
        monkeypatch.setattr(BlockTable, "is_owed", lambda table, block: True)
        monkeypatch.setattr(Ledger, "acknowledged", acknowledged)
        rot(net, 2)
        assert await faults(vault)
        await until(lambda: not vault.circle.damage.blocks())
        assert not refuses and not vault.troubles


@pytest.mark.parametrize("fault", [LocalError("the disk is full"), ValueError("a bug")])
async def test_what_fails_in_the_moment_a_mount_ends_does_not_fail_its_end(net, tmp_path, fault):
    begun = trio.Event()

    async def fails_at_the_end():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            begun.set()
            try:
                await trio.sleep_forever()
            finally:
                raise fault

    async with (
        net.mount(tmp_path / "one", make_root=True) as vault,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(vault.aside, "this", fails_at_the_end)
        await begun.wait()
        nursery.cancel_scope.cancel()
    assert not vault.troubles


async def test_what_is_wrong_again_after_it_was_made_again_counts_as_failed_audits(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, audits=NO_AUDITS) as vault:
        await write_file(vault, b"file", os.urandom(3 * MIB))
        await vault.publish()
        await vault.courier.try_all()
        node = net.suppliers[2].node
        for _ in range(3):
            await until(lambda: not vault.circle.damage.blocks())
            rot(net, 2)
            assert await faults(vault)
        await until(lambda: vault.watch.history(node).gone)
        assert "audits" in vault.watch.history(node).gone


async def test_a_tree_that_contradicts_itself_is_found(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        inode = await write_file(vault, b"file", os.urandom(MIB))
        await vault.committer.commit(sync=True)

        def spoil(tx):
            attributes = decode_inode(tx.get(inode_key(inode)))
            attributes.nlink, attributes.size = 2, MIB + 1
            tx.put(inode_key(inode), encode_item(attributes))
            [block] = {b for b, row in vault.state.blocks.snapshot().items() if not row.meta}
            tx.delete(use_key(block))

        await vault.volume.tree.run(spoil)
        found = " ".join(await faults(vault, local_only=True))
        assert "bytes are mapped of" in found
        assert "counts 2 names and has 1" in found
        assert "0 bytes are counted as in use" in found


class Crowd:
    """How many suppliers are asked at once, and how often they are read from."""

    def __init__(self, suppliers):
        self.now = self.most = self.reads = 0
        for supplier in suppliers:
            supplier.slow_(0.01)
            supplier.call = self.counted(supplier.call)

    def counted(self, call):
        async def ask(request, payload=b""):
            if not isinstance(request, wire.Read):
                return await call(request, payload)
            self.now, self.reads = self.now + 1, self.reads + 1
            self.most = max(self.most, self.now)
            try:
                return await call(request, payload)
            finally:
                self.now -= 1

        return ask


async def test_all_suppliers_are_read_from_at_once_and_chunks_in_a_row_together(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await write_file(vault, b"file", os.urandom(24 * MIB))
        await vault.publish()
        await vault.courier.try_all()
        said, crowd = [], Crowd(net.suppliers)

        async def progress(what, done, total):
            said.append((what, done, total))

        report = await verify(vault, False, 1.0, progress)
        assert report.faults == [] and report.chunks_checked > 7 * 6 * 16
        assert crowd.most >= 7 and crowd.reads < report.chunks_checked / 4
        what, done, total = said[-1]
        assert done == total and re.fullmatch(r"blocks at suppliers, [0-9.]+ .iB/s", what)


async def test_a_sample_says_what_audits_showed_of_the_rest(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await write_file(vault, b"file", os.urandom(MIB))
        await vault.publish()
        await vault.courier.try_all()
        await vault.auditor.recent(0)
        [block, *_] = vault.auditor.census.lists[2]
        for _ in range(299):
            vault.watch.reputation.audited(net.suppliers[2].node, True)
        assert await vault.auditor.audit(block, 2)
        report = await verify(vault, False, 0.0, silent)
        said = [s for s in report.proved if s.startswith("position 2,")]
        assert "passed 300 audits in a row: it lacks less than 1.0 % of what" in said[0]
        assert not (await verify(vault, False, 1.0, silent)).proved


def test_chunks_in_a_row_are_one_request():
    chunk = CHUNK_SIZE
    assert [*in_a_row([])] == []
    assert [*in_a_row([0, chunk, 3 * chunk])] == [(0, 2 * chunk), (3 * chunk, 4 * chunk)]
    most = RUN_MAX // chunk
    assert [*in_a_row(n * chunk for n in range(most + 1))] == [
        (0, RUN_MAX),
        (RUN_MAX, RUN_MAX + chunk),
    ]


async def test_audits_are_as_many_as_their_budget_allows(net, tmp_path):
    """A thousand a second, where the first ones are 0.2 seconds apart."""
    budget = 1000 * 86400 * CHUNK_SIZE
    async with net.mount(tmp_path / "one", make_root=True, audits=budget) as vault:
        await write_file(vault, b"file", os.urandom(MIB))
        await vault.publish()
        await vault.courier.try_all()
        await vault.auditor.recent(0)
        await trio.sleep(2)  # ten audits without a budget that says otherwise
        assert sum(vault.watch.history(s.node).audits for s in net.suppliers) > 40


async def test_audits_of_every_mount_come_out_of_one_budget(net, tmp_path, monkeypatch):
    """The least one is three at once; a census comes all the same."""
    monkeypatch.setattr(audit, "CENSUS_EVERY", 0.2)

    def made(vault):
        return sum(vault.watch.history(s.node).audits for s in net.suppliers)

    async with net.mount(tmp_path / "one", make_root=True, audits=DAILY_MIN) as vault:
        await write_file(vault, b"file", os.urandom(MIB))
        await vault.publish()
        await vault.courier.try_all()
        await vault.auditor.recent(0)
        await until(lambda: made(vault) >= 3)
        seen = vault.auditor.censuses
        await until(lambda: vault.auditor.censuses >= seen + 3)
        assert made(vault) == 3
        await vault.watch.round()
        await trio.to_thread.run_sync(vault.watch.reputation.keep)
    async with net.mount(tmp_path / "one", audits=DAILY_MIN) as vault:
        await until(lambda: vault.auditor.censuses >= 4)
        assert made(vault) == 3


async def test_an_audit_that_is_not_waited_for_is_counted(net, tmp_path):
    """As those are that follow a failed one at once."""
    budget = 4 * DAILY_MIN  # thirteen at once
    async with net.mount(tmp_path / "one", make_root=True, audits=budget) as vault:
        await write_file(vault, b"file", os.urandom(MIB))
        await vault.publish()
        await vault.courier.try_all()
        await vault.auditor.recent(0)
        for _ in range(20):
            block, position = vault.auditor._choose()
            assert await vault.auditor.audit(block, position)
        assert vault.auditor._allowance.wait() > 7 * vault.auditor._allowance.pause
