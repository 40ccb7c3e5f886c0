"""A mount that begins without suppliers, on the machine that wrote last: what it may do, and what
becomes of that when they are back (promise 10).
"""

import shutil

import pytest
import trio
from scenario import QUIET, read_file, write_file

from bitdustfs.errors import LeaseHeld, Superseded, Unavailable
from bitdustfs.rebuild import watch
from bitdustfs.supplier.memory import MemorySupplier
from bitdustfs.units import MIB
from bitdustfs.vault import vaults
from bitdustfs.vault.vaults import WaitingVault, WritableVault


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(vaults, "BACK_EVERY", 0.05)
    monkeypatch.setattr(vaults, "CONFIRM_AGAIN", 0.1)
    monkeypatch.setattr(watch, "TOO_FEW_EVERY", 0.05)


async def written(net, home):
    """Work that was published, and work that was not."""
    async with net.mount(home, make_root=True, **QUIET) as vault:
        await write_file(vault, b"published", b"p" * MIB)
        await vault.publish()
        await write_file(vault, b"kept here", b"k" * MIB)


def off(net, gone=7):
    for supplier in net.suppliers[:gone]:
        supplier.break_()


def back(net):
    for supplier in net.suppliers:
        supplier.heal()


def own_ways(net):
    """Another machine reaches the suppliers, whatever stands between them and this one."""
    return {s.node: MemorySupplier(s.service, net.key.vault_id) for s in net.suppliers}


async def until(true):
    with trio.fail_after(30):
        while not true():  # noqa: ASYNC110 -- what is looked at is in another task
            await trio.sleep(0.02)


async def confirmed(vault):
    with trio.fail_after(20):
        await vault.pen.once_confirmed(trio.lowlevel.checkpoint)


async def lost(vault):
    with trio.fail_after(20):
        await vault.pen.wait_lost()


@pytest.mark.parametrize("gone", [4, 7], ids=["too few are there", "nobody is there"])
async def test_promise_10_who_wrote_last_writes_without_suppliers_and_publishes_when_they_are_back(
    net, tmp_path, gone
):
    await written(net, tmp_path / "one")
    off(net, gone)
    async with net.mount(tmp_path / "one", **QUIET) as vault:
        assert isinstance(vault, WritableVault) and not vault.read_only
        assert await read_file(vault, b"kept here") == b"k" * MIB
        await write_file(vault, b"alone", b"a" * MIB)
        with pytest.raises(Unavailable, match="4 are needed to publish"):
            await vault.publish()
        assert (await vault.account()).state == "local"
    async with net.mount(tmp_path / "one", **QUIET) as vault:  # again, still without
        assert await read_file(vault, b"alone") == b"a" * MIB
        await write_file(vault, b"more", b"m" * MIB)
        back(net)
        await confirmed(vault)
        await vault.publish()
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        for name in (b"published", b"kept here", b"alone", b"more"):
            assert await read_file(vault, name) == name[:1] * MIB


async def test_promise_10_what_was_written_alone_is_kept_and_not_merged_with_another_machine_s(
    net, tmp_path
):
    await written(net, tmp_path / "one")
    off(net)
    async with net.mount(tmp_path / "one", **QUIET) as vault:
        await write_file(vault, b"alone", b"a" * MIB)
        await another_publishes(net, tmp_path / "two")
        await lost(vault)
        assert vault.read_only and "another machine" in vault.message
        assert await read_file(vault, b"alone") == b"a" * MIB
        with pytest.raises(Superseded):
            await vault.publish()
        assert "3 files and folders have changes" in (await vault.account()).left()
    async with net.mount(tmp_path / "one", **QUIET) as vault:
        assert vault.read_only and "holds work that it had not published" in vault.message
        assert await read_file(vault, b"alone") == b"a" * MIB
    off(net)
    async with net.mount(tmp_path / "one", **QUIET) as vault:  # that is known without them, too
        assert isinstance(vault, WaitingVault)
        assert "another machine wrote this vault last" in vault.message
        assert await read_file(vault, b"alone") == b"a" * MIB
    back(net)
    async with net.mount(tmp_path / "three", machine=b"o" * 16) as vault:
        assert await vault.volume.lookup(1, b"alone") is None
        assert await read_file(vault, b"theirs") == b"t" * MIB


async def another_publishes(net, home):
    """All are back for another machine, and only then for this one."""
    sessions = own_ways(net)
    async with net.mount(home, machine=b"n" * 16, sessions=sessions, **QUIET) as vault:
        await write_file(vault, b"theirs", b"t" * MIB)
        await vault.publish()
    back(net)


async def test_a_mount_without_suppliers_waits_while_another_machine_has_the_vault(net, tmp_path):
    await written(net, tmp_path / "one")
    off(net)
    async with net.mount(tmp_path / "one", **QUIET) as vault:
        sessions = own_ways(net)
        two = net.mount(tmp_path / "two", machine=b"n" * 16, sessions=sessions, **QUIET)
        async with two as other:
            assert not other.read_only
            back(net)
            await until(lambda: "has this vault mounted" in vault.pen.waits)
            assert not vault.read_only
        await confirmed(vault)  # the other one changed nothing
        await vault.publish()
    async with net.mount(tmp_path / "three", machine=b"o" * 16) as vault:
        assert await read_file(vault, b"kept here") == b"k" * MIB


async def test_promise_10_of_two_copies_of_a_machine_that_wrote_alone_one_publishes(net, tmp_path):
    await written(net, tmp_path / "one")
    async with net.mount(tmp_path / "one", **QUIET) as vault:
        await vault.publish()  # a block that both had begun would be whose header came first
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    off(net)
    others = own_ways(net)
    for session in others.values():
        session.break_()
    async with (
        net.mount(tmp_path / "one", **QUIET) as one,
        net.mount(tmp_path / "copy", sessions=others, **QUIET) as copy,
    ):
        await write_file(one, b"one", b"1" * MIB)
        await write_file(copy, b"copy", b"2" * MIB)
        for session in others.values():
            session.heal()
        await confirmed(copy)
        await copy.publish()
        back(net)
        await lost(one)
        with pytest.raises(Superseded):
            await one.publish()
        assert await read_file(one, b"one") == b"1" * MIB


async def test_who_was_refused_because_another_machine_had_the_vault_does_not_write_alone(
    net, tmp_path
):
    await written(net, tmp_path / "one")
    async with net.mount(tmp_path / "two", machine=b"n" * 16, **QUIET):
        with pytest.raises(LeaseHeld):
            async with net.mount(tmp_path / "one", **QUIET):
                pass
    off(net)
    async with net.mount(tmp_path / "one", **QUIET) as vault:
        assert isinstance(vault, WaitingVault)


async def test_a_claim_that_came_to_nothing_does_not_end_that(net, tmp_path):
    await written(net, tmp_path / "one")
    off(net)
    async with net.mount(tmp_path / "one", **QUIET) as vault:
        with pytest.raises(Unavailable):
            await vault.publisher._claimant._claims.prepare(vault.pen.ballot, False)
    async with net.mount(tmp_path / "one", **QUIET) as vault:
        assert isinstance(vault, WritableVault) and vault.pen.waits
        back(net)
        await confirmed(vault)
        await vault.publish()


async def test_what_is_not_here_fails_at_once_while_nobody_answers_and_is_had_when_they_do(
    net, tmp_path
):
    await written(net, tmp_path / "one")
    async with net.mount(tmp_path / "two", machine=b"n" * 16, **QUIET) as vault:
        off(net)
        await until(lambda: vault.circle.nobody_answers)
        began = trio.current_time()
        with pytest.raises(Unavailable, match="no supplier answers"):
            await read_file(vault, b"published")
        assert trio.current_time() - began < 1
        back(net)
        await until(lambda: not vault.circle.nobody_answers)
        assert await read_file(vault, b"published") == b"p" * MIB
