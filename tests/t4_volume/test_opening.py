"""Which root a mount follows and whether it writes, when machines die and voters hide things."""

import os

import pytest
import trio
from machine import PowerCut
from scenario import QUIET, read_file, write_file

from bitdustfs import failpoints
from bitdustfs.errors import Superseded, Unavailable, Unreachable
from bitdustfs.net import wire
from bitdustfs.units import MIB
from bitdustfs.vault import opening
from bitdustfs.vault.vaults import WaitingVault


def rows(net):
    return [service.shelf.rows[net.key.vault_id] for service in net.services]


def put_back(net, old):
    for service, row in zip(net.services, old, strict=True):
        service.shelf.rows[net.key.vault_id] = row


async def die_with_a_root_at_a_minority(net, home, name):
    """Publishes, but only three of seven voters get the root; then the machine dies."""
    calls = {s: s.call for s in net.suppliers[3:]}

    def deaf(call):
        async def answer(request, payload=b""):
            if isinstance(request, wire.Accept):
                raise Unreachable("lost on the way")
            return await call(request, payload)

        return answer

    with pytest.RaisesGroup(pytest.RaisesExc(PowerCut)):
        async with net.mount(home) as vault:
            await write_file(vault, name, name * 1000)
            for supplier, call in calls.items():
                supplier.call = deaf(call)
            with pytest.raises(Unavailable):
                await vault.publish()
            raise PowerCut from None
    for supplier, call in calls.items():
        supplier.call = call


async def test_promise_8_an_unconfirmed_root_does_not_lower_what_was_seen(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await write_file(vault, b"a", b"a")
        await vault.publish()
        old = rows(net)
        await write_file(vault, b"b", b"b")
        await vault.publish()
    async with net.mount(tmp_path / "two", machine=b"n" * 16, read_only=True) as vault:
        assert vault.known.confirmed
    await die_with_a_root_at_a_minority(net, tmp_path / "one", b"c")
    async with net.mount(tmp_path / "two", machine=b"n" * 16, read_only=True) as vault:
        assert not vault.known.confirmed
    put_back(net, old)
    async with net.mount(tmp_path / "two", machine=b"n" * 16, take_over=True) as vault:
        assert vault.read_only and "hide the newer one" in vault.message


async def test_promise_10_looking_does_not_make_a_machine_forget_its_own_proposal(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await vault.publish()
    await die_with_a_root_at_a_minority(net, tmp_path / "one", b"mine")
    for supplier in net.suppliers[:3]:  # those that have it
        supplier.break_()
    async with net.mount(tmp_path / "one", read_only=True) as vault:
        assert await read_file(vault, b"mine") == b"mine" * 1000
    for supplier in net.suppliers:
        supplier.heal()
    async with net.mount(tmp_path / "one", take_over=True) as vault:
        assert not vault.read_only
        await vault.publish()
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        assert await read_file(vault, b"mine") == b"mine" * 1000


async def test_promise_10_a_machine_with_diverged_work_fences_nobody(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await vault.publish()
    with pytest.RaisesGroup(pytest.RaisesExc(PowerCut)):
        async with net.mount(tmp_path / "one") as vault:
            await write_file(vault, b"mine", b"mine" * 1000)
            await vault.committer.commit(sync=True)
            raise PowerCut from None
    async with net.mount(tmp_path / "two", machine=b"n" * 16, take_over=True) as writer:
        await write_file(writer, b"theirs", b"theirs")
        await writer.publish()
        async with net.mount(tmp_path / "one", take_over=True) as vault:
            assert vault.read_only and "holds work that it had not published" in vault.message
            assert await read_file(vault, b"mine") == b"mine" * 1000
        await write_file(writer, b"more", b"more")
        await writer.publish()
        assert not writer.read_only


async def test_promise_9_a_supplier_that_lost_its_shelf_is_found_and_served_again(net, tmp_path):
    content = os.urandom(3 * MIB)
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await write_file(vault, b"file", content)
        await vault.publish()
        await vault.courier.try_all()
        for service in net.services[:3]:
            service.shelf.kept.clear()
        assert not vault.state.blocks.owed()
        await vault.auditor.recent(0)  # they list nothing of what they acknowledged
        assert vault.state.blocks.owed()
        await vault.courier.try_all()
        assert not vault.state.blocks.owed()
        assert len({len(service.shelf.kept) for service in net.services}) == 1
    for supplier in net.suppliers[3:6]:
        supplier.break_()
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        assert await read_file(vault, b"file") == content


# -- a mount that began with too few suppliers, where another machine wrote last


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(opening, "LOOK_AGAIN", 0.2)


async def begun_with_too_few(net, home, gone=4):
    """Another machine wrote last, as this one saw; then so many suppliers of seven go."""
    async with net.mount(home, make_root=True, **QUIET) as vault:
        await write_file(vault, b"published", b"p" * MIB)
        await vault.publish()
    async with net.mount(home.parent / "other", machine=b"n" * 16, **QUIET) as vault:
        await write_file(vault, b"other", b"o" * MIB)
        await vault.publish()
    async with net.mount(home, read_only=True, **QUIET) as vault:
        assert await read_file(vault, b"other") == b"o" * MIB
    for supplier in net.suppliers[:gone]:
        supplier.break_()


@pytest.mark.parametrize("gone", [4, 7])
async def test_promise_9_a_mount_that_began_with_too_few_is_writable_when_they_are_back(
    net, tmp_path, soon, gone
):
    await begun_with_too_few(net, tmp_path / "one", gone)
    async with net.mount(tmp_path / "one", **QUIET) as vault:
        assert isinstance(vault, WaitingVault) and vault.read_only
        assert "until enough of them are back" in vault.message
        assert "another machine wrote this vault last" in vault.message
        assert await read_file(vault, b"other") == b"o" * MIB
        with trio.move_on_after(1) as too_early:
            async with vault.writable():
                pass
        assert too_early.cancelled_caught
        for supplier in net.suppliers[:gone]:
            supplier.heal()
        async with vault.writable() as writable:
            writable.volume.adopt(vault.volume)
            assert not writable.read_only and writable.message == ""
            await write_file(writable, b"new", b"n" * MIB)
            assert await read_file(vault, b"published") == b"p" * MIB  # what is under way
            await writable.publish()
    async with net.mount(tmp_path / "two", machine=b"o" * 16) as vault:
        for name in (b"published", b"other", b"new"):
            assert await read_file(vault, name) == name[:1] * MIB


async def test_without_any_supplier_a_machine_that_has_nothing_says_so(net, tmp_path):
    family = net.family
    for supplier in net.suppliers:
        supplier.break_()
    with pytest.raises(Unavailable, match="0 of 7 suppliers answered"):
        async with net.mount(tmp_path / "one", family=family):
            pass


async def test_few_who_missed_the_newest_root_are_not_said_to_hide_it(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"file", b"1" * MIB)
        await vault.publish()
        old = rows(net)
        await write_file(vault, b"newer", b"2" * MIB)
        await vault.publish()
    new = rows(net)
    put_back(net, [*old[:3], *new[3:]])  # three were away when it was published
    for supplier in net.suppliers[3:]:
        supplier.break_()
    async with net.mount(tmp_path / "one", **QUIET) as vault:
        assert "only 3 of 7" in vault.pen.waits and not vault.read_only
        assert await read_file(vault, b"newer") == b"2" * MIB
        for supplier in net.suppliers[3:]:
            supplier.heal()
        await vault.publisher.confirm()
        await write_file(vault, b"file", b"3" * MIB)
        await vault.publish()


async def test_a_mount_that_waits_says_that_there_is_a_newer_state(net, tmp_path, soon):
    await begun_with_too_few(net, tmp_path / "one")
    async with net.mount(tmp_path / "one", **QUIET) as vault:
        for supplier in net.suppliers[:4]:
            supplier.heal()
        async with net.mount(tmp_path / "two", machine=b"o" * 16, **QUIET) as newer:
            await write_file(newer, b"newer", b"2" * MIB)
            await newer.publish()
        with pytest.raises(Superseded, match="unmount it and mount it again"):
            async with vault.writable():
                pass


async def test_promise_9_a_mount_that_waits_goes_on_waiting_while_this_machine_s_disk_refuses(
    net, tmp_path, soon, monkeypatch
):
    await begun_with_too_few(net, tmp_path / "one")
    async with net.mount(tmp_path / "one", **QUIET) as vault:
        for supplier in net.suppliers[:4]:
            supplier.heal()
        monkeypatch.setattr(failpoints, "plan", failpoints.FaultPlan("state-commit=enospc@1"))
        async with vault.writable() as writable:
            assert await read_file(writable, b"other") == b"o" * MIB
            await writable.publish()


async def test_a_mount_that_was_asked_to_be_read_only_stays_so(net, tmp_path):
    await begun_with_too_few(net, tmp_path / "one")
    async with net.mount(tmp_path / "one", read_only=True) as vault:
        assert not isinstance(vault, WaitingVault)
