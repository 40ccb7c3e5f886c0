"""Small circles: two friends or four, of whom some are off; reserves that keep what is theirs; a
supplier of one's own.
"""

import os

import pytest
import trio
from machine import Net
from scenario import QUIET, read_file, write_file

from bitdustfs.blocks import courier, cutter, deferral
from bitdustfs.errors import Unavailable
from bitdustfs.family.replace import replace_member, set_bench
from bitdustfs.family.staffing import Staffing
from bitdustfs.mount.status import WritableDescriber
from bitdustfs.units import MIB
from bitdustfs.vault.verify import verify

MINUTE = 2.0  #: seconds that a minute takes here
LONG = 60.0  #: a minute that is as long as it is: what takes less than half of it did not wait


@pytest.fixture(autouse=True)
def a_minute(monkeypatch):
    monkeypatch.setattr(deferral, "SOON", MINUTE)


async def circle_of(k, n, reserves=0):
    """n suppliers with an empty vault on them, and reserves that are told of it at a mount."""
    net = Net(k, n)
    await net.create()
    net.bench = [await net.spare() for _ in range(reserves)]
    return net


def others(net, *away):
    """Breaks the suppliers of some positions."""
    for position in away:
        net.suppliers[position].break_()


async def taken(awaitable):
    """Seconds that it took."""
    began = trio.current_time()
    await awaitable
    return trio.current_time() - began


async def close_blocks(vault):
    """Everything written is in closed blocks, as before a root is signed."""
    await vault.committer.commit(sync=True)
    await vault.writer.close_open()


def data_rows(vault):
    rows = vault.state.blocks.snapshot().values()
    return [row for row in rows if not row.meta]


def status(net, vault):
    return WritableDescriber(net.key, vault, Staffing(net.key, vault)).status()


async def silent(*what):
    """Nobody watches."""


# -- promise 3: k + 1 where they can be had soon, k after a minute


@pytest.mark.parametrize(
    ("code", "away"), [((2, 3), (2,)), ((2, 4), (0,)), ((4, 7), (4, 5, 6)), ((1, 3), (1,))]
)
async def test_promise_3_a_root_waits_a_minute_for_more_and_goes_on_with_k(tmp_path, code, away):
    net = await circle_of(*code)
    enough = code[1] - len(away) > code[0]
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        others(net, *away)
        await write_file(vault, b"file", b"f" * MIB)
        first = await taken(vault.publish())
        await write_file(vault, b"more", b"m" * MIB)
        second = await taken(vault.publish())
        inode = await write_file(vault, b"more", b"")
        assert await vault.xattrs._own[b"user.bitdust.state"](inode) == "published"
    assert enough or first >= MINUTE
    assert second < MINUTE  # who was away for a minute is not waited for again
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        assert await read_file(vault, b"file") == b"f" * MIB
        assert await read_file(vault, b"more") == b"m" * MIB


async def test_promise_3_with_two_friends_one_is_enough_for_data_and_tree(tmp_path):
    net = await circle_of(1, 2)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        others(net, 1)
        await write_file(vault, b"file", os.urandom(MIB))
        await close_blocks(vault)
        assert await taken(vault.courier.wait_acknowledged()) >= MINUTE
        assert vault.ledger.waiting() == []
        others(net, 0)
        await write_file(vault, b"more", os.urandom(MIB))
        await close_blocks(vault)
        usual, courier.WAIT_DEADLINE = courier.WAIT_DEADLINE, 3 * MINUTE
        try:
            with pytest.raises(Unavailable, match="stays on this machine"):
                await vault.courier.wait_acknowledged()
        finally:
            courier.WAIT_DEADLINE = usual
        assert len(vault.ledger.waiting()) == 1
        for supplier in net.suppliers:
            supplier.heal()


async def test_promise_3_what_is_thin_is_said_stays_here_and_goes_first(tmp_path):
    net = await circle_of(2, 3)
    async with net.mount(tmp_path / "one", make_root=True, cache_limit=MIB, **QUIET) as vault:
        inode = await write_file(vault, b"file", os.urandom(3 * MIB))
        await vault.publish()
        await vault.courier.try_all()
        health = vault.xattrs._own[b"user.bitdust.health"]
        assert await health(inode) == "1" and (await status(net, vault)).thin_blocks == 0
        others(net, 2)
        thin = await write_file(vault, b"thin", os.urandom(3 * MIB))
        await vault.publish()
        for _ in range(2):
            await vault.watch.round()
        await vault.publish(again=True)
        assert await health(thin) == "thin"
        said = await status(net, vault)
        assert said.thin_blocks and said.may_lose == 0 and said.local_blocks == 0
        [warning] = [w for w in said.warnings if "thinly" in w]
        assert net.suppliers[2].node.hex()[:16] in warning
        everybody = lambda block: range(3)  # noqa: E731
        await vault.eviction.evict(everybody, vault.published_seq())
        there = {b: row.local for b, row in vault.state.blocks.snapshot().items()}
        assert all(there[block] for block in vault.state.blocks.thin())
        assert not all(there.values())  # what all three have went
        await write_file(vault, b"new", os.urandom(MIB))
        await close_blocks(vault)
        order = vault.state.blocks.to_deliver()
        assert vault.ledger.is_waiting(order[0]) and order[1:][: len(said.warnings)]
        net.suppliers[2].heal()
        await vault.courier.try_all()
        assert vault.state.blocks.thin() == []
        for _ in range(2):
            await vault.watch.round()
        assert await health(thin) == "local" or int(await health(thin)) == 1


async def test_promise_3_a_restart_forgets_neither_what_is_thin_nor_that_it_is_named(tmp_path):
    net = await circle_of(2, 3)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        others(net, 2)
        await write_file(vault, b"thin", os.urandom(MIB))
        await vault.publish()
        thin = vault.state.blocks.thin()
        assert thin
    async with net.mount(tmp_path / "one", **QUIET) as vault:
        assert vault.state.blocks.thin() == thin and vault.ledger.waiting() == []
        net.suppliers[2].heal()
        await vault.courier.try_all()
        assert vault.state.blocks.thin() == []


# -- delivery


async def test_who_comes_late_gets_its_own_fragment_and_nothing_else_is_made(tmp_path, monkeypatch):
    made, loaded = [], []
    usual, load = cutter.cut_fragments, cutter.BlockFiles.load

    def cut(content, code, positions):
        made.append(len(list(positions)))
        return usual(content, code, positions)

    def loading(files, block, length, padded):
        loaded.append(block)
        return load(files, block, length, padded)

    monkeypatch.setattr(cutter, "cut_fragments", cut)
    monkeypatch.setattr(cutter.BlockFiles, "load", loading)
    net = await circle_of(4, 7)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        others(net, 0, 6)
        await write_file(vault, b"file", os.urandom(12 * MIB))
        await close_blocks(vault)
        await vault.courier.wait_acknowledged()
        assert made == [7] * len(loaded)  # each block once, for its header
        blocks = len(made)
        for _ in range(5):  # nobody is back: nothing is read
            await vault.courier.try_all()
        assert len(made) == len(loaded) == blocks
        net.suppliers[0].heal()  # its fragments are slices of the files
        await vault.courier.try_all()
        assert {6} == {p for row in data_rows(vault) for p in row.owed}
        assert len(made) == len(loaded) == blocks
        net.suppliers[6].heal()
        await vault.courier.try_all()
        assert not vault.state.blocks.owed()
        assert made[blocks:] == [1] * blocks
        await vault.publish()
        report = await verify(vault, False, 1.0, silent)
        assert report.faults == [] and report.margin == 3


# -- reserves


async def benched(net, vault):
    await set_bench(vault, net.key, net.bench)
    for _ in range(2):
        await vault.watch.round()


def kept_at(net, number):
    """Positions -> how many fragments a reserve keeps."""
    kept = {}
    for _, key in net.spares[number].service.shelf.kept:
        kept[key[16]] = kept.get(key[16], 0) + 1
    return kept


async def test_what_an_absent_position_misses_goes_to_a_reserve_and_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(deferral, "SOON", LONG)
    net = await circle_of(2, 3, reserves=2)
    files = {b"file %d" % i: os.urandom(MIB) for i in range(2)}
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await benched(net, vault)
        others(net, 0)
        for name, content in files.items():
            await write_file(vault, name, content)
            assert await taken(vault.publish()) < LONG / 2  # k + 1 can be had soon: nobody waits
        assert vault.state.blocks.thin() == []
        assert kept_at(net, 0).keys() == {0} and not kept_at(net, 1)
        [line] = [r for r in (await status(net, vault)).bench if r.keeps_for]
        assert line.keeps_for == [0]
    # the one that was away is back with nothing, and another is gone: its copy is what is left
    net.suppliers[0].heal()
    others(net, 1)
    async with net.mount(tmp_path / "two", machine=b"n" * 16, take_over=True, **QUIET) as vault:
        for name, content in files.items():
            assert await read_file(vault, name) == content


async def test_a_reserve_drops_the_copy_once_the_position_has_it_and_not_before(tmp_path):
    net = await circle_of(2, 3, reserves=1)
    content = os.urandom(MIB)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await benched(net, vault)
        others(net, 0)
        await write_file(vault, b"file", content)
        await vault.publish()
        assert kept_at(net, 0)
        staffing = Staffing(net.key, vault)
        await vault.watch.round()
        await staffing._dismiss()
        assert kept_at(net, 0)  # its position is away
        net.suppliers[0].heal()
        deliver = vault.courier._deliver
        vault.courier._deliver = silent
        for _ in range(2):
            await vault.watch.round()
        await staffing._dismiss()
        assert kept_at(net, 0)  # it is back, and has not got anything yet
        vault.courier._deliver = deliver
        await vault.courier.try_all()
        await staffing._dismiss()
        assert not kept_at(net, 0) and not any(row.copies for row in data_rows(vault))
        assert net.spares[0].service.shelf.vault(net.key.vault_id).copies == ()
        others(net, 1)
        assert await read_file(vault, b"file") == content


async def test_another_machine_drops_no_copy_that_the_position_has_not_got(tmp_path):
    net = await circle_of(2, 3, reserves=1)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await benched(net, vault)
        others(net, 0)
        await write_file(vault, b"file", os.urandom(MIB))
        await vault.publish()
    net.suppliers[0].heal()
    others(net, 1)  # the only other list that could say what position 0 lacks, but for 2's
    async with net.mount(tmp_path / "two", machine=b"n" * 16, take_over=True, **QUIET) as vault:
        staffing = Staffing(net.key, vault)
        await vault.watch.round()
        vault.rebuilder.is_complete = lambda position: truly()
        await staffing._dismiss()
        assert kept_at(net, 0)
        del vault.rebuilder.is_complete
        net.suppliers[1].heal()
        for _ in range(2):
            await vault.watch.round()
        await vault.rebuilder.step(0.0)  # made from the other two
        await staffing._dismiss()
        assert not kept_at(net, 0)
        assert await read_file(vault, b"file")


async def truly():
    return True


async def test_a_reserve_that_gets_the_position_has_its_copies_as_its_own(tmp_path):
    net = await circle_of(2, 3, reserves=1)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await benched(net, vault)
        others(net, 0)
        await write_file(vault, b"file", os.urandom(MIB))
        await vault.publish()
        copied = [b for b, row in vault.state.blocks.snapshot().items() if row.copies]
        assert copied

        await replace_member(vault, net.key, 0, net.bench[0], silent)
        for block in copied:
            row = vault.state.blocks.get(block)
            assert 0 in row.acked and not row.copies


# -- a supplier of one's own


async def test_promise_2_what_only_this_machine_s_own_supplier_has_is_not_published(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(deferral, "SOON", LONG)
    net = await circle_of(1, 2)
    own = net.suppliers[0].node
    async with net.mount(
        tmp_path / "one", make_root=True, is_own=lambda m: m.node == own, **QUIET
    ) as vault:
        assert await taken(vault.publish()) < LONG / 2  # the friend is there: nobody is awaited
        said = await status(net, vault)
        assert said.may_lose == 0 and [line.own for line in said.suppliers] == [True, False]
        others(net, 1)
        monkeypatch.setattr(deferral, "SOON", MINUTE)
        await write_file(vault, b"file", os.urandom(MIB))
        await close_blocks(vault)
        await vault.courier.try_all()
        assert {row.acked for row in data_rows(vault) if row.owed} == {(0,)}
        usual, courier.WAIT_DEADLINE = courier.WAIT_DEADLINE, 2 * MINUTE
        try:
            with pytest.raises(Unavailable, match="stays on this machine"):
                await vault.courier.wait_acknowledged()
        finally:
            courier.WAIT_DEADLINE = usual
        net.suppliers[1].heal()
        await vault.publish()
        assert not vault.state.blocks.thin()


async def test_may_lose_counts_no_supplier_on_this_machine(net, tmp_path):
    own = net.suppliers[3].node
    async with net.mount(
        tmp_path / "one", make_root=True, is_own=lambda m: m.node == own, **QUIET
    ) as vault:
        inode = await write_file(vault, b"file", os.urandom(MIB))
        await vault.publish()
        await vault.courier.try_all()
        said = await status(net, vault)
        assert said.may_lose == 2  # of the six others
        assert await vault.xattrs._own[b"user.bitdust.health"](inode) == "2"
        assert any("on this very machine" in warning for warning in said.warnings)


async def test_who_is_on_this_machine_is_looked_up_on_the_loop_also_where_a_plan_is_made(
    net, tmp_path
):
    """Where a supplier moved that was heard in this network: what was heard is the loop's."""
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        asked = []

        def is_beside(node):
            asked.append(trio.current_time())  # raises in a thread
            return False

        vault.circle.is_beside = is_beside
        await vault.rebuilder.replanned()
        assert len(asked) >= 7
