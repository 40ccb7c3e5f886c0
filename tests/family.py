"""Suppliers for tests: memory or real TLS servers in this process, over memory or disk shelves."""

import os
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

import trio
from nacl.signing import SigningKey

from bitdustfs.cache.folder import OwnedFolder
from bitdustfs.core.erasure import ErasureCode
from bitdustfs.core.fragment import encode_block, sign_header
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import (
    Ballot,
    Family,
    Features,
    Group,
    Member,
    Place,
    Root,
    claim_ballot,
    family_hash,
    seal_record,
)
from bitdustfs.net.handshake import Credentials
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.net.tls import make_context
from bitdustfs.supplier.diskshelf import DiskShelf
from bitdustfs.supplier.memory import MemorySupplier
from bitdustfs.supplier.server import SupplierServer
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.shelf import MemoryShelf
from bitdustfs.units import GIB

KEY = VaultKey(b"v" * 32)
BALLOT = Ballot(1, b"m" * 16)


def credentials(key=KEY, role="owner"):
    seed = os.urandom(32)
    signer = key.signing if role == "owner" else key.capability().read_proof_key
    public = SigningKey(seed).verify_key.encode()
    return Credentials(key.vault_id, role, signer, public, make_context(seed, server_side=False))


@asynccontextmanager
async def serving(service, port=0, line=None):
    """The address of a real server for `service` on loopback. `line`: what it may use."""
    context = make_context(service.node.encode(), server_side=True)
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(SupplierServer(service, context, line=line).serve, listeners)
        yield f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def supplier_of(kind, folder: Path, space=GIB, key=KEY, role="owner", **times):
    """One supplier as its customer sees it, of kind "memory", "peer" or "peer+disk".

    `times`: the clocks of its service.
    """
    node = SigningKey(os.urandom(32))
    shelf = MemoryShelf()
    if kind == "peer+disk":
        owned = OwnedFolder(folder / "supplier", "shelf", {"id": "test"})
        shelf = DiskShelf(owned)
    service = SupplierService(node, shelf, space, **times)
    if kind == "memory":
        yield MemorySupplier(service, key.vault_id, role)
        return
    async with serving(service) as address, trio.open_nursery() as nursery:
        peer = PeerSupplier(node.verify_key.encode(), (address,), credentials(key, role), nursery)
        peer.service = service
        yield peer
        await peer.aclose()
        nursery.cancel_scope.cancel()
    shelf.close()


def make_block(content, block=b"b" * 16, k=4, n=7, key=KEY):
    """(signed header, fragments) of a block."""
    fragments = encode_block(content, ErasureCode(k, n))
    header = sign_header(
        key.signing, fragments, block=block, group=0, k=k, key_epoch=0, length=len(content),
        directory=Place(block, 0, 0, 1, bytes(32)), ballot=BALLOT, seq=1,
    )  # fmt: skip
    return header, fragments


def claim_of(key=KEY, ballot=BALLOT):
    """The signed claim of a ballot: the same one at each call, as of one mount."""
    return _claim(key, ballot)


@cache
def _claim(key, ballot):
    return claim_ballot(key.signing, ballot)


async def contracted(supplier, space=GIB, key=KEY):
    """A contract and the promised ballot, so that puts are allowed."""
    await supplier.promise(space, 2_000_000_000)
    await supplier.prepare(claim_of(key), False)


def family_of(node, epoch=0, key=KEY):
    """A signed family of one member."""
    member = Member(node, ("127.0.0.1:5000",), GIB)
    body = Family(
        1, Features(), key.vault_id, epoch, bytes(32), key.capability().read_proof_public,
        (Group(1, 1, (member,)),),
    )  # fmt: skip
    return seal_record(key.signing, "family", body)


def root_of(family, ballot=BALLOT, seq=1, key=KEY):
    """A signed root that names the signed family, of epoch 0."""
    body = Root(
        1, Features(), key.vault_id, ballot, seq, bytes(16), bytes(16), 0, 0,
        family_hash(family), 0, b"sealed",
    )  # fmt: skip
    return seal_record(key.signing, "root", body)
