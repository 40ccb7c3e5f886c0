"""Past two routers without a port opened at either: both sides dial at the same time.

Two nodes that speak through a relay each open one more connection to it, and the relay says where
each of them comes from. A router that leads a port out by the same outside port, whomever it dials
(RFC 4787, 4.1: endpoint-independent mapping), lets both dial each other from those ports: each
one's SYN opens the way for the other's, and TCP takes two that cross (RFC 9293, 3.5). Other routers
choose another port for each: there the relay goes on.

What is dialled so is met as any other address: TLS with the key that is wanted, by who called.
"""

import trio

from bitdustfs.errors import PeerError, ProtocolViolation, Refused, Unreachable
from bitdustfs.net import wire
from bitdustfs.net.addresses import dialable, is_private_host, relayed, split
from bitdustfs.net.handshake import Credentials, Met, begin, meet
from bitdustfs.net.incoming import next_message

TRIES = 2  #: times that both dial, at most
TRY_SECONDS = 2.5  #: of one of them: the kernel sends a SYN again after 1 s
ASK_DEADLINE = 8.0  #: seconds until the node and the relay have said where everybody is
#: seconds until it is tried again, doubled each time: where the node did not want to, where it was
#: in vain, and at most
REFUSED_AGAIN, VAIN_AGAIN, AGAIN_MAX = 10.0, 900.0, 14400.0


class SharedPort:
    """One port of this machine, from which several connections go out."""

    def __init__(self) -> None:
        self._own: tuple[str, int] | None = None

    async def connect(self, address: str) -> trio.SocketStream:
        """A TCP connection to HOST:PORT, with an IP literal. Raises OSError."""
        host, port = split(address)
        is_v6 = ":" in host
        made = trio.socket.socket(
            trio.socket.AF_INET6 if is_v6 else trio.socket.AF_INET, trio.socket.SOCK_STREAM
        )
        try:
            for option in (trio.socket.SO_REUSEADDR, trio.socket.SO_REUSEPORT):
                made.setsockopt(trio.socket.SOL_SOCKET, option, 1)
            await made.bind(self._own or ("::" if is_v6 else "0.0.0.0", 0))
            await made.connect((host, port))
            self._own = made.getsockname()[:2]
            return trio.SocketStream(made)
        except BaseException:
            made.close()
            raise


def may_be_dialled(address: str, relay: str) -> bool:
    """Whether one dials where a node is said to come from: as a stranger's address, private only
    where the relay that says so is private itself.
    """
    private = is_private_host(split(relay)[0])
    return relayed(address) is None and bool(dialable([address], allow_private=private))


async def punch(way: str, node: bytes, own: Credentials, bulk: bool) -> Met:
    """A connection with the node, to which `way` leads through a relay, that passes by the relay.

    Raises Refused where the node does not want to, other PeerErrors where it is in vain: also where
    the relay or the node is of a version that does not know this.
    """
    port = SharedPort()
    with trio.move_on_after(ASK_DEADLINE) as asking:
        circuit = await meet(way, node, own.context, bulk, own.line, port.connect, wire.Facing)
        decoder, seen = await begin(circuit, own, wire.Punch)
    if asking.cancelled_caught:
        raise Unreachable("it was not said in time where it comes from")
    try:
        if not isinstance(seen, wire.SeenAt) or not may_be_dialled(seen.node, way):
            raise ProtocolViolation("it comes from nowhere that may be dialled")
        failure: PeerError = Unreachable(f"nobody came from {seen.node}")
        for _ in range(TRIES):
            await circuit.stream.send_all(wire.encode_frame(0, wire.Ping()))
            with trio.move_on_after(ASK_DEADLINE):
                if not isinstance(await next_message(circuit.stream, decoder), wire.Done):
                    raise ProtocolViolation("it does not dial")
                with trio.move_on_after(TRY_SECONDS):
                    try:
                        return await meet(
                            seen.node, node, own.context, bulk, own.line, port.connect
                        )
                    except Unreachable as error:
                        failure = error
        raise failure
    except trio.BrokenResourceError as error:
        raise Unreachable(str(error) or "the circuit broke") from error
    finally:
        await circuit.aclose()


class Tries:
    """When it is tried again with one node: later and later as long as it is in vain."""

    def __init__(self) -> None:
        self.one_at_a_time = trio.Lock()
        self._pause, self._not_before = 0.0, 0.0

    def wait(self) -> float:
        """Seconds until it may be tried."""
        return max(0.0, self._not_before - trio.current_time())

    def failed(self, error: PeerError) -> None:
        least = REFUSED_AGAIN if isinstance(error, Refused) else VAIN_AGAIN
        self._pause = min(AGAIN_MAX, max(least, 2 * self._pause))
        self._not_before = trio.current_time() + self._pause

    def succeeded(self) -> None:
        self._pause = self._not_before = 0.0
