"""What a supplier keeps although it was told to delete it, and for how long by whose clock."""

import os
from dataclasses import replace

import pytest
from customers import put
from family import BALLOT, KEY, claim_of, family_of, make_block, root_of
from msgspec import structs
from nacl.signing import SigningKey

from bitdustfs.cache.folder import OwnedFolder
from bitdustfs.core.acceptor import Acceptor, ceiling_at
from bitdustfs.core.policy import RETAIN_MAX, Refounding, rewinding_words
from bitdustfs.core.records import (
    Ballot,
    BlockDead,
    Family,
    Features,
    Group,
    Member,
    RetentionWanted,
    Root,
    StandDown,
    VaultEnd,
    claim_ballot,
    family_hash,
    open_family_untrusted,
    root_features,
    seal_record,
)
from bitdustfs.core.roots import lasting
from bitdustfs.errors import Malformed, Refused
from bitdustfs.family.hire import agree_to_retain
from bitdustfs.supplier.admission import Admission
from bitdustfs.supplier.diskshelf import DiskShelf
from bitdustfs.supplier.memory import MemorySupplier
from bitdustfs.supplier.retention import in_force, with_retention
from bitdustfs.supplier.ring import TURNED_MAX, RingEntry, superfluous
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.shelf import MemoryShelf
from bitdustfs.supplier.shelfrows import VaultRow
from bitdustfs.supplier.steady import OFF_MAX, SteadyTime
from bitdustfs.supplier.voter import LEASE
from bitdustfs.units import GIB, MIB

HOUR, DAY = 3600, 86400
BEGAN = 1_800_000_000 // DAY * DAY
SPACE = 8 * MIB
VAULT = KEY.vault_id


class Keeping:
    """One supplier and its only vault, in time that the test lets pass."""

    def __init__(self, shelf, retain=7 * DAY):
        self.now, self.retain = float(BEGAN), retain
        self.open(shelf)

    def open(self, shelf, off=0.0):
        """A process of the supplier begins. `off`: how far the wall clock went on while it was
        down.
        """
        self.shelf, self.off = shelf, getattr(self, "off", 0.0) + off
        node = getattr(self, "node", None) or SigningKey(os.urandom(32))
        self.node = node
        self.service = SupplierService(
            node, shelf, GIB, clock=lambda: self.now, wall=lambda: self.now + self.off
        )
        self.peer = MemorySupplier(self.service, VAULT)

    async def contract(self):
        await self.peer.promise(SPACE, 2_000_000_000)
        await agree_to_retain(self.peer, VAULT, KEY.signing, SPACE, self.retain)
        await self.peer.prepare(claim_of(), False)
        await self.accept(1)

    def family(self, epoch=0, words=None, members=None):
        own = Member(self.peer.node, ("127.0.0.1:5000",), SPACE)
        words = {"retain": self.retain} if words is None else words
        body = Family(
            1, Features(), VAULT, epoch, bytes(32), KEY.capability().read_proof_public,
            (Group(1, 1, members or (own,)),), words=words,
        )  # fmt: skip
        return seal_record(KEY.signing, "family", body)

    async def accept(self, seq, ballot=BALLOT, family=None):
        """A root that no other one is a new proposal of; its bytes."""
        raw_family = family or self.family()
        named = open_family_untrusted(raw_family, VAULT)
        body = Root(
            1, root_features(ballot), VAULT, ballot, seq, os.urandom(16), bytes(16), 0,
            named.epoch, family_hash(raw_family), 0, b"sealed",
        )  # fmt: skip
        raw = seal_record(KEY.signing, "root", body)
        claim = claim_of(KEY, ballot)
        await self.peer.accept(raw, raw_family, claim)
        return raw

    async def kill(self, number, seq=1, ballot=BALLOT, claim=None):
        dead = BlockDead(VAULT, number.to_bytes(16, "big"), ballot, seq)
        record = seal_record(KEY.signing, "block-dead", dead)
        await self.peer.kill(record, claim or claim_of())

    async def pass_(self, seconds):
        self.now += seconds
        self.tidy()

    def tidy(self):
        self.service.housekeeping.tidy()
        self.service.retention.tidy_pasts()

    async def past(self):
        """What is shown of past roots, their bytes too."""
        told = await self.peer.past()
        return [(await self.peer.past_root(n)).root for n, _, _ in told.roots]


@pytest.fixture(params=["memory", "disk"])
async def keeping(request, tmp_path):
    if request.param == "memory":
        made = Keeping(MemoryShelf())
        await made.contract()
        yield made
        return
    folder = OwnedFolder(tmp_path / "shelf", "shelf", {"id": "test"})
    made = Keeping(DiskShelf(folder))
    await made.contract()
    yield made
    made.shelf.close()
    folder.close()


async def test_what_is_killed_can_be_read_and_counts_until_the_retention_is_over(keeping):
    await put(keeping.peer, 1)
    before = await keeping.peer.usage()
    await keeping.kill(1)
    for _ in range(7):
        told = await keeping.peer.past()
        assert (await keeping.peer.usage()).used >= before.used and told.retained > 100_000
        assert len(await keeping.peer.read((1).to_bytes(16, "big"), 0, 0, 1000)) == 1000
        assert not (await keeping.peer.list()).fragments
        with pytest.raises(Refused, match="dead"):
            await put(keeping.peer, 1)
        await keeping.pass_(DAY - HOUR)
    await keeping.pass_(8 * HOUR)
    after = await keeping.peer.usage()
    assert after.used < before.used - 100_000 and after.trash > 100_000
    assert not (await keeping.peer.past()).retained


async def test_a_put_that_what_is_retained_leaves_no_room_for_is_refused_for_that(keeping):
    for number in range(4):
        await put(keeping.peer, number, size=2 * MIB - 100_000)
    with pytest.raises(Refused) as full:
        await put(keeping.peer, 9, size=2 * MIB)
    assert full.value.code == "quota"
    await keeping.kill(1)
    with pytest.raises(Refused, match=r"MiB of what was deleted are kept until 2027-01-2") as held:
        await put(keeping.peer, 9, size=2 * MIB - 100_000)
    assert held.value.code == "retained"
    with pytest.raises(Refused, match="in use already"):
        await keeping.peer.promise(4 * MIB, 2_000_000_000)
    await keeping.pass_(7 * DAY + 1)
    await put(keeping.peer, 9, size=2 * MIB - 100_000)


async def test_a_hundred_roots_push_out_nothing_of_the_hours_before(keeping):
    yesterday = await keeping.accept(2)
    await keeping.pass_(DAY)
    morning = await keeping.accept(3)
    await keeping.pass_(2 * HOUR)
    thief = Ballot(2, b"t" * 16)
    await keeping.peer.prepare(claim_of(KEY, thief), True)
    empty = [await keeping.accept(4 + n, thief) for n in range(100)]
    shown = await keeping.past()
    assert {yesterday, morning} <= set(shown) and not set(shown) & set(empty)
    await keeping.pass_(5 * DAY)
    assert {yesterday, morning} <= set(await keeping.past())
    await keeping.pass_(3 * DAY)
    assert await keeping.past() == []


async def test_what_was_there_before_another_ballot_is_kept_within_the_hour(keeping):
    newest = await keeping.accept(2)
    for number in range(2, 20):  # each another machine, and one that rewinds
        ballot = Ballot(number, b"t" * 16)
        await keeping.peer.prepare(claim_of(KEY, ballot), True)
        await keeping.accept(number + 1, ballot)
    assert newest in await keeping.past() and len(await keeping.past()) == TURNED_MAX


async def test_a_rewinding_takes_back_what_was_killed_since_and_its_deaths_stay_void(keeping):
    for number in (1, 2, 3):
        await put(keeping.peer, number)
    await keeping.kill(1)  # it names the first root, whenever it died: a thief's word
    forged = {"retain": keeping.retain, "rewound:1": 0, "lineage:1": 7}
    await keeping.accept(50, family=keeping.family(1, forged))  # as if that were done already
    await keeping.kill(2, 50)
    lineage = Ballot(1, bytes(16), 1)
    claim = claim_of(KEY, lineage)
    words = {"retain": keeping.retain, **rewinding_words(Refounding(1, 0, 7), 0)}
    await keeping.peer.prepare(claim, True)
    await keeping.accept(51, lineage, keeping.family(2, words))
    listed = (await keeping.peer.list()).fragments
    assert [name[15] for name, _ in listed] == [1, 2, 3]
    with pytest.raises(Refused, match="history that this block was dropped in was left"):
        await keeping.kill(3, 50, claim=claim)  # an old word, shown once more
    await keeping.kill(3, 51, lineage, claim)
    assert [name[15] for name, _ in (await keeping.peer.list()).fragments] == [1, 2]
    with pytest.raises(Refused, match="dead"):
        block = (3).to_bytes(16, "big")
        header, [fragment] = make_block(b"content", block=block, k=1, n=1)
        await keeping.peer.put(block, 0, claim, header, fragment.chunks, fragment.payload)


async def test_what_is_too_much_at_once_is_kept_again_by_and_by_and_after_a_restart(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("bitdustfs.supplier.retention.AT_ONCE", 1)
    monkeypatch.setattr("bitdustfs.supplier.retention.STEPS", 1)
    folder = OwnedFolder(tmp_path / "shelf", "shelf", {"id": "test"})
    keeping = Keeping(DiskShelf(folder))
    await keeping.contract()
    for number in range(1, 6):
        await put(keeping.peer, number)
        await keeping.kill(number)
    before, ballot = await keeping.peer.usage(), Ballot(1, bytes(16), 1)
    words = {"retain": keeping.retain, **rewinding_words(Refounding(1, 0, 1), 0)}
    await keeping.peer.prepare(claim_of(KEY, ballot), True)
    await keeping.accept(9, ballot, keeping.family(1, words))
    alive = [len((await keeping.peer.list()).fragments)]
    for restart in range(6):
        if restart == 2:
            keeping.shelf.close()
            keeping.open(DiskShelf(folder))
        keeping.tidy()
        alive.append(len((await keeping.peer.list()).fragments))
    assert alive == [1, 2, 3, 4, 5, 5, 5]
    after = await keeping.peer.usage()
    assert after.used - before.used < 10_000 and not (await keeping.peer.past()).retained
    keeping.shelf.close()
    folder.close()


async def test_nothing_takes_the_place_of_what_is_retained(keeping):
    """Neither under another name of the block's owner, nor by a copy that was given up."""
    block = (1).to_bytes(16, "big")
    header, fragments = make_block(b"genuine" * 1000, block=block, k=1, n=2)
    claim = claim_of()
    await keeping.peer.put(block, 1, claim, header, fragments[1].chunks, fragments[1].payload)
    down = StandDown(VAULT, keeping.peer.node, 1, 0)
    await keeping.peer.stand_down(seal_record(KEY.signing, "stand-down", down), claim)
    assert not (await keeping.peer.list()).fragments
    other, forged = make_block(b"garbage" * 1000, block=block, k=1, n=2)
    for position in (0, 1):
        bad = forged[position]
        with pytest.raises(Refused, match="conflict"):
            await keeping.peer.put(block, position, claim, other, bad.chunks, bad.payload)
    await keeping.peer.put(block, 1, claim, header, fragments[1].chunks, fragments[1].payload)
    assert len((await keeping.peer.list()).fragments) == 1
    assert not (await keeping.peer.past()).retained


async def test_what_is_kept_again_out_of_the_trash_stays_when_that_is_emptied(keeping):
    block = (1).to_bytes(16, "big")
    header, fragments = make_block(b"genuine" * 1000, block=block, k=1, n=2)
    claim, put = claim_of(), (header, fragments[1].chunks, fragments[1].payload)
    await keeping.peer.put(block, 1, claim, *put)
    down = StandDown(VAULT, keeping.peer.node, 1, 0)
    await keeping.peer.stand_down(seal_record(KEY.signing, "stand-down", down), claim)
    await keeping.pass_(8 * DAY)
    assert (await keeping.peer.usage()).trash
    await keeping.peer.put(block, 1, claim, *put)
    await keeping.pass_(8 * DAY)
    assert bytes(await keeping.peer.read(block, 1, 0, 7)) == b"genuine"


async def test_ending_a_vault_or_leaving_the_supplier_out_destroys_nothing_yet(keeping):
    await put(keeping.peer, 1)
    stranger = Member(SigningKey(os.urandom(32)).verify_key.encode(), (), SPACE)
    await keeping.accept(2, family=keeping.family(1, {}, (stranger,)))
    end = VaultEnd(VAULT, keeping.peer.node, 0)
    keeping.now += LEASE + 1
    with pytest.raises(Refused, match="retained"):
        await keeping.peer.end_vault(seal_record(KEY.signing, "vault-end", end))
    with pytest.raises(Refused, match="in use"):
        await keeping.peer.give_back()
    other = MemorySupplier(keeping.service, b"o" * 32)
    with pytest.raises(Refused, match="no-space"):
        await other.promise(GIB - SPACE + 1, 2_000_000_000)
    await keeping.pass_(6 * DAY)
    assert keeping.service.housekeeping.make_room() == 0
    assert len((await keeping.peer.list()).fragments) == 1
    await keeping.pass_(2 * DAY)
    assert keeping.shelf.vault(VAULT) is None and keeping.shelf.used_total() == 0


async def test_who_comes_back_to_an_ended_vault_has_it_again(keeping):
    await put(keeping.peer, 1)
    keeping.now += LEASE + 1
    end = VaultEnd(VAULT, keeping.peer.node, 0)
    with pytest.raises(Refused, match="retained"):
        await keeping.peer.end_vault(seal_record(KEY.signing, "vault-end", end))
    await keeping.accept(2)
    await keeping.pass_(9 * DAY)
    assert len((await keeping.peer.list()).fragments) == 1


def test_a_longer_retention_holds_at_once_and_a_shorter_one_when_the_present_one_is_over():
    row = with_retention(VaultRow(0, 0), 10 * DAY, 0)
    assert in_force(row, 0) == 10 * DAY
    row = with_retention(with_retention(row, 0, DAY), 0, 5 * DAY)  # asking again changes nothing
    assert in_force(row, 11 * DAY - 1) == 10 * DAY and in_force(row, 11 * DAY) == 0
    row = with_retention(row, 12 * DAY, 10 * DAY)
    assert in_force(row, 10 * DAY) == in_force(row, 99 * DAY) == 12 * DAY
    assert in_force(with_retention(row, 1 << 60, 0), 0) == RETAIN_MAX


async def test_the_key_cannot_shorten_it_before_it_runs_out(keeping):
    await put(keeping.peer, 1)
    record = seal_record(KEY.signing, "retention", RetentionWanted(VAULT, 0))
    await keeping.peer.retain(SPACE, 2_000_000_000, record)
    await keeping.accept(2, family=keeping.family(1, {}))
    await keeping.kill(1)
    await keeping.pass_(7 * DAY - 1)
    assert (await keeping.peer.past()).retained
    await put(keeping.peer, 2)
    await keeping.pass_(2)
    await keeping.kill(2)
    assert not (await keeping.peer.past()).retained


def test_a_clock_that_is_set_ends_no_retention():
    wall, clock, noted = float(BEGAN), 0.0, [None]
    steady = SteadyTime(lambda: clock, lambda: wall, lambda: noted[0], noted.append)
    wall += 1000 * DAY
    clock += 50
    assert steady.now() == BEGAN + 50
    wall -= 2000 * DAY
    clock += 50
    assert steady.now() == BEGAN + 100
    steady.note()
    steady.note()  # a moment later: it is not written again
    assert noted == [None, (BEGAN + 100, int(wall))]
    for gone, counted in ((HOUR, HOUR), (900 * DAY, OFF_MAX), (-DAY, 0)):
        later = SteadyTime(lambda: 0.0, lambda g=gone: wall + g, lambda: noted[1], noted.append)
        assert later.now() == BEGAN + 100 + counted


async def test_a_supplier_that_was_off_counts_a_day_of_it_at_most(tmp_path):
    folder = OwnedFolder(tmp_path / "shelf", "shelf", {"id": "test"})
    keeping = Keeping(DiskShelf(folder))
    await keeping.contract()
    await put(keeping.peer, 1)
    await keeping.kill(1)
    for _ in range(7):  # its clock is set by a month while it is down, each time
        keeping.shelf.close()
        keeping.open(DiskShelf(folder), off=30 * DAY)
        keeping.tidy()
    assert not (await keeping.peer.past()).retained  # a week was counted, seven restarts late
    keeping.shelf.close()
    folder.close()


def test_the_ring_keeps_the_last_of_each_hour_for_a_day_and_of_each_day_after_it():
    now = BEGAN + 10 * DAY
    every = [
        RingEntry(n, at, at + 600, False) for n, at in enumerate(range(BEGAN, now - 1200, 600))
    ]  # fmt: skip
    gone = set(superfluous(every, now, 30 * DAY))
    kept = [entry for entry in every if entry.number not in gone]
    recent = [entry for entry in kept if now - entry.left < DAY]
    assert all(entry.since // HOUR != entry.left // HOUR for entry in recent)
    assert len(recent) == 23 and len(kept) - len(recent) == 9
    assert len([entry for entry in every if entry.number not in superfluous(every, now, DAY)]) == 23


async def test_a_supplier_of_before_says_that_it_cannot(monkeypatch):
    for admission in (Admission(True), Admission(True, b"n" * 32)):
        service = SupplierService(
            SigningKey(os.urandom(32)), MemoryShelf(), GIB, admission=admission
        )
        peer = MemorySupplier(service, VAULT)
        await peer.promise(SPACE, 2_000_000_000)
        monkeypatch.setattr("bitdustfs.supplier.service.asks_to_retain", lambda *_: False)
        with pytest.raises(Malformed, match="cannot keep what is deleted"):
            await agree_to_retain(peer, VAULT, KEY.signing, SPACE, DAY)


@pytest.mark.parametrize("ballot", [Ballot(1 << 60, b"t" * 16), Ballot(1, b"t" * 16, 1 << 60)])
async def test_nobody_takes_the_last_number_for_himself(ballot):
    keeping = Keeping(MemoryShelf())
    await keeping.contract()
    with pytest.raises(Refused, match="so high"):
        await keeping.peer.prepare(claim_ballot(KEY.signing, ballot), True)
    with pytest.raises(Refused, match="so high"):
        await keeping.accept(1 << 60)
    await keeping.accept(2)


def test_whoever_claims_the_highest_number_is_outnumbered_a_second_later_by_all():
    """Also at voters that were never asked for it, and by one step more."""
    now, claimed = 1_800_000_000, ceiling_at(1_800_000_000)
    asked, other = Acceptor(ceiling=claimed), Acceptor(ceiling=ceiling_at(now + 1))
    taken = asked.prepare(Ballot(1, b"t" * 16, claimed), b"theirs", False)
    with pytest.raises(Refused, match="so high"):
        taken.prepare(Ballot(1, b"o" * 16, claimed + 1), b"ours", False)
    later = replace(taken, ceiling=ceiling_at(now + 1))
    for voter in (later, other):
        ours = voter.prepare(Ballot(1, b"o" * 16, claimed + 1), b"ours", False)
        assert ours.promised.lineage == claimed + 1


def test_a_thief_who_takes_the_uid_of_a_root_does_not_take_its_place():
    """A root under the same uid is another one, unless nothing but its ballot differs."""
    old = Root(
        1, Features(), VAULT, Ballot(1, b"m" * 16), 5, b"u" * 16, bytes(16), 0, 0, bytes(32), 0,
        b"sealed",
    )  # fmt: skip
    again = structs.replace(old, ballot=Ballot(2, b"n" * 16))
    assert lasting(old) == lasting(again)
    assert lasting(old) != lasting(structs.replace(again, content=b"other"))
    assert lasting(old) != lasting(structs.replace(again, seq=6))


async def test_without_a_retention_nothing_is_kept(tmp_path):
    keeping = Keeping(MemoryShelf(), retain=0)
    await keeping.peer.promise(SPACE, 2_000_000_000)
    await keeping.peer.prepare(claim_of(), False)
    family = family_of(keeping.peer.node)
    await keeping.peer.accept(root_of(family), family, claim_of())
    await put(keeping.peer, 1)
    await keeping.kill(1)
    keeping.now += 2 * HOUR
    await keeping.peer.accept(root_of(family, seq=2), family, claim_of())
    told = await keeping.peer.past()
    assert (told.retain, told.retained, told.roots) == (0, 0, ())
    assert (await keeping.peer.usage()).trash > 100_000
