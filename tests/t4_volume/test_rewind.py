"""The past holds against the key itself: what a thief of it does in an afternoon is undone."""

import time

import pytest
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
from bitdustfs.errors import Refused
from bitdustfs.family.hire import agree_to_retain
from bitdustfs.family.replace import set_policy
from bitdustfs.family.rewind import choose, look_back, promise_again, rewind
from bitdustfs.net.register import RootRegister
from bitdustfs.supplier.voter import LEASE

HOUR, DAY = 3600, 86400
RETAIN = 14 * DAY
YESTERDAY = photos(2, size=400_000)


class Days:
    """The clocks of all suppliers of a net, and what may be asked of them as time passes."""

    def __init__(self, net):
        self.net, self.now = net, 1_790_000_000.0
        for service in net.services:
            service._clock = lambda: self.now - 1_790_000_000
            service.kinship._wall = service.housekeeping._wall = lambda: self.now
            service.keeper._wall = service.retention._time._wall = lambda: self.now
            service.retention._time._time = self.now
            service.retention._time._at = 0.0

    def pass_(self, seconds):
        for _ in range(4):
            self.now += seconds / 4
            for service in self.net.services:
                service.housekeeping.tidy()
                service.retention.tidy_pasts()

    async def look(self):
        return await look_back(self.net.key.vault_id, self.net.suppliers, self.connect)

    def connect(self, member):
        return self.net.sessions()[member.node]

    async def rewind(self, ago):
        past = await self.look()
        moment = choose(past.moments(int(self.now)), int(self.now - ago))
        family = await rewind(self.net.key, past, moment, self.connect)
        assert await promise_again(self.net.key, family, self.connect) == {}
        for service in self.net.services:
            service.retention.revive(self.net.key.vault_id)
        return family


async def kept(days, home, files=YESTERDAY):
    """A vault with a retention and files that a machine wrote yesterday."""
    net = days.net
    for supplier in net.suppliers:
        await agree_to_retain(supplier, net.key.vault_id, net.key.signing, net.space, RETAIN)
    async with net.mount(home / "one", make_root=True) as vault:
        await set_policy(vault, net.key, {"retain": RETAIN})
        for name, content in files.items():
            await write_file(vault, name, content)
        await vault.publish()
        await vault.courier.try_all()
    days.pass_(DAY)


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
    async with net.mount(home / "thief", machine=b"t" * 16, take_over=True) as vault:
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
            dead = BlockDead(key.vault_id, name[:16], best.ballot, best.seq)
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


async def test_after_a_thiefs_afternoon_all_files_of_yesterday_are_equal(tmp_path):
    net = Net()
    await net.create()
    days = Days(net)
    await kept(days, tmp_path)
    await afternoon_of_a_thief(days, tmp_path)
    days.pass_(6 * HOUR)
    family = await days.rewind(12 * HOUR)
    async with net.mount(tmp_path / "new", machine=b"n" * 16, family=family) as vault:
        assert not vault.read_only, vault.message
        for name, content in YESTERDAY.items():
            assert await read_file(vault, name) == content
        await write_file(vault, b"more", b"more" * 1000)
        await vault.publish()
    assert days.net.family.policy.retain == RETAIN
