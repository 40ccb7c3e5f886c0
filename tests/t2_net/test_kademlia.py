"""What we rely on of the kademlia package: an upgrade that changes it fails here, with a sentence.

The first half looks at the package itself: names, signatures, and how its parts call each other.
The second half runs our own `kad` module over a made-up network in memory.
"""

import hashlib
import inspect
from pathlib import Path

import pytest
import trio
from kademlia.crawling import NodeSpiderCrawl, SpiderCrawl
from kademlia.node import Node, NodeHeap
from kademlia.routing import KBucket, RoutingTable

from bitdustfs.net.dht.datagram import CONTACTS_MAX, Contact
from bitdustfs.net.dht.kad import ALPHA, ContactTable, K, walk

PACKAGE = Path(__file__).parents[2] / "bitdustfs"
ADVICE = "; read its source again, and adapt bitdustfs/net/dht/kad.py and this test"

#: class, method, its parameters: what we call, override, or build on
SIGNATURES = [
    (Node, "__init__", "self node_id ip port"),
    (RoutingTable, "__init__", "self protocol ksize node"),
    (RoutingTable, "add_contact", "self node"),  # overridden
    (RoutingTable, "remove_contact", "self node"),
    (RoutingTable, "is_new_node", "self node"),
    (RoutingTable, "get_bucket_for", "self node"),
    (RoutingTable, "split_bucket", "self index"),
    (RoutingTable, "find_neighbors", "self node k exclude"),
    (KBucket, "add_node", "self node"),
    (KBucket, "get_nodes", "self"),
    (KBucket, "has_in_range", "self node"),
    (KBucket, "depth", "self"),
    (KBucket, "head", "self"),
    (NodeSpiderCrawl, "__init__", "self protocol node peers ksize alpha"),
    (NodeSpiderCrawl, "find", "self"),
    (NodeSpiderCrawl, "_find", "self rpcmethod"),  # overridden
    (NodeSpiderCrawl, "_nodes_found", "self responses"),
    (NodeHeap, "get_ids", "self"),
    (NodeHeap, "get_uncontacted", "self"),
    (NodeHeap, "mark_contacted", "self node"),
]
#: who calls or reads what we override: where one comes or goes, the override may miss it
CALLERS = [
    (RoutingTable, "add_contact", {"RoutingTable.add_contact"}),
    (NodeSpiderCrawl, "_find", {"NodeSpiderCrawl.find"}),
    (NodeSpiderCrawl, "_nodes_found", {"SpiderCrawl._find"}),
    (NodeSpiderCrawl, "last_ids_crawled", {"SpiderCrawl.__init__", "SpiderCrawl._find"}),
]


NAMED = CONTACTS_MAX  #: contacts that a node of the made-up network names
#: what the originals of our overrides do, as far as the names and numbers in them say
ORIGINALS = [
    (
        RoutingTable,
        "add_contact",
        "add_contact add_node asyncio buckets call_ping depth ensure_future get_bucket_for"
        " has_in_range head node protocol split_bucket",
        {5, 0},  # depth() % 5 != 0
    ),
    (
        NodeSpiderCrawl,
        "_find",
        "_nodes_found alpha gather_dict get_ids get_uncontacted id info last_ids_crawled len log"
        " mark_contacted nearest node str tuple",
        set(),
    ),
]


def made_up_id(number):
    return hashlib.blake2b(number.to_bytes(4, "big"), digest_size=20).digest()


def contact(number, first_byte=None):
    """The made-up node of this number; `first_byte` puts it in one part of the ids."""
    made = made_up_id(number)
    if first_byte is not None:
        made = bytes([first_byte]) + made[1:]
    return Contact(made, f"10.0.{number // 250}.{number % 250}", 4000)


def distance(one, other):
    return int.from_bytes(one, "big") ^ int.from_bytes(other, "big")


# -- the package


@pytest.mark.parametrize(("where", "name", "parameters"), SIGNATURES)
def test_the_methods_that_we_call_or_override_take_what_they_took(where, name, parameters):
    method = getattr(where, name, None)
    assert method is not None, f"kademlia's {where.__name__} has no {name} any more{ADVICE}"
    taken = " ".join(inspect.signature(method).parameters)
    assert taken == parameters, (
        f"kademlia's {where.__name__}.{name} takes ({taken}), not ({parameters}){ADVICE}"
    )


@pytest.mark.parametrize(("where", "name", "expected"), CALLERS)
def test_what_we_override_is_called_from_where_it_was(where, name, expected):
    """The package's own methods that mention the name, over the class and its bases."""
    callers = {
        method.__qualname__
        for kind in (*where.__mro__, SpiderCrawl)
        for method in vars(kind).values()
        if inspect.isfunction(method) and name in method.__code__.co_names
    }
    assert callers == expected, (
        f"in kademlia {name} is used by {sorted(callers)}, not by {sorted(expected)}{ADVICE}"
    )


@pytest.mark.parametrize(("where", "name", "words", "numbers"), ORIGINALS)
def test_the_originals_of_what_we_override_do_what_they_did(where, name, words, numbers):
    code = getattr(where, name).__code__
    used = " ".join(sorted(code.co_names))
    counted = {value for value in code.co_consts if isinstance(value, int)}
    assert (used, counted) == (words, numbers), (
        f"kademlia's {where.__name__}.{name}, which we override, was rewritten{ADVICE}"
    )


def test_a_node_has_the_attributes_that_we_read():
    node = Node(bytes(19) + b"\x05", "10.0.0.1", 4000)
    read = (node.id, node.ip, node.port, node.long_id)
    assert read == (bytes(19) + b"\x05", "10.0.0.1", 4000, 5), f"kademlia's Node changed{ADVICE}"


def test_a_table_has_the_attributes_that_we_read():
    own = Node(bytes(20))
    table = RoutingTable(None, 2, own)
    assert table.node is own and len(table.buckets) == 1, f"kademlia's table changed{ADVICE}"
    low, high = Node(b"\x01" + bytes(19), "a", 1), Node(b"\xff" + bytes(19), "b", 2)
    [bucket] = table.buckets
    assert bucket.add_node(high) and bucket.add_node(low), f"add_node says otherwise{ADVICE}"
    assert bucket.head() is high, f"the head is no longer the oldest contact{ADVICE}"
    assert bucket.add_node(high) and bucket.head() is low, f"a known contact stays old{ADVICE}"
    assert not bucket.add_node(Node(b"\x02" + bytes(19), "c", 3)), f"a full bucket takes{ADVICE}"
    assert bucket.has_in_range(own) and bucket.depth() == 0, f"depth changed{ADVICE}"
    table.split_bucket(0)
    assert [set(b.get_nodes()) >= {n} for b, n in zip(table.buckets, (low, high), strict=True)] == [
        True, True,
    ], f"splitting a bucket changed{ADVICE}"  # fmt: skip
    assert [table.get_bucket_for(n) for n in (low, high)] == [0, 1], (
        f"buckets lie otherwise{ADVICE}"
    )


def test_a_look_up_has_the_attributes_that_we_read():
    peers = [Node(bytes([i]) + bytes(19), "a", i) for i in (3, 1, 2)]
    crawl = NodeSpiderCrawl(None, Node(bytes(20)), peers, 2, 3)
    heap = crawl.nearest
    assert isinstance(heap, NodeHeap), f"a look-up keeps its nodes otherwise{ADVICE}"
    assert (crawl.alpha, crawl.last_ids_crawled) == (3, []), f"a look-up begins otherwise{ADVICE}"
    assert [node.id[0] for node in heap] == [1, 2] and len(heap) == 2, f"heap changed{ADVICE}"
    assert heap.get_ids() == [peers[1].id, peers[2].id], f"get_ids changed{ADVICE}"
    heap.mark_contacted(peers[1])
    assert heap.get_uncontacted() == [peers[2]], f"get_uncontacted changed{ADVICE}"
    assert heap.contacted == {peers[1].id}, f"contacted changed{ADVICE}"


async def test_a_round_that_leaves_nobody_to_ask_ends_a_look_up():
    """`_nodes_found` takes {id: (answered, [(id, host, port)])}, drops the silent, asks further."""
    answering, silent = Node(b"\x01" + bytes(19), "a", 1), Node(b"\x02" + bytes(19), "b", 2)
    rounds = []

    class Crawl(NodeSpiderCrawl):
        async def _find(self, rpcmethod):
            assert rpcmethod == "call_find_node", f"find asks by another method{ADVICE}"
            rounds.append([node.id[0] for node in self.nearest.get_uncontacted()])
            for node in self.nearest.get_uncontacted():
                self.nearest.mark_contacted(node)
            named = [(b"\x03" + bytes(19), "c", 3)]
            answers = {answering.id: (True, named), silent.id: (False, None)}
            return await self._nodes_found(answers if len(rounds) == 1 else {})

    class Protocol:
        call_find_node = "call_find_node"

    found = await Crawl(Protocol(), Node(bytes(20)), [answering, silent], 20, 3).find()
    assert rounds == [[1, 2], [3]], f"a look-up asks {rounds}{ADVICE}"
    assert [node.id[0] for node in found] == [1, 3], f"a look-up finds {found}{ADVICE}"


def test_nobody_else_imports_the_package():
    wrong = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "from kademlia" in (text := path.read_text()) or "import kademlia" in text
    ]
    assert wrong == ["net/dht/kad.py"]


# -- our module over it


class MadeUpNetwork:
    """Fifty nodes in memory that met all others, each as far as its table has room for them.

    `silent` ones never answer; the others take `seconds`.
    """

    def __init__(self, count=50, silent=(), seconds=0.0):
        self.contacts = [contact(number) for number in range(count)]
        self.silent, self.seconds = {self.contacts[i].id for i in silent}, seconds
        self.asked, self.under_way, self.most_under_way = [], 0, 0
        self.tables = {}
        for number, one in enumerate(self.contacts):
            table = self.tables[one.id] = ContactTable(one.id, lambda oldest: None)
            for other in (*self.contacts[number + 1 :], *self.contacts[:number]):
                table.add(other)

    async def ask(self, asked, target):
        self.asked.append(asked.id)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        await trio.sleep(self.seconds)
        self.under_way -= 1
        return None if asked.id in self.silent else self.tables[asked.id].nearest(target, NAMED)

    def nearest(self, target):
        """What a look-up should find, by looking at everybody."""
        answering = [c for c in self.contacts if c.id not in self.silent]
        return sorted(answering, key=lambda c: distance(c.id, target))[:K]


@pytest.mark.parametrize("number", range(100, 110))
async def test_a_look_up_over_fifty_nodes_finds_the_nearest_of_all(number):
    network, target = MadeUpNetwork(), made_up_id(number)
    found = await walk(target, network.contacts[:1], network.ask, deadline=10)
    # nobody names more than so many, so that further ones may be others than the next nearest
    assert NAMED <= len(found) <= K
    assert found[:NAMED] == network.nearest(target)[:NAMED]
    assert len(network.asked) == len(set(network.asked)), "a node was asked twice"
    assert len(network.asked) < 50, "a look-up asked everybody"


async def test_a_look_up_gets_past_silent_nodes():
    """Some may be among those found: a silent node that another one names again comes back."""

    network, target = MadeUpNetwork(silent=range(3, 50, 7)), made_up_id(200)
    found = await walk(target, network.contacts[:3], network.ask, deadline=10)
    answering = [c for c in found if c.id not in network.silent]
    assert answering[:10] == network.nearest(target)[:10]


async def test_a_round_asks_three_at_once_and_the_last_one_all_that_are_left(autojump_clock):
    network = MadeUpNetwork(seconds=1.0)
    await walk(made_up_id(300), network.contacts, network.ask, deadline=0.5)
    assert network.most_under_way == ALPHA
    await walk(made_up_id(300), network.contacts, network.ask, deadline=100)
    assert ALPHA < network.most_under_way <= K


async def test_a_look_up_that_takes_too_long_gives_the_nearest_that_it_asked(autojump_clock):
    network, target = MadeUpNetwork(seconds=1.0), made_up_id(400)
    began = trio.current_time()
    found = await walk(target, network.contacts[:5], network.ask, deadline=2.5)
    assert trio.current_time() - began == 2.5
    assert found and {c.id for c in found} <= set(network.asked)
    assert found == sorted(found, key=lambda c: distance(c.id, target))


async def test_what_asking_raises_comes_through_a_look_up():
    async def ask(asked, target):
        raise RuntimeError("a bug")

    with pytest.RaisesGroup(RuntimeError):
        await walk(bytes(20), [contact(1)], ask, deadline=10)


def test_a_full_bucket_s_oldest_contact_is_checked_and_makes_room_when_it_is_gone():
    """Our id is far from all of these, so their buckets end to split at a depth of 15 or 20."""
    checked = []
    table = ContactTable(b"\xff" * 20, checked.append)
    same_corner = [
        Contact(b"\x00\x3f" + made_up_id(i)[2:], f"10.1.0.{i}", 4000) for i in range(400)
    ]
    for one in same_corner:
        table.add(one)
    assert checked, "no full bucket asked for a check"
    known = [c for c in table if c.id[:2] == b"\x00\x3f"]
    assert checked[-1] in known
    assert len(known) < len(same_corner), "a bucket took more than it may"
    replacement = next(c for c in reversed(same_corner) if not table.knows(c.id))
    gone = checked[-1]
    table.remove(gone)
    assert not table.knows(gone.id)
    assert len([c for c in table if c.id[:2] == b"\x00\x3f"]) == len(known)
    assert table.knows(replacement.id)


def test_a_table_gives_the_nearest_contacts_and_never_the_target():
    table = ContactTable(made_up_id(0), lambda oldest: None)
    everybody = [contact(i) for i in range(1, 15)]
    for one in everybody:
        table.add(one)
    target = everybody[3].id
    near = table.nearest(target, 5)
    others = [c for c in everybody if c.id != target]
    assert near == sorted(others, key=lambda c: distance(c.id, target))[:5]
    assert set(table) == set(everybody)
