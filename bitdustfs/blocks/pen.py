"""The right to write: who holds the pen writes blocks and roots, nobody else (promise 10).

A mount that may write has a pen: the ballot that a quorum promised it, its signed claim of that
ballot, and the seq of the root that it works towards. The pen is lost for good when another machine
took the vault over; whoever waits for suppliers then is told why.
"""

import logging

import trio

from bitdustfs.core.records import Ballot
from bitdustfs.errors import Superseded

log = logging.getLogger(__name__)


class Pen:
    """The pen of one mount. `seq`: of the root being worked towards; blocks are born for it."""

    def __init__(self, ballot: Ballot, claim: bytes, seq: int) -> None:
        self._ballot, self._claim = ballot, claim
        self._seq = seq
        self._why = ""
        self._lost = trio.Event()

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

    def renew(self, ballot: Ballot, claim: bytes) -> None:
        """This machine claimed the vault again, higher, and a quorum follows."""
        self._ballot, self._claim = ballot, claim

    def lose(self, why: str) -> None:
        """The pen is lost for good. What was accepted and not published is kept on this machine."""
        if not self.lost:
            log.error(why)
            self._why = why
            self._lost.set()

    def require(self) -> Ballot:
        """The ballot to write under. Raises Superseded when the pen is lost."""
        if self.lost:
            raise Superseded(self._why)
        return self._ballot

    async def wait_lost(self) -> None:
        """Returns when the pen is lost."""
        await self._lost.wait()
