"""A node behind a router dials whom a relay leads to it, at the same time as that one dials it.

Only for customers, their readers and their family, when they ask through the relay. It dials where
its own relay saw that connection come from, and nowhere that anybody names; there it says nothing
before it is spoken to. What comes of it is served as any other connection.
"""

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import NamedTuple

import trio

from bitdustfs.errors import Malformed, PeerError, ProtocolViolation
from bitdustfs.net import wire
from bitdustfs.net.punching import TRIES, TRY_SECONDS, SharedPort, may_be_dialled
from bitdustfs.net.tls import TlsStream
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.session import Session
from bitdustfs.supplier.shares import VaultRates
from bitdustfs.units import KIB

log = logging.getLogger(__name__)

RATE, BURST = 1 / 60, 8.0  #: times a second that it dials for one vault; at once
RATE_ALL, BURST_ALL = 0.2, 32.0  #: the same for all vaults together
DEADLINE = 20.0  #: seconds for all of it


class Crossing(NamedTuple):
    """The circuit by which somebody came.

    `seen`: where its relay (HOST:PORT) sees both ends, this one by a connection from that port,
    which stays open inside; raises PeerError. `nursery`: what is dialled is served there.
    `network`: what he counts as one of (shares.py).
    """

    relay: str
    seen: Callable[[SharedPort], AbstractAsyncContextManager[wire.SeenAt]]
    nursery: trio.Nursery
    network: str


class Halfway:
    """Whom one supplier dials so, and how often."""

    def __init__(self, service: SupplierService) -> None:
        self._service = service
        in_all = RATE_ALL, BURST_ALL
        self._rates = VaultRates((RATE, BURST), in_all, service.share_of)

    async def answer(
        self, session: Session, stream: TlsStream, decoder: wire.FrameDecoder, crossing: Crossing
    ) -> trio.SocketStream | None:
        """A connection with whoever asks by `stream`, if one comes of it.

        Raises Malformed, ProtocolViolation, and what a broken connection raises.
        """
        refusal, port = self._refusal(session), SharedPort()
        if refusal is None:
            try:
                with trio.move_on_after(DEADLINE):
                    async with crossing.seen(port) as seen:
                        if not may_be_dialled(seen.caller, crossing.relay):
                            raise ProtocolViolation("it comes from where nobody is dialled")
                        return await _meet_halfway(stream, decoder, port, seen)
                return None
            except PeerError as error:
                log.info("nobody is dialled: %s", error)
                refusal = wire.Fault("unreachable", "where you come from cannot be dialled")
        await stream.send_all(wire.encode_frame(0, refusal))
        return None

    def _refusal(self, session: Session) -> wire.Fault | None:
        if session.role == "former" or not self._service.is_customer(session.vault):
            return wire.Fault("unauthorised", "only whoever keeps something here is dialled")
        if not self._rates.admits(session.vault):
            return wire.Fault("busy", "that was asked for too often")
        return None


async def _meet_halfway(
    stream: TlsStream, decoder: wire.FrameDecoder, port: SharedPort, seen: wire.SeenAt
) -> trio.SocketStream | None:
    """Dials as often as the caller does."""
    await stream.send_all(wire.encode_frame(0, seen))
    asked = trio.current_time()
    there_and_back = None
    for _ in range(TRIES):
        await _pinged(stream, decoder)
        if there_and_back is None:
            there_and_back = trio.current_time() - asked
        await stream.send_all(wire.encode_frame(0, wire.Done()))
        await trio.sleep(there_and_back / 2)  # so both dial at the same time
        with suppress(OSError), trio.move_on_after(TRY_SECONDS):
            return await port.connect(seen.caller)
    log.info("%s was dialled %d times in vain: it stays relayed", seen.caller, TRIES)
    return None


async def _pinged(stream: TlsStream, decoder: wire.FrameDecoder) -> None:
    while (frame := decoder.next_untrusted()) is None:
        if decoder.asked is not None:
            raise Malformed("a payload where a ping was due")
        data = await stream.receive_some(KIB)
        if not data:
            raise trio.BrokenResourceError("it left before it dialled")
        decoder.feed(data)
    if not isinstance(frame.message, wire.Ping):
        raise ProtocolViolation("something else where a ping was due")
