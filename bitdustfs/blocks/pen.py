"""The right to write: who holds the pen writes blocks and roots, nobody else (promise 10).

A mount that may write has a pen: the ballot that a quorum promised it, its signed claim of that
ballot, and the seq of the root that it works towards. The pen is lost for good when another machine
took the vault over; whoever waits for suppliers then is told why.

A mount that began without enough suppliers has a pen that *waits*: the ballot is the one of an
earlier mount. By it this machine writes for itself. Nothing of it is shown to any supplier before a
quorum promised this mount a ballot of its own (vault/publish.py, `confirm`).
"""

import logging
from collections.abc import Awaitable, Callable

import trio

from bitdustfs.core.records import Ballot
from bitdustfs.errors import Superseded, Unavailable

log = logging.getLogger(__name__)


class Pen:
    """The pen of one mount. `seq`: of the root being worked towards; blocks are born for it.

    `waits`: why no quorum has promised this mount the ballot yet; "" where one has.
    """

    def __init__(self, ballot: Ballot, claim: bytes, seq: int, waits: str = "") -> None:
        self._ballot, self._claim = ballot, claim
        self._seq = seq
        self._why, self._waits = "", waits
        self._lost, self._confirmed = trio.Event(), trio.Event()
        if not waits:
            self._confirmed.set()

    @property
    def ballot(self) -> Ballot:
        """The ballot that is written under."""
        return self._ballot

    @property
    def claim(self) -> bytes:
        """The signed claim of the ballot, which suppliers are shown."""
        return self._claim

    @property
    def seq(self) -> int:
        """The seq of the next root."""
        return self._seq

    @property
    def lost(self) -> bool:
        """Whether this machine may not write any more."""
        return self._lost.is_set()

    @property
    def why(self) -> str:
        """The sentence that says why it is lost, "" while it is not."""
        return self._why

    def advance(self, accepted: int) -> None:
        """The root of this seq was accepted."""
        self._seq = accepted + 1

    @property
    def waits(self) -> str:
        """Why a quorum has not promised this mount the ballot yet, a sentence; "" where one has."""
        return self._waits

    def wait_for(self, why: str) -> None:
        """It still waits, for this reason by now."""
        if self._waits:
            self._waits = why

    def renew(self, ballot: Ballot, claim: bytes) -> None:
        """This machine claimed the vault again, higher, and a quorum follows."""
        self._ballot, self._claim = ballot, claim
        self._waits = ""
        self._confirmed.set()

    def lose(self, why: str) -> None:
        """The pen is lost for good. What was accepted and not published is kept on this machine."""
        if not self.lost:
            log.error(why)
            self._why = why
            self._lost.set()

    def require(self) -> Ballot:
        """The ballot to show to suppliers. Raises Superseded when the pen is lost, Unavailable
        while it waits.
        """
        self.require_held()
        if self._waits:
            raise Unavailable(self._waits)
        return self._ballot

    def require_held(self) -> None:
        """Raises Superseded when the pen is lost."""
        if self.lost:
            raise Superseded(self._why)

    async def once_confirmed(self, task: Callable[[], Awaitable[None]]) -> None:
        """Runs what shows suppliers the ballot, once a quorum has promised it to this mount."""
        await self._confirmed.wait()
        await task()

    async def wait_lost(self) -> None:
        """Returns when the pen is lost."""
        await self._lost.wait()
