"""A supplier alone, without a network, and vaults that come to it: what it gives whom."""

import os

from family import KEY, claim_of, make_block
from nacl.signing import SigningKey

from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import Family, Features, Group, Member, seal_record
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.shelf import MemoryShelf
from bitdustfs.units import GIB

FOREVER = 2_000_000_000
OTHER = VaultKey(b"o" * 32)


def service_of(space=GIB, shelf=None, **options):
    return SupplierService(SigningKey(os.urandom(32)), shelf or MemoryShelf(), space, **options)


async def put(peer, number, size=100_000, key=KEY):
    block = number.to_bytes(16, "big")
    header, fragments = make_block(os.urandom(size), block=block, k=1, n=1, key=key)
    fragment = fragments[0]
    await peer.put(block, 0, claim_of(key), header, fragment.chunks, fragment.payload)


def family_naming(key, own, addresses, reserve=False):
    """A signed family of this supplier and of nodes that a stranger says are at the addresses."""
    members = [Member(SigningKey(os.urandom(32)).verify_key.encode(), (a,), 1) for a in addresses]
    mine = Member(own, ("127.0.0.1:5000",), 1)
    group = members[:63] if reserve else [mine, *members[:63]]
    bench = [mine, *members[63:]] if reserve else members[63:]
    body = Family(
        1, Features(), key.vault_id, 0, bytes(32), key.capability().read_proof_public,
        (Group(1, 1, tuple(group)),), tuple(bench), {"patience": 1},
    )  # fmt: skip
    return seal_record(key.signing, "family", body)
