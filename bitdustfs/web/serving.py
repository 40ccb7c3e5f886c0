"""The process behind `bitdust dashboard`: a loopback socket and hypercorn, on trio.

It serves nothing but the page. Mounts and suppliers do not know of it.
"""

import logging
import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from hypercorn.typing import Framework

from bitdustfs.errors import LocalError
from bitdustfs.system.exporter import check_loopback
from bitdustfs.web.application import application
from bitdustfs.web.endpoints import Endpoints
from bitdustfs.web.errands import Errands
from bitdustfs.web.gate import HTTP_PORT, Gate
from bitdustfs.web.looking import Looking

QUIET = 30  #: seconds after which a connection on which nothing is asked is closed


def listen_at(address: str) -> socket.socket:
    """A socket bound to a loopback address. Raises UsageError, and LocalError."""
    host, port = check_loopback(address)
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise LocalError(f"cannot listen at {address}: {error.strerror}") from None
    return made


def host_of(listening: socket.socket) -> str:
    """Its address with its port, as a browser writes it into Host: without HTTP's own."""
    host, port = listening.getsockname()[:2]
    literal = f"[{host}]" if ":" in host else host
    return literal if port == HTTP_PORT else f"{literal}:{port}"


async def serve_page(
    listening: socket.socket, only: Path | None, ready: Callable[[str], None]
) -> None:
    """Serves until SIGTERM or SIGINT. `ready` hears of the address to open, with its token.

    `only`: the mount that is meant; None: all of this home. `listening` is closed at the end.
    """
    gate = Gate(host_of(listening))

    async with trio.open_nursery() as nursery:
        looking = Looking(nursery, only)
        errands = Errands(nursery, looking.note)
        app = cast(Framework, application(gate, Endpoints(looking, errands).table()))
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            await nursery.start(partial(serve, app, configured(listening)))
            ready(gate.address)
            async for _ in signals:
                break
        nursery.cancel_scope.cancel()


def configured(listening: socket.socket) -> Config:
    """Hypercorn for one socket, which it closes at the end. It logs as all others do."""
    log = logging.getLogger("hypercorn")
    log.setLevel(logging.WARNING)
    return Config.from_mapping(
        bind=[f"fd://{listening.detach()}"],
        errorlog=log,
        include_server_header=False,
        keep_alive_timeout=QUIET,
        read_timeout=QUIET,
    )
