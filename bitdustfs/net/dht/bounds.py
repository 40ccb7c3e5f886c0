"""What strangers may make a node keep and do: records, requests a second, tokens. No I/O.

Anybody can send a datagram, from any address that he claims to have. So everything that grows by
what strangers send has a bound here, and each stranger has one of his own: a /24 network (of IPv6 a
/48) counts as one, since addresses of one are cheap to have in numbers.
"""

import hashlib
import heapq
import ipaddress
import os
import random
from collections import Counter, OrderedDict
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from bitdustfs.net.dht.datagram import Endpoint, record_seq_untrusted
from bitdustfs.net.rates import Rates

RECORDS_MAX = 20_000  #: records kept; of more, those that are farthest from this node's id go
SENDER_MAX = 1000  #: records kept for one sender; of more, its own farthest go
RATE, BURST = 50.0, 200.0  #: datagrams a second from one network that is there, and at once
#: answers a second to where a question claims to come from, of one network, and of all; at once
CLAIMED_RATE, CLAIMED_BURST = 10.0, 100.0
CLAIMED_RATE_ALL, CLAIMED_BURST_ALL = 200.0, 1000.0
SHORT_RATE, SHORT_BURST = 20.0, 100.0  #: those of them that are longer than the question
#: questions a second to where others say that a node is, of one network; at once
WRITTEN_RATE, WRITTEN_BURST = 5.0, 100.0
PER_PREFIX = 3  #: nodes of one network in a table, and in the result of one look-up
TOKENS_MAX = 10_000  #: nodes whose token is remembered
TOKEN_SIZE = 8  #: bytes of a token that we give
OURSELVES = "this node"  #: the sender of what this node stores itself; no bound but RECORDS_MAX


@lru_cache(4096)
def prefix_of(host: str) -> str:
    """The /24 network of an IPv4 address, the /48 of an IPv6 one: what is cheap for one stranger to
    have in numbers.
    """
    if ":" not in host:
        return host.rpartition(".")[0]
    return str(ipaddress.IPv6Network((host, 48), strict=False).network_address)


class Neighbourhoods:
    """Which addresses count as one stranger's.

    `allow_private`: private addresses are each somebody's own (swarms, home networks).
    """

    def __init__(self, allow_private: bool) -> None:
        self._allow_private = allow_private

    def is_free(self, host: str) -> bool:
        """Whether there may be any number of nodes near this address."""
        return self._allow_private and ipaddress.ip_address(host).is_private

    def sender(self, endpoint: Endpoint) -> str:
        """What is held responsible for what comes from an endpoint."""
        host, port = endpoint
        return f"{host}:{port}" if self.is_free(host) else prefix_of(host)

    def crowd(self, hosts: Iterable[str] = ()) -> "Crowd":
        """Who is there already."""
        return Crowd(self, hosts)


class Crowd:
    """Nodes by network, so that no more than PER_PREFIX are of one."""

    def __init__(self, neighbourhoods: Neighbourhoods, hosts: Iterable[str]) -> None:
        self._neighbourhoods = neighbourhoods
        self._counts = Counter(map(prefix_of, hosts))

    def add(self, host: str) -> None:
        """A node at this address is one of them."""
        self._counts[prefix_of(host)] += 1

    def is_full(self, host: str) -> bool:
        """Whether there is no room for another node of this address's network."""
        full = self._counts[prefix_of(host)] >= PER_PREFIX
        return full and not self._neighbourhoods.is_free(host)


def distance(one: bytes, other: bytes) -> int:
    """How far two ids are apart: their XOR as a number."""
    return int.from_bytes(one, "big") ^ int.from_bytes(other, "big")


class _Row(NamedTuple):
    seq: int
    record: bytes
    sender: str


class KeptRecords:
    """The newest genuine record at each key, as far as this node was told.

    At most `limit`, those nearest to the id `own` first: that is where others look for them. And
    at most `per_sender` for each sender, so that nobody pushes out what others stored. A record
    counts as that sender's who had the fewest when it stored it.
    """

    def __init__(self, own: bytes, limit: int = RECORDS_MAX, per_sender: int = SENDER_MAX) -> None:
        self._own, self._limit, self._per_sender = own, limit, per_sender
        self._rows: dict[bytes, _Row] = {}
        self._of: dict[str, _Farthest] = {}
        self._all = _Farthest()

    def keep(self, key: bytes, record: bytes, sender: str = OURSELVES) -> None:
        """Keeps a genuine record if it is newer than the one at `key`. Raises Malformed."""
        old = self._rows.get(key)
        if old is not None and old.record == record:
            seq = old.seq  # genuine, as it was before
        else:
            seq = record_seq_untrusted(key, record)
            if old is not None and seq < old.seq:
                return
        if old is not None and (
            OURSELVES in (sender, old.sender) or self._count(sender) >= self._count(old.sender)
        ):
            sender = old.sender
        self._put(key, _Row(seq, record, sender))
        if sender != OURSELVES and self._count(sender) > self._per_sender:
            self._drop(self._of[sender].farthest())
        if len(self._rows) > self._limit:
            self._drop(self._all.farthest())

    def _count(self, sender: str) -> int:
        return len(self._of[sender]) if sender in self._of else 0

    def _put(self, key: bytes, row: _Row) -> None:
        old = self._rows.get(key)
        if old is None or old.sender != row.sender:
            if old is not None:
                self._leave(old.sender, key)
            else:
                self._all.add(distance(key, self._own), key)
            self._of.setdefault(row.sender, _Farthest()).add(distance(key, self._own), key)
        self._rows[key] = row

    def _leave(self, sender: str, key: bytes) -> None:
        self._of[sender].remove(key)
        if not self._of[sender]:
            del self._of[sender]

    def _drop(self, key: bytes) -> None:
        self._leave(self._rows.pop(key).sender, key)
        self._all.remove(key)

    def newest(self, key: bytes) -> tuple[int, bytes] | None:
        """(seq, record) at `key`, or None."""
        row = self._rows.get(key)
        return None if row is None else (row.seq, row.record)

    def sample(self, count: int) -> list[tuple[bytes, bytes]]:
        """(key, record) of up to `count` records, drawn at random."""
        drawn = random.sample(list(self._rows.items()), min(len(self._rows), count))
        return [(key, row.record) for key, row in drawn]

    def __contains__(self, key: bytes) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)


class _Farthest:
    """Keys by distance: the farthest is found at once."""

    def __init__(self) -> None:
        self._there: set[bytes] = set()
        self._heap: list[tuple[int, bytes]] = []  # -distance; those removed since are in it, too

    def add(self, far: int, key: bytes) -> None:
        self._there.add(key)
        heapq.heappush(self._heap, (-far, key))

    def remove(self, key: bytes) -> None:
        self._there.remove(key)
        if len(self._heap) > 2 * len(self._there) + 16:
            self._heap = [item for item in self._heap if item[1] in self._there]
            heapq.heapify(self._heap)

    def farthest(self) -> bytes:
        while self._heap[0][1] not in self._there:
            heapq.heappop(self._heap)
        return self._heap[0][1]

    def __len__(self) -> int:
        return len(self._there)


class DatagramRates:
    """How many datagrams are heeded, and how many strangers are written to, of each network.

    Anybody may claim any address as that of a datagram. Only who shows the token of its address has
    it. So these two are counted apart: a flood in the name of a network takes nothing from who is
    there, and in the names of all networks together it draws only so many answers.

    Private addresses are not limited by network where they are allowed (swarms, home networks).
    """

    def __init__(self, neighbourhoods: Neighbourhoods) -> None:
        self._neighbourhoods = neighbourhoods
        self._proven = Rates(RATE, BURST)
        self._claimed = Rates(CLAIMED_RATE, CLAIMED_BURST)
        self._claimed_all = Rates(CLAIMED_RATE_ALL, CLAIMED_BURST_ALL)
        self._short = Rates(SHORT_RATE, SHORT_BURST)
        self._written_to = Rates(WRITTEN_RATE, WRITTEN_BURST)

    def admits(self, host: str) -> bool:
        """Counts a datagram from `host`, which proved to be there; whether it is to be heeded."""
        return self._of_network(self._proven, host)

    def answers_claim(self, host: str, is_short: bool) -> bool:
        """Counts a question of whoever claims to be at `host`; whether he is sent a token.

        `is_short`: the answer has some bytes more than the question.
        """
        return (
            self._of_network(self._claimed, host)
            and (not is_short or self._short.admits(None))
            and self._claimed_all.admits(None)
        )

    def writes_to(self, host: str) -> bool:
        """Counts a question to where others say that a node is; whether it is sent."""
        return self._of_network(self._written_to, host)

    def _of_network(self, rates: Rates, host: str) -> bool:
        return self._neighbourhoods.is_free(host) or rates.admits(prefix_of(host))


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
