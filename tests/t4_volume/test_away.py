"""The owner is away: members watch each other, the bench stands in, and the owner finds all of
it.
"""

import os
import time
from contextlib import suppress

import pytest
import trio
from msgspec import structs
from nacl.signing import SigningKey
from scenario import photos, read_file, write_file

from bitdustfs.core.records import Member
from bitdustfs.core.warrants import check_warrants_untrusted, encode_warrant
from bitdustfs.errors import Refused
from bitdustfs.family.refound import refound
from bitdustfs.family.replace import set_bench, set_policy
from bitdustfs.family.staffing import together
from bitdustfs.net import wire
from bitdustfs.supplier import kinship
from bitdustfs.supplier.guard import Guard
from bitdustfs.supplier.memory import MemorySupplier
from bitdustfs.supplier.service import LEASE, SupplierService
from bitdustfs.supplier.shelf import MemoryShelf
from bitdustfs.units import GIB, MIB
from bitdustfs.vault.verify import verify

PATIENCE = 1000
NOW = time.time()


class Kin:
    """Seven members and seven reserves, each with a guard, in virtual time. `down`: who is away."""

    def __init__(self, net):
        self.net, self.now, self.down = net, 1_000_000.0, set()
        self.set_by = 0.0  # seconds by which the suppliers' wall clocks were set
        self.vault = net.key.vault_id
        self.services = {}
        for service in net.services:
            self.adopt(service)
        self.reserves = []

    def adopt(self, service):
        began = self.now
        service._clock = service.kinship._clock = lambda: self.now
        service.kinship._wall = lambda: NOW + self.now - began + self.set_by
        self.services[service.node.verify_key.encode()] = service

    async def bench(self, count=7):
        members = []
        for _ in range(count):
            service = SupplierService(SigningKey(os.urandom(32)), MemoryShelf(), 4 * GIB)
            self.adopt(service)
            supplier = MemorySupplier(service, self.vault)
            await supplier.promise(4 * GIB, 2_000_000_000)
            self.net.spares.append(supplier)
            members.append(Member(supplier.node, ("127.0.0.1:5002",), 4 * GIB))
            self.reserves.append(service)
        return members

    def guard(self, service):
        own = service.node.verify_key.encode()

        def connect(vault, member):
            peer = MemorySupplier(self.services[member.node], vault, "member", own)
            if member.node in self.down or own in self.down:
                peer.break_()
            return peer

        return Guard(service, connect)

    async def pass_time(self, seconds, rounds=8):
        for _ in range(rounds):
            self.now += seconds / rounds
            for node, guard in self.guards.items():
                if node not in self.down:
                    await guard.round(self.vault)
                    await guard.fill(self.vault)

    def start(self):
        self.guards = {node: self.guard(service) for node, service in self.services.items()}

    def lose(self, service):
        """For good, with all it kept."""
        node = service.node.verify_key.encode()
        self.down.add(node)
        service.shelf.kept.clear()
        self.net.sessions()[node].break_()

    def standing(self):
        rows = [s.shelf.vault(self.vault) for n, s in self.services.items() if n not in self.down]
        return sorted(row.standing for row in rows if row is not None and row.standing >= 0)

    def fragments(self):
        """Position -> blocks, over everybody who is there."""
        found = {}
        for node, service in self.services.items():
            if node not in self.down:
                for _, key in service.shelf.kept:
                    found.setdefault(key[16], set()).add(key[:16])
        return found


async def filled(net, tmp_path, files, policy=None):
    """A vault with files and a bench, and its owner gone."""
    kin = Kin(net)
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await set_bench(vault, net.key, await kin.bench())
        await set_policy(vault, net.key, {"patience": PATIENCE, **(policy or {})})
        for name, content in files.items():
            await write_file(vault, name, content)
        await vault.publish()
        await vault.courier.try_all()
        for reserve in vault.known.family.bench:
            await vault.circle.session(reserve).accept(
                vault.state_root(), vault.known.raw_family, vault.pen.claim
            )
    kin.now += LEASE + 1
    kin.start()
    await kin.pass_time(10, rounds=2)
    return kin


async def silent(*what):
    """Nobody watches."""


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
    assert done.epoch == 3 and done.voters != net.services
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


# -- what a coalition can do


def member_session(kin, server, asker):
    return MemorySupplier(server, kin.vault, "member", asker.node.verify_key.encode())


async def test_reserves_and_members_read_nothing_without_a_warrant(net, tmp_path):
    kin = await filled(net, tmp_path, photos(1))
    (_, key) = next(iter(net.services[0].shelf.kept))
    for asker in (net.services[1], kin.reserves[0]):
        session = member_session(kin, net.services[0], asker)
        for request in (
            session.read(key[:16], 0, 0, 64), session.head(key[:16], 0), session.list(),
        ):  # fmt: skip
            with pytest.raises(Refused, match="unauthorised"):
                await request
        for forbidden in (
            wire.Promise(1, 1),
            wire.Kill(b"", b""),
            wire.Usage(),
            wire.StandDown(b"", b""),
        ):
            with pytest.raises(Refused):
                await session.call(forbidden)


async def test_f_liars_open_no_door_and_f_plus_one_only_that_of_a_copy(net, tmp_path):
    """f = 2 of 7. With one more the bench can be made to copy: nobody is expelled by that."""
    kin = await filled(net, tmp_path, photos(1))
    victim, reserve = net.services[0], kin.reserves[0]
    family = net.family
    position = family.position(victim.node.verify_key.encode())
    liars = [s for s in net.services if s is not victim][:3]
    words = []
    for liar in liars:  # they say so although the victim is there
        liar.kinship._away[kin.vault] = {victim.node.verify_key.encode(): 2.0 * PATIENCE}
        words.append(liar.kinship.attest(kin.vault, liar.shelf.vault(kin.vault), position, False))
    own = reserve.node.verify_key.encode()
    for evidence in (words[:2], words[:2] * 5):
        too_few = encode_warrant(position, own, evidence)
        assert check_warrants_untrusted(family, [too_few], NOW) == []
    warrant = encode_warrant(position, own, words)
    assert len(check_warrants_untrusted(family, [warrant], NOW)) == 1
    honest = net.services[6]
    session = member_session(kin, honest, reserve)
    await session.warrants((warrant,))
    assert (await session.list()).fragments  # it may copy now ...
    row = honest.shelf.vault(kin.vault)
    assert row.family == victim.shelf.vault(kin.vault).family  # ... and that is all
    assert warrant in row.warrants  # for the owner to see
    outsider = encode_warrant(position, SigningKey(os.urandom(32)).verify_key.encode(), words)
    assert check_warrants_untrusted(family, [outsider], NOW) == []


async def test_a_stand_in_reads_no_more_than_it_needs(net, tmp_path):
    kinship.BUDGET_EXTRA, usual = MIB, kinship.BUDGET_EXTRA
    kin = await filled(net, tmp_path, photos(1, 6 * MIB))
    kin.lose(net.services[4])
    await kin.pass_time(3 * PATIENCE, rounds=20)
    [reserve] = [r for r in kin.reserves if r.shelf.vault(kin.vault).standing >= 0]
    server = net.services[0]
    row = server.shelf.vault(kin.vault)
    session = member_session(kin, server, reserve)
    position = net.family.position(server.node.verify_key.encode())
    sizes = {k[:16]: len(kept[2]) for (_, k), kept in server.shelf.kept.items()}
    block, length = max(sizes.items(), key=lambda one: one[1])
    with pytest.raises(Refused, match="busy"):
        for _ in range((2 * row.used + MIB) // length + 1):
            await session.read(block, position, 0, length)
    kinship.BUDGET_EXTRA = usual
    owner = net.sessions()[server.node.verify_key.encode()]
    [visit] = await owner.visits()  # all of it is kept for the owner to see
    assert visit.stand_in == reserve.node.verify_key.encode()
    assert row.used < visit.bytes <= 2 * row.used + MIB
    with pytest.raises(Refused, match="unauthorised"):
        await session.visits()


async def test_the_owner_is_told_who_read_what_at_every_supplier(net, tmp_path):
    kin = await filled(net, tmp_path, photos(2, 2 * MIB))
    lost, other = net.services[2], net.services[4]
    kin.lose(lost)
    kin.down.add(other.node.verify_key.encode())
    await kin.pass_time(3 * PATIENCE, rounds=20)
    kept = net.services[0].shelf.vault(kin.vault).visits  # durable, though nobody has asked
    assert {visit.position for visit in kept} == {2, 4}
    told = []
    for node in set(kin.services) - {lost.node.verify_key.encode()}:
        told += await net.sessions()[node].visits()
    visits = together(told, since=0)
    assert {visit.position: visit.stand_in for visit in visits} == {
        r.shelf.vault(kin.vault).standing: r.node.verify_key.encode()
        for r in kin.reserves
        if r.shelf.vault(kin.vault).standing >= 0
    }
    for visit in visits:  # k fragments for each that it made, and not much more
        made = sum(len(kept[2]) for kept in kin.services[visit.stand_in].shelf.kept.values())
        assert 3 * made <= visit.bytes <= 4.5 * made
    assert together(told, since=1 << 40) == []


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


async def test_one_member_and_the_reserves_it_lets_in_open_no_other_door(net, tmp_path):
    """n = 7, f = 2: its leaving is one voice, however many reserves speak with it."""
    kin = await filled(net, tmp_path, photos(1))
    evil, victim, honest = net.services[0], net.services[5], net.services[6]
    family, colluding, asker = net.family, kin.reserves[:6], kin.reserves[6]
    place = family.position(evil.node.verify_key.encode())
    position = family.position(victim.node.verify_key.encode())
    evil.kinship.leave()
    left = evil.kinship.kin(kin.vault, evil.shelf.vault(kin.vault)).leaving
    words = []
    for liar in [evil, *colluding]:  # they say so although the victim answers
        liar.kinship._away[kin.vault] = {victim.node.verify_key.encode(): 2.0 * PATIENCE}
        row = liar.shelf.vault(kin.vault)
        words.append(liar.kinship.attest(kin.vault, row, position, False))
    for reserve in colluding:
        own = reserve.node.verify_key.encode()
        warrant = encode_warrant(place, own, [left], leaving=True)
        await member_session(kin, honest, reserve).warrants((warrant,))
    own = asker.node.verify_key.encode()
    session = member_session(kin, honest, asker)
    await session.warrants((encode_warrant(position, own, words),))
    with pytest.raises(Refused, match="unauthorised"):
        await session.list()


async def test_a_stand_in_asks_no_more_often_than_it_needs(net, tmp_path, monkeypatch):
    monkeypatch.setattr(kinship, "REQUESTS_SHARE", 1)
    monkeypatch.setattr(kinship, "REQUESTS_EXTRA", 100)
    kin = await filled(net, tmp_path, photos(1))
    kin.lose(net.services[4])
    await kin.pass_time(3 * PATIENCE, rounds=20)
    [reserve] = [r for r in kin.reserves if r.shelf.vault(kin.vault).standing >= 0]
    server = net.services[0]
    session = member_session(kin, server, reserve)
    for _ in range(100 + server.shelf.vault(kin.vault).fragments):  # some bytes each
        with suppress(Refused):
            await session.list()
    with pytest.raises(Refused, match="busy"):
        await session.list()
    kin.now += kinship.BUDGET_SECONDS + 1
    await session.list()


async def test_a_warrant_ends_unless_the_others_still_say_so(net, tmp_path):
    kin = await filled(net, tmp_path, photos(1))
    lost, away = net.services[3], net.services[5]
    kin.lose(lost)
    kin.down.add(away.node.verify_key.encode())
    await kin.pass_time(4 * PATIENCE, rounds=24)
    assert kin.standing() == [3, 5]
    kin.down.discard(away.node.verify_key.encode())  # it is back, and its copy is complete
    server, sessions = net.services[0], {}
    for reserve in kin.reserves:
        if (standing := reserve.shelf.vault(kin.vault).standing) >= 0:
            sessions[standing] = member_session(kin, server, reserve)
    for _ in range(3):
        kin.set_by += 16 * 86400
        await kin.pass_time(PATIENCE, rounds=24)
    await sessions[3].list()
    with pytest.raises(Refused, match="unauthorised"):
        await sessions[5].list()


# -- clocks


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


# -- what one liar, or one bad line, must not bring about


async def test_promise_9_a_member_that_attests_junk_stops_nobody_from_standing_in(net, tmp_path):
    kin = await filled(net, tmp_path, photos(1))
    for liar, junk in zip(net.services[:2], (b"junk", bytes(512)), strict=True):  # f = 2 of 7
        liar.kinship.attest = lambda *a, junk=junk: junk
    kin.lose(net.services[3])
    await kin.pass_time(3 * PATIENCE, rounds=24)
    assert kin.standing() == [net.family.position(net.services[3].node.verify_key.encode())]


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


async def test_a_claim_without_a_warrant_is_not_believed_for_long(net, tmp_path):
    kin = await filled(net, tmp_path, photos(1))
    lost = net.services[3]
    position = net.family.position(lost.node.verify_key.encode())
    liar = kin.reserves[6].kinship
    answer = liar.kin
    liar.kin = lambda vault, row: structs.replace(
        answer(vault, row), standing=position, complete=True
    )
    kin.lose(lost)
    await kin.pass_time(4 * PATIENCE, rounds=32)
    assert kin.standing() == [position]  # somebody who means it


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
