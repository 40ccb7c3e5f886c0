"""Warrants: what proves itself is let in, and nothing else; whatever arrives, nothing is raised."""

import os

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from nacl.signing import SigningKey

from bitdustfs.core.codec import encode
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import (
    Attestation,
    Family,
    Features,
    Group,
    Leaving,
    Member,
    seal_record,
)
from bitdustfs.core.warrants import (
    STAND_INS_MAX,
    attestations_needed,
    check_warrants_untrusted,
    encode_warrant,
    stand_ins,
)

KEY = VaultKey(b"w" * 32)
MEMBERS = [SigningKey(bytes([n]) * 32) for n in range(7)]
NOW = 1_800_000_000
DAY = 86400
BENCH = [SigningKey(bytes([n]) * 32) for n in range(100, 107)]


def public(key):
    return key.verify_key.encode()


def member(key):
    return Member(public(key), ("127.0.0.1:5000",), 1)


FAMILY = Family(
    1, Features(), KEY.vault_id, 3, bytes(32), bytes(32),
    (Group(4, 2, tuple(map(member, MEMBERS))),), tuple(map(member, BENCH)),
)  # fmt: skip


def attestation(by, position, epoch=3, vault=KEY.vault_id, at=NOW):
    body = Attestation(vault, epoch, position, public(MEMBERS[position]), public(by), at)
    return seal_record(by, "attestation", body)


def warrant(position, stand_in, attesters, **changed):
    said = [attestation(by, position, **changed) for by in attesters]
    return encode_warrant(position, public(stand_in), said)


def leaving(by, position, stand_in, at=NOW):
    body = Leaving(KEY.vault_id, 3, position, public(by), at)
    record = seal_record(by, "leaving", body)
    return encode_warrant(position, public(stand_in), [record], leaving=True)


def holding(*warrants, now=NOW):
    return [held.warrant.position for held in check_warrants_untrusted(FAMILY, warrants, now)]


def test_f_plus_one_members_are_needed():
    assert [attestations_needed(n) for n in (1, 3, 4, 7, 10, 18)] == [1, 1, 2, 3, 4, 6]
    assert holding(warrant(0, BENCH[0], MEMBERS[1:4])) == [0]
    assert holding(warrant(0, BENCH[0], MEMBERS[1:3])) == []
    assert holding(warrant(0, BENCH[0], [MEMBERS[1]] * 5)) == []


def test_neither_the_member_itself_nor_the_reserve_nor_a_stranger_counts():
    strangers = [SigningKey(os.urandom(32)) for _ in range(3)]
    assert holding(warrant(0, BENCH[0], [MEMBERS[0], *MEMBERS[1:3]])) == []
    assert holding(warrant(0, BENCH[0], [BENCH[0], *MEMBERS[1:3]])) == []
    assert holding(warrant(0, BENCH[0], strangers)) == []
    assert holding(warrant(0, strangers[0], MEMBERS[1:4])) == []


def test_words_of_another_family_or_vault_do_not_count():
    assert holding(warrant(0, BENCH[0], MEMBERS[1:4], epoch=2)) == []
    assert holding(warrant(0, BENCH[0], MEMBERS[1:4], vault=bytes(32))) == []


def test_who_stands_in_by_a_warrant_may_attest_from_there_on():
    first = warrant(0, BENCH[0], MEMBERS[1:4])
    second = warrant(1, BENCH[1], [BENCH[0], *MEMBERS[2:4]])
    assert holding(second) == []
    assert holding(first, second) == [0, 1]
    assert stand_ins(FAMILY, [first, second], NOW) == {0: [public(BENCH[0])], 1: [public(BENCH[1])]}


def test_a_member_s_own_leaving_is_enough_and_another_s_is_not():
    assert holding(leaving(MEMBERS[5], 5, BENCH[2])) == [5]
    assert holding(leaving(MEMBERS[5], 4, BENCH[2])) == []


def test_one_member_that_leaves_gives_its_reserves_no_voices_beside_its_own():
    """f = 2 of 7: one member and the whole bench, which it lets in, make up nobody's absence."""
    bench = [leaving(MEMBERS[0], 0, reserve) for reserve in BENCH[:6]]
    forged = warrant(5, BENCH[6], [MEMBERS[0], *BENCH[:6]])
    assert holding(*bench, forged) == [0] * 6
    # its second liar is one voice more, and no more
    assert 5 not in holding(*bench, warrant(5, BENCH[6], [*MEMBERS[0:2], *BENCH[:6]]))
    assert 5 in holding(*bench, warrant(5, BENCH[6], [*MEMBERS[0:3], *BENCH[:6]]))


def test_a_position_that_is_stood_in_for_has_one_voice_and_none_about_itself():
    first = warrant(0, BENCH[0], MEMBERS[1:4])
    other = warrant(0, BENCH[1], MEMBERS[1:4])
    assert holding(first, other, warrant(6, BENCH[2], [BENCH[0], BENCH[1], MEMBERS[3]])) == [0, 0]
    assert holding(first, other, warrant(0, BENCH[2], [BENCH[0], *MEMBERS[1:3]])) == [0, 0]
    assert holding(first, warrant(6, BENCH[2], [BENCH[0], *MEMBERS[3:5]])) == [0, 6]


def test_nobody_speaks_for_two_positions():
    twice = [warrant(position, BENCH[0], MEMBERS[3:6]) for position in (0, 1)]
    assert sorted(holding(*twice, warrant(6, BENCH[2], [BENCH[0], MEMBERS[3]]))) == [0, 1]
    assert 6 not in holding(*twice, warrant(6, BENCH[2], [BENCH[0], BENCH[0], MEMBERS[3]]))


def test_words_are_evidence_for_thirty_days_and_undated_ones_never():
    dated = warrant(0, BENCH[0], MEMBERS[1:4])
    assert holding(dated, now=NOW + 29 * DAY) == [0]
    assert holding(dated, now=NOW + 30 * DAY) == []
    assert holding(dated, now=NOW - DAY) == [0]  # clocks differ
    assert holding(dated, now=NOW - 2 * DAY) == []
    assert holding(leaving(MEMBERS[5], 5, BENCH[2]), now=NOW + 30 * DAY) == []
    assert holding(warrant(0, BENCH[0], MEMBERS[1:4], at=0)) == []
    assert holding(leaving(MEMBERS[5], 5, BENCH[2], at=0)) == []


def test_a_warrant_holds_as_long_as_what_it_rests_on():
    first = warrant(0, BENCH[0], MEMBERS[1:4], at=NOW)
    second = warrant(1, BENCH[1], [BENCH[0], *MEMBERS[2:4]], at=NOW + 20 * DAY)
    assert holding(second, first, now=NOW + 29 * DAY) == [0, 1]
    assert holding(second, first, now=NOW + 31 * DAY) == []


def test_of_two_warrants_of_one_reserve_the_fresher_is_kept_unless_it_rests_on_others():
    old = warrant(0, BENCH[0], MEMBERS[1:4], at=NOW)
    new = warrant(0, BENCH[0], MEMBERS[2:5], at=NOW + 10 * DAY)
    [held] = check_warrants_untrusted(FAMILY, [old, new], NOW + 11 * DAY)
    assert held.raw == new and held.until == NOW + 40 * DAY
    second = warrant(1, BENCH[1], [BENCH[0], *MEMBERS[2:4]], at=NOW + 10 * DAY)
    circle = warrant(0, BENCH[0], [BENCH[1], *MEMBERS[2:4]], at=NOW + 11 * DAY)
    kept = check_warrants_untrusted(FAMILY, [circle, second, old], NOW + 12 * DAY)
    assert [one.raw for one in kept] == [old, second]  # they hold without the circle, too


def test_a_leaving_lets_in_only_so_many():
    reserves = [SigningKey(bytes([n]) * 32) for n in range(200, 240)]
    family = structs.replace(FAMILY, bench=tuple(map(member, reserves)))
    warrants = [leaving(MEMBERS[0], 0, reserve) for reserve in reserves]
    assert len(check_warrants_untrusted(family, warrants, NOW)) == STAND_INS_MAX


def test_a_warrant_of_a_family_of_seven_is_as_long_as_the_documents_say():
    assert len(attestation(MEMBERS[1], 0)) == 179
    assert len(warrant(0, BENCH[0], MEMBERS[1:4])) == 581


@given(st.lists(st.binary(max_size=300), max_size=5), st.data())
def test_whatever_arrives_is_left_out_and_nothing_is_raised(noise, data):
    genuine = warrant(0, BENCH[0], MEMBERS[1:4])
    at = data.draw(st.integers(0, len(genuine) - 1))
    broken = bytearray(genuine)
    broken[at] ^= data.draw(st.integers(1, 255))
    shaped = encode(
        (
            data.draw(st.integers(-(1 << 63), (1 << 64) - 1)),
            data.draw(st.binary()),
            True,
            tuple(noise),
        )
    )
    kept = check_warrants_untrusted(FAMILY, [*noise, bytes(broken), shaped, genuine], NOW)
    assert genuine in [held.raw for held in kept]
    said = {(held.warrant.position, held.warrant.stand_in) for held in kept}
    assert said == {(0, public(BENCH[0]))}
