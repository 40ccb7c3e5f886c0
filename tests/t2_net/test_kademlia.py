"""What we rely on of the kademlia package: an upgrade that changes it fails here, with a sentence.

The first half looks at the package itself: names, signatures, and how its parts call each other.
The second half runs our own `kad` module.
"""

import hashlib
import inspect
from pathlib import Path

import pytest
from kademlia.node import Node
from kademlia.routing import KBucket, RoutingTable

from bitdustfs.net.dht.datagram import Contact
from bitdustfs.net.dht.kad import ContactTable

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
    (KBucket, "add_node", "self node"),
    (KBucket, "get_nodes", "self"),
    (KBucket, "has_in_range", "self node"),
    (KBucket, "depth", "self"),
    (KBucket, "head", "self"),
]
#: who calls or reads what we override: where one comes or goes, the override may miss it
CALLERS = [
    (RoutingTable, "add_contact", {"RoutingTable.add_contact"}),
]


#: what the originals of our overrides do, as far as the names and numbers in them say
ORIGINALS = [
    (
        RoutingTable,
        "add_contact",
        "add_contact add_node asyncio buckets call_ping depth ensure_future get_bucket_for"
        " has_in_range head node protocol split_bucket",
        {5, 0},  # depth() % 5 != 0
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
        for kind in where.__mro__
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
    for number in range(2):
        assert (low, high)[number].id in table.buckets[number].nodes, f"nodes changed{ADVICE}"
        assert not table.buckets[number].replacement_nodes, f"replacements changed{ADVICE}"
    assert [table.get_bucket_for(n) for n in (low, high)] == [0, 1], (
        f"buckets lie otherwise{ADVICE}"
    )


def test_nobody_else_imports_the_package():
    wrong = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if "from kademlia" in (text := path.read_text()) or "import kademlia" in text
    ]
    assert wrong == ["net/dht/kad.py"]


# -- our module over it


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


def test_a_contact_that_was_named_at_a_wrong_address_stays():
    """Else whoever names falsely takes honest nodes out of others' tables."""
    table = ContactTable(made_up_id(0), lambda oldest: None)
    table.add(contact(1))
    table.remove(Contact(contact(1).id, "10.9.9.9", 4000))
    assert table.knows(contact(1).id)
    table.remove(contact(1))
    assert not table.knows(contact(1).id)


@pytest.mark.parametrize("own", range(5))
@pytest.mark.parametrize("first_byte", [0x00, 0x01, 0x7F, 0x80, 0xC3, 0xFF])
def test_the_nearest_contacts_are_found_at_the_ends_of_a_table_too(own, first_byte):
    """The package's own search passed over most of a table for targets at one end of it."""
    table = ContactTable(made_up_id(own), lambda oldest: None)
    for number in range(10, 300):
        table.add(contact(number))
    target = bytes([first_byte]) + made_up_id(1000)[1:]
    near = table.nearest(target, 20)
    assert near == sorted(table, key=lambda c: distance(c.id, target))[:20]
    assert len(near) == 20
