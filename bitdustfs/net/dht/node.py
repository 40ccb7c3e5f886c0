"""A node of the DHT: kademlia's routing and crawling under a signed UDP protocol on trio.

Of the kademlia package only `node`, `routing` and `crawling` are used (Maymounkov and Mazières,
"Kademlia", 2002); its server and storage are not, see docs/threat-model.md. Answers larger than
their question go only to addresses that proved, by a token, that they receive. A contact enters the
table only after it answered us itself.
"""

import hashlib
import ipaddress
import logging
import os
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import trio
from kademlia.crawling import NodeSpiderCrawl
from kademlia.node import Node
from kademlia.routing import RoutingTable
from nacl.signing import SigningKey

from bitdustfs.core.keys import node_id
from bitdustfs.errors import Malformed
from bitdustfs.net.addresses import acceptable
from bitdustfs.net.dht import datagram as wire
from bitdustfs.units import DATAGRAM_MAX

log = logging.getLogger(__name__)

K, ALPHA = 20, 3  #: contacts a bucket and answers wanted; questions at once
TIMEOUTS = (
    0.7,
    1.3,
)  #: seconds for one answer; then the question is sent once more: datagrams get lost
LOOKUP_DEADLINE = 10.0  #: seconds for a whole look-up
RECORDS_MAX = 20_000  #: records kept, oldest dropped first
REPUBLISH_MAX = 200  #: kept records that are stored again in one go
RATE, BURST = 50.0, 200.0  #: requests a second from one /24, and at once
PER_PREFIX = 3  #: contacts of one /24 in the table, unless private networks are allowed

Endpoint = tuple[str, int]


@dataclass
class _Pending:
    """A request whose answer is due from one node at one address."""

    endpoint: Endpoint
    done: trio.Event = field(default_factory=trio.Event)
    body: wire.Body | None = None


class _Routing(RoutingTable):  # type: ignore[misc]
    """kademlia's table; a full bucket's oldest contact is checked by our own ping."""

    def __init__(self, own: Node, check: Callable[[Node], None]) -> None:
        super().__init__(None, K, own)
        self._check = check

    def add_contact(self, node: Node) -> None:
        bucket = self.buckets[self.get_bucket_for(node)]
        while not bucket.add_node(node):
            if not (bucket.has_in_range(self.node) or bucket.depth() % 5 != 0):
                self._check(bucket.head())
                return
            self.split_bucket(self.get_bucket_for(node))
            bucket = self.buckets[self.get_bucket_for(node)]

    def __iter__(self) -> Any:
        return (node for bucket in self.buckets for node in bucket.get_nodes())


class _Crawl(NodeSpiderCrawl):  # type: ignore[misc]
    """kademlia's iterative look-up with trio's concurrency."""

    async def _find(self, rpcmethod: Any) -> Any:
        ids: list[bytes] = self.nearest.get_ids()
        count = len(self.nearest) if ids == self.last_ids_crawled else self.alpha
        self.last_ids_crawled: list[bytes] = ids
        found: dict[bytes, Any] = {}

        async def one(peer: Node) -> None:
            found[peer.id] = await rpcmethod(peer, self.node)

        async with trio.open_nursery() as nursery:
            for peer in self.nearest.get_uncontacted()[:count]:
                self.nearest.mark_contacted(peer)
                nursery.start_soon(one, peer)
        return await self._nodes_found(found)


class Dht:
    """One node. `serves=False`: asks only (a mount, a command), and nobody keeps it as a contact.

    `allow_private`: loopback and private addresses are contacts too (swarms, home networks).
    """

    def __init__(self, key: SigningKey, serves: bool, allow_private: bool) -> None:
        self._key, self._serves, self.allow_private = key, serves, allow_private
        self.id = node_id(key.verify_key.encode())
        self._socket = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        self._pending: dict[bytes, _Pending] = {}
        self._tokens: OrderedDict[Endpoint, bytes] = OrderedDict()
        self._secret = os.urandom(32)
        self.records: OrderedDict[bytes, tuple[int, bytes]] = OrderedDict()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._nursery: trio.Nursery | None = None
        self._table = _Routing(Node(self.id), self._check_later)

    async def bind(self, host: str, port: int) -> int:
        """Takes a UDP port; which one."""
        await self._socket.bind((host, port))
        return int(self._socket.getsockname()[1])

    async def run(self, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
        """Receives until cancelled."""
        with self._socket:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                task_status.started()
                while True:
                    try:
                        data, endpoint = await self._socket.recvfrom(DATAGRAM_MAX + 1)
                    except OSError:
                        continue  # an ICMP error about an earlier datagram of ours
                    try:
                        await self._received(data, endpoint[:2])
                    except Malformed as error:
                        log.info("datagram from %s dropped: %s", endpoint[:2], error)

    # -- serving

    async def _received(self, data: bytes, endpoint: Endpoint) -> None:
        if not self._within_rate(endpoint[0]):
            return
        body = wire.open_datagram_untrusted(data)
        message = body.message
        if not isinstance(message, wire.Request):
            pending = self._pending.get(body.id)
            if pending is not None and pending.endpoint == endpoint:
                pending.body = body
                pending.done.set()
            return
        if not self._serves:
            return
        if isinstance(message, wire.Ping) or body.token != self._token(endpoint):
            await self._send(endpoint, body.id, wire.Pong(self._token(endpoint)))
            return
        await self._send(endpoint, body.id, self._answer(message))
        if body.serves and self._table.is_new_node(Node(node_id(body.sender))):
            contact = Node(node_id(body.sender), *endpoint)
            self._check_later(contact)

    def _answer(self, message: wire.FindNode | wire.FindValue | wire.Store) -> wire.Answer:
        if isinstance(message, wire.Store):
            self._keep(message.key, message.record)
            return wire.Stored()
        if isinstance(message, wire.FindValue):
            kept = self.records.get(message.key)
            if kept is not None:
                return wire.Value(kept[1])
        target = message.key if isinstance(message, wire.FindValue) else message.target
        near = self._table.find_neighbors(Node(target), wire.CONTACTS_MAX)
        return wire.Nodes(tuple(wire.Contact(n.id, n.ip, n.port) for n in near))

    def _keep(self, key: bytes, record: bytes) -> None:
        """Keeps a genuine record if it is newer. Raises Malformed."""
        seq = wire.record_seq_untrusted(key, record)
        old = self.records.get(key)
        if old is None or seq > old[0]:
            self.records[key] = (seq, record)
            self.records.move_to_end(key)
            if len(self.records) > RECORDS_MAX:
                self.records.popitem(last=False)

    def _token(self, endpoint: Endpoint) -> bytes:
        where = f"{endpoint[0]} {endpoint[1]}".encode()
        return hashlib.blake2b(where, key=self._secret, digest_size=8).digest()

    def _within_rate(self, host: str) -> bool:
        prefix = host.rpartition(".")[0]
        now = trio.current_time()
        level, then = self._buckets.pop(prefix, (BURST, now))
        level = min(BURST, level + (now - then) * RATE)
        if self.allow_private and ipaddress.ip_address(host).is_private:
            level = BURST
        self._buckets[prefix] = (max(0.0, level - 1), now)
        if len(self._buckets) > 10_000:
            self._buckets.popitem(last=False)
        return level >= 1

    # -- asking

    async def _send(
        self, endpoint: Endpoint, request_id: bytes, message: wire.Request | wire.Answer,
        token: bytes = b"",
    ) -> None:  # fmt: skip
        body = wire.Body(
            wire.VERSION, self._key.verify_key.encode(), self._serves, request_id, token, message
        )
        with suppress(OSError):  # unreachable now; the asker's timeout tells
            await self._socket.sendto(wire.encode_datagram(self._key, body), endpoint)

    async def _ask(self, endpoint: Endpoint, message: wire.Request) -> wire.Body | None:
        """The answer, or None. Gets a token first when the other side wants one."""
        body = await self._ask_once(endpoint, message)
        if body is not None and isinstance(body.message, wire.Pong):
            self._tokens[endpoint] = body.message.token
            if len(self._tokens) > 10_000:
                self._tokens.popitem(last=False)
            if not isinstance(message, wire.Ping):
                body = await self._ask_once(endpoint, message)
        if body is not None and body.serves and self._acceptable(endpoint):
            self._table.add_contact(Node(node_id(body.sender), *endpoint))
        return body

    async def _ask_once(self, endpoint: Endpoint, message: wire.Request) -> wire.Body | None:
        request_id = os.urandom(16)
        pending = self._pending[request_id] = _Pending(endpoint)
        try:
            for seconds in TIMEOUTS:
                await self._send(endpoint, request_id, message, self._tokens.get(endpoint, b""))
                with trio.move_on_after(seconds):
                    await pending.done.wait()
                if pending.body is not None:
                    break
        finally:
            del self._pending[request_id]
        return pending.body

    def _acceptable(self, endpoint: Endpoint) -> bool:
        """Whether an address may be a contact."""
        if not acceptable(*endpoint, self.allow_private):
            return False
        prefix = endpoint[0].rpartition(".")[0]
        same = sum(node.ip.rpartition(".")[0] == prefix for node in self._table)
        return self.allow_private or same < PER_PREFIX

    def _check_later(self, node: Node) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(self._check, node)

    async def _check(self, node: Node) -> None:
        """Pings; a contact that does not answer leaves the table."""
        body = await self._ask((node.ip, node.port), wire.Ping())
        if body is None or node_id(body.sender) != node.id:
            self._table.remove_contact(node)

    async def call_find_node(self, peer: Node, target: Node) -> tuple[bool, Any]:
        """What kademlia's crawling calls: (answered, [(id, host, port)])."""
        body = await self._ask((peer.ip, peer.port), wire.FindNode(target.id))
        if body is None or not isinstance(body.message, wire.Nodes):
            self._table.remove_contact(peer)
            return (False, None)
        found = [
            (c.id, c.host, c.port)
            for c in body.message.contacts
            if c.id != self.id and self._acceptable((c.host, c.port))
        ]
        return (True, found)

    async def nearest(self, target: bytes) -> list[Node]:
        """The nodes nearest to an id that answer, found by asking on and on."""
        start = self._table.find_neighbors(Node(target), K)
        crawl = _Crawl(self, Node(target), start, K, ALPHA)
        with trio.move_on_after(LOOKUP_DEADLINE):
            found: list[Node] = await crawl.find()
            return found
        return [node for node in crawl.nearest if node.id in crawl.nearest.contacted]

    async def bootstrap(self, endpoints: Iterable[Endpoint]) -> int:
        """Joins through any of these addresses; how many contacts there are then."""
        async with trio.open_nursery() as nursery:
            for endpoint in endpoints:
                nursery.start_soon(self._ask, endpoint, wire.Ping())
        await self.nearest(self.id)
        return len(self.contacts())

    def contacts(self) -> list[Endpoint]:
        """Addresses worth remembering for the next start."""
        return [(node.ip, node.port) for node in self._table]

    async def store(self, key: bytes, record: bytes) -> int:
        """Puts a record at the nodes nearest to `key`; how many took it."""
        stored = 0

        async def one(node: Node) -> None:
            nonlocal stored
            body = await self._ask((node.ip, node.port), wire.Store(key, record))
            stored += body is not None and isinstance(body.message, wire.Stored)

        nodes = await self.nearest(key)
        async with trio.open_nursery() as nursery:
            for node in nodes:
                nursery.start_soon(one, node)
        if self._serves:
            self._keep(key, record)
        return stored

    async def republish(self) -> None:
        """Stores kept records again, unchanged: those who kept them before may be gone."""
        kept = list(self.records.items())
        for key, (_, record) in random.sample(kept, min(len(kept), REPUBLISH_MAX)):
            await self.store(key, record)

    async def find(self, key: bytes, subject: Node | None = None) -> bytes | None:
        """The newest genuine record at `key` that anybody shows, or None.

        Who a node record is about has its newest: `subject`, where it is known, is asked first and alone. A
        contact with that id is asked in any case: look-ups leave it out.
        """
        best: tuple[int, bytes] | None = self.records.get(key)

        async def one(node: Node) -> None:
            nonlocal best
            body = await self._ask((node.ip, node.port), wire.FindValue(key))
            if body is None or not isinstance(body.message, wire.Value):
                return
            try:
                seq = wire.record_seq_untrusted(key, body.message.record)
            except Malformed as error:
                log.warning("%s:%s shows a false record: %s", node.ip, node.port, error)
                return
            if best is None or seq > best[0]:
                best = (seq, body.message.record)

        if subject is not None:
            await one(subject)
            if best is not None:
                return best[1]
        nodes = {node.id: node for node in await self.nearest(key)}
        nodes |= {node.id: node for node in self._table if node.id == key}
        async with trio.open_nursery() as nursery:
            for node in nodes.values():
                nursery.start_soon(one, node)
        return None if best is None else best[1]
