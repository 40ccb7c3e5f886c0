"""What strangers may make a node keep and do: records, requests a second, tokens. No I/O.

Anybody can send a datagram, from any address that he claims to have. So everything that grows by
what strangers send has a bound here, and drops what is oldest when it is reached.
"""

import hashlib
import ipaddress
import os
import random
from collections import OrderedDict

import trio

from bitdustfs.net.dht.datagram import Endpoint, record_seq_untrusted

RECORDS_MAX = 20_000  #: records kept, oldest dropped first
RATE, BURST = 50.0, 200.0  #: datagrams a second from one /24, and at once
PREFIXES_MAX = 10_000  #: /24 networks whose rate is remembered
TOKENS_MAX = 10_000  #: nodes whose token is remembered
TOKEN_SIZE = 8  #: bytes of a token that we give


def prefix_of(host: str) -> str:
    """The /24 network of an IPv4 address: what is cheap for one stranger to have in numbers."""
    return host.rpartition(".")[0]


class KeptRecords:
    """The newest genuine record at each key, as far as this node was told; at most RECORDS_MAX."""

    def __init__(self) -> None:
        self._rows: OrderedDict[bytes, tuple[int, bytes]] = OrderedDict()

    def keep(self, key: bytes, record: bytes) -> None:
        """Keeps a genuine record if it is newer than the one at `key`. Raises Malformed."""
        seq = record_seq_untrusted(key, record)
        old = self._rows.get(key)
        if old is None or seq > old[0]:
            self._rows[key] = (seq, record)
            self._rows.move_to_end(key)
            if len(self._rows) > RECORDS_MAX:
                self._rows.popitem(last=False)

    def newest(self, key: bytes) -> tuple[int, bytes] | None:
        """(seq, record) at `key`, or None."""
        return self._rows.get(key)

    def sample(self, count: int) -> list[tuple[bytes, bytes]]:
        """(key, record) of up to `count` records, drawn at random."""
        drawn = random.sample(list(self._rows.items()), min(len(self._rows), count))
        return [(key, record) for key, (_, record) in drawn]

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)


class DatagramRates:
    """How many datagrams each /24 network may still send: a leaky bucket for each.

    `allow_private`: private addresses are not limited (swarms, home networks).
    """

    def __init__(self, allow_private: bool) -> None:
        self._allow_private = allow_private
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admits(self, host: str) -> bool:
        """Counts a datagram from `host`; whether it is to be heard."""
        prefix = prefix_of(host)
        now = trio.current_time()
        level, then = self._levels.pop(prefix, (BURST, now))
        level = min(BURST, level + (now - then) * RATE)
        if self._allow_private and ipaddress.ip_address(host).is_private:
            level = BURST
        self._levels[prefix] = (max(0.0, level - 1), now)
        if len(self._levels) > PREFIXES_MAX:
            self._levels.popitem(last=False)
        return level >= 1


class Tokens:
    """Proofs that a node receives at its address: those we give, and those that others gave us.

    Ours are made from the address and a secret of this process, so that giving them keeps nothing.
    """

    def __init__(self) -> None:
        self._secret = os.urandom(32)
        self._received: OrderedDict[Endpoint, bytes] = OrderedDict()

    def given_to(self, endpoint: Endpoint) -> bytes:
        """The token that whoever asks from `endpoint` must show."""
        where = f"{endpoint[0]} {endpoint[1]}".encode()
        return hashlib.blake2b(where, key=self._secret, digest_size=TOKEN_SIZE).digest()

    def receive(self, endpoint: Endpoint, token: bytes) -> None:
        """Remembers the token that the node at `endpoint` wants to see from us."""
        self._received[endpoint] = token
        if len(self._received) > TOKENS_MAX:
            self._received.popitem(last=False)

    def received_from(self, endpoint: Endpoint) -> bytes:
        """The token to show to the node at `endpoint`; empty when it gave none yet."""
        return self._received.get(endpoint, b"")
