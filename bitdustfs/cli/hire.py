"""Hiring: a supplier that is not in the family yet promises space to a vault."""

import ipaddress
import logging
import time

import trio

from bitdustfs.cli.discover import find_suppliers, joined
from bitdustfs.core.records import Family, Member, contract_records
from bitdustfs.errors import Malformed, PeerError, Unavailable
from bitdustfs.net.peer import Credentials, PeerSupplier

log = logging.getLogger(__name__)

CONTRACT_SECONDS = 365 * 86400  #: how long suppliers are asked to promise
CANDIDATES = 16  #: suppliers looked at for one position


async def contract(supplier: PeerSupplier, space: int) -> Member:
    """The supplier's contract, as a member of a family. Raises PeerError or Malformed."""
    record = await supplier.promise(space, int(time.time()) + CONTRACT_SECONDS)
    promised = contract_records.open_untrusted(record, supplier.node)
    return Member(supplier.node, supplier.addresses[:1], promised.space)


async def hire(
    family: Family, position: int, credentials: Credentials, known: list[str], wanted: str = ""
) -> Member:
    """A new member for a position: at the address `wanted`, or found through the DHT.

    Never one of the family, nor, among public addresses, one of a /24 that the family has already.
    Raises Unavailable.
    """
    space = family.groups[0].members[position].space
    taken = {member.node for member in family.voters}
    networks = {network_of(a) for m in family.voters for a in m.addresses} - {""}
    candidates = [wanted] if wanted else []
    if not wanted:
        async with joined(known) as dht:
            candidates = await find_suppliers(dht, CANDIDATES, space)
    failures = []
    async with trio.open_nursery() as nursery:
        for address in candidates:
            if not wanted and network_of(address) in networks:
                continue
            peer = PeerSupplier(b"", (address,), credentials, nursery)
            try:
                await peer.ping()
                if peer.node in taken:
                    continue
                member = await contract(peer, space)
            except (PeerError, Malformed) as error:
                failures.append(f"{address}: {error}")
                continue
            finally:
                await peer.aclose()
            nursery.cancel_scope.cancel()
            return member
        nursery.cancel_scope.cancel()
    said = "; ".join(failures[:3])
    raise Unavailable(
        f"no supplier outside the family offers the space for position {position}"
        + (f" ({said})" if said else "; start one and name the network it is in")
    )


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
