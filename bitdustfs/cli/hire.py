"""Hiring: a supplier that is not in the family yet promises space to a vault."""

import ipaddress
import logging
import time
from collections.abc import Collection

import trio

from bitdustfs.cli.discover import find_suppliers, joined
from bitdustfs.core.records import Family, Member, contract_records
from bitdustfs.errors import Malformed, PeerError, Refused, Unavailable
from bitdustfs.net.peer import Credentials, PeerSupplier
from bitdustfs.rebuild.census import list_all

log = logging.getLogger(__name__)

CONTRACT_SECONDS = 365 * 86400  #: how long suppliers are asked to promise
CANDIDATES = 16  #: suppliers looked at for one position


async def contract(supplier: PeerSupplier, space: int) -> Member:
    """The supplier's contract, as a member of a family. Raises PeerError or Malformed."""
    record = await supplier.promise(space, int(time.time()) + CONTRACT_SECONDS)
    promised = contract_records.open_untrusted(record, supplier.node)
    return Member(supplier.node, supplier.addresses[:1], promised.space)


async def hire(
    family: Family,
    position: int,
    credentials: Credentials,
    known: list[str],
    wanted: str = "",
    unwanted: Collection[bytes] = (),
) -> Member:
    """A new member for a position: at the address `wanted`, or found through the DHT.

    Never one of the family or of the nodes `unwanted`, nor, among public addresses, one of a /24 that the
    family has already. Who had the position before and still keeps its fragments comes first. Raises
    Unavailable.
    """
    space = family.groups[0].members[position].space
    taken = {*(member.node for member in family.voters), *unwanted}
    networks = {network_of(a) for m in family.voters for a in m.addresses} - {""}
    candidates = [wanted] if wanted else await _offers(known, space)
    if not wanted:
        candidates = [a for a in candidates if network_of(a) not in networks]
    failures: list[str] = []
    found = await _engage(candidates, taken, space, 1, credentials, failures, position)
    if found:
        return found[0]
    said = "; ".join(failures[:3])
    raise Unavailable(
        f"no supplier outside the family offers the space for position {position}"
        + (f" ({said})" if said else "; start one and name the network it is in")
    )


async def line_up(
    family: Family,
    count: int,
    credentials: Credentials,
    known: list[str],
    unwanted: Collection[bytes] = (),
) -> list[Member]:
    """Up to `count` more reserves for the bench, by the rules of `hire`."""
    space = max(member.space for member in family.voters)
    there = [*family.voters, *family.bench]
    networks = {network_of(a) for m in there for a in m.addresses} - {""}
    candidates = [a for a in await _offers(known, space) if network_of(a) not in networks]
    taken = {*(m.node for m in there), *unwanted}
    return await _engage(candidates, taken, space, count, credentials, [])


async def _offers(known: list[str], space: int) -> list[str]:
    async with joined(known[:16]) as dht:
        return await find_suppliers(dht, CANDIDATES, space)


async def _engage(
    candidates: list[str],
    taken: set[bytes],
    space: int,
    count: int,
    credentials: Credentials,
    failures: list[str],
    position: int | None = None,
) -> list[Member]:
    """Contracts with up to `count` of the candidates; why others made none goes to `failures`."""
    engaged: list[Member] = []
    networks: set[str] = set()
    async with trio.open_nursery() as nursery:
        peers: list[tuple[int, PeerSupplier]] = []
        try:
            for address in candidates:
                peer = PeerSupplier(b"", (address,), credentials, nursery)
                try:
                    await peer.ping()
                    kept = 0 if position is None else await _kept(peer, position)
                except PeerError as error:
                    failures.append(f"{address}: {error}")
                    await peer.aclose()
                    continue
                peers.append((kept, peer))
            for _, peer in sorted(peers, key=lambda item: -item[0]):
                network = network_of(peer.addresses[0])
                if peer.node in taken or network in networks or len(engaged) >= count:
                    continue
                try:
                    engaged.append(await contract(peer, space))
                    networks |= {network} - {""}
                except (PeerError, Malformed) as error:
                    failures.append(f"{peer.addresses[0]}: {error}")
        finally:
            for _, peer in peers:
                await peer.aclose()
            nursery.cancel_scope.cancel()
    return engaged


async def _kept(peer: PeerSupplier, position: int) -> int:
    """Fragments of the position that a candidate has kept since it had the position before."""
    try:
        return len(await list_all(peer, position))
    except Refused:
        return 0


def network_of(address: str) -> str:
    """The /24 (IPv4) or /48 (IPv6) of a public address; "" for private ones, which may be shared."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return ""
    if not ip.is_global:
        return ""
    return str(ipaddress.ip_network(f"{ip}/{24 if ip.version == 4 else 48}", strict=False))
