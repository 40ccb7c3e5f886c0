"""The past holds against the key itself: what a thief of it does in an afternoon is undone."""

import os
import time

import pytest
from kin import silent
from machine import Net
from scenario import photos, read_file, unlink, write_file

from bitdustfs.core.records import (
    Ballot,
    BlockDead,
    Family,
    Group,
    StandDown,
    VaultEnd,
    claim_ballot,
    open_family_untrusted,
    open_root_untrusted,
    seal_record,
)
from bitdustfs.core.roots import first_root
from bitdustfs.core.sealing import Suite
from bitdustfs.errors import NoSpace, Refused, Unavailable
from bitdustfs.family.hire import agree_to_retain
from bitdustfs.family.replace import replace_member, set_policy
from bitdustfs.family.retaining import set_retention
from bitdustfs.family.rewind import choose, look_back, promise_again, rewind
from bitdustfs.net import wire
from bitdustfs.net.register import RootRegister
from bitdustfs.supplier.voter import LEASE
from bitdustfs.units import MIB
from bitdustfs.vault.verify import verify

HOUR, DAY = 3600, 86400
RETAIN = 14 * DAY
YESTERDAY = photos(2, size=400_000)


class Days:
    """A net of suppliers with a vault that has a retention, in time that the test lets pass."""

    def __init__(self, **options):
        self.now = 1_790_000_000.0
        self.net = Net(clock=lambda: self.now, wall=lambda: self.now, **options)

    @property
    def services(self):
        return [*self.net.services, *(spare.service for spare in self.net.spares)]

    def pass_(self, seconds):
        for _ in range(4):
            self.now += seconds / 4
            for service in self.services:
                service.housekeeping.tidy()
                service.retention.tidy_pasts()

    def connect(self, member):
        return self.net.sessions()[member.node]

    async def moments(self, start=None):
        past = await look_back(self.net.key.vault_id, start or self.net.suppliers, self.connect)
        return past, past.moments(int(self.now))

    async def rewind(self, ago, start=None, short=False):
        """To what was so many seconds ago; the family then. `short`: who does not promise again."""
        past, moments = await self.moments(start)
        moment = choose(moments, int(self.now - ago))
        family = await rewind(self.net.key, past, moment, self.connect)
        told = await promise_again(self.net.key, family, self.connect)
        assert not told or short
        return family

    def mount(self, home, name, **options):
        return self.net.mount(home / name, machine=name.encode().ljust(16, b"-"), **options)


async def kept(home, files=YESTERDAY, **options):
    """A vault with a retention and files that a machine wrote yesterday."""
    days = Days(**options)
    net = days.net
    await net.create()
    for supplier in net.suppliers:
        await agree_to_retain(supplier, net.key.vault_id, net.key.signing, net.space, RETAIN)
    async with days.mount(home, "one", make_root=True) as vault:
        await set_policy(vault, net.key, {"retain": RETAIN})
        for name, content in files.items():
            await write_file(vault, name, content)
        await vault.publish()
        await vault.courier.try_all()
    days.pass_(DAY)
    return days


async def published(vault):
    """As often as deleting takes: what is dead is killed at the suppliers."""
    await vault.volume._purger.purge_orphans()
    await vault.publish()
    await vault.auditor.recent(0)
    for _ in range(4):
        await vault.reclaimer.step()
        await vault.publish(again=True)


async def afternoon_of_a_thief(days, home):
    """With the key, and from another machine: all that can be asked for is asked for."""
    net, key = days.net, days.net.key
    async with days.mount(home, "thief", take_over=True) as vault:
        for name in YESTERDAY:
            await unlink(vault, name)
        await set_policy(vault, key, {"retain": 0})
        await published(vault)
    best = open_root_untrusted(net.services[0].shelf.vault(key.vault_id).root, key.vault_id)
    claim = claim_ballot(key.signing, Ballot(9, b"t" * 16, best.ballot.lineage))
    for supplier in net.suppliers:
        await supplier.prepare(claim, True)
        listed = await supplier.list()
        for name, _ in listed.fragments:  # each block that is still there
            dead = BlockDead(key.vault_id, name[:16], Ballot(1, bytes(16)), 1)  # as if long ago
            await supplier.kill(seal_record(key.signing, "block-dead", dead), claim)
        assert not (await supplier.list()).fragments
    register, family = refounded(net)
    named = open_family_untrusted(family, key.vault_id)
    for number in range(100):  # a hundred empty roots, each of a ballot of its own
        ballot = Ballot(10 + number, b"t" * 16, 1)
        claim = claim_ballot(key.signing, ballot)
        root = first_root(key, Suite.AEGIS256, ballot, family, 0)
        if number:
            for supplier in net.suppliers:
                await supplier.prepare(claim, True)
            await register.accept(root, family, named, claim)
        else:
            await register.found(root, family, claim)
        days.now += 60
    for position, supplier in enumerate(net.suppliers):
        down = StandDown(key.vault_id, supplier.node, (position + 1) % 7, named.epoch)
        await supplier.stand_down(seal_record(key.signing, "stand-down", down), claim)
        with pytest.raises(Refused):  # the contract is in use
            await supplier.give_back()
        await supplier.promise(1 << 24, 2_000_000_000)  # as small as it may be
    days.now += LEASE + 1
    for supplier in net.suppliers:
        end = VaultEnd(key.vault_id, supplier.node, int(time.time()))
        with pytest.raises(Refused, match="retained"):
            await supplier.end_vault(seal_record(key.signing, "vault-end", end))


def refounded(net):
    """A family of the next lineage, as a thief makes one: the same suppliers in other places."""
    key, old = net.key, net.family
    turned = (*old.members[1:], old.members[0])
    body = Family(
        1, old.features, key.vault_id, old.epoch + 1, bytes(32), old.read_proof,
        (Group(old.group.k, old.group.meta_k, turned),), words={"lineage:1": 1},
    )  # fmt: skip
    raw = seal_record(key.signing, "family", body)
    opened = open_family_untrusted(raw, key.vault_id)
    return RootRegister(key.vault_id, lambda m: net.sessions()[m.node], opened), raw


async def check(vault, files=YESTERDAY):
    assert not vault.read_only, vault.message
    for name, content in files.items():
        assert await read_file(vault, name) == content


async def test_after_a_thiefs_afternoon_all_files_of_yesterday_are_equal(tmp_path):
    days = await kept(tmp_path)
    await afternoon_of_a_thief(days, tmp_path)
    days.pass_(6 * HOUR)
    family = await days.rewind(12 * HOUR)
    async with days.mount(tmp_path, "new", family=family) as vault:
        await check(vault)
        await write_file(vault, b"more", b"more" * 1000)
        await vault.publish()
        report = await verify(vault, False, 1.0, silent)
        assert not report.faults
    assert days.net.family.policy.retain == RETAIN
    days.pass_(3 * RETAIN)  # nothing of it was only lent
    async with days.mount(tmp_path, "later", family=family) as vault:
        await check(vault, {**YESTERDAY, b"more": b"more" * 1000})


async def test_a_rewinding_is_undone_by_another_one_and_that_too(tmp_path):
    days = await kept(tmp_path)
    async with days.mount(tmp_path, "two", take_over=True) as vault:  # it encrypts all files
        for name, content in YESTERDAY.items():
            await unlink(vault, name)
            await write_file(vault, name + b".locked", content[::-1])
        await published(vault)
    locked = {name + b".locked": content[::-1] for name, content in YESTERDAY.items()}
    days.pass_(1000)
    for ago, files in ((DAY // 2, YESTERDAY), (1000, locked), (DAY, YESTERDAY)):
        family = await days.rewind(ago)
        days.pass_(300)
        async with days.mount(tmp_path, f"after {ago}", family=family) as vault:
            await check(vault, files)
            await published(vault)  # what the other history has is dead in this one
        days.pass_(300)
    async with days.mount(tmp_path, "two") as vault:
        assert vault.read_only and "older than one that this machine had published" in vault.message


async def test_who_is_away_while_it_is_rewound_hears_of_it_from_the_others(tmp_path):
    days = await kept(tmp_path)
    await afternoon_of_a_thief(days, tmp_path)
    away = days.net.suppliers[:2]
    for supplier in away:
        supplier.break_()
    family = await days.rewind(12 * HOUR, short=True)
    for supplier in away:
        supplier.heal()
        current = await days.net.suppliers[3].current()
        supplier.service.voter.learn(days.net.key.vault_id, current)
        assert (await supplier.list()).fragments
    for supplier in days.net.suppliers[4:]:
        supplier.break_()
    async with days.mount(tmp_path, "new", family=family) as vault:
        for name, content in YESTERDAY.items():
            assert await read_file(vault, name) == content


async def test_a_replaced_supplier_takes_no_more_along_than_its_own_fragments(tmp_path):
    days = await kept(tmp_path)
    net = days.net
    async with days.mount(tmp_path, "one") as vault:
        for name in YESTERDAY:
            await unlink(vault, name)
        await published(vault)
        member = await net.spare()
        await replace_member(vault, net.key, 3, member, silent)
    net.suppliers[3].break_()  # for good
    days.pass_(HOUR)
    start = [net.sessions()[member.node] for member in net.family.members]
    family = await days.rewind(2 * HOUR, start)
    assert family.members[3].node == member.node
    async with days.mount(tmp_path, "new", family=family) as vault:
        await check(vault)
        await vault.auditor.recent(0)
        await vault.rebuilder.step(0.0, silent)
        await vault.courier.try_all()
    assert net.spares[0].service.shelf.vault(net.key.vault_id).fragments


async def test_promise_4_what_is_retained_takes_room_and_nothing_is_refused_late(tmp_path):
    days = await kept(tmp_path, files={}, space=(256 + 24) * MIB // 4)
    async with days.mount(tmp_path, "one") as vault:
        kept_files = {}
        with pytest.raises(NoSpace):
            for number in range(9):  # each is deleted before the next one comes
                name = b"%d" % number
                kept_files = {name: os.urandom(5 * MIB)}
                await write_file(vault, name, kept_files[name])
                await vault.publish()
                await vault.space.refresh()
                await unlink(vault, name)
                await published(vault)
                await vault.space.refresh()
        assert 2 <= number <= 6
        assert vault.space.retained.content() > 10 * MIB
        totals = await vault.volume.totals()
        free, writable = vault.space.free(totals.live, vault.content.dirty)
        assert writable < 5 * MIB and free < vault.space.capacity - 10 * MIB
        left = abs(vault.space.retained.until() - time.time() - RETAIN)
        assert left < 2 * HOUR
        await vault.publish()
        assert vault.state.published().generation == vault.committer.generation
    days.pass_(RETAIN + HOUR)
    async with days.mount(tmp_path, "one") as vault:
        await vault.space.refresh()
        await write_file(vault, b"more", os.urandom(5 * MIB))
        await vault.publish()


async def test_nobody_who_lies_about_the_past_is_believed_against_the_others(tmp_path):
    days = await kept(tmp_path)
    liar = days.net.suppliers[0]
    genuine = liar.past

    async def past():
        told = await genuine()
        return wire.PastIs(
            told.retain, 1 << 60, told.last, tuple((n, 0, 0) for n, *_ in told.roots)
        )

    liar.past = past
    _, moments = await days.moments()
    assert all(moment.since < days.now - HOUR for moment in moments)

    async def past_root(number):
        return wire.CurrentIs(b"", b"no root", b"no family")

    liar.past_root = past_root
    seen, again = await days.moments()
    assert liar.node in seen.failures
    assert [m.known.root.uid for m in again] == [m.known.root.uid for m in moments]


async def test_a_vault_has_a_longer_retention_once_all_its_suppliers_promise_it(tmp_path):
    days = await kept(tmp_path)
    net, old = days.net, days.net.suppliers[4]
    genuine = old.call

    async def refuse(request, payload=b""):
        if isinstance(request, wire.Promise) and request.token:  # by a program of before
            raise Refused("forged", "an invitation that nobody signed")
        return await genuine(request, payload)

    async with days.mount(tmp_path, "one") as vault:
        old.call = refuse
        with pytest.raises(Unavailable, match=r"1 of 7 suppliers .*cannot keep what is deleted"):
            await set_retention(vault, net.key, {"retain": 2 * RETAIN}, vault.circle.session)
        assert vault.known.family.policy.retain == RETAIN
        old.call = genuine
        await set_retention(vault, net.key, {"retain": 2 * RETAIN}, vault.circle.session)
        assert vault.known.family.policy.retain == 2 * RETAIN
        await set_retention(vault, net.key, {"retain": DAY}, vault.circle.session)
        assert vault.known.family.policy.retain == DAY
    assert {(await supplier.past()).retain for supplier in net.suppliers} == {2 * RETAIN}
    days.pass_(2 * RETAIN + 1)
    assert {(await supplier.past()).retain for supplier in net.suppliers} == {DAY}
