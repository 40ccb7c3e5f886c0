"""All that we use of the kademlia package, behind types of our own. Nobody else imports it.

The algorithm is Kademlia (Maymounkov and Mazières, 2002): ids of 20 bytes, nearness by XOR, a table
of buckets of K contacts, and a look-up that asks ever nearer nodes. What we take, and why:

- `kademlia.node.Node`: an id with an address, as the two below want it.
- `kademlia.routing.RoutingTable`: the buckets, when they split, who takes the place of a contact
  that left, the nearest contacts to an id. Overridden: `add_contact`, because the original checks
  the oldest contact of a full bucket with asyncio. We rely on `buckets`, `get_bucket_for`,
  `split_bucket`, `remove_contact`, `is_new_node`, `find_neighbors`; of a bucket on `add_node`,
  `get_nodes`, `has_in_range`, `depth`, `head`.
- `kademlia.crawling.NodeSpiderCrawl`: whom to ask next, and when a look-up is over. Overridden: the
  private `_find`, because the original gathers the answers with asyncio. We rely on `find` calling
  `_find(protocol.call_find_node)`, on `_nodes_found` (private) calling `find` again or returning
  the nearest nodes, on `nearest`, `node`, `alpha`, `last_ids_crawled`; of the heap `nearest` on
  `get_ids`, `get_uncontacted`, `mark_contacted`, `contacted`, its length and its order.

What we do not take: the package's server, protocol and storage. There the last write wins, anybody
may store anything, and a spoofed packet inserts a contact (docs/threat-model.md).

`tests/t2_net/test_kademlia.py` fails when a new version of the package changes any of this.
"""

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

import trio
from kademlia.crawling import NodeSpiderCrawl
from kademlia.node import Node
from kademlia.routing import RoutingTable

from bitdustfs.net.dht.datagram import Contact

K = 20  #: contacts a bucket holds, and nodes a look-up wants
ALPHA = 3  #: questions of one look-up under way at once
EVERYBODY = 1 << 20  #: more contacts than a table ever has

#: asks one contact who is near an id: its contacts, or None when it does not answer
AskForNearest = Callable[[Contact, bytes], Awaitable[list[Contact] | None]]


class ContactTable:
    """The contacts of the node `own`, more of them the nearer they are to it.

    `check` is called with the oldest contact of a bucket that is full when another one is added: it
    must return at once, and find out in the background whether that contact still answers. The new
    one waits as a replacement until `remove` makes room.
    """

    def __init__(self, own: bytes, check: Callable[[Contact], None]) -> None:
        self._routing = _Routing(Node(own), check)

    def add(self, contact: Contact) -> None:
        """Takes a contact that just answered; a known one becomes its bucket's newest."""
        self._routing.add_contact(_node(contact))

    def remove(self, contact: Contact) -> None:
        """Drops a contact that does not answer; the newest replacement takes its place."""
        self._routing.remove_contact(_node(contact))

    def knows(self, node: bytes) -> bool:
        """Whether the node with this id is a contact; a replacement is none yet."""
        return not self._routing.is_new_node(Node(node))

    def nearest(self, target: bytes, count: int) -> list[Contact]:
        """Up to `count` contacts, nearest to `target` first; never the target itself."""
        # with a count of its own the package stops at the first so many that it meets, near or not
        near = self._routing.find_neighbors(Node(target), EVERYBODY)
        return [_contact(node) for node in near[:count]]

    def __iter__(self) -> Iterator[Contact]:
        for bucket in self._routing.buckets:
            for node in bucket.get_nodes():
                yield _contact(node)


async def walk(
    target: bytes, start: Iterable[Contact], ask: AskForNearest, deadline: float
) -> list[Contact]:
    """The up to K nodes nearest to `target`, nearest first, found by asking from `start` on.

    Each is asked once. One that does not answer is left out, unless another names it afterwards.
    After `deadline` seconds it returns the nearest that were asked so far. What `ask` raises comes
    through; cancelling is safe at any time, the walk keeps nothing.
    """
    crawl = _Crawl(_Asking(ask), Node(target), [_node(contact) for contact in start], K, ALPHA)
    with trio.move_on_after(deadline):
        return [_contact(node) for node in await crawl.find()]
    return [_contact(node) for node in crawl.nearest if node.id in crawl.nearest.contacted]


def _node(contact: Contact) -> Node:
    return Node(contact.id, contact.host, contact.port)


def _contact(node: Node) -> Contact:
    return Contact(node.id, node.ip, node.port)


class _Routing(RoutingTable):  # type: ignore[misc]
    """The package's table; a full bucket's oldest contact goes to `check`."""

    def __init__(self, own: Node, check: Callable[[Contact], None]) -> None:
        super().__init__(None, K, own)
        self._check = check

    def add_contact(self, node: Node) -> None:
        """As in the original: splits full buckets near our own id and at most other depths."""
        bucket = self.buckets[self.get_bucket_for(node)]
        while not bucket.add_node(node):
            if not (bucket.has_in_range(self.node) or bucket.depth() % 5 != 0):
                self._check(_contact(bucket.head()))
                return
            self.split_bucket(self.get_bucket_for(node))
            bucket = self.buckets[self.get_bucket_for(node)]


class _Asking:
    """What the package calls a protocol: an `ask` in the shape that its crawling wants."""

    def __init__(self, ask: AskForNearest) -> None:
        self._ask = ask

    async def call_find_node(self, peer: Node, target: Node) -> tuple[bool, list[Any]]:
        """(whether it answered, [(id, host, port)])."""
        found = await self._ask(_contact(peer), target.id)
        if found is None:
            return False, []
        return True, [(contact.id, contact.host, contact.port) for contact in found]


class _Crawl(NodeSpiderCrawl):  # type: ignore[misc]
    """The package's look-up, its round of questions in a nursery."""

    async def _find(self, rpcmethod: Callable[[Node, Node], Awaitable[Any]]) -> Any:
        ids: list[bytes] = self.nearest.get_ids()
        # a round that brought no nearer node: ask all that are left, then it is over
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
