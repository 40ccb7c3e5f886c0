"""What a client receives: from TLS into frames."""

from bitdustfs.errors import Malformed, ProtocolViolation, Unreachable
from bitdustfs.net import wire
from bitdustfs.net.tls import TlsStream
from bitdustfs.units import KIB

RECEIVE, RECEIVE_BULK = 64 * KIB, 256 * KIB  #: bytes that the transport is asked for at once


async def take(stream: TlsStream, decoder: wire.FrameDecoder) -> None:
    """Takes what comes next: of a payload, into the buffer that it stays in."""
    vacant = decoder.vacant[:RECEIVE_BULK]
    if vacant:
        length = await stream.receive_into(vacant, RECEIVE)
        decoder.fill(length)
    else:
        data = await stream.receive_some(RECEIVE)
        length = len(data)
        decoder.feed(data)
    if not length:
        raise Unreachable("the supplier closed the connection")


async def next_message(stream: TlsStream, decoder: wire.FrameDecoder) -> wire.AnyMessage:
    """The next message during the opening."""
    try:
        while (frame := decoder.next_untrusted()) is None:
            await take(stream, decoder)
    except Malformed as error:
        raise ProtocolViolation(str(error)) from error
    return frame.message
