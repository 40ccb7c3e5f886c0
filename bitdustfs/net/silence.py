"""A connection whose other end fell silent: how the kernel notices, and what it then says."""

import errno
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress

import trio

from bitdustfs.errors import DeadlineExceeded, PeerError, ProtocolViolation

#: seconds that the kernel waits for acknowledgements: of questions, and of bulk, which a busy
#: supplier may leave in the buffers for a while
UNACKNOWLEDGED, UNACKNOWLEDGED_BULK = 10, 30
IDLE, PROBES, PROBES_EVERY = 15, 3, 5  #: keep-alive: after so many idle seconds, how many, seconds
_ACKED, _ACKED_AT = struct.Struct("=Q"), 120  #: tcpi_bytes_acked in struct tcp_info (linux/tcp.h)
LOST = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN)


def notice_silence(transport: trio.SocketStream, bulk: bool) -> None:
    """Has the kernel end a connection whose other end is gone without a word."""
    unacknowledged = UNACKNOWLEDGED_BULK if bulk else UNACKNOWLEDGED
    transport.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_KEEPALIVE, 1)
    for option, value in (
        (trio.socket.TCP_KEEPIDLE, IDLE),
        (trio.socket.TCP_KEEPINTVL, PROBES_EVERY),
        (trio.socket.TCP_KEEPCNT, PROBES),
        (trio.socket.TCP_USER_TIMEOUT, 1000 * unacknowledged),
    ):
        transport.setsockopt(trio.socket.IPPROTO_TCP, option, value)


def acknowledged(transport: trio.SocketStream) -> int:
    """Bytes that the other end's kernel has acknowledged since the beginning (tcp(7), TCP_INFO).

    What lies in this kernel's buffer is not among them. Raises OSError where it is closed.
    """
    told = transport.getsockopt(
        trio.socket.IPPROTO_TCP, trio.socket.TCP_INFO, _ACKED_AT + _ACKED.size
    )
    assert isinstance(told, bytes)
    return int(_ACKED.unpack_from(told, _ACKED_AT)[0]) if len(told) > _ACKED_AT else 0


def stranded(transport: trio.SocketStream) -> bool:
    """Whether a connection goes out from an address that this machine has not got any more, and
    another one leads there: it woke up in another network. Nothing comes back to the old one, and
    the kernel would wait for it. Without any network the old one may still come back.
    """
    with suppress(OSError):  # it is closed, and says so itself; or no way leads there
        (host, _, *scope), there = transport.socket.getsockname(), transport.socket.getpeername()
        with socket.socket(transport.socket.family, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind((host, 0, *scope))
                return False
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    return False
            probe.connect(there)  # sends nothing
            return True
    return False


def ending(causes: Sequence[BaseException]) -> PeerError:
    """What callers are told of how a connection ended: lost on the way, or ended by the peer."""
    for cause in causes:
        system = cause.__cause__
        if isinstance(system, OSError) and _is_lost(system):
            return DeadlineExceeded(f"the connection was lost: {system.strerror}")
    said = causes[0]
    return ProtocolViolation(f"the connection broke: {said or type(said).__name__}")


def _is_lost(error: OSError) -> bool:
    """Whether the other end, or the way to it, is gone: it has closed nothing."""
    return error.errno in LOST
