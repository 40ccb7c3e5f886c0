"""From an address to a session with whoever holds a key: TCP, TLS, the vault's signature."""

import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import trio
from nacl.signing import SigningKey

from bitdustfs.core.keys import sign
from bitdustfs.errors import PeerError, ProtocolViolation, Refused, Unreachable, WrongPeer
from bitdustfs.net import wire
from bitdustfs.net.addresses import Relayed, relayed, split
from bitdustfs.net.circuit import Circuit
from bitdustfs.net.dialing import Race
from bitdustfs.net.hostnames import joined_address, resolve
from bitdustfs.net.incoming import next_message
from bitdustfs.net.line import OwnLine, PacedStream
from bitdustfs.net.silence import notice_silence
from bitdustfs.net.tls import TlsStream
from bitdustfs.plain import told

log = logging.getLogger(__name__)

CONNECT_DEADLINE = 5.0  #: seconds for TCP and TLS at one address


@dataclass(frozen=True)
class Credentials:
    """Who we are to suppliers: `key` signs sessions of `vault` in `role`; TLS shows a fresh key.

    `invitations`: suppliers' keys, and the tokens by which they invited us. `line`: what
    their connections take their bytes from.
    """

    vault: bytes
    role: str
    key: SigningKey
    tls_public: bytes
    context: ssl.SSLContext
    invitations: Mapping[bytes, bytes] = field(default_factory=dict)
    line: OwnLine = field(default_factory=OwnLine)


class Met(NamedTuple):
    """Who answers at an address: the key that its TLS proved.

    `literal`: the address without a name, as the kernel says. `moved`, `stranded`: see PacedStream.
    """

    stream: TlsStream
    key: bytes
    literal: str
    moved: Callable[[], int]
    stranded: Callable[[], bool]

    async def aclose(self) -> None:
        """Closes the connection, whatever is being cancelled."""
        with trio.CancelScope(shield=True):
            await self.stream.aclose()


#: a TCP connection to "host:port"; raises OSError, Unreachable
Connector = Callable[[str], Awaitable[trio.SocketStream]]


async def _connect(address: str) -> trio.SocketStream:
    """A TCP connection; of a name's addresses, to the first that answers."""
    found = await resolve(address)
    if found == (address,):
        return await trio.open_tcp_stream(*split(address))

    async def attempt(literal: str) -> trio.SocketStream:
        try:
            return await trio.open_tcp_stream(*split(literal))
        except OSError as error:
            raise Unreachable(str(error)) from error

    _, transport = await Race(attempt, trio.aclose_forcefully).run(found)
    return transport


async def meet(
    address: str,
    node: bytes,
    context: ssl.SSLContext,
    bulk: bool,
    line: OwnLine,
    connect: Connector = _connect,
    calling: type[wire.Through | wire.Facing] = wire.Through,
) -> Met:
    """Who answers at "host:port", or through a relay ("relay:KEY@HOST:PORT"): the node with that
    key; with an empty one, anybody, or, through a relay, whom the address names.

    Raises WrongPeer where another one answers, ProtocolViolation where it does not speak our TLS,
    else Unreachable. `bulk`: what is sent may take its time, and others go first on the
    `line`. `calling`: how a relay is asked for the node.
    """
    try:
        with trio.fail_after(CONNECT_DEADLINE):
            through = relayed(address)
            transport = await connect(through.relay if through else address)
            paced = PacedStream(transport, line, bulk)
            stream = TlsStream(paced, context, server_side=False)
            try:
                notice_silence(transport, bulk)
                if through:
                    await _ask_relay(stream, calling(wire.VERSION, through.node))
                    stream = TlsStream(Circuit(stream), context, server_side=False)
                key = await stream.handshake()
                named = through.node if through else b""
                if any(wanted and key != wanted for wanted in (node, named)):
                    raise WrongPeer("another node answers at this address")
                host, port, *_ = transport.socket.getpeername()
                literal = joined_address(host, port)
                if through:
                    literal = str(Relayed(through.node, literal))
                return Met(stream, key, literal, paced.moved, paced.stranded)
            except BaseException:
                with trio.CancelScope(shield=True):
                    await stream.aclose()
                raise
    except (
        OSError,
        trio.TooSlowError,
        trio.BrokenResourceError,
        ValueError,
        OverflowError,
    ) as error:
        raise Unreachable(str(error) or type(error).__name__) from error
    except PeerError:
        raise
    except Exception as error:  # a bug of ours that what it sent brought out
        log.exception("what is at %s could not be met", address)
        raise ProtocolViolation(
            f"what it sent is not understood ({type(error).__name__})"
        ) from error


async def greet(stream: TlsStream, opening: wire.FirstWord) -> wire.FrameDecoder:
    """Says to a relay what is wanted, behind its challenge; what decodes its answers."""
    decoder = wire.FrameDecoder(from_server=True)
    challenge = await next_message(stream, decoder)
    if not isinstance(challenge, wire.Challenge) or challenge.version != wire.VERSION:
        raise ProtocolViolation("the relay does not begin as relays of this version do")
    await stream.send_all(wire.encode_frame(0, opening))
    return decoder


async def _ask_relay(stream: TlsStream, call: wire.Through | wire.Facing) -> None:
    """A circuit to a node through whoever answers here. Raises Unreachable, ProtocolViolation.

    The relay's key does not matter: the node proves its own inside.
    """
    await stream.handshake()
    decoder = await greet(stream, call)
    reply = await next_message(stream, decoder)
    if isinstance(reply, wire.Fault):  # what a relay says is no word of the node
        raise Unreachable(f"the relay says: {told(reply.detail)}")
    if not isinstance(reply, wire.Done):
        raise ProtocolViolation("the relay answers with something else")


async def open_session(met: Met, own: Credentials) -> wire.FrameDecoder:
    """The session of `own`; what decodes its frames. On an error the connection is closed.

    Raises Refused when the supplier says no, Unreachable or ProtocolViolation. The deadline is the
    caller's.
    """
    decoder, _ = await begin(met, own, wire.Open)
    return decoder


async def begin(
    met: Met, own: Credentials, opening: type[wire.Open | wire.Punch]
) -> tuple[wire.FrameDecoder, wire.AnyMessage]:
    """What is said first, with the proof of who `own` is; what decodes the answers, and the first
    of them. As `open_session` else.
    """
    decoder = wire.FrameDecoder(from_server=True)
    try:
        challenge = await next_message(met.stream, decoder)
        if not isinstance(challenge, wire.Challenge) or challenge.version != wire.VERSION:
            raise ProtocolViolation("the supplier does not begin as suppliers of this version do")
        body = wire.session_body(own.role, own.vault, met.key, own.tls_public, challenge.nonce)
        said = opening(wire.VERSION, own.role, own.vault, sign(own.key, "session", body))
        await met.stream.send_all(wire.encode_frame(0, said))
        reply = await next_message(met.stream, decoder)
        if isinstance(reply, wire.Fault):
            raise refused(reply)
    except trio.BrokenResourceError as error:
        await met.aclose()
        raise Unreachable(str(error) or "the connection broke") from error
    except BaseException:
        await met.aclose()
        raise
    return decoder, reply


def refused(fault: wire.Fault) -> Refused:
    """The error that a Fault is."""
    return Refused(told(fault.code), told(fault.detail), fault.proof)
