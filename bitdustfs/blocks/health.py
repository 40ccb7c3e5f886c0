"""What was seen of one supplier since the mount: whom to ask first, and who returned what is wrong.

A failure makes a supplier *unusable* for a while: others are asked first. The pause doubles with
each failure in a row, from AVOID_FIRST to AVOID_MAX, and ends with the first answer. Damage (bytes
that fail their hash) is counted apart from absence: it is the supplier's fault, silence may be the
line's.

Its *sight* is what was seen last, and when: an answer, or that none came. Nobody is judged by it,
so this machine's own outage shows in it, too. Every call of a session that is `Sighted` is noted.
"""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import trio

from bitdustfs.core.erasure import Buffer
from bitdustfs.errors import Malformed, PeerError, Refused
from bitdustfs.net import wire
from bitdustfs.net.supplier import Supplier

AVOID_FIRST, AVOID_MAX = 1.0, 60.0  #: seconds that a failing supplier is not asked first
SILENCE = 2.0  #: seconds without an answer, after which giving up a call says that none came


@dataclass
class Health:
    """Counters and the pause of one supplier. Changed by its own methods only."""

    damaged: int = 0  #: answers that failed their hash
    missing: int = 0  #: fragments it did not have; no fault of its own if it was away
    failed: int = 0  #: calls that failed otherwise
    served: int = 0
    silent: int = 0  #: audits in a row that it left unanswered
    refused_deletes: int = 0  #: deletions in a row that it refused
    last_error: str = ""
    reachable: bool = True
    avoided_until: float = -1.0  #: on trio's clock
    heard_at: float | None = None  #: when it last answered anything, on trio's clock
    missed_at: float | None = None  #: when it last was seen not to answer, the same
    _avoid: float = AVOID_FIRST

    # -- what was seen last

    @property
    def there(self) -> bool:
        """Whether the last that was seen of it is an answer. Before the first one it is not."""
        heard, missed = self.heard_at, self.missed_at
        return heard is not None and (missed is None or heard >= missed)

    @property
    def away(self) -> bool:
        """Whether it is that no answer came."""
        return self.missed_at is not None and not self.there

    def missed_since(self, time: float) -> bool:
        """The same, by something seen after `time` of trio's clock."""
        return self.away and self.missed_at is not None and self.missed_at >= time

    def silence(self) -> float | None:
        """Seconds since it last answered; None where it has not since the mount began."""
        return None if self.heard_at is None else trio.current_time() - self.heard_at

    def heard(self) -> None:
        """It answered, whatever it said."""
        self.heard_at = trio.current_time()

    def missed(self) -> None:
        """It did not answer, or cannot be reached."""
        self.missed_at = trio.current_time()

    # -- what follows for whom to ask

    @property
    def usable(self) -> bool:
        """Whether to ask it first: it did not fail just now."""
        return trio.current_time() >= self.avoided_until

    def ok(self) -> None:
        """It served a request."""
        self.served += 1
        self.reachable = True
        self.avoided_until, self._avoid = -1.0, AVOID_FIRST

    def answered(self) -> None:
        """It answered a ping: one that could not be reached is asked again from now on.

        Whether it serves is another question, so one that was merely slow is not.
        """
        if not self.reachable:
            self.avoided_until, self._avoid = -1.0, AVOID_FIRST
        self.reachable = True

    def slow(self) -> None:
        """It took longer than another would: others are asked first for a while."""
        self.avoided_until = trio.current_time() + self._avoid
        self._avoid = min(AVOID_MAX, self._avoid * 2)

    def fault(self, error: Exception) -> None:
        """Notes a failure; damage is told apart from absence."""
        self.last_error = str(error)
        code = error.code if isinstance(error, Refused) else ""
        damage = isinstance(error, Malformed) or code == "damaged"
        self.missing += code == "not-found"
        if damage:
            self.damaged += 1
            return
        self.failed += 1
        self.reachable = isinstance(error, Refused)
        if not self.reachable:
            self.missed()
            self.slow()

    def audited(self, answered: bool) -> int:
        """Notes whether an audit was answered; how many in a row were not."""
        self.silent = 0 if answered else self.silent + 1
        return self.silent

    def forgive(self) -> None:
        """What was counted against it is forgotten."""
        self.silent = self.refused_deletes = 0

    def deletion(self, refused: bool) -> int:
        """Notes whether a deletion was refused; how many in a row were."""
        self.refused_deletes = self.refused_deletes + 1 if refused else 0
        return self.refused_deletes


class Sighted(Supplier):
    """A session whose every call is noted in the supplier's health: an answer, or that none came.

    A call that is given up counts where it waited for SILENCE and nothing was heard meanwhile.
    """

    def __init__(self, node: bytes, session: Supplier, health: Health) -> None:
        self.node, self._session, self._health = node, session, health

    @property
    def sent(self) -> int:
        return self._session.sent

    async def call(self, request: wire.Request, payload: Buffer = b"") -> tuple[wire.Reply, Buffer]:
        began = trio.current_time()
        try:
            answer = await self._session.call(request, payload)
        except Refused:
            self._health.heard()
            raise
        except PeerError:
            self._health.missed()
            raise
        except trio.Cancelled:
            heard = self._health.heard_at
            if trio.current_time() - began >= SILENCE and (heard is None or heard < began):
                self._health.missed()
            raise
        self._health.heard()
        return answer

    def ear(self) -> Supplier:
        return self._session.ear()

    @property
    def request_max(self) -> int:
        return self._session.request_max

    def asking(self, length: int) -> AbstractAsyncContextManager[None]:
        return self._session.asking(length)

    def coming(self, length: int) -> float:
        return self._session.coming(length)

    def held_up(self, length: int) -> float:
        return self._session.held_up(length)

    def bearable(self, least: float) -> float:
        return self._session.bearable(least)

    def reached_at(self) -> str:
        return self._session.reached_at()

    def way(self) -> str:
        return self._session.way()

    async def aclose(self) -> None:
        await self._session.aclose()
