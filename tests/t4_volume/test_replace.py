"""Positions go to other suppliers while the vault is mounted: fire and hire with the owner
there.
"""

import os

import pytest
import trio
from machine import PowerCut
from scenario import photos, read_file, write_file

from bitdustfs.core.quorum import check_known_untrusted
from bitdustfs.errors import Refused, Unavailable, Unreachable, UsageError
from bitdustfs.family import deleting, staffing
from bitdustfs.family.replace import replace_member, set_policy
from bitdustfs.net import wire
from bitdustfs.rebuild import audit, probe
from bitdustfs.units import MIB
from bitdustfs.vault.verify import verify


async def silent(*what):
    """Nobody watches."""


async def sound(vault):
    report = await verify(vault, False, 1.0, silent)
    return report.faults == [] and report.margin == 3


async def test_promise_6_all_seven_suppliers_are_replaced_one_after_the_other(net, tmp_path):
    files = photos()
    originals = list(net.suppliers)
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        for name, content in files.items():
            await write_file(vault, name, content)
        await vault.publish()
        await vault.courier.try_all()
        for position, original in enumerate(originals):
            original.break_()
            original.service.shelf.kept.clear()
            files[b"new %d" % position] = os.urandom(MIB)
            await write_file(vault, b"new %d" % position, files[b"new %d" % position])
            await vault.publish()
            await replace_member(vault, net.key, position, await net.spare(), silent)
            await vault.courier.try_all()
            assert await sound(vault)
        assert vault.known.family.epoch == 14
        assert not {m.node for m in vault.known.family.members} & {s.node for s in originals}
    net.services = [spare.service for spare in net.spares]  # who else could tell of the family
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        for name, content in files.items():
            assert await read_file(vault, name) == content
        assert await sound(vault)


async def test_another_machine_follows_from_an_old_family_to_the_new_one(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await write_file(vault, b"file", b"x" * 100_000)
        await vault.publish()
        before = vault.known.family
        for position in (6, 2):
            net.suppliers[position].break_()  # it will never hear of the change
            await replace_member(vault, net.key, position, await net.spare(), silent)
        await set_policy(vault, net.key, {"patience": 60})
    for supplier in net.suppliers:
        supplier.heal()
    async with net.mount(tmp_path / "two", machine=b"n" * 16, family=before) as vault:
        assert vault.known.family.epoch == 5 and vault.known.family.words == {"patience": 60}
        assert await read_file(vault, b"file") == b"x" * 100_000
        await write_file(vault, b"more", b"y" * 100_000)
        await vault.publish()
        assert await sound(vault)


async def test_who_was_hired_since_is_told_too_that_the_vault_ends(net, tmp_path, monkeypatch):
    """Whoever is asked first may be one who never heard that he was replaced."""
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await write_file(vault, b"file", b"x" * 100_000)
        await vault.publish()
        net.suppliers[6].break_()
        hired = await net.spare()
        await replace_member(vault, net.key, 6, hired, silent)
    net.suppliers[6].heal()
    held = await net.suppliers[6].current()
    old = check_known_untrusted(net.key.vault_id, held.root, held.family)
    assert hired.node not in {member.node for member in old.family.everybody}

    class Ways:
        def __init__(self, key, addresses, nursery):
            self.connect = lambda member: net.sessions()[member.node]

    monkeypatch.setattr(deleting, "Ways", Ways)
    shown = await deleting.fence(net.key, old, ())
    assert hired.node in {member.node for member in shown}


async def test_what_a_present_supplier_has_is_copied_not_rebuilt(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await write_file(vault, b"file", os.urandom(20 * MIB))
        await vault.publish()
        await vault.courier.try_all()
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        for supplier in net.suppliers:
            supplier.calls.clear()
        fill = await replace_member(vault, net.key, 3, await net.spare(), silent)
        reads = [supplier.calls.count("Read") for supplier in net.suppliers]
        assert reads[3] > fill.bytes // MIB and max(reads[:3] + reads[4:]) < reads[3] // 2
        assert await sound(vault)


async def test_a_change_that_reached_a_minority_is_finished_by_the_next_mount(net, tmp_path):
    def deaf(supplier):
        call = supplier.call

        async def answer(request, payload=b""):
            if isinstance(request, wire.Accept):
                raise Unreachable("lost on the way")
            return await call(request, payload)

        supplier.call = answer
        return lambda: setattr(supplier, "call", call)

    content = os.urandom(3 * MIB)
    with pytest.RaisesGroup(pytest.RaisesExc(PowerCut)):
        async with net.mount(tmp_path / "one", make_root=True) as vault:
            await write_file(vault, b"file", content)
            await vault.publish()
            await vault.courier.try_all()
            member = await net.spare()
            heal = [deaf(supplier) for supplier in net.suppliers[1:]]
            with pytest.raises(Unavailable):
                await replace_member(vault, net.key, 6, member, silent)
            assert vault.known.family.epoch == 0
            raise PowerCut from None
    for again in heal:
        again()
    async with net.mount(tmp_path / "two", machine=b"n" * 16, take_over=True) as vault:
        assert vault.known.family.epoch == 1 and vault.known.confirmed
        assert await read_file(vault, b"file") == content
        await write_file(vault, b"more", b"y" * 100_000)
        await vault.publish()
        await vault.courier.try_all()
        assert await sound(vault)


async def test_a_replacement_that_fails_leaves_the_family_as_it_was(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await write_file(vault, b"file", os.urandom(3 * MIB))
        await vault.publish()
        await vault.courier.try_all()
        member = await net.spare()
        spare, call = net.spares[0], net.spares[0].call

        async def full(request, payload=b""):
            if isinstance(request, wire.Put):
                raise Unreachable("it went away")
            return await call(request, payload)

        spare.call = full
        with pytest.raises(Unavailable, match="stays as it was"):
            await replace_member(vault, net.key, 0, member, silent)
        assert vault.known.family.epoch == 0 and not vault.ledger._newcomers
        await write_file(vault, b"more", b"y" * 100_000)
        await vault.publish()
        assert await sound(vault)


async def test_a_newcomer_that_is_full_is_left_at_once_and_another_one_hired(
    net, tmp_path, monkeypatch
):
    hired = []

    async def hire(family, position, credentials, known, address, unwanted, reserves, fill, own):
        for member in spares:
            if member.node not in unwanted:
                hired.append(member.node)
                return member
        raise Unavailable("nobody is left")

    monkeypatch.setattr(staffing, "hire", hire)
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        for number in range(6):
            await write_file(vault, b"file %d" % number, os.urandom(3 * MIB))
            await vault.publish()
        await vault.courier.try_all()
        spares = [await net.spare() for _ in range(2)]
        full = net.spares[0]
        call = full.call

        async def no_room(request, payload=b""):
            if isinstance(request, wire.Put):
                full.calls.append("Put")
                raise Refused("no-space", "its disk is full")
            return await call(request, payload)

        full.call = no_room
        vault.watch.reputation.condemn(net.suppliers[3].node, "leaves")
        staff = staffing.Staffing(net.key, vault)
        with pytest.raises(Unavailable, match=r"new supplier failed.*no-space"):
            await staff.replace_due(silent, patient=True)
        assert full.calls.count("Put") <= 4  # two blocks at once, and perhaps what is new
        assert not await staff.replace_due(silent, patient=True)  # not again at once
        assert await staff.replace_due(silent)
        assert hired == [spare.node for spare in net.spares]
        assert vault.known.family.members[3].node == net.spares[1].node
        assert await sound(vault)


async def test_who_is_meant_is_compared_when_nobody_else_changes_the_family(
    net, tmp_path, monkeypatch
):
    async def hire(*asked):
        return new

    monkeypatch.setattr(staffing, "hire", hire)
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        there = vault.known.family.members[3].node
        new = await net.spare()
        staff = staffing.Staffing(net.key, vault)
        with pytest.raises(UsageError, match="position 3 has another supplier by now"):
            await staff.replace(3, "", silent, meant=new.node)
        assert vault.known.family.members[3].node == there
        assert await staff.replace(3, "", silent, meant=there)
        assert vault.known.family.members[3].node == new.node


async def test_an_audit_that_ends_after_its_position_moved_blames_nobody_new(
    net, tmp_path, monkeypatch
):
    monkeypatch.setattr(probe, "DEADLINE", 30.0)
    monkeypatch.setattr(audit, "FIRST_PAUSE", 1e9)  # no audits but the one below
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await write_file(vault, b"file", os.urandom(MIB))
        await vault.publish()
        await vault.courier.try_all()
        [block] = [b for b, row in vault.state.blocks.snapshot().items() if not row.meta]
        entered, moved = trio.Event(), trio.Event()
        call = net.suppliers[6].call

        async def late(request, payload=b""):
            if isinstance(request, wire.Head) and not moved.is_set():
                entered.set()
                await moved.wait()
                raise Refused("not-found", "it lost its disk")
            return await call(request, payload)

        net.suppliers[6].call = late
        async with trio.open_nursery() as nursery:
            nursery.start_soon(vault.auditor.audit, block, 6)
            await entered.wait()
            await replace_member(vault, net.key, 6, await net.spare(), silent)
            moved.set()
        assert not vault.circle.damage.blocks() and not vault.state.blocks.owed()
