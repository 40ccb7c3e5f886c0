"""Do a supplier's own addresses lead to it from outside? Others dial them, and say it.

One that was reached proves the address. Where all who answered dialled in vain, nobody else would
fare better. Where nobody of another network answers, it is not known.
"""

import logging
import random
from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

import trio

from bitdustfs.net.addresses import acceptable, network_of, relayed, split
from bitdustfs.net.dht.datagram import DialBack, DialledBack, Endpoint
from bitdustfs.net.dht.node import Dht

log = logging.getLogger(__name__)

#: seconds until an address is dialled again: one that nobody could be asked about, one that was
#: dialled in vain, one that leads here
UNKNOWN_AGAIN, FAILED_AGAIN, PROVEN_AGAIN = 10.0, 60.0, 900.0
ASKED_MAX = 4  #: others that are asked to dial one address
ADDRESSES_MAX = 16  #: that are remembered, those asked about last


class Proof(NamedTuple):
    """What others found; None: not known. `at`: when (trio's clock)."""

    tcp: bool | None
    udp: bool | None
    at: float

    @property
    def again(self) -> float:
        """When it is dialled again (trio's clock)."""
        pauses = {None: UNKNOWN_AGAIN, False: FAILED_AGAIN, True: PROVEN_AGAIN}
        return self.at + pauses[self.tcp]


def is_public(address: str) -> bool:
    """Whether the world could dial an address: no private one, nor one of a provider's NAT."""
    return relayed(address) is None and acceptable(*split(address), allow_private=False)


class Proofs:
    """Of one supplier, by what others of the DHT say."""

    def __init__(self, dht: Dht) -> None:
        self._dht = dht
        self._known: OrderedDict[str, Proof] = OrderedDict()

    def of(self, address: str) -> Proof:
        """What is known of an address."""
        return self._known.get(address, Proof(None, None, 0.0))

    async def look(self, addresses: Iterable[str]) -> None:
        """Has those dialled that are due. Ends within seconds."""
        for address in addresses:
            known = self._known.get(address)
            if is_public(address) and (known is None or trio.current_time() >= known.again):
                await self._dial(address)

    def forget(self, address: str) -> None:
        """What leads there has changed."""
        self._known.pop(address, None)

    async def _dial(self, address: str) -> None:
        said = await self._dialled_back(*split(address))
        before = self.of(address)
        tcp = any(one.tcp for one in said) if said else None
        udp = any(one.udp for one in said) if said else None
        if tcp != before.tcp and tcp is not None:
            came = "others come in" if tcp else "others dialled it in vain"
            log.info("%s: %s", address, came)
        if tcp is None:  # what was seen before still is the best that is known
            tcp, udp = before.tcp, before.udp
        self._known[address] = Proof(tcp, udp, trio.current_time())
        self._known.move_to_end(address)
        if len(self._known) > ADDRESSES_MAX:
            self._known.popitem(last=False)

    async def _dialled_back(self, host: str, port: int) -> list[DialledBack]:
        """What others of other networks say, who see this node at that host.

        Those who see it elsewhere, and older nodes, say nothing.
        """
        said: list[DialledBack] = []

        async def ask(contact: Endpoint) -> None:
            body = await self._dht.ask(contact, DialBack(host, port))
            message = None if body is None else body.message
            if isinstance(message, DialledBack) and message.host == host:
                said.append(message)

        own, version = network_of(host), ":" in host
        others = [c for c in self._dht.contacts() if (":" in c[0]) == version]
        others = [contact for contact in others if network_of(contact[0]) != own]
        async with trio.open_nursery() as nursery:
            for contact in random.sample(others, min(ASKED_MAX, len(others))):
                nursery.start_soon(ask, contact)
        return said
