"""The signed records: ballot, root, family, block header, deletes, contract (docs/format.md).

Every record travels as `Signed`: the body's bytes as they were signed, and the signature. Readers
verify the received bytes and decode them; nothing is ever re-encoded to be checked.
"""

from collections.abc import Sequence
from os import urandom
from typing import Annotated, Generic, TypeVar

import msgspec
from nacl.signing import SigningKey

from bitdustfs.core.codec import (
    U8,
    U16,
    U32,
    U63,
    Amount,
    BlockId,
    Decoder,
    Hash,
    Public,
    Signature,
    Uid,
    UnixTime,
    encode,
)
from bitdustfs.core.hashing import tagged
from bitdustfs.core.keys import node_id, sign, verify
from bitdustfs.core.policy import Policy, read_policy
from bitdustfs.errors import Malformed
from bitdustfs.units import BLOCK_MAX, FAMILY_MAX, GROUP_MAX, HEADER_MAX, ROOT_MAX

FORMAT = 1
ANCESTORS_MAX = 64  #: roots that a root remembers before it
#: bits of `Features.incompatible` that are known here
LINEAGES = 1  #: a ballot has a lineage, or a family names former voters
KNOWN = LINEAGES
#: the same of what is sealed in a root
SNAPSHOTS = 1  #: the tree keeps snapshots: what they refer to must not be deleted
KNOWN_SEALED = SNAPSHOTS


class Record(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Base of all bodies: msgpack arrays, fields in order, unknown trailing fields ignored.

    A mount may hold a hundred thousand. They refer to nothing that refers back, so the garbage
    collector, which stops the loop, need not look at them (`gc=False`).
    """


class Signed(Record, frozen=True):
    """A record on the wire and on disk."""

    body: bytes
    signature: Signature


def seal_record(key: SigningKey, kind: str, body: Record) -> bytes:
    """`body` signed as `kind`: the bytes that are stored and sent from then on."""
    raw = encode(body)
    return encode(Signed(raw, sign(key, kind, raw)))


R = TypeVar("R", bound=Record)


class Opener(Generic[R]):
    """Checks and decodes one kind of signed record from untrusted bytes."""

    def __init__(self, body: type[R], kind: str, limit: int) -> None:
        self._outer = Decoder(Signed, kind, limit)
        self._inner = Decoder(body, kind, limit)
        self.kind = kind

    def open_untrusted(self, data: bytes | memoryview, public: bytes) -> R:
        """The body, signed by `public`. Raises Malformed or Forged."""
        signed = self._outer.decode_untrusted(data)
        verify(public, self.kind, signed.body, signed.signature)
        return self._inner.decode_untrusted(signed.body)

    def peek_untrusted(self, data: bytes | memoryview) -> R:
        """The body before its signer is known. The caller must verify it as soon as it is."""
        return self._inner.decode_untrusted(self._outer.decode_untrusted(data).body)


class Features(Record, frozen=True):
    """Feature bits: a reader refuses unknown `incompatible`, a writer also unknown `read_only`."""

    compatible: U63 = 0
    read_only: U63 = 0
    incompatible: U63 = 0


class Ballot(Record, frozen=True):
    """A right to write, ordered by (lineage, generation, machine).

    `lineage` rises when a history is left for good: by refounding, and by recovering a vault.
    """

    generation: U63
    machine: Uid
    lineage: U63 = 0

    @property
    def rank(self) -> tuple[int, int, bytes]:
        """By which ballots are ordered."""
        return (self.lineage, self.generation, self.machine)

    def __lt__(self, other: "Ballot") -> bool:
        return self.rank < other.rank

    def __le__(self, other: "Ballot") -> bool:
        return self.rank <= other.rank

    def __gt__(self, other: "Ballot") -> bool:
        return self.rank > other.rank

    def __ge__(self, other: "Ballot") -> bool:
        return self.rank >= other.rank


class BallotClaim(Record, frozen=True):
    """Signed by the vault key: this machine claims the ballot.

    `nonce` tells two claims of one ballot apart: of a machine, and of a copy of it.
    """

    vault: Public
    ballot: Ballot
    nonce: Annotated[bytes, msgspec.Meta(max_length=16)] = b""


class Place(Record, frozen=True):
    """A reference to one sealed extent: where it is and what its sealed bytes hash to."""

    block: BlockId
    ordinal: U32
    offset: U32
    length: Annotated[int, msgspec.Meta(ge=1, le=BLOCK_MAX)]
    hash: Hash


class JournalRef(Record, frozen=True):
    """One sealed piece of published journal: batches of generations up to `last`."""

    place: Place
    last: U63


class RootContent(Record, frozen=True):
    """What a root says to those who can read: sealed inside it.

    `stored` is 0, or -1 where `features` has incompatible bits: programs that do not know these
    take -1 for damage, and no supplier has to know anything.
    """

    index: Place | None
    journal: tuple[JournalRef, ...]
    name_key: Hash
    generation: U63
    stored: Annotated[int, msgspec.Meta(ge=-1, le=(1 << 63) - 1)]
    older_secrets: tuple[bytes, ...] = ()
    snapshots: tuple[bytes, ...] = ()
    #: uids of the roots before this one, the one right before it last
    ancestors: Annotated[tuple[Uid, ...], msgspec.Meta(max_length=ANCESTORS_MAX)] = ()
    features: Features = Features()


class Root(Record, frozen=True):
    """Names tree and journal. `uid` survives a re-proposal under another ballot.

    `parent` is lineage.
    """

    format: U8
    features: Features
    vault: Public
    ballot: Ballot
    seq: U63
    uid: Uid
    parent: Uid
    time: int
    family_epoch: U63
    family_hash: Hash
    key_epoch: U16
    content: bytes

    @property
    def order(self) -> tuple[Ballot, int]:
        """Roots are ordered by (ballot, seq)."""
        return (self.ballot, self.seq)


class Member(Record, frozen=True):
    """One supplier of a family: its node key, where it was last reached, what it promised."""

    node: Public
    addresses: Annotated[tuple[str, ...], msgspec.Meta(max_length=4)]
    space: U63

    @property
    def id(self) -> bytes:
        return node_id(self.node)


def seat_of(name: bytes) -> Member:
    """An owner's seat among voters: it has no address and no room."""
    return Member(name, (), 0)


class Group(Record, frozen=True):
    """k, n and n ordered suppliers; metadata blocks use `meta_k` of the same n."""

    k: Annotated[int, msgspec.Meta(ge=1, le=GROUP_MAX)]
    meta_k: Annotated[int, msgspec.Meta(ge=1, le=GROUP_MAX)]
    members: Annotated[tuple[Member, ...], msgspec.Meta(min_length=1, max_length=GROUP_MAX)]

    @property
    def n(self) -> int:
        return len(self.members)


class Family(Record, frozen=True):
    """The suppliers of a vault at one epoch, and the reserves lined up (bench)."""

    format: U8
    features: Features
    vault: Public
    epoch: U63
    parent: Hash
    read_proof: Public
    groups: Annotated[tuple[Group, ...], msgspec.Meta(min_length=1, max_length=64)]
    bench: Annotated[tuple[Member, ...], msgspec.Meta(max_length=256)] = ()
    words: dict[str, int] = {}  #: see core/policy.py
    #: who voted before, while a change of the voters is under way: majorities of both must agree
    former: Annotated[tuple[Member, ...], msgspec.Meta(max_length=GROUP_MAX + 1)] = ()
    #: the vote of the machine that writes (vault/seat.py): 32 random bytes, empty for no such vote
    seat: Annotated[bytes, msgspec.Meta(max_length=32)] = b""

    def member(self, node: bytes) -> Member | None:
        """The supplier with this key, of a position or of the bench."""
        return next((member for member in self.everybody if member.node == node), None)

    def position(self, node: bytes) -> int | None:
        """The position that a node has."""
        nodes = [member.node for member in self.members]
        return nodes.index(node) if node in nodes else None

    @property
    def policy(self) -> Policy:
        """What the owner wants of this family."""
        return read_policy(self.words)

    @property
    def group(self) -> Group:
        """The positions. (The format has room for several groups; every vault has one.)"""
        return self.groups[0]

    @property
    def members(self) -> tuple[Member, ...]:
        """The suppliers of the positions."""
        return self.group.members

    @property
    def voters(self) -> tuple[Member, ...]:
        """Those who keep the root register: the members and, where there is one, the seat."""
        return (*self.members, seat_of(self.seat)) if self.seat else self.members

    @property
    def everybody(self) -> tuple[Member, ...]:
        """The suppliers of the positions, then the reserves of the bench."""
        return (*self.members, *self.bench)


class BlockHeader(Record, frozen=True):
    """Signed by the vault; the same in all n fragments; lets anyone check and remake any of
    them.
    """

    format: U8
    features: Features
    vault: Public
    block: BlockId
    group: U16
    k: Annotated[int, msgspec.Meta(ge=1, le=GROUP_MAX)]
    n: Annotated[int, msgspec.Meta(ge=1, le=GROUP_MAX)]
    key_epoch: U16
    length: Annotated[int, msgspec.Meta(ge=0, le=BLOCK_MAX)]
    directory: Place
    ballot: Ballot
    seq: U63
    fragments: Annotated[tuple[Hash, ...], msgspec.Meta(min_length=1, max_length=GROUP_MAX)]


class VaultEnd(Record, frozen=True):
    """Signed by the vault key: a supplier forgets the vault, with all that it keeps of it."""

    vault: Public
    supplier: Public
    time: int  #: Unix seconds


class RetentionWanted(Record, frozen=True):
    """Signed by the vault key: for so many seconds a supplier keeps what it is told to delete."""

    vault: Public
    seconds: U63


class Contract(Record, frozen=True):
    """Signed by a supplier: so many bytes for a vault until a date (Unix seconds)."""

    supplier: Public
    vault: Public
    space: U63
    until: int
    retain: U63 = 0  #: seconds for which what is deleted is kept; 0 by programs that cannot


class BlockDead(Record, frozen=True):
    """Signed by the vault: the block is dropped since the root (ballot, seq). A tombstone for
    ever.
    """

    vault: Public
    block: BlockId
    ballot: Ballot
    seq: U63


class Attestation(Record, frozen=True):
    """Signed by a member or a stand-in.

    Its own pings to `member` fail for longer than the patience.
    """

    vault: Public
    family_epoch: U63
    position: Annotated[int, msgspec.Meta(ge=0, lt=GROUP_MAX)]
    member: Public
    attester: Public
    time: U63 = 0  #: Unix seconds by the attester's clock; 0 by programs that did not date it


class Leaving(Record, frozen=True):
    """Signed by a member: it goes, and its position needs another supplier."""

    vault: Public
    family_epoch: U63
    position: Annotated[int, msgspec.Meta(ge=0, lt=GROUP_MAX)]
    member: Public
    time: U63 = 0  #: Unix seconds by the member's clock; 0 by programs that did not date it


class Warrant(Record, frozen=True):
    """Why `stand_in` may take a copy of a position: signed attestations, or one signed leaving."""

    position: Annotated[int, msgspec.Meta(ge=0, lt=GROUP_MAX)]
    stand_in: Public
    leaving: bool
    evidence: Annotated[
        tuple[Annotated[bytes, msgspec.Meta(max_length=512)], ...],
        msgspec.Meta(min_length=1, max_length=GROUP_MAX),
    ]


class Visit(Record, frozen=True):
    """What a stand-in read at one supplier for one position, in all. Times are Unix seconds."""

    stand_in: Public
    position: Annotated[int, msgspec.Meta(ge=0, lt=GROUP_MAX)]
    bytes: Amount
    since: UnixTime
    until: UnixTime


class StandDown(Record, frozen=True):
    """Signed by the vault: what `supplier` keeps of a position is superfluous since a family
    epoch.
    """

    vault: Public
    supplier: Public
    position: Annotated[int, msgspec.Meta(ge=0, lt=GROUP_MAX)]
    family_epoch: U63


root_records = Opener(Root, "root", ROOT_MAX)
family_records = Opener(Family, "family", FAMILY_MAX)
header_records = Opener(BlockHeader, "block", HEADER_MAX)
ballot_records = Opener(BallotClaim, "ballot", 1024)
contract_records = Opener(Contract, "contract", 1024)
block_dead_records = Opener(BlockDead, "block-dead", 1024)
retention_records = Opener(RetentionWanted, "retention", 512)
vault_end_records = Opener(VaultEnd, "vault-end", 512)
attestation_records = Opener(Attestation, "attestation", 512)
leaving_records = Opener(Leaving, "leaving", 512)
stand_down_records = Opener(StandDown, "stand-down", 1024)

_root_content = Decoder(RootContent, "root content", ROOT_MAX)


def decode_root_content_untrusted(plain: bytes) -> RootContent:
    """The sealed part of a root, opened. Raises Malformed, also for bits that are not known."""
    content = _root_content.decode_untrusted(plain)
    if content.features.incompatible & ~KNOWN_SEALED:
        raise Malformed("this vault uses a newer format; upgrade bitdustfs to mount it")
    return content


def claim_ballot(key: SigningKey, ballot: Ballot) -> bytes:
    """A signed claim of a ballot: no two are the same."""
    return seal_record(key, "ballot", BallotClaim(key.verify_key.encode(), ballot, urandom(16)))


def open_claim_untrusted(data: bytes, vault: bytes) -> BallotClaim:
    """A claim of this vault, checked. Raises Malformed or Forged."""
    claim = ballot_records.open_untrusted(data, vault)
    if claim.vault != vault:
        raise Malformed("the claim is of another vault")
    return claim


def root_features(ballot: Ballot) -> Features:
    """What a reader of a root under this ballot must know."""
    return Features(incompatible=LINEAGES if ballot.lineage else 0)


def family_features(former: Sequence[Member]) -> Features:
    """What a reader of a family with these former voters must know."""
    return Features(incompatible=LINEAGES if former else 0)


def family_hash(signed_family: bytes) -> bytes:
    """How roots and successors name a family: the hash of its signed bytes."""
    return tagged("family", signed_family)


def open_root_untrusted(data: bytes, vault: bytes) -> Root:
    """A root of this vault, checked. Raises Malformed or Forged."""
    root = root_records.open_untrusted(data, vault)
    if root.vault != vault or root.format != FORMAT:
        raise Malformed("a root belongs to another vault or format")
    if root.features.incompatible & ~KNOWN:
        raise Malformed("this vault uses a newer format; upgrade bitdustfs to mount it")
    return root


def open_family_untrusted(data: bytes, vault: bytes) -> Family:
    """A family of this vault, checked. Raises Malformed or Forged."""
    family = family_records.open_untrusted(data, vault)
    unknown = family.features.incompatible & ~KNOWN
    if family.vault != vault or family.format != FORMAT or unknown:
        raise Malformed("a family belongs to another vault or a newer format")
    if len(family.groups) != 1:
        raise Malformed("a family of several groups is of a newer format; upgrade bitdustfs")
    if not 1 <= family.group.meta_k <= family.group.k <= family.group.n:
        raise Malformed("a family has a group with impossible k and n")
    return family


def open_header_untrusted(data: bytes | memoryview, vault: bytes) -> BlockHeader:
    """A block header of this vault, checked. Raises Malformed or Forged."""
    header = header_records.open_untrusted(data, vault)
    if header.vault != vault or header.format != FORMAT or header.features.incompatible:
        raise Malformed("a block header belongs to another vault or a newer format")
    if header.group or header.n != len(header.fragments) or header.k > header.n:
        raise Malformed("a block header contradicts itself")
    if header.directory.offset + header.directory.length > header.length:
        raise Malformed("a block header places its directory outside the block")
    return header
