"""The wire protocol between owner and supplier, without I/O (docs/protocol.md).

    frame = head length u32 | payload length u32 | request id u64 | head | payload
    head  = one msgpack array: tag, fields...

The server speaks first (Challenge); the client answers with Open; then requests are pipelined, each
answered once, in any order, under its own id. Every bound is checked on the head, before a payload
is read or a buffer made for it.
"""

import struct
from typing import Annotated, NamedTuple

import msgspec

from bitdustfs.core.codec import (
    U16,
    U32,
    U63,
    BlockId,
    Decoder,
    Hash,
    Public,
    Signature,
    UnixTime,
    encode,
)
from bitdustfs.core.erasure import Buffer
from bitdustfs.core.hashing import HASH_SIZE
from bitdustfs.core.records import Ballot, Visit
from bitdustfs.core.spans import chunk_count
from bitdustfs.core.warrants import WARRANT_MAX, WARRANTS_MAX
from bitdustfs.errors import Malformed
from bitdustfs.units import (
    FAMILY_MAX,
    FRAGMENT_MAX,
    FRAME_HEAD_MAX,
    GROUP_MAX,
    HEADER_MAX,
    READ_MAX,
    ROOT_MAX,
)

VERSION = 2
PREFIX = struct.Struct(">IIQ")
CHUNK_HASHES_MAX = chunk_count(FRAGMENT_MAX) * HASH_SIZE
LIST_MAX = 1000
VISITS_MAX = 64
AWAIT_MAX = 30  #: seconds that an answer may be held back
PAST_MAX = 4096  #: past roots that a voter keeps of one vault
JOIN_LINE_MAX = 2048  #: characters of the line of a friend (net/joinline.py)

Position = Annotated[int, msgspec.Meta(ge=0, lt=GROUP_MAX)]
RootBytes = Annotated[bytes, msgspec.Meta(max_length=ROOT_MAX)]
FamilyBytes = Annotated[bytes, msgspec.Meta(max_length=FAMILY_MAX)]
HeaderBytes = Annotated[bytes, msgspec.Meta(max_length=HEADER_MAX)]
ChunkHashes = Annotated[bytes, msgspec.Meta(max_length=CHUNK_HASHES_MAX)]
RecordBytes = Annotated[bytes, msgspec.Meta(max_length=1024)]
WarrantList = Annotated[
    tuple[Annotated[bytes, msgspec.Meta(max_length=WARRANT_MAX)], ...],
    msgspec.Meta(max_length=WARRANTS_MAX),
]
Text = Annotated[str, msgspec.Meta(max_length=200)]
HostPort = Annotated[str, msgspec.Meta(max_length=64)]


class Message(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Base of all heads. `payload_limit`: bytes of payload that may follow it."""

    payload_limit = 0


class Challenge(Message, frozen=True, tag=1):
    """Server, first: a nonce the session's signature must cover."""

    version: U16
    nonce: Hash


class Open(Message, frozen=True, tag=2):
    """Client: which vault, in which role; signs what its own TLS saw (design: vault session)."""

    version: U16
    role: Annotated[str, msgspec.Meta(max_length=16)]
    vault: Public
    signature: Signature


class Standby(Message, frozen=True, tag=3):
    """A node that cannot be dialled, in place of Open, to a relay: calls come on this connection.

    Its TLS proves its key. Answered by Done or Fault; then it sends Ping, answered by Done, and is
    sent Called.
    """

    version: U16


class Through(Message, frozen=True, tag=4):
    """In place of Open, to a relay: a circuit to a node on standby. After Done, bytes are passed
    on.
    """

    version: U16
    node: Public


class Meeting(Message, frozen=True, tag=5):
    """The node that was called, in place of Open, on a connection of its own.

    No answer: what the other one sends follows.
    """

    version: U16
    circuit: Hash


class Called(Message, frozen=True, tag=6):
    """Relay, to a node on standby: somebody wants to speak with it; the circuit's random name."""

    circuit: Hash


class Facing(Message, frozen=True, tag=7):
    """As Through, from whoever wants to be dialled by the node: it may be told where this
    connection comes from.
    """

    version: U16
    node: Public


class Whence(Message, frozen=True, tag=8):
    """The node that was called, in place of Open, to a relay: where do we come from, this
    connection and whoever said Facing? Answered by SeenAt or Fault.
    """

    version: U16
    circuit: Hash


class SeenAt(Message, frozen=True, tag=9):
    """Where a relay saw the node and its caller come from: HOST:PORT, with IP literals. The node
    passes it on to who said Punch.
    """

    node: HostPort
    caller: HostPort


class Put(Message, frozen=True, tag=10):
    """Keep this fragment (payload). Answered by Done once it is synced."""

    block: BlockId
    position: Position
    claim: RecordBytes
    header: HeaderBytes
    chunks: ChunkHashes
    payload_limit = FRAGMENT_MAX


class Head(Message, frozen=True, tag=11):
    """Header and chunk hashes of a fragment. Answered by HeadIs."""

    block: BlockId
    position: Position


class Read(Message, frozen=True, tag=12):
    """A range of a fragment's payload. Answered by Bytes."""

    block: BlockId
    position: Position
    offset: Annotated[int, msgspec.Meta(ge=0, le=FRAGMENT_MAX)]
    length: Annotated[int, msgspec.Meta(ge=1, le=READ_MAX)]


class List(Message, frozen=True, tag=13):
    """Fragments kept for this vault, in order, after a given one. Answered by Listed."""

    after: Annotated[bytes, msgspec.Meta(max_length=17)]
    limit: Annotated[int, msgspec.Meta(ge=1, le=LIST_MAX)]


class Kill(Message, frozen=True, tag=14):
    """An owner-signed block-dead record, from the holder of a claim. Answered by Done."""

    record: RecordBytes
    claim: RecordBytes


class Promise(Message, frozen=True, tag=20):
    """Make or renew a contract. Answered by ContractIs.

    Over no bytes: give it back, where nothing is kept by it. Answered by Done. With an owner-signed
    vault-end record as `token` all that is kept of the vault goes, too.

    `token`: by which the supplier invited whoever shows it, where it makes contracts with nobody
    else. Or an owner-signed retention record: the contract that is answered says what holds.
    """

    space: U63
    until: int
    token: RecordBytes = b""


class Usage(Message, frozen=True, tag=21):
    """Answered by UsageIs."""


class Prepare(Message, frozen=True, tag=22):
    """A signed ballot claim. Answered by CurrentIs."""

    claim: RecordBytes
    take_over: bool


class Accept(Message, frozen=True, tag=23):
    """A signed root, the signed family it names, the claim it was written under. Done."""

    root: RootBytes
    family: FamilyBytes
    claim: RecordBytes


class Current(Message, frozen=True, tag=24):
    """What is accepted here. Answered by CurrentIs."""


class Renew(Message, frozen=True, tag=25):
    """The holder of the claim is alive. Answered by Done."""

    claim: RecordBytes


class Release(Message, frozen=True, tag=26):
    """The holder of the claim unmounts: others need not wait. Answered by Done."""

    claim: RecordBytes


class Ping(Message, frozen=True, tag=27):
    """Answered by Done."""


class Kin(Message, frozen=True, tag=28):
    """How do you stand? Asked by owner and members, instead of a ping. Answered by KinIs."""


class Attest(Message, frozen=True, tag=29):
    """A member asks.

    Do your own pings to the holder of this position fail past patience? AttestedIs.
    """

    position: Position


class Warrants(Message, frozen=True, tag=30):
    """Warrants known to the asker; those that hold are kept. Answered by WarrantsAre: all that
    are.
    """

    records: WarrantList


class StandDown(Message, frozen=True, tag=31):
    """An owner-signed stand-down, from the holder of a claim: the copies it names are deleted.

    Answered by Done.
    """

    record: RecordBytes
    claim: RecordBytes


class Hurry(Message, frozen=True, tag=32):
    """A member asks its kin to look around now: it leaves. Answered by Done."""


class Visits(Message, frozen=True, tag=33):
    """The owner asks what stand-ins have read here. Answered by VisitsAre."""


class Join(Message, frozen=True, tag=34):
    """A friend comes by an invitation (`token`), and answers with one of its own. Done.

    Only in a session of the role friend, which suppliers that do not know this refuse.
    """

    token: RecordBytes
    line: Annotated[str, msgspec.Meta(max_length=JOIN_LINE_MAX)]


class Punch(Message, frozen=True, tag=35):
    """In place of Open, through a relay: let us dial each other at the same time.

    The signature is that of Open. Answered by SeenAt or Fault. Then each Ping is answered by Done,
    and both dial: the client as soon as it has that, the node as much later as Done takes.
    """

    version: U16
    role: Annotated[str, msgspec.Meta(max_length=16)]
    vault: Public
    signature: Signature


class Pasts(Message, frozen=True, tag=36):
    """What is kept by the vault's retention, and which past roots are. Answered by PastIs.

    Asked only of suppliers that promised a retention, and by rewinding: older ones close the
    connection.
    """


class ShowPast(Message, frozen=True, tag=37):
    """A past root and its family, by their number in PastIs. Answered by CurrentIs, of no claim."""

    number: U63


class Await(Message, frozen=True, tag=38):
    """A follower asks for the root once it is newer than one that it knows, by (ballot, seq).

    Answered by CurrentIs, or by Done where none is within so many seconds. Only in a session of the
    role follower, which suppliers that do not know this refuse.
    """

    known: tuple[Ballot, U63]
    seconds: Annotated[int, msgspec.Meta(ge=0, le=AWAIT_MAX)]


class Done(Message, frozen=True, tag=40):
    """Carried out, and synced where that matters."""


class Fault(Message, frozen=True, tag=41):
    """Refused or failed: a code of errors.Refused and a detail for the log.

    `proof`: the signed claim that fences the asker off.
    """

    code: Annotated[str, msgspec.Meta(max_length=32)]
    detail: Text
    proof: RecordBytes = b""


class HeadIs(Message, frozen=True, tag=42):
    header: HeaderBytes
    chunks: ChunkHashes


class Bytes(Message, frozen=True, tag=43):
    """The range asked for, as payload."""

    payload_limit = READ_MAX


class Listed(Message, frozen=True, tag=44):
    """(block id + position byte, stored bytes) of each; `more` when there are others after them."""

    fragments: Annotated[
        tuple[tuple[Annotated[bytes, msgspec.Meta(min_length=17, max_length=17)], U32], ...],
        msgspec.Meta(max_length=LIST_MAX),
    ]
    more: bool


class ContractIs(Message, frozen=True, tag=45):
    record: RecordBytes


class UsageIs(Message, frozen=True, tag=46):
    """Bytes promised to this vault, used by it, in its trash; fragments kept; end of the
    contract.
    """

    space: U63
    used: U63
    trash: U63
    fragments: U63
    until: UnixTime


class CurrentIs(Message, frozen=True, tag=47):
    """The claim that was promised, and the accepted root and family; empty bytes for none."""

    claim: RecordBytes
    root: RootBytes
    family: FamilyBytes


class KinIs(Message, frozen=True, tag=48):
    """Epoch of the family known here; (ballot, seq) of the root; which position it stands in for.

    `complete`: it has all of that position that can be had. `leaving`: its signed leaving, or
    nothing. `copies`: positions that are not its own, of which the owner gave it fragments.
    """

    epoch: U63
    root: tuple[Ballot, U63] | None
    standing: Position | None
    complete: bool
    leaving: RecordBytes
    copies: Annotated[tuple[Position, ...], msgspec.Meta(max_length=GROUP_MAX)] = ()


class AttestedIs(Message, frozen=True, tag=49):
    record: RecordBytes


class WarrantsAre(Message, frozen=True, tag=50):
    records: WarrantList


class VisitsAre(Message, frozen=True, tag=51):
    visits: Annotated[tuple[Visit, ...], msgspec.Meta(max_length=VISITS_MAX)]


class PastIs(Message, frozen=True, tag=52):
    """`retain`: seconds that the retention has here. `retained`: bytes that it keeps, which count
    as used; the last of them go in `last` seconds. `roots`: number of each past root, and how many
    seconds ago it was accepted and left, by this supplier's clock.
    """

    retain: U63
    retained: U63
    last: U63
    roots: Annotated[tuple[tuple[U63, U63, U63], ...], msgspec.Meta(max_length=PAST_MAX)]


Request = (
    Put | Head | Read | List | Kill | Promise | Usage | Prepare | Accept | Current | Renew | Release
    | Ping | Kin | Attest | Warrants | StandDown | Hurry | Visits | Join
    | Pasts | ShowPast | Await
)  # fmt: skip
Reply = (
    Done | Fault | HeadIs | Bytes | Listed | ContractIs | UsageIs | CurrentIs | KinIs | AttestedIs
    | WarrantsAre | VisitsAre | PastIs
)  # fmt: skip
FirstWord = Open | Standby | Through | Meeting | Facing | Whence | Punch
AnyMessage = Challenge | Called | SeenAt | FirstWord | Request | Reply

_from_server = Decoder(Challenge | Called | SeenAt | Reply, "reply", FRAME_HEAD_MAX)  # type: ignore[arg-type]
_from_client = Decoder(FirstWord | Request, "request", FRAME_HEAD_MAX)  # type: ignore[arg-type]


class Frame(NamedTuple):
    """One received frame."""

    id: int
    message: AnyMessage
    payload: Buffer


class Asked(NamedTuple):
    """A head whose payload of `length` bytes has not been taken yet."""

    id: int
    message: AnyMessage
    length: int


def encode_frame(request_id: int, message: AnyMessage, payload_length: int = 0) -> bytes:
    """Prefix and head of a frame; the payload's bytes follow it."""
    head = encode(message)
    return PREFIX.pack(len(head), payload_length, request_id) + head


class FrameDecoder:
    """Bytes in, frames out. After Malformed it stays broken: the connection must be closed.

    A server's stops at each head with a payload: `asked` says what it is, and no byte of it is kept
    until `admit` or `refuse` was called. `head_limit`: bytes of a head, at most.

    A payload may go past `feed` into the buffer that it will stay in: see `vacant`.
    """

    def __init__(self, from_server: bool, head_limit: int = FRAME_HEAD_MAX) -> None:
        self._decoder = _from_server if from_server else _from_client
        self._asks, self._head_limit = not from_server, head_limit
        self._buffer = bytearray()
        self._start = 0
        self._payload: Buffer = b""
        self._vacant = memoryview(b"")  # the part of the payload that has not come yet
        self._pending: Asked | None = None
        self._skip = 0  # bytes of a refused payload still to come
        self.asked: Asked | None = None

    def allow_heads(self, limit: int) -> None:
        """From now on a head may have so many bytes."""
        self._head_limit = limit

    @property
    def head_due(self) -> int:
        """Bytes of the head that is under way, as it was announced; 0 when none is."""
        if self._pending or self.asked or len(self._buffer) - self._start < PREFIX.size:
            return 0
        return int(PREFIX.unpack_from(self._buffer, self._start)[0])

    @property
    def payload_due(self) -> int:
        """Bytes that are still to come of a payload that was admitted or refused."""
        return len(self._vacant) if self._pending else self._skip

    @property
    def skipping(self) -> bool:
        """Whether what comes next is of a payload that was refused."""
        return self._skip > 0

    @property
    def vacant(self) -> memoryview:
        """Where the next bytes of a payload may be written, after which `fill` is due.

        Empty where they have to be fed: no payload is under way.
        """
        return self._vacant if self._start == len(self._buffer) else self._vacant[:0]

    def fill(self, length: int) -> None:
        """So many bytes were written into `vacant`."""
        self._vacant = self._vacant[length:]

    def feed(self, data: bytes) -> None:
        """Adds received bytes; b"" is ignored."""
        view = memoryview(data)
        passed = min(self._skip, len(view))
        self._skip -= passed
        view = view[passed:]
        if self._start == len(self._buffer):
            view = view[self._take(view) :]
        if self._start:
            del self._buffer[: self._start]
            self._start = 0
        self._buffer += view

    def next_untrusted(self) -> Frame | None:
        """The next whole frame, or None until more is fed, or `asked` is decided.

        Raises Malformed.
        """
        if self._pending is None:
            if self.asked is None:
                self._next_head()
            if self._pending is None:
                return None
        if self._vacant:
            with memoryview(self._buffer) as view, view[self._start :] as rest:
                self._start += self._take(rest)
            if self._vacant:
                return None
        frame = Frame(self._pending.id, self._pending.message, self._payload)
        self._pending, self._payload = None, b""
        return frame

    def _take(self, view: memoryview) -> int:
        """Puts bytes where the payload goes; how many of them are of the payload."""
        count = min(len(view), len(self._vacant))
        if count:
            self._vacant[:count] = view[:count]
            self.fill(count)
        return count

    def admit(self, buffer: memoryview | None = None) -> None:
        """The payload that is asked about is taken, into `buffer` of its length or a new one."""
        assert self.asked is not None
        if buffer is None:
            buffer = memoryview(bytearray(self.asked.length))
        assert len(buffer) == self.asked.length
        self._pending, self.asked = self.asked, None
        self._payload = self._vacant = buffer

    def refuse(self, fault: Fault) -> None:
        """The payload that is asked about is passed over, without being held in memory.

        `fault` stands in the frame instead of the message.
        """
        assert self.asked is not None
        there = min(self.asked.length, len(self._buffer) - self._start)
        self._start += there
        self._skip = self.asked.length - there
        self._pending, self.asked = Asked(self.asked.id, fault, 0), None

    def _next_head(self) -> None:
        if len(self._buffer) - self._start < PREFIX.size:
            return
        head_length, payload_length, request_id = PREFIX.unpack_from(self._buffer, self._start)
        if head_length > self._head_limit or payload_length > FRAGMENT_MAX:
            raise Malformed(f"a frame of {head_length} + {payload_length} bytes breaks its bound")
        if len(self._buffer) - self._start < PREFIX.size + head_length:
            return
        at = self._start + PREFIX.size
        message: AnyMessage = self._decoder.decode_untrusted(
            bytes(self._buffer[at : at + head_length])
        )
        if payload_length > message.payload_limit:
            raise Malformed(f"{type(message).__name__} with {payload_length} bytes of payload")
        self._start = at + head_length
        asked = Asked(request_id, message, payload_length)
        self.asked = asked
        if not payload_length:
            self._pending, self.asked = asked, None
        elif not self._asks:
            self.admit()


def session_body(
    role: str, vault: bytes, server_key: bytes, client_key: bytes, nonce: bytes
) -> bytes:
    """What the client signs to open a vault session: no relay and no bare nonce is ever signed."""
    return encode((VERSION, role, vault, server_key, client_key, nonce))
