"""Who is let in while the owner is away: with a warrant alone, and no further than it needs."""

import os
from contextlib import suppress

import pytest
from kin import NOW, PATIENCE, filled
from msgspec import structs
from nacl.signing import SigningKey
from scenario import photos

from bitdustfs.core.warrants import check_warrants_untrusted, encode_warrant
from bitdustfs.errors import Refused
from bitdustfs.family.visits import together
from bitdustfs.net import wire
from bitdustfs.supplier import kinship
from bitdustfs.supplier.memory import MemorySupplier
from bitdustfs.units import MIB


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


async def test_promise_9_a_member_that_attests_junk_stops_nobody_from_standing_in(net, tmp_path):
    kin = await filled(net, tmp_path, photos(1))
    for liar, junk in zip(net.services[:2], (b"junk", bytes(512)), strict=True):  # f = 2 of 7
        liar.kinship.attest = lambda *a, junk=junk: junk
    kin.lose(net.services[3])
    await kin.pass_time(3 * PATIENCE, rounds=24)
    assert kin.standing() == [net.family.position(net.services[3].node.verify_key.encode())]
