"""A supplier that cannot be dialled: on standby at relays, through which it is reached.

One connection to each relay, which is opened again when it ends, later and later. Who calls is
served like who dials: the relay passes on bytes, and the TLS with this node's key runs inside. Who
asks to be dialled at the same time (halfway.py) is found by what the relay says of his circuit.

Who has another version of IP than this node cannot dial a relay where this node does. So it names
the relay's address of the other version as well, which the relay's own record says.
"""

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio
from nacl.signing import SigningKey

from bitdustfs.errors import Malformed, PeerError, ProtocolViolation, Unreachable
from bitdustfs.net import wire
from bitdustfs.net.addresses import Relayed, is_v6, relayed
from bitdustfs.net.circuit import Circuit
from bitdustfs.net.handshake import CONNECT_DEADLINE, greet, meet, refused
from bitdustfs.net.incoming import next_message
from bitdustfs.net.line import OwnLine
from bitdustfs.net.punching import SharedPort
from bitdustfs.net.tls import make_context
from bitdustfs.net.whereabouts import Locate
from bitdustfs.supplier.halfway import Crossing
from bitdustfs.supplier.shares import relayed_network

log = logging.getLogger(__name__)

PING_EVERY = 15.0  #: seconds between words to a relay; routers forget a connection in minutes
SILENCE = 40.0  #: seconds without a word of a relay after which it is lost
AGAIN_FIRST, AGAIN_MAX = 1.0, 60.0  #: seconds until a relay is tried again; doubled each time
LOOK_DEADLINE = 15.0  #: seconds for one look-up of a relay's record
LOOK_EVERY = 600.0  #: seconds between look-ups of a relay; at first as it is tried again
#: circuits that are come to at once, of one relay: more than it leads here (relay.py), since one
#: that makes way for another is still here when that one calls
COMING_MAX = 64

_broken = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class StandingBy:
    """One node at its relays (HOST:PORT). `serve` is given each circuit, and closes it.

    `line`: all that goes over relays is on it. `locate`: finds what a relay says of itself.
    """

    def __init__(
        self,
        node: SigningKey,
        relays: tuple[str, ...],
        serve: Callable[[trio.abc.Stream, Crossing], Awaitable[None]],
        line: OwnLine,
        locate: Locate,
    ) -> None:
        self._line, self._locate = line, locate
        self._own, self._relays, self._serve = node.verify_key.encode(), relays, serve
        self._context = make_context(node.encode(), server_side=False)
        #: relay -> its address, and that of the other version of IP: records hold no names
        self._up: dict[str, tuple[str, ...]] = {}
        self._coming = {relay: trio.CapacityLimiter(COMING_MAX) for relay in relays}

    def addresses(self) -> tuple[str, ...]:
        """Where this node is reached now: "relay:KEY@HOST:PORT" of each relay that is there.

        First as this node dials them.
        """
        there = [self._up[relay] for relay in self._relays if relay in self._up]
        every = [*(at[0] for at in there), *(other for at in there for other in at[1:])]
        return tuple(dict.fromkeys(str(Relayed(self._own, address)) for address in every))

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            for relay in self._relays:
                nursery.start_soon(self._keep, relay, nursery)

    async def _keep(self, relay: str, nursery: trio.Nursery) -> None:
        pause, said = AGAIN_FIRST, ""
        while True:
            was_up = False
            try:
                await self._stand_by(relay, nursery)
            except* (PeerError, Malformed, trio.TooSlowError, *_broken) as group:
                was_up = relay in self._up
                why = f"{group.exceptions[0]}" or type(group.exceptions[0]).__name__
                if why != said:
                    log.warning("the relay at %s: %s; it is tried again", relay, why)
                said = why
            finally:
                self._up.pop(relay, None)
            pause = AGAIN_FIRST if was_up else min(AGAIN_MAX, 2 * pause)
            await trio.sleep(pause * random.uniform(0.5, 1.0))

    async def _stand_by(self, relay: str, nursery: trio.Nursery) -> None:
        met = await meet(relay, b"", self._context, False, self._line)
        try:
            with trio.fail_after(CONNECT_DEADLINE):
                decoder = await greet(met.stream, wire.Standby(wire.VERSION))
                reply = await next_message(met.stream, decoder)
            if isinstance(reply, wire.Fault):
                raise refused(reply)
            self._up[relay] = (met.literal,)
            log.info("reached at %s", Relayed(self._own, met.literal))
            async with trio.open_nursery() as line:
                line.start_soon(self._ping, met.stream.send_all)
                line.start_soon(self._look, relay, met.key, met.literal)
                while True:
                    with trio.fail_after(SILENCE):
                        message = await next_message(met.stream, decoder)
                    if isinstance(message, wire.Called):
                        nursery.start_soon(self._come, relay, met.key, message.circuit, nursery)
                    elif not isinstance(message, wire.Done):
                        raise ProtocolViolation("a relay says something else")
        finally:
            await met.aclose()

    async def _ping(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        while True:
            await trio.sleep(PING_EVERY)
            await send(wire.encode_frame(0, wire.Ping()))

    async def _look(self, relay: str, key: bytes, literal: str) -> None:
        """Finds a relay's address of the other version of IP."""
        pause = AGAIN_FIRST
        while True:
            found = None
            with trio.move_on_after(LOOK_DEADLINE):
                found = await self._locate(key)
            if found is None:  # what was known stays
                await trio.sleep(pause)
                pause = min(2 * pause, LOOK_EVERY)
                continue
            dialled = [a for a in found.addresses if relayed(a) is None]
            other = [a for a in dialled if is_v6(a) != is_v6(literal)]
            self._up[relay], pause = (literal, *other[:1]), AGAIN_FIRST
            await trio.sleep(LOOK_EVERY)

    async def _come(self, relay: str, key: bytes, circuit: bytes, nursery: trio.Nursery) -> None:
        """Comes to where somebody waits, if there are not too many."""
        coming = self._coming[relay]
        try:
            coming.acquire_on_behalf_of_nowait(circuit)
        except (trio.WouldBlock, RuntimeError):  # RuntimeError: the relay named it twice
            log.warning("the relay at %s calls too often", relay)
            return
        try:
            met = await meet(relay, key, self._context, True, self._line)
            try:
                with trio.fail_after(CONNECT_DEADLINE):
                    await greet(met.stream, wire.Meeting(wire.VERSION, circuit))
                seen = partial(self._seen, met.literal, key, circuit)
                crossing = Crossing(met.literal, seen, nursery, relayed_network(key, circuit))
                await self._serve(Circuit(met.stream), crossing)
            finally:
                await met.aclose()
        except (PeerError, Malformed, trio.TooSlowError, *_broken) as error:
            log.info("nobody was met at the relay at %s: %s", relay, error)
        finally:
            coming.release_on_behalf_of(circuit)

    @asynccontextmanager
    async def _seen(
        self, relay: str, key: bytes, circuit: bytes, port: SharedPort
    ) -> AsyncIterator[wire.SeenAt]:
        """As Crossing says."""
        met = await meet(relay, key, self._context, False, self._line, port.connect)
        try:
            try:
                with trio.fail_after(CONNECT_DEADLINE):
                    decoder = await greet(met.stream, wire.Whence(wire.VERSION, circuit))
                    reply = await next_message(met.stream, decoder)
            except (trio.TooSlowError, *_broken) as error:
                raise Unreachable(str(error) or "the relay does not say it") from error
            if isinstance(reply, wire.Fault):
                raise refused(reply)
            if not isinstance(reply, wire.SeenAt):
                raise ProtocolViolation("the relay answers with something else")
            yield reply
        finally:
            await met.aclose()
