"""The owner is away: members watch each other, the bench stands in, and the owner finds all of
it.
"""

import pytest
import trio
from kin import PATIENCE, filled, silent
from msgspec import structs
from scenario import photos, read_file, write_file

from bitdustfs.errors import Refused
from bitdustfs.family.refound import refound
from bitdustfs.supplier.service import LEASE
from bitdustfs.units import MIB
from bitdustfs.vault.verify import verify


async def test_promise_9_all_seven_go_one_by_one_while_the_owner_is_away(net, tmp_path):
    files = photos(3, 2 * MIB)
    kin = await filled(net, tmp_path, files)
    blocks = kin.fragments()[0]
    for number, service in enumerate(list(net.services)):
        kin.lose(service)
        await kin.pass_time(3 * PATIENCE, rounds=24)
        assert len(kin.standing()) == number + 1
        assert all(kin.fragments()[position] == blocks for position in range(7)), number
    net.services = kin.reserves  # who else could tell of the family
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        assert vault.read_only and "0 of 7" in vault.message and "refound" in vault.message
        for name, content in files.items():
            assert await read_file(vault, name) == content
    sessions = net.sessions()
    done = await refound(net.key, net.family, lambda m: sessions[m.node])
    assert done.epoch == 3 and done.members != net.services
    async with net.mount(tmp_path / "three", machine=b"o" * 16, family=done) as vault:
        assert not vault.read_only
        await write_file(vault, b"more", b"y" * 100_000)
        await vault.publish()
        await vault.courier.try_all()
        for name, content in files.items():
            assert await read_file(vault, name) == content
        report = await verify(vault, False, 1.0, silent)
        assert report.faults == [] and report.margin == 3


async def test_who_comes_back_soon_finds_that_nothing_was_done(net, tmp_path):
    kin = await filled(net, tmp_path, photos(1))
    away = net.services[2].node.verify_key.encode()
    for _ in range(20):  # away for less than patience, again and again
        kin.down.add(away)
        await kin.pass_time(PATIENCE * 0.9)
        kin.down.discard(away)
        await kin.pass_time(PATIENCE * 0.2, rounds=2)
    assert kin.standing() == [] and not any(r.shelf.kept for r in kin.reserves)


async def test_the_owner_comes_home_confirms_one_stand_in_and_dismisses_another(net, tmp_path):
    files = photos(2, 2 * MIB)
    kin = await filled(net, tmp_path, files)
    lost, back = net.services[1], net.services[5]
    kin.lose(lost)
    kin.down.add(back.node.verify_key.encode())
    await kin.pass_time(4 * PATIENCE, rounds=24)
    assert kin.standing() == [1, 5]
    kin.down.discard(back.node.verify_key.encode())
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        for _ in range(3):
            await vault.watch.round()
        assert vault.watch.stand_in(1) and vault.watch.stand_in(5)
        plan = await vault.rebuilder.look(0.0)
        assert plan.replace == 1  # without more patience: its kin had it
        for name, content in files.items():
            assert await read_file(vault, name) == content


async def test_nobody_stands_in_while_the_owner_is_there(net, tmp_path):
    kin = await filled(net, tmp_path, photos(1))
    kin.lose(net.services[3])
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        for _ in range(60):
            await vault.register.renew(vault.pen.claim)
            await kin.pass_time(LEASE / 2, rounds=1)
        assert kin.standing() == []
    kin.now += LEASE
    await kin.pass_time(3 * PATIENCE, rounds=12)
    assert kin.standing() == [3]


async def test_a_member_that_leaves_hands_over_a_copy_without_being_away(net, tmp_path):
    kin = await filled(net, tmp_path, photos(2, 2 * MIB))
    leaver = net.services[2]
    leaver.kinship.leaving = True
    guard = kin.guards[leaver.node.verify_key.encode()]
    position = net.family.position(leaver.node.verify_key.encode())
    calls = []
    for service in net.services:
        if service is not leaver:
            read = service.shelf.read
            service.shelf.read = lambda *a, read=read: calls.append(1) or read(*a)
    assert guard.depending() == [kin.vault]
    await kin.pass_time(60, rounds=4)
    assert kin.standing() == [position] and guard.depending() == []
    assert not calls  # copied from the leaver alone
    assert kin.fragments()[position] == kin.fragments()[(position + 1) % 7]


async def test_a_machine_that_slept_or_was_set_right_attests_nobodys_absence(net, tmp_path):
    kin = await filled(net, tmp_path, photos(1), {"patience": 72 * 3600})
    away = net.services[2].node.verify_key.encode()
    kin.down.add(away)
    await kin.pass_time(1200, rounds=2)
    for days in (9, -20, 400):  # wall clocks, which say nothing here
        kin.set_by += days * 86400
        await kin.pass_time(600, rounds=1)
    kin.now += 9 * 86400  # and once the other clock: stopped, or a virtual machine that was saved
    for service in net.services[:2]:
        row = service.shelf.vault(kin.vault)
        with pytest.raises(Refused, match="here lately"):  # asked before its next round, too
            service.kinship.attest(kin.vault, row, net.family.position(away), False)
    await kin.pass_time(600, rounds=1)
    assert kin.standing() == [] and not any(r.shelf.kept for r in kin.reserves)
    kin.set_by = 0.0
    await kin.pass_time(73 * 3600, rounds=73)
    assert kin.standing() == [net.family.position(away)]


async def test_while_a_suppliers_own_network_is_down_nobody_else_is_away(net, tmp_path):
    kin = await filled(net, tmp_path, photos(1))
    missed, cut = net.services[2].node.verify_key.encode(), net.services[0]
    others = set(kin.services) - {cut.node.verify_key.encode(), missed}
    kin.down.add(missed)
    for _ in range(8):
        await kin.pass_time(20, rounds=2)
        kin.down |= others
        await kin.pass_time(PATIENCE, rounds=2)
        kin.down -= others
        await kin.pass_time(1, rounds=1)
    with pytest.raises(Refused, match="here lately"):
        row = cut.shelf.vault(kin.vault)
        cut.kinship.attest(kin.vault, row, net.family.position(missed), False)


async def test_promise_9_a_made_up_block_keeps_nobody_from_standing_in_or_leaving(net, tmp_path):
    kin = await filled(net, tmp_path, photos(1))
    shelf, leaver = net.services[1].shelf, net.services[2]
    listed = shelf.keys
    made_up = (
        bytes(16) + bytes([net.family.position(net.services[1].node.verify_key.encode())]),
        9,
    )
    shelf.keys = lambda vault, after, limit: sorted([*listed(vault, b"", limit), made_up])
    leaver.kinship.leaving = True
    await kin.pass_time(60, rounds=6)
    assert kin.guards[leaver.node.verify_key.encode()].depending() == []


async def test_a_reserve_that_stands_in_leaves_only_when_another_has_it_all(net, tmp_path):
    kin = await filled(net, tmp_path, photos(1))
    kin.lose(net.services[3])
    await kin.pass_time(3 * PATIENCE, rounds=24)
    [first] = [r for r in kin.reserves if r.shelf.vault(kin.vault).standing >= 0]
    first.kinship.leaving = True
    guard = kin.guards[first.node.verify_key.encode()]
    assert guard.depending() == [kin.vault]
    await kin.pass_time(PATIENCE, rounds=8)
    assert len(kin.standing()) == 2 and guard.depending() == []
    kin.down.add(first.node.verify_key.encode())
    assert kin.fragments()[kin.standing()[0]] == kin.fragments()[0]


async def test_a_stand_in_that_misses_a_ping_is_not_copied_again_and_two_become_one(net, tmp_path):
    kin = await filled(net, tmp_path, photos(1))
    kin.lose(net.services[3])
    await kin.pass_time(3 * PATIENCE, rounds=24)
    [first] = [r for r in kin.reserves if r.shelf.vault(kin.vault).standing >= 0]
    node = first.node.verify_key.encode()
    for _ in range(6):
        kin.down.add(node)
        await kin.pass_time(10, rounds=1)
        kin.down.discard(node)
        await kin.pass_time(10, rounds=1)
    assert len(kin.standing()) == 1
    kin.down.add(node)  # for good, as far as anybody can tell
    await kin.pass_time(3 * PATIENCE, rounds=24)
    assert len(kin.standing()) == 1
    kin.down.discard(node)  # but it is back: one copy is enough
    await kin.pass_time(PATIENCE, rounds=8)
    assert len(kin.standing()) == 1


async def test_a_family_that_cannot_be_served_costs_the_others_nothing(net, tmp_path):
    kin = await filled(net, tmp_path, photos(1), {"bandwidth": 1000})  # hours for one copy
    kin.lose(net.services[3])
    for _ in range(30):
        kin.now += PATIENCE / 10
        for node, guard in kin.guards.items():
            if node not in kin.down:
                await guard.round(kin.vault)
    [reserve] = [r for r in kin.reserves if r.shelf.vault(kin.vault).standing >= 0]
    guard = kin.guards[reserve.node.verify_key.encode()]
    turns = []
    rounds = guard.round

    async def counted(vault):
        turns.append(trio.current_time())
        if len(turns) == 3:
            raise OverflowError("a strange family")
        return min(1.0, await rounds(vault))

    guard.round = counted
    with trio.move_on_after(6) as running:
        await guard.run()
    assert running.cancelled_caught and len(turns) == 3  # it went round while it gathered


async def test_a_reserve_without_a_warrant_takes_nobodys_place_when_the_owner_is_back(
    net, tmp_path
):
    kin = await filled(net, tmp_path, photos(1), {"patience": 72 * 3600})
    liar = kin.reserves[4]
    answer = liar.kinship.kin
    liar.kinship.kin = lambda vault, row: structs.replace(
        answer(vault, row), standing=3, complete=True
    )
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        net.suppliers[3].break_()  # for less than a minute
        for _ in range(3):
            await vault.watch.round()
        assert vault.watch.state(net.suppliers[3].node) == "suspect"
        assert vault.watch.stand_in(3) is None
        assert (await vault.rebuilder.look(0.0)).replace is None
