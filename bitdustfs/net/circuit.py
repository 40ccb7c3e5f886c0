"""A way through a relay, as a byte stream: TLS to the relay, and what two nodes say inside it."""

import trio

from bitdustfs.errors import ProtocolViolation
from bitdustfs.net.tls import TlsStream
from bitdustfs.units import KIB

PIECE = 64 * KIB  #: bytes received at once, at most


class Circuit(trio.abc.Stream):
    """What is sent comes out at the other node. `carrier`: the connection with the relay."""

    def __init__(self, carrier: TlsStream) -> None:
        self._carrier = carrier

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._carrier.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Nothing is known of the other side."""
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            return await self._carrier.receive_some(min(max_bytes or PIECE, PIECE))
        except ProtocolViolation as error:  # of the relay: the node inside is not to blame
            raise trio.BrokenResourceError(str(error)) from error

    async def aclose(self) -> None:
        await self._carrier.aclose()
