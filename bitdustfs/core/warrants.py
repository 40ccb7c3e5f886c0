"""Who may stand in for whom while the owner is away: evidence that proves itself.

A reserve of the owner-signed bench may take a copy of a position once f + 1 positions say that
their own pings to its member failed for longer than the patience, f = (n - 1) / 3 rounded down; or
once that member itself says that it leaves. Warrants let copies be made. They move no position, and
give no vote.

Each position has one voice, however many speak with it: its member, and the stand-ins that hold a
warrant for it. Nobody speaks for two positions. So neither f members nor any number of reserves
that they let in can make up the absence of somebody. A position has no voice about itself.

Evidence is dated by who signed it, and counts for EVIDENCE_SECONDS by the clock of who checks it.
Undated evidence counts for nothing. A stand-in that goes on has fresh words by then.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from bitdustfs.core.codec import Decoder, encode
from bitdustfs.core.records import Family, Warrant, attestation_records, leaving_records
from bitdustfs.errors import Malformed

WARRANT_MAX = 8 * 1024  #: bytes of one encoded warrant: 22 attestations (of 64) take 4 KiB
EVIDENCE_MAX = 40  #: attestations that a reserve puts into one: more than are ever needed
WARRANTS_MAX = 64  #: in one list
WARRANTS_BYTES_MAX = 256 * 1024  #: bytes of a list's warrants together
STAND_INS_MAX = 8  #: reserves that may stand in for one position
EVIDENCE_SECONDS = 30 * 86400  #: how long a signed word is evidence
CLOCKS_APART = 86400  #: seconds by which the clocks of suppliers may differ

_warrants = Decoder(Warrant, "warrant", WARRANT_MAX)


class Word(NamedTuple):
    """One signed word of a warrant's evidence: who said it, and until when it counts."""

    by: bytes
    until: float  #: Unix seconds


class Holding(NamedTuple):
    """A warrant that holds, as it was received, and until when (Unix seconds)."""

    raw: bytes
    warrant: Warrant
    until: float


class _Voice(NamedTuple):
    """Somebody who speaks for a position, and until when."""

    position: int
    until: float


class _Genuine(NamedTuple):
    """A warrant with those of its words that are genuine and not too old."""

    raw: bytes
    warrant: Warrant
    words: tuple[Word, ...]


def attestations_needed(n: int) -> int:
    """f + 1 of n: with at most f liars, one of them is honest."""
    return (n - 1) // 3 + 1


def encode_warrant(
    position: int, stand_in: bytes, evidence: Iterable[bytes], leaving: bool = False
) -> bytes:
    """A warrant as it travels and is kept."""
    return encode(Warrant(position, stand_in, leaving, tuple(evidence)))


def check_warrants_untrusted(
    family: Family, warrants: Iterable[bytes], now: float
) -> list[Holding]:
    """Those that hold at `now` (Unix seconds), each after those that its words rest on.

    What does not prove itself is left out. So is what is more than one list may hold, or one
    position may have. Of several for one stand-in, one is given: that rests on the fewest others,
    and of those the one that holds longest.
    """
    waiting = list(_genuine(family, warrants, now))
    voices = {member.node: _Voice(p, math.inf) for p, member in enumerate(family.members)}
    holding: dict[tuple[int, bytes], Holding] = {}
    size = 0
    while waiting:
        found: dict[tuple[int, bytes], Holding] = {}
        for shown in waiting:
            warrant, until = shown.warrant, _until(family, shown, voices)
            key = warrant.position, warrant.stand_in
            if until > now and (key not in found or found[key].until < until):
                found[key] = Holding(shown.raw, warrant, until)
        for key, held in sorted(found.items(), key=lambda one: -one[1].until):
            others = sum(position == key[0] for position, _ in holding)
            fits = size + len(held.raw) <= WARRANTS_BYTES_MAX and len(holding) < WARRANTS_MAX
            if fits and others < STAND_INS_MAX:
                size += len(held.raw)
                holding[key] = held
                voices.setdefault(key[1], _Voice(key[0], held.until))
        if not found:
            break
        waiting = [w for w in waiting if (w.warrant.position, w.warrant.stand_in) not in found]
    return list(holding.values())


def _genuine(family: Family, warrants: Iterable[bytes], now: float) -> Iterator[_Genuine]:
    """What is well-formed and of this family, with its genuine words."""
    bench = {member.node for member in family.bench}
    for raw in dict.fromkeys(warrants):
        try:
            warrant = _warrants.decode_untrusted(raw)
        except Malformed:
            continue
        if warrant.position >= len(family.members) or warrant.stand_in not in bench:
            continue
        if warrant.leaving and len(warrant.evidence) != 1:
            continue
        words = tuple(_words(family, warrant, now))
        if words:
            yield _Genuine(raw, warrant, words)


def _words(family: Family, warrant: Warrant, now: float) -> Iterator[Word]:
    """The words that are genuine; one liar's junk does not spoil what the others say."""
    for raw in warrant.evidence:
        try:
            if warrant.leaving:
                yield check_leaving_untrusted(family, warrant.position, raw, now)
            else:
                yield check_attestation_untrusted(family, warrant.position, raw, now)
        except Malformed:
            continue


def _until(family: Family, shown: _Genuine, voices: dict[bytes, _Voice]) -> float:
    """Until when a warrant holds by the voices that are known: 0 where they are too few."""
    if shown.warrant.leaving:
        return shown.words[0].until
    said: dict[int, float] = {}  # position -> until when its word counts
    for word in shown.words:
        voice = voices.get(word.by)
        if voice is None or word.by == shown.warrant.stand_in:
            continue
        if voice.position != shown.warrant.position:
            until = min(word.until, voice.until)
            said[voice.position] = max(said.get(voice.position, 0.0), until)
    needed = attestations_needed(len(family.members))
    return sorted(said.values(), reverse=True)[needed - 1] if len(said) >= needed else 0.0


def _dated(time: int, now: float) -> float:
    """Until when a word counts that was signed at `time`. Raises Malformed where it does not."""
    until = time + EVIDENCE_SECONDS
    if time > now + CLOCKS_APART or until <= now:
        raise Malformed("a word that is too old, or from the future")
    return until


def check_leaving_untrusted(family: Family, position: int, raw: bytes, now: float) -> Word:
    """The member's word that it leaves its position. Raises Malformed or Forged."""
    member = family.members[position].node
    left = leaving_records.open_untrusted(raw, member)
    if (left.vault, left.family_epoch, left.position, left.member) != (
        family.vault, family.epoch, position, member,
    ):  # fmt: skip
        raise Malformed("a leaving of another position or family")
    return Word(member, _dated(left.time, now))


def check_attestation_untrusted(family: Family, position: int, raw: bytes, now: float) -> Word:
    """Somebody's word that the position's member is away. Raises Malformed or Forged."""
    member = family.members[position].node
    attester = attestation_records.peek_untrusted(raw).attester
    said = attestation_records.open_untrusted(raw, attester)
    if (said.vault, said.family_epoch, said.position, said.member) != (
        family.vault, family.epoch, position, member,
    ):  # fmt: skip
        raise Malformed("an attestation of another position or family")
    if attester == member:
        raise Malformed("a member that says of itself that it is away")
    return Word(attester, _dated(said.time, now))


def choose_evidence(family: Family, said: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """Of (who said it, the record) those that go into a warrant: members' words first."""
    members = {member.node for member in family.members}
    return [record for by, record in sorted(said, key=lambda one: one[0] not in members)][
        :EVIDENCE_MAX
    ]


def stand_ins(family: Family, warrants: Iterable[bytes], now: float) -> dict[int, list[bytes]]:
    """The nodes that may stand in for each position."""
    found: dict[int, list[bytes]] = {}
    for _, warrant, _ in check_warrants_untrusted(family, warrants, now):
        found.setdefault(warrant.position, []).append(warrant.stand_in)
    return found
