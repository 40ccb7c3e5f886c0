"""Who may stand in for whom while the owner is away: evidence that proves itself.

A reserve of the owner-signed bench may take a copy of a position once f + 1 suppliers say that
their own pings to its member failed for longer than the patience, f = (n - 1) / 3 rounded down; or
once that member itself says that it leaves. Members say so, and stand-ins for other positions,
whose own warrants come before: a list of warrants is read in order, each by what the ones before it
prove. Warrants let copies be made. They move no position, and give no vote.
"""

from collections.abc import Iterable

from bitdustfs.core.codec import Decoder, encode
from bitdustfs.core.records import Family, Warrant, attestation_records, leaving_records
from bitdustfs.errors import Malformed

WARRANT_MAX = 8 * 1024  #: bytes of one encoded warrant: 22 attestations (of 64) take 4 KiB
EVIDENCE_MAX = 40  #: attestations that a reserve puts into one: more than are ever needed
WARRANTS_MAX = 64  #: in one list
WARRANTS_BYTES_MAX = 256 * 1024  #: bytes of a list's warrants together

_warrants = Decoder(Warrant, "warrant", WARRANT_MAX)


def attestations_needed(n: int) -> int:
    """f + 1 of n: with at most f liars, one of them is honest."""
    return (n - 1) // 3 + 1


def encode_warrant(
    position: int, stand_in: bytes, evidence: Iterable[bytes], leaving: bool = False
) -> bytes:
    """A warrant as it travels and is kept."""
    return encode(Warrant(position, stand_in, leaving, tuple(evidence)))


def check_warrants_untrusted(
    family: Family, warrants: Iterable[bytes]
) -> list[tuple[bytes, Warrant]]:
    """Those that hold, in order, with their bytes; what does not prove itself is left out.

    So is what is more than one list may hold.
    """
    attesters = {member.node for member in family.voters}
    holding: dict[tuple[int, bytes], tuple[bytes, Warrant]] = {}
    size = 0
    for raw in warrants:
        if len(holding) >= WARRANTS_MAX or size + len(raw) > WARRANTS_BYTES_MAX:
            break
        try:
            warrant = _warrants.decode_untrusted(raw)
            check_evidence_untrusted(family, warrant, attesters)
        except Malformed:
            continue
        attesters.add(warrant.stand_in)
        if (warrant.position, warrant.stand_in) not in holding:
            holding[warrant.position, warrant.stand_in] = (raw, warrant)
            size += len(raw)
    return list(holding.values())


def check_evidence_untrusted(family: Family, warrant: Warrant, attesters: set[bytes]) -> None:
    """Raises Malformed or Forged unless the evidence is enough for this family."""
    if warrant.position >= len(family.voters):
        raise Malformed("a warrant for a position that the family does not have")
    if warrant.stand_in not in {member.node for member in family.bench}:
        raise Malformed("a warrant for a node that is not on the bench")
    member = family.voters[warrant.position].node
    if warrant.leaving:
        if len(warrant.evidence) != 1:
            raise Malformed("a leaving is one record")
        left = leaving_records.open_untrusted(warrant.evidence[0], member)
        if (left.vault, left.family_epoch, left.position, left.member) != (
            family.vault, family.epoch, warrant.position, member,
        ):  # fmt: skip
            raise Malformed("a leaving of another position or family")
        return
    saying: set[bytes] = set()
    for raw in warrant.evidence:
        try:
            attester = check_attestation_untrusted(family, warrant.position, raw)
        except Malformed:
            continue  # one liar's junk must not spoil what the others say
        if attester in attesters and attester != warrant.stand_in:
            saying.add(attester)
    if len(saying) < attestations_needed(len(family.voters)):
        raise Malformed(f"a warrant with {len(saying)} attestations")


def check_attestation_untrusted(family: Family, position: int, raw: bytes) -> bytes:
    """Who says, genuinely, that the position's member is away. Raises Malformed or Forged."""
    member = family.voters[position].node
    attester = attestation_records.peek_untrusted(raw).attester
    said = attestation_records.open_untrusted(raw, attester)
    if (said.vault, said.family_epoch, said.position, said.member) != (
        family.vault, family.epoch, position, member,
    ):  # fmt: skip
        raise Malformed("an attestation of another position or family")
    if attester == member:
        raise Malformed("a member that says of itself that it is away")
    return attester


def stand_ins(family: Family, warrants: Iterable[bytes]) -> dict[int, list[bytes]]:
    """The nodes that may stand in for each position."""
    found: dict[int, list[bytes]] = {}
    for _, warrant in check_warrants_untrusted(family, warrants):
        found.setdefault(warrant.position, []).append(warrant.stand_in)
    return found
