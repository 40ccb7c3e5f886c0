"""Datagrams and records of the DHT, without I/O (docs/protocol.md).

    datagram = msgpack [body, signature]     signed by the sender's node key
    body     = [version, sender's public key, serves, question id, token, message]

A datagram has at most DATAGRAM_MAX bytes. A response carries the id of its question.

A record is signed by whom it is about and carries a seq: of all that are shown the newest genuine
one wins, so nobody needs to be believed. A node record lies at the node's id. A vault record lies
at three places made from the vault's record key, sealed for those who know the vault.
"""

from typing import Annotated

import msgspec
from nacl.signing import SigningKey

from bitdustfs.core.codec import U8, U63, Decoder, Hash, NodeId, Public, Uid, encode
from bitdustfs.core.hashing import tagged
from bitdustfs.core.keys import NODE_ID_SIZE, ReadCapability, node_id
from bitdustfs.core.records import Ballot, Opener, Record, seal_record
from bitdustfs.core.sealing import Kind, Sealer, Suite
from bitdustfs.errors import Malformed
from bitdustfs.net.addresses import Relayed, relayed
from bitdustfs.units import DATAGRAM_MAX, DHT_RECORD_MAX

VERSION = 1
COPIES = 3  #: places of a vault record
CONTACTS_MAX = 16  #: contacts in one response
FAMILY_IDS_MAX = 16
#: what a question has in place of a token that is not known yet: so a DhtPong is no longer than it
NO_TOKEN = bytes(16)

DhtRecordBytes = Annotated[bytes, msgspec.Meta(max_length=DHT_RECORD_MAX)]
RELAYS_MAX = 3  #: relays of one node
Address = Annotated[str, msgspec.Meta(max_length=64)]
Endpoint = tuple[str, int]  #: IP address, of either version, and UDP port


class Contact(Record, frozen=True):
    """A node that serves, where it was seen."""

    id: NodeId
    host: Address
    port: Annotated[int, msgspec.Meta(ge=1024, le=65535)]

    @property
    def endpoint(self) -> Endpoint:
        return self.host, self.port


class DhtMessage(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """Base of all messages."""


class DhtPing(DhtMessage, frozen=True, tag=1):
    """Answered by DhtPong, with a token for the asker's address."""


class FindNode(DhtMessage, frozen=True, tag=2):
    """Who is near this id? Answered by ContactsAre."""

    target: NodeId


class FindValue(DhtMessage, frozen=True, tag=3):
    """The record at this key? Answered by RecordIs, or by ContactsAre where it is not kept."""

    key: NodeId


class StoreRecord(DhtMessage, frozen=True, tag=4):
    """Keep this record. Answered by Stored; a false record is not answered."""

    key: NodeId
    record: DhtRecordBytes


class DialBack(DhtMessage, frozen=True, tag=5):
    """Am I reached from outside, at this address? Dialled if this comes from that host.

    Answered by DialledBack, some seconds later; by older nodes, and by who was asked too often, not
    at all.
    """

    host: Address
    port: Annotated[int, msgspec.Meta(ge=1024, le=65535)]


class DhtPong(DhtMessage, frozen=True, tag=10):
    """`token` proves, when it is sent back, that its bearer receives at its address."""

    token: Annotated[bytes, msgspec.Meta(max_length=16)]


class ContactsAre(DhtMessage, frozen=True, tag=11):
    """The contacts nearest to what was asked for, nearest first."""

    contacts: Annotated[tuple[Contact, ...], msgspec.Meta(max_length=CONTACTS_MAX)]


class RecordIs(DhtMessage, frozen=True, tag=12):
    """The record kept at the key."""

    record: DhtRecordBytes


class Stored(DhtMessage, frozen=True, tag=13):
    """The record is kept, or a newer one is."""


class DialledBack(DhtMessage, frozen=True, tag=14):
    """What became of it: the asker's key was shown over TCP (TLS), and by a datagram to a socket
    that it had never sent anything to. `host`: where the question came from; if that is another
    one than it named, nothing was dialled.
    """

    host: Address
    tcp: bool
    udp: bool


Question = DhtPing | FindNode | FindValue | StoreRecord | DialBack
Response = DhtPong | ContactsAre | RecordIs | Stored | DialledBack


class Body(Record, frozen=True):
    """What a datagram says. `serves`: the sender takes questions and may be kept as a contact."""

    version: U8
    sender: Public
    serves: bool
    id: Uid
    token: Annotated[bytes, msgspec.Meta(max_length=16)]
    message: Question | Response


class NodeRecord(Record, frozen=True):
    """Where a node is reached by TCP and how many bytes it offers."""

    node: Public
    seq: U63
    addresses: Annotated[tuple[Address, ...], msgspec.Meta(max_length=4)]
    offer: U63
    #: relays ("host:port") through which it is reached
    through: Annotated[tuple[Address, ...], msgspec.Meta(max_length=RELAYS_MAX)] = ()
    #: those of the addresses at which a router leads to it, by a mapped port: for people
    mapped: Annotated[tuple[Address, ...], msgspec.Meta(max_length=4)] = ()

    @property
    def ways(self) -> tuple[str, ...]:
        """Where it may be dialled, then where it is reached through relays (net/addresses.py)."""
        return (*self.addresses, *(str(Relayed(self.node, relay)) for relay in self.through))


class VaultRecord(Record, frozen=True):
    """`sealed` holds a FamilyHint for those who know the vault."""

    public: Public
    seq: U63
    sealed: Annotated[bytes, msgspec.Meta(max_length=DHT_RECORD_MAX)]


class FamilyHint(Record, frozen=True):
    """Enough to find the family again, and a witness of how far the root had come."""

    family_epoch: U63
    family_hash: Hash
    ballot: Ballot
    root_seq: U63
    nodes: Annotated[tuple[NodeId, ...], msgspec.Meta(max_length=FAMILY_IDS_MAX)]


_bodies = Opener(Body, "datagram", DATAGRAM_MAX)
_nodes = Opener(NodeRecord, "node-record", DHT_RECORD_MAX)
_vaults = Opener(VaultRecord, "vault-record", DHT_RECORD_MAX)
_hints = Decoder(FamilyHint, "family hint", DHT_RECORD_MAX)


def encode_datagram(key: SigningKey, body: Body) -> bytes:
    """The signed bytes of a datagram."""
    return seal_record(key, "datagram", body)


def peek_datagram_untrusted(data: bytes) -> Body:
    """What a datagram says, whoever signed it: a signature is the dearest thing to look at. Raises
    Malformed.
    """
    body = _bodies.peek_untrusted(data)
    if body.version != VERSION:
        raise Malformed("a datagram of another protocol version")
    return body


def open_datagram_untrusted(data: bytes) -> Body:
    """A datagram whose signature is its sender's. Raises Malformed or Forged."""
    return _bodies.open_untrusted(data, peek_datagram_untrusted(data).sender)


def is_shorter_than_pong(question: Body, token: bytes) -> bool:
    """Whether a DhtPong with this token would have more bytes than the question that draws it."""
    pong = msgspec.structs.replace(question, token=b"", message=DhtPong(token))
    return len(encode(question)) < len(encode(pong))


def sign_node_record(
    key: SigningKey, seq: int, ways: tuple[str, ...], offer: int, mapped: tuple[str, ...] = ()
) -> bytes:
    """`ways`: addresses, also such as lead through relays; `mapped`: those by a mapped port."""
    through = tuple(way.relay for way in map(relayed, ways) if way is not None)
    direct = tuple(way for way in ways if relayed(way) is None)
    node = key.verify_key.encode()
    return seal_record(key, "node-record", NodeRecord(node, seq, direct, offer, through, mapped))


def open_node_record_untrusted(data: bytes, node: bytes) -> NodeRecord:
    """The record of the node with id `node`. Raises Malformed or Forged."""
    peeked = _nodes.peek_untrusted(data)
    if node_id(peeked.node) != node:
        raise Malformed("a node record of another node")
    return _nodes.open_untrusted(data, peeked.node)


def vault_record_key(record_public: bytes, copy: int) -> bytes:
    """Where copy number `copy` of a vault's record lies."""
    return tagged("vault record", record_public, bytes([copy]))[:NODE_ID_SIZE]


def _hint_sealer(capability: ReadCapability) -> Sealer:
    return Sealer(capability.record_seal_key, capability.vault_id, bytes(16), 0)


def sign_vault_record(
    key: SigningKey, capability: ReadCapability, seq: int, hint: FamilyHint, suite: Suite
) -> bytes:
    sealed = _hint_sealer(capability).seal(suite, 0, Kind.RECORD, encode(hint))
    return seal_record(key, "vault-record", VaultRecord(key.verify_key.encode(), seq, sealed))


def open_vault_record_untrusted(data: bytes, capability: ReadCapability) -> FamilyHint:
    """The family hint in a vault's record. Raises Malformed or Forged."""
    record = _vaults.open_untrusted(data, capability.record_public)
    sealer = _hint_sealer(capability)
    plain = sealer.open_unreferenced_untrusted(record.sealed, 0, Kind.RECORD)
    return _hints.decode_untrusted(plain)


def record_seq_untrusted(key: bytes, data: bytes) -> int:
    """The seq of a genuine record that belongs at `key`, of either kind. Raises Malformed."""
    try:
        return open_node_record_untrusted(data, key).seq
    except Malformed:
        peeked = _vaults.peek_untrusted(data)
        if key not in (vault_record_key(peeked.public, i) for i in range(COPIES)):
            raise Malformed("a record that does not belong at its key") from None
        return _vaults.open_untrusted(data, peeked.public).seq
