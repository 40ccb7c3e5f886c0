"""Whom a supplier may dial because a family names him.

A stranger signs that family: it may name anybody's addresses, and so may the record of a node that
it names. So an address where the node never answered is dialled only so often, for one vault and in
all. Where it did, there is a supplier that expects to be asked. Who is not asked is not held to be
away because of that.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable

import trio

from bitdustfs.net.rates import KEYS_MAX
from bitdustfs.supplier.shares import VaultRates, Whose, alone

AT_ONCE = 32  #: questions under way, over all vaults
#: addresses a second that never proved to be a supplier's, for one vault and in all; at once
UNPROVEN_RATE, UNPROVEN_BURST = 0.1, 64.0
UNPROVEN_RATE_ALL, UNPROVEN_BURST_ALL = 2.0, 128.0
PROVEN_SECONDS = 30 * 86400.0  #: how long an answer counts


class Dials:
    """The addresses that one supplier dials, and how often."""

    def __init__(
        self, whose: Whose = alone, clock: Callable[[], float] = trio.current_time
    ) -> None:
        self.at_once = trio.CapacityLimiter(AT_ONCE)
        self._clock = clock
        self._proven: OrderedDict[tuple[bytes, str], float] = OrderedDict()
        self._unasked: OrderedDict[tuple[bytes, bytes], None] = OrderedDict()
        self._unproven = VaultRates(
            (UNPROVEN_RATE, UNPROVEN_BURST), (UNPROVEN_RATE_ALL, UNPROVEN_BURST_ALL), whose, clock
        )

    def admitted(self, vault: bytes, node: bytes, addresses: Iterable[str]) -> tuple[str, ...]:
        """Those of a node's addresses that may be dialled now for a vault; they are counted."""
        return tuple(
            a for a in addresses if self._is_proven(node, a) or self._unproven.admits(vault)
        )

    def _is_proven(self, node: bytes, address: str) -> bool:
        proven = self._proven.get((node, address))
        return proven is not None and self._clock() - proven < PROVEN_SECONDS

    def answered(self, node: bytes, address: str) -> None:
        """A node answered at an address, and holds the key."""
        self._proven[node, address] = self._clock()
        self._proven.move_to_end((node, address))
        if len(self._proven) > KEYS_MAX:
            self._proven.popitem(last=False)

    def note(self, vault: bytes, node: bytes, asked: bool) -> None:
        """Whether any address was left to be dialled."""
        self._unasked.pop((vault, node), None)
        if not asked:
            self._unasked[vault, node] = None
        if len(self._unasked) > KEYS_MAX:
            self._unasked.popitem(last=False)

    def is_unasked(self, vault: bytes, node: bytes) -> bool:
        """Whether no address of a node could be dialled the last time, because all is spent."""
        return (vault, node) in self._unasked
