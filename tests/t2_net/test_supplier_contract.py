"""One suite over every implementation of Supplier: memory, TLS, TLS over a disk shelf."""

import random
import time

import pytest
import trio
from family import BALLOT, KEY, claim_of, contracted, make_block

from bitdustfs.core.codec import encode
from bitdustfs.core.keys import VaultKey, sign
from bitdustfs.core.records import (
    Ballot,
    BlockDead,
    Family,
    Features,
    Group,
    Member,
    Root,
    Signed,
    StandDown,
    VaultEnd,
    claim_ballot,
    contract_records,
    family_hash,
    seal_record,
)
from bitdustfs.errors import Refused
from bitdustfs.supplier.service import LEASE
from bitdustfs.supplier.shelfrows import TOMBSTONE_CHARGE
from bitdustfs.units import GIB, MIB

pytestmark = [
    pytest.mark.parametrize("kind", ["memory", "peer", "peer+disk"]),
    pytest.mark.deadline(30),
]
BLOCK = b"b" * 16
CLAIM = claim_of()
DEAD = BlockDead(KEY.vault_id, BLOCK, BALLOT, 7)


async def refused(code, call, *arguments):
    with pytest.raises(Refused) as caught:
        await call(*arguments)
    assert caught.value.code == code
    return caught.value


async def put(supplier, header, fragment, block=BLOCK, claim=CLAIM):
    await supplier.put(block, fragment.position, claim, header, fragment.chunks, fragment.payload)


def family_of(supplier, epoch=0, key=KEY):
    member = Member(supplier.node, ("127.0.0.1:5000",), GIB)
    body = Family(
        1, Features(), key.vault_id, epoch, bytes(32), key.capability().read_proof_public,
        (Group(1, 1, (member,)),),
    )  # fmt: skip
    return seal_record(key.signing, "family", body)


def root_of(family, ballot=BALLOT, seq=1, key=KEY):
    body = Root(
        1, Features(), key.vault_id, ballot, seq, bytes(16), bytes(16), 0, 0,
        family_hash(family), 0, b"sealed",
    )  # fmt: skip
    return seal_record(key.signing, "root", body)


async def test_a_fragment_comes_back_as_it_was_put(supplier):
    await contracted(supplier)
    header, fragments = make_block(random.Random(1).randbytes(3 * MIB))
    for fragment in fragments[:3]:
        await put(supplier, header, fragment)
        await put(supplier, header, fragment)  # again is no error
        head = await supplier.head(BLOCK, fragment.position)
        assert (head.header, head.chunks) == (header, fragment.chunks)
        at = len(fragment) - 1000
        data = await supplier.read(BLOCK, fragment.position, at, 1000)
        assert data == bytes(fragment.payload[at:])
    listed = await supplier.list()
    assert [key for key, _ in listed.fragments] == [BLOCK + bytes([i]) for i in range(3)]
    usage = await supplier.usage()
    assert usage.fragments == 3 and usage.used == sum(size for _, size in listed.fragments)


async def test_without_a_contract_everything_is_refused(supplier):
    header, fragments = make_block(b"x" * 1000)
    await refused("unknown-vault", put, supplier, header, fragments[0])
    await refused("unknown-vault", supplier.usage)
    await refused("unknown-vault", supplier.current)


@pytest.mark.parametrize("space", [10 * MIB])
async def test_a_contract_is_signed_and_bounded(supplier):
    record = await supplier.promise(4 * MIB, 2_000_000_000)
    contract = contract_records.open_untrusted(record, supplier.node)
    assert (contract.vault, contract.space) == (KEY.vault_id, 4 * MIB)
    await supplier.promise(10 * MIB, 2_000_000_000)  # grows to all there is
    await refused("no-space", supplier.promise, 10 * MIB + 1, 2_000_000_000)


async def test_the_quota_is_enforced(supplier):
    await contracted(supplier, space=4 * MIB)
    header, fragments = make_block(random.Random(1).randbytes(12 * MIB))
    await put(supplier, header, fragments[0])
    await refused("quota", put, supplier, header, fragments[1])
    await put(supplier, header, fragments[0])  # what is here already costs nothing
    assert (await supplier.usage()).fragments == 1


async def test_a_vault_a_little_beyond_its_contract_can_renew_it(supplier):
    """The grace is there so that it can delete: losing the contract meanwhile would lose all."""
    await contracted(supplier, space=6 * MIB)
    header, fragments = make_block(random.Random(1).randbytes(12 * MIB))
    await put(supplier, header, fragments[0])
    await put(supplier, header, fragments[1])
    await refused("quota", put, supplier, header, fragments[2])
    usage = await supplier.usage()
    assert usage.used > usage.space == 6 * MIB
    await supplier.promise(6 * MIB, 2_000_000_001)
    await refused("quota", supplier.promise, 5 * MIB, 2_000_000_001)


async def test_a_contract_is_no_toy(supplier):
    await refused("malformed", supplier.promise, 1, 2_000_000_000)
    contract = contract_records.open_untrusted(
        await supplier.promise(4 * MIB, 1 << 40), supplier.node
    )
    assert contract.until < time.time() + 3 * 365 * 86400


async def test_only_deaths_of_what_is_kept_are_remembered(supplier):
    await contracted(supplier)
    header, fragments = make_block(b"x" * 1000)
    await put(supplier, header, fragments[0])
    family = family_of(supplier)
    await supplier.accept(root_of(family), family, CLAIM)
    for block in (b"n" * 16, BLOCK):
        dead = BlockDead(KEY.vault_id, block, BALLOT, 1)
        await supplier.kill(seal_record(KEY.signing, "block-dead", dead), CLAIM)
    shelf = supplier.service.shelf
    assert shelf.tombstone(KEY.vault_id, BLOCK) and not shelf.tombstone(KEY.vault_id, b"n" * 16)
    padded = encode((KEY.vault_id, BLOCK, (1, BALLOT.machine), 1, bytes(500)))
    record = encode(Signed(padded, sign(KEY.signing, "block-dead", padded)))
    await refused("malformed", supplier.kill, record, CLAIM)


async def test_only_genuine_fragments_are_kept(supplier):
    await contracted(supplier)
    header, fragments = make_block(random.Random(1).randbytes(MIB))
    stranger, foreign = make_block(b"y" * 1000, key=VaultKey(b"w" * 32))
    payload = bytearray(fragments[0].payload)
    payload[5] ^= 1
    await refused("forged", supplier.put, BLOCK, 0, CLAIM, header, fragments[0].chunks, payload)
    await refused("forged", put, supplier, stranger, foreign[0])
    await refused("malformed", put, supplier, b"nonsense", fragments[0])
    await refused("malformed", put, supplier, header, fragments[0], b"c" * 16)
    assert (await supplier.usage()).fragments == 0


async def test_the_first_header_of_a_block_stays(supplier):
    await contracted(supplier)
    header, fragments = make_block(b"first" * 1000)
    other, others = make_block(b"other" * 1000)
    await put(supplier, header, fragments[0])
    await refused("conflict", put, supplier, other, others[1])


async def test_reads_outside_and_of_nothing_are_refused(supplier):
    await contracted(supplier)
    header, fragments = make_block(b"x" * 1000)
    await put(supplier, header, fragments[0])
    await refused("malformed", supplier.read, BLOCK, 0, len(fragments[0]), 1)
    await refused("not-found", supplier.read, BLOCK, 1, 0, 1)
    await refused("not-found", supplier.head, b"q" * 16, 0)


async def test_promise_10_a_superseded_writer_is_fenced(supplier):
    await contracted(supplier)
    header, fragments = make_block(b"x" * 1000)
    newer = claim_of(ballot=Ballot(2, b"n" * 16))
    await refused("lease-held", supplier.prepare, newer, False)
    await supplier.prepare(newer, True)
    family, dead = family_of(supplier), seal_record(KEY.signing, "block-dead", DEAD)
    stand_down = StandDown(KEY.vault_id, supplier.node, 0, 0)
    for call, *arguments in (
        (put, supplier, header, fragments[0]),
        (supplier.renew, CLAIM),
        (supplier.release, CLAIM),
        (supplier.accept, root_of(family), family, CLAIM),
        (supplier.prepare, CLAIM, True),
        (supplier.kill, dead, CLAIM),
        (supplier.stand_down, seal_record(KEY.signing, "stand-down", stand_down), CLAIM),
    ):
        refusal = await refused("fenced", call, *arguments)
        assert refusal.proof == newer  # nobody has to believe the supplier
    await put(supplier, header, fragments[0], claim=newer)


async def test_promise_10_whoever_shows_a_higher_claim_fences_off_the_lower_one(supplier):
    """It was away when the claim was made: it hears of it with the first request."""
    await contracted(supplier)
    header, fragments = make_block(b"x" * 1000)
    await put(supplier, header, fragments[0], claim=claim_of(ballot=Ballot(2, b"n" * 16)))
    await refused("fenced", put, supplier, header, fragments[1])
    left = claim_of(ballot=Ballot(1, b"o" * 16, lineage=1))  # a history that leaves that one
    await supplier.renew(left)
    await refused("fenced", supplier.renew, claim_of(ballot=Ballot(9, b"n" * 16)))
    assert (await supplier.current()).claim == left


async def test_promise_10_a_copy_of_a_machine_is_not_the_machine(supplier):
    """Both claim the same ballot, in the name of the same machine."""
    await contracted(supplier)
    copy = claim_ballot(KEY.signing, BALLOT)
    refusal = await refused("fenced", supplier.prepare, copy, True)
    assert refusal.proof == CLAIM
    await supplier.prepare(CLAIM, False)


async def test_promise_10_junk_for_a_claim_changes_nothing(supplier):
    await contracted(supplier)
    header, fragments = make_block(b"x" * 1000)
    stranger = claim_ballot(VaultKey(b"w" * 32).signing, Ballot(9, b"n" * 16))
    await refused("malformed", put, supplier, header, fragments[0], BLOCK, b"junk")
    await refused("forged", put, supplier, header, fragments[0], BLOCK, stranger)
    await refused("malformed", supplier.renew, b"")
    await put(supplier, header, fragments[0])


async def test_a_released_or_expired_lease_needs_no_take_over(supplier):
    await contracted(supplier)
    await supplier.release(CLAIM)
    second = Ballot(2, b"n" * 16)
    await supplier.prepare(claim_ballot(KEY.signing, second), False)
    third = claim_ballot(KEY.signing, Ballot(3, b"o" * 16))
    await refused("lease-held", supplier.prepare, third, False)
    now = supplier.service._clock()
    supplier.service._clock = lambda: now + LEASE + 1
    await supplier.prepare(third, False)


async def test_roots_only_move_forward(supplier):
    await contracted(supplier)
    family = family_of(supplier)
    await supplier.accept(root_of(family, seq=5), family, CLAIM)
    await supplier.accept(root_of(family, seq=5), family, CLAIM)  # the same bytes again
    await refused("stale", supplier.accept, root_of(family, seq=4), family, CLAIM)
    await supplier.accept(root_of(family, seq=6), family, CLAIM)
    current = await supplier.current()
    assert (current.root, current.family) == (root_of(family, seq=6), family)
    other = family_of(supplier, epoch=1)
    await refused("malformed", supplier.accept, root_of(family, seq=7), other, CLAIM)
    forged = root_of(family, seq=8, key=VaultKey(b"w" * 32))
    await refused("forged", supplier.accept, forged, family, CLAIM)


async def test_a_block_dies_only_by_a_record_of_a_known_root(supplier):
    await contracted(supplier)
    header, fragments = make_block(b"x" * 1000)
    await put(supplier, header, fragments[0])
    record = seal_record(KEY.signing, "block-dead", DEAD)
    await refused("stale", supplier.kill, record, CLAIM)
    family = family_of(supplier)
    await supplier.accept(root_of(family, seq=7), family, CLAIM)
    stranger = seal_record(VaultKey(b"w" * 32).signing, "block-dead", DEAD)
    await refused("forged", supplier.kill, stranger, CLAIM)
    await supplier.kill(record, CLAIM)
    await supplier.kill(record, CLAIM)
    await refused("dead", put, supplier, header, fragments[0])
    usage = await supplier.usage()
    assert (
        usage.used == TOMBSTONE_CHARGE and usage.trash > 0 and not (await supplier.list()).fragments
    )
    payload = await supplier.read(BLOCK, 0, 0, len(fragments[0]))  # mounts of older roots go on
    assert payload == bytes(fragments[0].payload)
    service = supplier.service
    assert service.housekeeping.tidy() == 0
    service.housekeeping._trash_seconds = -1.0
    assert service.housekeeping.tidy() == usage.trash
    assert (await supplier.usage()).trash == 0
    await refused("not-found", supplier.head, BLOCK, 0)
    await refused("dead", put, supplier, header, fragments[0])


async def test_the_trash_makes_way_for_what_was_promised(supplier):
    await contracted(supplier)
    family = family_of(supplier)
    await supplier.accept(root_of(family, seq=7), family, CLAIM)
    ids = [bytes([i]) * 16 for i in range(3)]
    for block in ids:
        header, fragments = make_block(random.Random(1).randbytes(100_000), block=block)
        await put(supplier, header, fragments[0], block=block)
        dead = BlockDead(KEY.vault_id, block, BALLOT, 7)
        await supplier.kill(seal_record(KEY.signing, "block-dead", dead), CLAIM)
    usage = await supplier.usage()
    trash = usage.trash
    supplier.service.housekeeping._space = usage.used + trash * 2 // 3 + 1
    assert supplier.service.housekeeping.tidy() == trash // 3
    await supplier.head(ids[2], 0)


async def test_many_requests_at_once_each_get_their_own_answer(supplier):
    await contracted(supplier)
    header, fragments = make_block(random.Random(2).randbytes(MIB))
    await put(supplier, header, fragments[4])
    payload = bytes(fragments[4].payload)

    async def check(at):
        assert await supplier.read(BLOCK, 4, at, 100) == payload[at : at + 100]

    async with trio.open_nursery() as nursery:
        for at in range(0, 100_000, 1000):
            nursery.start_soon(check, at)


async def test_a_cancelled_call_costs_only_its_own_answer(supplier):
    await contracted(supplier)
    header, fragments = make_block(random.Random(2).randbytes(MIB))
    with trio.move_on_after(0):
        await put(supplier, header, fragments[0])
    await put(supplier, header, fragments[0])
    assert (await supplier.usage()).fragments == 1


def end_record(supplier, key=KEY, of=None, kind="vault-end"):
    return seal_record(key.signing, kind, VaultEnd(of or key.vault_id, supplier.node, 1))


async def test_a_vault_ends_by_its_owners_word_for_this_supplier_alone(supplier):
    await contracted(supplier)
    header, fragments = make_block(random.Random(1).randbytes(MIB))
    await put(supplier, header, fragments[0])
    await supplier.renew(CLAIM)
    await refused("lease-held", supplier.end_vault, end_record(supplier))
    await supplier.release(CLAIM)
    other = VaultKey(b"o" * 32)
    await refused("forged", supplier.end_vault, end_record(supplier, other))
    await refused("forged", supplier.end_vault, end_record(supplier, kind="leaving"))
    await refused("malformed", supplier.end_vault, end_record(supplier, of=other.vault_id))
    elsewhere = seal_record(KEY.signing, "vault-end", VaultEnd(KEY.vault_id, bytes(32), 1))
    await refused("malformed", supplier.end_vault, elsewhere)
    await refused("unauthorised", supplier.give_back)  # without it nothing that is kept goes
    assert (await supplier.usage()).fragments == 1
    await supplier.end_vault(end_record(supplier))
    await supplier.end_vault(end_record(supplier))  # again is no error
    await refused("unknown-vault", supplier.usage)
    shelf = supplier.service.shelf
    assert shelf.vault(KEY.vault_id) is None and shelf.used_total() == 0
    await contracted(supplier)  # and the room is there for the next one
