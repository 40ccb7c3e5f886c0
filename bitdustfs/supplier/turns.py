"""Whose request is worked on: a few threads, of which no vault has more than half.

Nor have all vaults together that came as anybody from one network (shares.py). Strangers have two
threads of their own, and a number of requests a second for each network. They wait; nothing is
refused because of it.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from bitdustfs.net.rates import Rates
from bitdustfs.supplier.connections import Slot
from bitdustfs.supplier.shares import Portion, ShareRates, parts_of, share_of_network
from bitdustfs.units import MIB

WORKERS, WORKERS_OF_ONE, WORKERS_OF_STRANGERS = 8, 4, 2  #: threads
ASKED_RATE, ASKED_BURST = 20.0, 100.0  #: requests a second of strangers of one network; at once
ASKED_RATE_ALL, ASKED_BURST_ALL = 100.0, 400.0  #: of all strangers
#: bytes a second of payloads that are refused by their heads, of one network; at once
REFUSED_RATE, REFUSED_BURST = 4.0 * MIB, 64.0 * MIB


class Turns:
    """The threads of one supplier, and what each client may make them do."""

    def __init__(self) -> None:
        self._workers = trio.CapacityLimiter(WORKERS)
        self._for_strangers = trio.CapacityLimiter(WORKERS_OF_STRANGERS)
        self._of_shares: dict[Portion, tuple[trio.Semaphore, list[None]]] = {}
        self._asked = ShareRates(ASKED_RATE, ASKED_BURST)
        self._asked_all = Rates(ASKED_RATE_ALL, ASKED_BURST_ALL)
        self._refused = ShareRates(REFUSED_RATE, REFUSED_BURST)

    @asynccontextmanager
    async def turn(self, place: Slot) -> AsyncIterator[trio.CapacityLimiter]:
        """When it is the turn of a request on this connection: whose threads may do it."""
        if place.stranger:
            await self._asked.spend(place.share)
            await trio.sleep(self._asked_all.spend(None))
            yield self._for_strangers
            return
        async with AsyncExitStack() as parts:
            for part in reversed(parts_of(place.share)):  # so its own wait first for each other
                await parts.enter_async_context(self._part(part))
            yield self._workers

    @asynccontextmanager
    async def _part(self, share: Portion) -> AsyncIterator[None]:
        new = trio.Semaphore(WORKERS_OF_ONE), list[None]()
        semaphore, users = self._of_shares.setdefault(share, new)
        users.append(None)
        try:
            async with semaphore:
                yield
        finally:
            users.pop()
            if not users:
                del self._of_shares[share]

    async def refused(self, place: Slot, length: int) -> None:
        """A payload was refused by its head; returns when what comes next may be read."""
        await self._refused.spend(share_of_network(place.network), length)
