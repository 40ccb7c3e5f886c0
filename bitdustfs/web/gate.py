"""Who may ask: before anything of a request is looked at, it has to pass here.

1. The connection's other end is a program of this user (callers.py).
2. `Host` is the address that was printed: a name that resolves to here is refused (DNS rebinding).
3. `Origin` is this page's own, and what changes something has one. A browser that says
   (`Sec-Fetch-Site`) that another site asks is believed.
4. The cookie, which only the printed address with its token gives. It is HttpOnly and
   SameSite=Strict.
5. What changes something carries besides a word that only the page itself has (X-Bitdust-Action).

Every answer has a content security policy under which a browser runs no script and takes no style
but files from here, and sends nothing elsewhere.
"""

import secrets
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

from bitdustfs.web.callers import End, is_own

POLICY = "; ".join((
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self'",
    "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
))  # fmt: skip
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
HTTP_PORT = 80  #: which a browser does not write
ACTION = "x-bitdust-action"  #: the header of what changes something
SAFE = ("GET", "HEAD")  #: methods that change nothing
TOKEN = "token"  #: the word of the printed address
ASK_AGAIN = "open the address that bitdust dashboard printed: it has the token"


class Refusal(NamedTuple):
    """Why a request gets no answer."""

    status: HTTPStatus
    why: str


class Inquiry(NamedTuple):
    """Of a request what is judged. Names of headers are in small letters."""

    method: str
    path: str
    query: bytes
    headers: Mapping[str, str]
    client: End
    server: End


class Gate:
    """Judges requests for one page, which is at `host`, an address literal with its port.

    `own`: whether a connection's other end belongs to this user.
    """

    def __init__(self, host: str, own: Callable[[End, End], bool] = is_own) -> None:
        self._host, self._own = host, own
        self._token, self._session = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        self._cookie = f"bitdust-{port_of(host)}"
        self.action = secrets.token_urlsafe(32)  #: what the page's POSTs carry
        self.origin = f"http://{host}"
        self.address = f"{self.origin}/?{TOKEN}={self._token}"  #: what the user opens

    def refuse(self, asked: Inquiry) -> Refusal | None:
        """Why not; None where it may pass."""
        if not self._own(asked.client, asked.server):
            return _forbidden("this page is for the user who started it")
        if asked.headers.get("host") != self._host:
            return _forbidden("ask by the address that was printed, not by a name")
        origin = asked.headers.get("origin")
        if origin != self.origin and not (origin is None and asked.method in SAFE):
            return _forbidden("pages of elsewhere get nothing here")
        elsewhere = asked.headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
        if elsewhere and asked.path != "/":  # where a link, or a file, may lead
            return _forbidden("pages of elsewhere get nothing here")
        if not self._is_known(asked):
            return Refusal(HTTPStatus.UNAUTHORIZED, ASK_AGAIN)
        if asked.method not in SAFE and not _same(asked.headers.get(ACTION), self.action):
            return _forbidden("load this page again: what it may do has another word now")
        return None

    def cookie(self, asked: Inquiry) -> str:
        """The header Set-Cookie of an answer; "" where the browser has it, or gets none."""
        if not self._has_token(asked):
            return ""
        return f"{self._cookie}={self._session}; Path=/; HttpOnly; SameSite=Strict"

    def _is_known(self, asked: Inquiry) -> bool:
        # by hand: programs at other ports of this host set cookies too, of any form
        pairs = (pair.strip().partition("=") for pair in asked.headers.get("cookie", "").split(";"))
        known = [_same(value, self._session) for name, _, value in pairs if name == self._cookie]
        return any(known) or self._has_token(asked)

    def _has_token(self, asked: Inquiry) -> bool:
        """The token opens the page, and nothing else."""
        if asked.path != "/" or asked.method not in SAFE:
            return False
        return _same(asked.query.decode("latin-1"), f"{TOKEN}={self._token}")


def port_of(host: str) -> int:
    """The port of an address literal; that of HTTP where none is written."""
    return urlsplit(f"http://{host}").port or HTTP_PORT


def _forbidden(why: str) -> Refusal:
    return Refusal(HTTPStatus.FORBIDDEN, why)


def _same(said: str | None, wanted: str) -> bool:
    """In a time that does not tell how much of it is right."""
    return secrets.compare_digest((said or "").encode(), wanted.encode())
