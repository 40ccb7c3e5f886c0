"""All that we use of the kademlia package, behind types of our own. Nobody else imports it.

Kademlia (Maymounkov and Mazières, 2002): ids of 20 bytes, nearness by XOR, a table of buckets of K
contacts. What we take, and why:

- `kademlia.node.Node`: an id with an address, as the table wants it.
- `kademlia.routing.RoutingTable`: the buckets, when they split, who takes the place of a contact
  that left. Overridden: `add_contact`, because the original checks the oldest contact of a full
  bucket with asyncio. We rely on `buckets`, `get_bucket_for`, `split_bucket`, `remove_contact`,
  `is_new_node`; of a bucket on `add_node`, `get_nodes`, `has_in_range`, `depth`, `head`, `nodes`,
  `replacement_nodes`.

What we do not take: the package's look-up, which believes whoever is named (`walk` has ours); its
search for the nearest contacts, which passes over whole buckets; its server, protocol and storage,
where the last write wins, anybody may store anything, and a spoofed packet inserts a contact
(docs/threat-model.md).

`tests/t2_net/test_kademlia.py` fails when a new version of the package changes any of this.
"""

import heapq
from collections.abc import Callable, Iterator

from kademlia.node import Node
from kademlia.routing import RoutingTable

from bitdustfs.net.dht.datagram import Contact

K = 20  #: contacts a bucket holds, and nodes a look-up wants


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
        """Drops a contact that does not answer; the newest replacement takes its place.

        Of a node that is known at another address, nothing is dropped: somebody named it falsely.
        """
        node = _node(contact)
        bucket = self._routing.buckets[self._routing.get_bucket_for(node)]
        known = bucket.nodes.get(contact.id) or bucket.replacement_nodes.get(contact.id)
        if known is not None and _contact(known) == contact:
            self._routing.remove_contact(node)

    def knows(self, node: bytes) -> bool:
        """Whether the node with this id is a contact; a replacement is none yet."""
        return not self._routing.is_new_node(Node(node))

    def has(self, contact: Contact) -> bool:
        """Whether a node is a contact, at this very address; a replacement is none yet."""
        bucket = self._routing.buckets[self._routing.get_bucket_for(_node(contact))]
        known = bucket.nodes.get(contact.id)
        return known is not None and _contact(known) == contact

    def nearest(self, target: bytes, count: int) -> list[Contact]:
        """Up to `count` contacts, nearest to `target` first; never the target itself."""
        # the package's own `find_neighbors` stops at the first so many that it meets, near or not,
        # and passes over whole buckets where the target is at one end of the table
        far = Node(target)
        others = (node for node in self._nodes() if node.id != target)
        return [_contact(n) for n in heapq.nsmallest(count, others, key=far.distance_to)]

    def hosts(self) -> Iterator[str]:
        """The addresses of all contacts, without their ports."""
        return (node.ip for node in self._nodes())

    def __iter__(self) -> Iterator[Contact]:
        return map(_contact, self._nodes())

    def _nodes(self) -> Iterator[Node]:
        return (node for bucket in self._routing.buckets for node in bucket.get_nodes())


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
