"""Nodes that were heard of, and wait to be pinged: are they there?"""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from bitdustfs.net.dht.datagram import Contact

CHECKERS = 8  #: contacts pinged at once
CHECKS_MAX = 64  #: contacts that wait; more are not pinged, they will be met again


class Checks:
    """`check` pings one, and does with it what follows from that."""

    def __init__(self, check: Callable[[Contact], Awaitable[None]]) -> None:
        self._check = check
        self._put, self._waiting = trio.open_memory_channel[Contact](CHECKS_MAX)

    def later(self, contact: Contact) -> None:
        """Has it pinged soon, unless too many wait."""
        with suppress(trio.WouldBlock):
            self._put.send_nowait(contact)

    async def run(self) -> None:
        """Until cancelled."""

        async def work() -> None:
            async for contact in self._waiting.clone():
                await self._check(contact)

        async with trio.open_nursery() as nursery:
            for _ in range(CHECKERS):
                nursery.start_soon(work)
