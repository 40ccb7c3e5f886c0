"""Where nodes were reached last: what one machine remembers of the addresses of one vault's nodes.

A node is its key; an address is only a hint where to look for it. So nothing here is believed:
whoever answers has to show the key. What is remembered may be lost without harm.
"""

from typing import Annotated

import msgspec

from bitdustfs.core.codec import U63, Decoder, Public
from bitdustfs.core.records import Record
from bitdustfs.units import KIB

NODES_MAX = 256  #: nodes of which something is remembered
CONTACTS_MAX = 32  #: endpoints of the DHT that are remembered
FOUND_MAX = 4  #: addresses of one node record

Spot = Annotated[str, msgspec.Meta(max_length=300)]  #: "host:port"; a host name has 253 at most


class Sighting(Record, frozen=True):
    """Where one node was found.

    `worked`: where it showed its key last; "" where it never did. `seq`, `found`: of the newest
    node record of the DHT that was seen.
    """

    node: Public
    worked: Spot = ""
    seq: U63 = 0
    found: Annotated[tuple[Spot, ...], msgspec.Meta(max_length=FOUND_MAX)] = ()


class Sightings(Record, frozen=True):
    """All that is remembered: nodes, the one met last at the end, and contacts of the DHT."""

    nodes: Annotated[tuple[Sighting, ...], msgspec.Meta(max_length=NODES_MAX)] = ()
    contacts: Annotated[tuple[Spot, ...], msgspec.Meta(max_length=CONTACTS_MAX)] = ()


sightings = Decoder(Sightings, "memory of addresses", 512 * KIB)
