"""Several addresses of one node, tried side by side: the first that leads to it wins.

Happy eyeballs (RFC 8305): the next attempt begins 250 ms after the one before, or at once when that
failed. So an address that swallows everything costs a quarter of a second, not a deadline.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import trio

from bitdustfs.errors import PeerError, ProtocolViolation, Unreachable

log = logging.getLogger(__name__)

STAGGER = 0.25  #: seconds between the beginnings of two attempts (RFC 8305, section 5)
LATER_AFTER = 1.0  #: seconds after which other addresses are looked for besides

T = TypeVar("T")


async def nowhere_else() -> Sequence[str]:
    """No other addresses are to be had."""
    return ()


class Race(Generic[T]):
    """One race over the addresses of one node.

    `attempt` leads to what is wanted at an address, or raises PeerError; when it is cancelled it
    closes what it opened. Whatever else it raises is logged, and ends that attempt alone. `discard`
    closes what came too late. `later` names more addresses, and is asked when all have failed, or
    after LATER_AFTER seconds. It is waited for if `patient`; else only as long as one of the first
    addresses is still being tried.
    """

    def __init__(
        self,
        attempt: Callable[[str], Awaitable[T]],
        discard: Callable[[T], Awaitable[None]],
        later: Callable[[], Awaitable[Sequence[str]]] = nowhere_else,
        patient: bool = True,
    ) -> None:
        self._attempt, self._discard, self._later = attempt, discard, later
        self._patient = patient
        self._won: list[tuple[str, T]] = []
        self._failures: list[PeerError] = []

    async def run(self, addresses: Sequence[str]) -> tuple[str, T]:
        """The address that won, and what was found there.

        Raises, where all fail alike, that error, and Unreachable where they do not. How long an
        attempt may take is its own business; so is how long `later` may.
        """
        first = tuple(dict.fromkeys(addresses))
        over, looking = trio.Event(), trio.CancelScope()
        more: Sequence[str] = ()

        async def the_first() -> None:
            await self._one_after_the_other(first, race)
            over.set()
            if not self._patient:
                looking.cancel()

        try:
            async with trio.open_nursery() as race:
                race.start_soon(the_first)
                with trio.move_on_after(LATER_AFTER):
                    await over.wait()
                with looking:
                    more = await self._later()
                fresh = [address for address in dict.fromkeys(more) if address not in first]
                await self._one_after_the_other(fresh, race)
        except BaseException:
            for _, found in self._won:
                with trio.CancelScope(shield=True):
                    await self._discard(found)
            raise
        if self._won:
            return self._won[0]
        kinds = {type(failure) for failure in self._failures}
        kind = kinds.pop() if len(kinds) == 1 else Unreachable
        raise kind("; ".join(map(str, self._failures)) or "no address is known")

    async def _one_after_the_other(self, addresses: Sequence[str], race: trio.Nursery) -> None:
        """Returns when the last one has ended; of those before, none is waited for so long."""
        async with trio.open_nursery() as attempts:
            for address in addresses:
                ended = trio.Event()
                attempts.start_soon(self._try, address, ended, race)
                with trio.move_on_after(STAGGER):
                    await ended.wait()

    async def _try(self, address: str, ended: trio.Event, race: trio.Nursery) -> None:
        try:
            found = await self._attempt(address)
        except PeerError as error:
            self._failures.append(type(error)(f"{address}: {error}"))
            ended.set()
            return
        except Exception as error:  # a bug that what is there brought out: the others go on
            log.exception("dialling %s failed", address)
            self._failures.append(ProtocolViolation(f"{address}: {type(error).__name__}"))
            ended.set()
            return
        if self._won:  # two in the same instant
            with trio.CancelScope(shield=True):
                await self._discard(found)
            return
        self._won.append((address, found))
        race.cancel_scope.cancel()
