"""Whom a supplier may dial because a family names him.

A stranger signs that family: it may name anybody's addresses. So who never answered there with the
node key that the family says is dialled only so often, for one vault and in all. Whoever did is a
supplier, and expects to be asked. Who is not asked is not held to be away because of that.
"""

from collections import OrderedDict
from collections.abc import Callable

import trio

from bitdustfs.core.records import Member
from bitdustfs.net.rates import KEYS_MAX, Rates

AT_ONCE = 32  #: questions under way, over all vaults
#: addresses a second that never proved to be a supplier's, for one vault and in all; at once
UNPROVEN_RATE, UNPROVEN_BURST = 0.1, 64.0
UNPROVEN_RATE_ALL, UNPROVEN_BURST_ALL = 2.0, 128.0
PROVEN_SECONDS = 30 * 86400.0  #: how long an answer counts


class Dials:
    """The addresses that one supplier dials, and how often."""

    def __init__(self, clock: Callable[[], float] = trio.current_time) -> None:
        self.at_once = trio.CapacityLimiter(AT_ONCE)
        self._clock = clock
        self._proven: OrderedDict[tuple[bytes, tuple[str, ...]], float] = OrderedDict()
        self._of_vault = Rates(UNPROVEN_RATE, UNPROVEN_BURST, clock)
        self._in_all = Rates(UNPROVEN_RATE_ALL, UNPROVEN_BURST_ALL, clock)

    def admits(self, vault: bytes, member: Member) -> bool:
        """Whether a member of a vault's family may be asked now."""
        proven = self._proven.get((member.node, member.addresses))
        if proven is not None and self._clock() - proven < PROVEN_SECONDS:
            return True
        count = max(1, len(member.addresses))
        return self._of_vault.admits(vault, count) and self._in_all.admits(None, count)

    def answered(self, member: Member) -> None:
        """It is where the family says, and holds the key."""
        name = (member.node, member.addresses)
        self._proven[name] = self._clock()
        self._proven.move_to_end(name)
        if len(self._proven) > KEYS_MAX:
            self._proven.popitem(last=False)
