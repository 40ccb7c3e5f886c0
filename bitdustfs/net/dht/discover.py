"""Finding suppliers and families through the DHT; announcing them there."""

import logging
import os
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import trio
from nacl.signing import SigningKey

from bitdustfs.core.keys import NODE_ID_SIZE, ReadCapability, VaultKey, node_id
from bitdustfs.core.records import Family, Root, family_hash
from bitdustfs.core.sealing import Suite
from bitdustfs.errors import Malformed
from bitdustfs.net.addresses import dialable, is_private_host, split
from bitdustfs.net.dht import datagram
from bitdustfs.net.dht.datagram import Contact, Endpoint
from bitdustfs.net.dht.node import Dht
from bitdustfs.net.hostnames import resolve_all

log = logging.getLogger(__name__)

WALKS = 6  #: random look-ups that a search for suppliers makes at most
ANNOUNCE_EVERY = 1800.0  #: seconds after which a record is stored again whatever happened


async def endpoints(addresses: Iterable[str]) -> list[Endpoint]:
    """The UDP endpoints of nodes: same host and port as their TCP addresses; names are resolved."""
    return [split(address) for address in await resolve_all(addresses)]


def is_private(addresses: Iterable[str]) -> bool:
    """Whether an address given by hand is loopback or private: then such contacts are wanted."""
    return any(is_private_host(split(address)[0]) for address in addresses)


@asynccontextmanager
async def joined(addresses: list[str]) -> AsyncIterator[Dht]:
    """A node that only asks, joined through `addresses`."""
    dht = Dht(SigningKey(os.urandom(32)), serves=False, allow_private=is_private(addresses))
    await dht.bind("::", 0)
    async with trio.open_nursery() as nursery:
        await nursery.start(dht.run)
        await dht.bootstrap(await endpoints(addresses))
        yield dht
        nursery.cancel_scope.cancel()


async def node_record(
    dht: Dht, node: bytes, contact: Contact | None = None
) -> datagram.NodeRecord | None:
    """The newest record of a node, by its id; `contact`: where it was met."""
    raw = await dht.find(node, contact)
    if raw is None:
        return None
    try:
        return datagram.open_node_record_untrusted(raw, node)
    except Malformed:
        return None


async def own_word(node: bytes, address: str) -> datagram.NodeRecord | None:
    """What the node with a key says of itself; only itself is asked, where TCP reached it."""
    wanted = node_id(node)
    dht = Dht(SigningKey(os.urandom(32)), serves=False, allow_private=False)
    try:
        await dht.bind("::", 0)
    except OSError as error:
        log.info("%s is not asked how it is reached: %s", address, error)
        return None
    async with trio.open_nursery() as nursery:
        await nursery.start(dht.run)
        body = await dht.ask(split(address), datagram.FindValue(wanted))
        nursery.cancel_scope.cancel()
    if body is None or not isinstance(body.message, datagram.RecordIs):
        return None
    try:
        return datagram.open_node_record_untrusted(body.message.record, wanted)
    except Malformed:
        return None


async def find_suppliers(dht: Dht, count: int, space: int) -> list[str]:
    """Addresses of up to `count` nodes that offer at least `space` bytes, largest offers first."""
    return [*await find_offers(dht, count, space)]


async def find_offers(dht: Dht, count: int, space: int) -> dict[str, int]:
    """The same, with the bytes that each says it offers."""
    records: dict[bytes, tuple[int, str]] = {}

    async def look(contact: Contact) -> None:
        record = await node_record(dht, contact.id, contact)
        if record is None or record.offer < space:
            return
        addresses = dialable(record.ways, dht.allow_private)
        if addresses:
            records[contact.id] = (record.offer, addresses[0])

    seen: set[bytes] = set()
    for _ in range(WALKS):
        near = await dht.nearest(os.urandom(NODE_ID_SIZE))
        fresh = {contact.id: contact for contact in near if contact.id not in seen}
        seen |= fresh.keys()
        async with trio.open_nursery() as nursery:
            for contact in fresh.values():
                nursery.start_soon(look, contact)
        if len(records) >= count or not fresh:
            break
    best = sorted(records.values(), key=lambda found: -found[0])
    return {address: offer for offer, address in best[:count]}


async def newest_hint(dht: Dht, capability: ReadCapability) -> datagram.FamilyHint | None:
    """The newest genuine record of a vault at its three places, if any."""
    hints: list[datagram.FamilyHint] = []

    async def look(copy: int) -> None:
        raw = await dht.find(datagram.vault_record_key(capability.record_public, copy))
        if raw is not None:
            try:
                hints.append(datagram.open_vault_record_untrusted(raw, capability))
            except Malformed as error:
                log.warning("a record of this vault does not open: %s", error)

    async with trio.open_nursery() as nursery:  # a look-up past nodes that are away takes seconds
        for copy in range(datagram.COPIES):
            nursery.start_soon(look, copy)
    return max(hints, key=lambda hint: (hint.ballot, hint.root_seq), default=None)


async def find_family_addresses(dht: Dht, capability: ReadCapability) -> list[str]:
    """Addresses of the suppliers that a vault's record names; none when there is no record."""
    newest = await newest_hint(dht, capability)
    if newest is None:
        return []
    addresses: list[str] = []

    async def look(node: bytes) -> None:
        record = await node_record(dht, node)
        if record is not None:
            addresses.extend(dialable(record.ways, dht.allow_private))

    async with trio.open_nursery() as nursery:
        for node in newest.nodes:
            nursery.start_soon(look, node)
    return addresses


async def announce_vault(
    dht: Dht, key: VaultKey, root: Root, family: Family, raw_family: bytes, suite: Suite
) -> int:
    """Stores the vault's record at its three places; how many copies were taken."""
    nodes = tuple(m.id for m in (*family.members, *family.bench)[: datagram.FAMILY_IDS_MAX])
    hint = datagram.FamilyHint(family.epoch, family_hash(raw_family), root.ballot, root.seq, nodes)
    seq = time.time_ns() // 1_000_000
    record = datagram.sign_vault_record(key.record, key.capability(), seq, hint, suite)
    public = key.record.verify_key.encode()
    return sum(
        [
            await dht.store(datagram.vault_record_key(public, copy), record)
            for copy in range(datagram.COPIES)
        ]
    )
