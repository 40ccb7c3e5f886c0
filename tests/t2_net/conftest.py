"""Suppliers and nodes of the DHT, as the tests of this layer ask for them by name."""

import os

import pytest
from family import supplier_of
from nacl.signing import SigningKey

from bitdustfs.net.dht.node import Dht
from bitdustfs.units import GIB


@pytest.fixture
def space():
    """Bytes that a supplier offers; a test that wants another number parametrises it."""
    return GIB


@pytest.fixture
async def supplier(kind, space, tmp_path):
    """A supplier of the `kind` that the test is parametrised with, without a contract."""
    async with supplier_of(kind, tmp_path, space=space) as made:
        yield made


@pytest.fixture
async def nodes(count, nursery):
    """As many nodes of one DHT on loopback as the test's parameter `count` says."""
    made = []
    for _ in range(count):
        node = Dht(SigningKey(os.urandom(32)), serves=True, allow_private=True)
        await node.bind("127.0.0.1", 0)
        await nursery.start(node.run)
        made.append(node)
    for node in made[1:]:
        await node.bootstrap([made[0].endpoint])
    return made
