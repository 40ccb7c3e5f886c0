"""One request of an audit, and what its outcome shows of the supplier.

An audit that nobody answers proves nothing: the power may be out there. It counts against a
supplier only when the supplier is shown to be there on the very connection that the audit waits on,
by a fresh answer: while the audit waits, a ping after it is answered; or a connection on which a
ping was just answered is closed on being audited, twice in a row.
"""

import enum
import random
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from bitdustfs.blocks.fetch import Fetcher
from bitdustfs.core.records import BlockHeader
from bitdustfs.core.spans import slice_length
from bitdustfs.errors import DeadlineExceeded, Malformed, PeerError, ProtocolViolation, Refused
from bitdustfs.net.supplier import Supplier
from bitdustfs.rebuild.watch import PING_DEADLINE
from bitdustfs.units import CHUNK_SIZE

DEADLINE = 5.0  #: seconds that one chunk may take
Probing = Callable[[], Awaitable[object]]


class Verdict(enum.Enum):
    """What one request of an audit came to."""

    RIGHT = enum.auto()
    LOST = enum.auto()  #: the chunk is wrong, or is not there
    HUNG_UP = enum.auto()  #: the supplier ended the connection
    WITHHELD = enum.auto()  #: it is there, and does not answer
    UNKNOWN = enum.auto()  #: nobody answered


class Probe:
    """Asks suppliers for headers and chunks."""

    def __init__(self, fetcher: Fetcher) -> None:
        self._fetcher = fetcher

    async def look(
        self, supplier: Supplier, block: bytes, position: int, rng: random.Random
    ) -> tuple[Verdict, BlockHeader | None, int]:
        """Asks for the header where nobody showed it yet, then for a random chunk.

        What that came to, the header, and the chunk's offset. No header: none was shown.
        """
        shown: list[BlockHeader] = []

        async def show() -> None:
            shown.append(await self._fetcher.header_at(supplier, block, position))

        verdict = await self._check(supplier, show)
        if verdict is not Verdict.RIGHT:
            return verdict, None, 0
        header = shown[-1]
        start = rng.randrange(0, slice_length(header.length, header.k), CHUNK_SIZE)
        return await self.read(supplier, header, position, start), header, start

    async def read(
        self, supplier: Supplier, header: BlockHeader, position: int, start: int
    ) -> Verdict:
        """Asks for the chunk at `start`."""
        stop = min(slice_length(header.length, header.k), start + CHUNK_SIZE)
        ask = partial(self._fetcher.prove_at, supplier, header, position, start, stop)
        async with supplier.asking(stop - start):
            return await self._check(supplier, ask)

    async def _check(self, supplier: Supplier, question: Probing) -> Verdict:
        """Asks; what that shows of the supplier. Never HUNG_UP."""
        verdict = await self._ask(supplier, question)
        if verdict is Verdict.HUNG_UP:
            verdict = Verdict.UNKNOWN
            if await self._is_there(supplier):
                again = await self._ask(supplier, question)
                verdict = Verdict.WITHHELD if again is Verdict.HUNG_UP else again
        return verdict

    async def _ask(self, supplier: Supplier, question: Probing) -> Verdict:
        verdict = Verdict.UNKNOWN
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                nonlocal verdict
                verdict = await _verdict(question)
                nursery.cancel_scope.cancel()

            nursery.start_soon(ask)
            await trio.sleep(DEADLINE + supplier.coming(CHUNK_SIZE))
            # the request waits still, so its connection is the one that a ping goes by
            if await self._is_there(supplier) and verdict is Verdict.UNKNOWN:
                verdict = Verdict.WITHHELD
            nursery.cancel_scope.cancel()
        return verdict

    async def _is_there(self, supplier: Supplier) -> bool:
        """Whether a supplier answers a ping right now."""
        health = self._fetcher.circle.health(supplier.node)
        with trio.move_on_after(PING_DEADLINE):
            try:
                await supplier.ping()
                return True
            except Refused:
                return True
            except PeerError as error:
                health.fault(error)
                return False
        health.fault(DeadlineExceeded("a ping is not answered"))
        return False


async def _verdict(question: Probing) -> Verdict:
    """What the answer to one request shows of a supplier."""
    try:
        await question()
    except Malformed:
        return Verdict.LOST
    except Refused as error:
        lost = error.code in ("damaged", "not-found")
        return Verdict.LOST if lost else Verdict.WITHHELD
    except ProtocolViolation:
        return Verdict.HUNG_UP
    except PeerError:
        return Verdict.UNKNOWN
    return Verdict.RIGHT
