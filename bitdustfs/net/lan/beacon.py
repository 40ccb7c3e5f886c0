"""What is said to everybody in a local network: "I am here", for those who know the key. No I/O.

    question   1 | 0                                          who is there?
    beacon     1 | 1 | tag 16 | port 2 | signature 64         83 bytes

Tag and mask are hashes of the node's public key and the hour, and the port is XORed with the mask.
So who only listens, and does not know the key, learns that a node is at this address, and not from
the beacon which one. Who dials it learns the key: TLS shows it to anybody. The node's signature
covers tag and port: it does not show the key either, and nobody else who knows the key can make it.
"""

import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from nacl.signing import SigningKey

from bitdustfs.core.hashing import tagged
from bitdustfs.core.keys import sign, verify
from bitdustfs.errors import Malformed

PERIOD = 3600  #: seconds for which a tag is the same
#: periods that a beacon may be ahead or behind: a house without the internet has no common clock
SLACK = 1
TAG_SIZE = 16
_VERSION, _QUESTION, _BEACON = 1, 0, 1
_beacon = struct.Struct(f"!BB{TAG_SIZE}sH64s")
QUESTION = bytes([_VERSION, _QUESTION])
SIZE_MAX = _beacon.size  #: bytes of anything that is said


class Beacon(NamedTuple):
    """As it was heard: whose it is, nobody can say who does not know the key."""

    tag: bytes
    masked: int
    signature: bytes


def period_of(now: float) -> int:
    """The hour of a Unix time."""
    return int(now // PERIOD)


@lru_cache(4096)
def _hashes(node: bytes, period: int) -> tuple[bytes, int]:
    """Tag and mask of a node in a period."""
    made = tagged("beacon", node, period.to_bytes(8, "big", signed=True))
    return made[:TAG_SIZE], int.from_bytes(made[TAG_SIZE : TAG_SIZE + 2], "big")


def make_beacon(key: SigningKey, port: int, now: float) -> bytes:
    """What the node with a key says while it serves at a port."""
    tag, mask = _hashes(key.verify_key.encode(), period_of(now))
    signature = sign(key, "beacon", _signed(tag, port))
    return _beacon.pack(_VERSION, _BEACON, tag, port ^ mask, signature)


def read_beacon_untrusted(data: bytes) -> Beacon | None:
    """A beacon, or None for the question. Raises Malformed."""
    if data == QUESTION:
        return None
    if len(data) != _beacon.size:
        raise Malformed("a beacon has another size")
    version, kind, tag, masked, signature = _beacon.unpack(data)
    if (version, kind) != (_VERSION, _BEACON):
        raise Malformed("a beacon of another version")
    return Beacon(tag, masked, signature)


def tags_of(node: bytes, now: float) -> Iterator[tuple[bytes, int]]:
    """Tags by which a node may call just now, each with its mask."""
    for ahead in range(-SLACK, SLACK + 1):
        yield _hashes(node, period_of(now) + ahead)


def port_untrusted(node: bytes, beacon: Beacon, mask: int) -> int:
    """The port of a beacon with a node's tag. Raises Malformed, Forged where it is not its own."""
    port = beacon.masked ^ mask
    verify(node, "beacon", _signed(beacon.tag, port), beacon.signature)
    if port < 1024:
        raise Malformed("a beacon names a port that is never dialled")
    return port


def _signed(tag: bytes, port: int) -> bytes:
    return tag + port.to_bytes(2, "big")
