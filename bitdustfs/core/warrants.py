"""Who may stand in for whom while the owner is away: evidence that proves itself (design: without the owner).

A reserve of the owner-signed bench may take a copy of a position once f + 1 suppliers say that their own
pings to its member failed for longer than the patience, f = (n - 1) / 3 rounded down; or once that
member itself says that it leaves. Members say so, and stand-ins for other positions, whose own warrants
come before: a list of warrants is read in order, each by what the ones before it prove. Warrants let
copies be made. They move no position, and give no vote.
"""

from collections.abc import Iterable

from bitdustfs.core.codec import Decoder, encode
from bitdustfs.core.records import Family, Warrant, attestation_records, leaving_records
from bitdustfs.errors import Malformed

WARRANT_MAX = 24 * 1024  #: bytes of one encoded warrant
WARRANTS_MAX = 64  #: in one list

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
    """Those that hold, in order, with their bytes; what does not prove itself is left out."""
    attesters = {member.node for member in family.voters}
    holding: dict[tuple[int, bytes], tuple[bytes, Warrant]] = {}
    for raw in warrants:
        try:
            warrant = _warrants.decode_untrusted(raw)
            check_evidence_untrusted(family, warrant, attesters)
        except Malformed:
            continue
        attesters.add(warrant.stand_in)
        holding.setdefault((warrant.position, warrant.stand_in), (raw, warrant))
    return list(holding.values())


def check_evidence_untrusted(family: Family, warrant: Warrant, attesters: set[bytes]) -> None:
    """Raises Malformed or Forged unless the evidence is enough for this family."""
    if warrant.position >= len(family.voters):
        raise Malformed("a warrant for a position that the family does not have")
    if warrant.stand_in not in {member.node for member in family.bench}:
        raise Malformed("a warrant for a node that is not on the bench")
    member = family.voters[warrant.position].node
    if warrant.leaving:
        left = leaving_records.open_untrusted(warrant.evidence[0], member)
        if (left.vault, left.family_epoch, left.position, left.member) != (
            family.vault, family.epoch, warrant.position, member,
        ):  # fmt: skip
            raise Malformed("a leaving of another position or family")
        return
    saying = set()
    for raw in warrant.evidence:
        attester = attestation_records.peek_untrusted(raw).attester
        if attester not in attesters or attester in (member, warrant.stand_in):
            continue
        said = attestation_records.open_untrusted(raw, attester)
        if (said.vault, said.family_epoch, said.position, said.member) == (
            family.vault, family.epoch, warrant.position, member,
        ):  # fmt: skip
            saying.add(attester)
    if len(saying) < attestations_needed(len(family.voters)):
        raise Malformed(f"a warrant with {len(saying)} attestations")


def stand_ins(family: Family, warrants: Iterable[bytes]) -> dict[int, list[bytes]]:
    """The nodes that may stand in for each position."""
    found: dict[int, list[bytes]] = {}
    for _, warrant in check_warrants_untrusted(family, warrants):
        found.setdefault(warrant.position, []).append(warrant.stand_in)
    return found
