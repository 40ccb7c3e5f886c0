"""Do a supplier's own addresses lead to it from outside? Others dial them, and say it.

One that was reached proves the address: it met the key there. That others dialled in vain is only
their word, or a bad moment: it counts where two of different networks say so, twice. Where nobody
of another network answers, it is not known. Who finds nothing out asks ever more seldom.
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

#: seconds until an address is dialled again: one that leads here; one that was dialled in vain for
#: the first time. Of others, doubled each time up to the former: one that was dialled in vain, one
#: that is not known
PROVEN_AGAIN, SURE_AGAIN, FAILED_AGAIN, UNKNOWN_AGAIN = 900.0, 15.0, 60.0, 10.0
WITNESSES, ROUNDS = 2, 2  #: others of different networks who have to say no, and how often
ASKED_MAX = 4  #: others, of different networks, that are asked to dial one address
ADDRESSES_MAX = 16  #: that are remembered, those asked about last


class Access(NamedTuple):
    """Whether others come in by one protocol; None: not known. `noes`: rounds in a row that say no;
    `doubts`: how many said no in the last one.
    """

    there: bool | None = None
    noes: int = 0
    doubts: int = 0

    def after(self, said: list[bool]) -> "Access":
        """`said`: by others of different networks, in one round."""
        if any(said):
            return Access(True)
        if len(said) < WITNESSES:
            return self._replace(doubts=len(said))
        noes = self.noes + 1
        return Access(False if noes >= ROUNDS else self.there, noes, len(said))


class Proof(NamedTuple):
    """What others found out about an address. `elsewhere`: the host where they see this node
    instead, if they do. `again`: when it is dialled again (trio's clock).
    """

    tcp: Access = Access()
    udp: Access = Access()
    elsewhere: str = ""
    again: float = 0.0
    tries: int = 0  #: rounds that changed nothing

    def after(self, host: str, said: list[DialledBack], now: float) -> "Proof":
        """`said`: by others of different networks, in one round, about an address at a host."""
        dialled = [one for one in said if one.host == host]
        tcp = self.tcp.after([one.tcp for one in dialled])
        udp = self.udp.after([one.udp for one in dialled])
        others = sorted(one.host for one in said if one.host != host)
        elsewhere = others[0] if others and not dialled else ""
        tries = self.tries if tcp.there == self.tcp.there else 0
        if self.tcp.noes < tcp.noes < ROUNDS or self.udp.noes < udp.noes < ROUNDS:
            pause = SURE_AGAIN
        elif tcp.there:
            pause = PROVEN_AGAIN
        else:
            first = UNKNOWN_AGAIN if tcp.there is None else FAILED_AGAIN
            pause = min(PROVEN_AGAIN, first * 2.0 ** min(tries, 10))
        return Proof(tcp, udp, elsewhere, now + pause, tries + 1)


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
        return self._known.get(address, Proof())

    async def look(self, addresses: Iterable[str]) -> None:
        """Has those dialled that are due. Ends within seconds."""
        for address in addresses:
            if is_public(address) and trio.current_time() >= self.of(address).again:
                await self._dial(address)

    def forget(self, address: str) -> None:
        """What leads there has changed."""
        self._known.pop(address, None)

    async def _dial(self, address: str) -> None:
        host, port = split(address)
        before, whom = self.of(address), self._whom(host)
        if not whom:  # that costs nothing: it is seen soon when somebody is there
            self._note(address, before._replace(again=trio.current_time() + UNKNOWN_AGAIN))
            return
        said = await self._dialled_back(host, port, whom)
        proof = before.after(host, said, trio.current_time())
        if proof.tcp.there != before.tcp.there:
            log.info("%s: others %s", address, "come in" if proof.tcp.there else "dial it in vain")
        self._note(address, proof)

    def _note(self, address: str, proof: Proof) -> None:
        self._known[address] = proof
        self._known.move_to_end(address)
        if len(self._known) > ADDRESSES_MAX:
            self._known.popitem(last=False)

    def _whom(self, host: str) -> list[Endpoint]:
        """Others, each of another network than all the rest, and than the host."""
        others = [c for c in self._dht.contacts() if (":" in c[0]) == (":" in host)]
        random.shuffle(others)
        of_network = {network_of(contact[0]): contact for contact in others}
        of_network.pop(network_of(host), None)
        return [*of_network.values()][:ASKED_MAX]

    async def _dialled_back(self, host: str, port: int, whom: list[Endpoint]) -> list[DialledBack]:
        """What they say. Older nodes say nothing."""
        said: list[DialledBack] = []

        async def ask(contact: Endpoint) -> None:
            body = await self._dht.ask(contact, DialBack(host, port))
            if body is not None and isinstance(body.message, DialledBack):
                said.append(body.message)

        async with trio.open_nursery() as nursery:
            for contact in whom:
                nursery.start_soon(ask, contact)
        return said
