"""An HTTP server of figures, for Prometheus: loopback only, one path, nothing can be changed.

Whoever asks by a name is refused: a page of elsewhere must not read it through a browser whose
resolver says that its name is here (DNS rebinding).
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from socket import AF_INET, AF_INET6
from typing import ClassVar

from bitdustfs.errors import BitdustError, LocalError, UsageError
from bitdustfs.net.addresses import split

log = logging.getLogger(__name__)

PATH, KIND = "/metrics", "text/plain; version=0.0.4; charset=utf-8"
SILENT = 30.0  #: seconds that a client may take for its request


def check_loopback(listen: str) -> tuple[str, int]:
    """Host and port of an address that this machine alone reaches. Raises UsageError."""
    host, port, here = "", 0, False
    with suppress(ValueError):  # no HOST:PORT, or a name
        host, port = split(listen)
        here = ip_address(host).is_loopback
    if not here or not 0 <= port <= 65535:
        raise UsageError(f"{listen} is no loopback address: write for example 127.0.0.1:9478")
    return host, port


class Exporter(ThreadingHTTPServer):
    """Answers with what `text` makes, until it is shut down. Raises LocalError."""

    daemon_threads = True

    def __init__(self, listen: str, text: Callable[[], bytes]) -> None:
        host, port = check_loopback(listen)
        self.text = text

        class Bound(Answering):
            exporter = self

        self.address_family = AF_INET6 if ":" in host else AF_INET
        try:
            super().__init__((host, port), Bound)
        except OSError as error:
            raise LocalError(f"cannot listen at {listen}: {error.strerror}") from None
        shown = f"[{host}]" if ":" in host else host
        self.named = f"{shown}:{self.server_address[1]}"  #: where it is asked


class Answering(BaseHTTPRequestHandler):
    """One request."""

    exporter: ClassVar[Exporter]
    timeout = SILENT
    server_version, sys_version = "bitdustfs", ""

    def do_GET(self) -> None:
        """The figures, or why not."""
        if self.headers.get("Host") != self.exporter.named:
            self._answer(HTTPStatus.FORBIDDEN, b"ask by the address, not by a name\n")
        elif self.path != PATH:
            self._answer(HTTPStatus.NOT_FOUND, f"figures are at {PATH}\n".encode())
        else:
            try:
                self._answer(HTTPStatus.OK, self.exporter.text())
            except (BitdustError, OSError) as error:
                self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, f"{error}\n".encode())

    def _answer(self, status: HTTPStatus, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", KIND)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Only for who looks for a fault."""
        log.debug(format, *args)
