"""Who may have a connection: places for strangers, and places that are kept for customers.

A stranger is a network (net/addresses.py): whoever has not opened a session yet, or has opened one
of a vault that keeps nothing here. A customer is a vault that keeps fragments here; its owner, its
readers and its family come in its name. Customers have places of their own.

Where all places of a kind are taken, whoever comes is let in, and the one among those who have the
most places (by shares.py) that was silent for longest goes. So who holds many places has few, and
whoever takes a moment to open a session is not the one who was silent for longest.
"""

from collections import OrderedDict
from dataclasses import dataclass

import trio

from bitdustfs.net.addresses import network_of
from bitdustfs.net.rates import Rates
from bitdustfs.supplier.shares import Portion, ShareRates, counted, share_of_network, weight

STRANGERS_MAX = 128  #: connections of strangers
CUSTOMERS_MAX = 384  #: connections of customers
#: new connections a second of one network, and of all that no customer came from lately; at once
NEW_RATE, NEW_BURST = 20.0, 100.0
NEW_RATE_ALL, NEW_BURST_ALL = 60.0, 300.0
NETWORKS_MAX = 1000  #: networks that are remembered because a customer came from there


@dataclass(eq=False)
class Slot:
    """One connection's, in the name of `share`."""

    network: str
    share: Portion
    scope: trio.CancelScope
    heard: float
    stranger: bool = True  #: whether it is none of a customer's

    def become(self, share: Portion) -> None:
        """It is of a customer from now on."""
        self.share, self.stranger = share, False

    def hear(self) -> None:
        """Something came on it just now."""
        self.heard = trio.current_time()


class Places:
    """The connections of one supplier."""

    def __init__(self) -> None:
        self._limits = {True: STRANGERS_MAX, False: CUSTOMERS_MAX}
        self._taken: dict[bool, set[Slot]] = {True: set(), False: set()}
        self._rates = ShareRates(NEW_RATE, NEW_BURST)
        self._all = Rates(NEW_RATE_ALL, NEW_BURST_ALL)
        self._trusted: OrderedDict[str | bytes, None] = OrderedDict()

    def enter(self, host: str, scope: trio.CancelScope) -> Slot | None:
        """A stranger's place for a new connection; None: too many came from there just now.

        `scope` is cancelled when the place goes to somebody else.
        """
        network = network_of(host)
        share = share_of_network(network)
        if not self._rates.admits(share):
            return None
        if share[0] not in self._trusted and not self._all.admits(None):
            return None
        place = Slot(network, share, scope, trio.current_time())
        self._take(place)
        return place

    def promote(self, place: Slot, share: Portion) -> None:
        """The connection is a customer's from now on."""
        if not place.stranger or place not in self._taken[True]:
            return
        self._taken[True].discard(place)
        place.become(share)
        self._take(place)
        network = share_of_network(place.network)[0]
        self._trusted[network] = None
        self._trusted.move_to_end(network)
        if len(self._trusted) > NETWORKS_MAX:
            self._trusted.popitem(last=False)

    def leave(self, place: Slot) -> None:
        """The connection has ended."""
        self._taken[place.stranger].discard(place)

    def _take(self, place: Slot) -> None:
        taken = self._taken[place.stranger]
        if len(taken) >= self._limits[place.stranger]:
            self._make_way(taken)
        taken.add(place)

    def _make_way(self, taken: set[Slot]) -> None:
        counts = counted(place.share for place in taken)
        leaver = max(taken, key=lambda place: (weight(place.share, counts), -place.heard))
        taken.discard(leaver)
        leaver.scope.cancel()

    def __len__(self) -> int:
        return sum(map(len, self._taken.values()))
