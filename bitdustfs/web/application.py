"""The page as an ASGI application: files, the API, and the gate before both (starlette)."""

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from importlib.resources import files

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bitdustfs.errors import BitdustError, UsageError
from bitdustfs.net.control import Failure
from bitdustfs.web.endpoints import BODY_MAX, BadBody, HttpRow, NotThere, TooLarge, body_untrusted
from bitdustfs.web.gate import HEADERS, Gate, Inquiry
from bitdustfs.web.openapi import description

log = logging.getLogger(__name__)

JSON = "application/json"
KINDS = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
PAGE, ACTION_PLACE = "page.html", b"{{action}}"


def application(gate: Gate, endpoints: list[HttpRow]) -> ASGIApp:
    """All that is served."""
    static = {path.name: path.read_bytes() for path in (files(__package__) / "static").iterdir()}
    page = static.pop(PAGE).replace(ACTION_PLACE, gate.action.encode())
    routes = [Route("/", _file(PAGE, page), methods=["GET"])]
    routes += [Route(f"/{name}", _file(name, raw), methods=["GET"]) for name, raw in static.items()]
    document = msgspec.json.encode(description(endpoints))
    routes.append(Route("/api/openapi.json", _file("openapi.json", document), methods=["GET"]))
    routes += [Route(row.path, _handler(row), methods=[row.method]) for row in endpoints]
    return Guarded(Starlette(routes=routes), gate)


def _file(name: str, raw: bytes) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return Response(raw, media_type=KINDS.get(name.rpartition(".")[2], JSON))

    return answer


def _handler(row: HttpRow) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            body = None if row.body is None else body_untrusted(await _body(request), row.body)
            said = await row.handle(request.path_params, body)
        except BitdustError as error:
            return _failure(_status_of(error), str(error))
        except OSError as error:  # whoever was asked ends just now
            return _failure(HTTPStatus.SERVICE_UNAVAILABLE, str(error))
        except Exception as error:
            log.exception("an answer for the page failed by our own fault")
            return _failure(HTTPStatus.INTERNAL_SERVER_ERROR, f"a bug of bitdustfs: {error!r}")
        return Response(msgspec.json.encode(said), row.status, media_type=JSON)

    return answer


async def _body(request: Request) -> bytes:
    """At most a little more than is allowed."""
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > BODY_MAX:
            break
    return raw


def _status_of(error: BitdustError) -> HTTPStatus:
    if isinstance(error, NotThere):
        return HTTPStatus.NOT_FOUND
    if isinstance(error, TooLarge):
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    if isinstance(error, BadBody):
        return HTTPStatus.BAD_REQUEST
    return HTTPStatus.CONFLICT if isinstance(error, UsageError) else HTTPStatus.SERVICE_UNAVAILABLE


def _failure(status: HTTPStatus, why: str) -> Response:
    said = why.encode(errors="replace").decode()  # paths need not be UTF-8; JSON is
    return Response(msgspec.json.encode(Failure(error=said)), status, media_type=JSON)


class Guarded:
    """An application behind its gate, with headers on every answer."""

    def __init__(self, inner: ASGIApp, gate: Gate) -> None:
        self._inner, self._gate = inner, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves HTTP; of lifespan what the server needs; WebSockets are refused."""
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        asked = asked_of(scope)
        cookie = "" if asked is None else self._gate.cookie(asked)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = {**HEADERS, **({"Set-Cookie": cookie} if cookie else {})}
                message["headers"] = [
                    *message.get("headers", []),
                    *((name.lower().encode(), value.encode()) for name, value in added.items()),
                ]
            await send(message)

        if asked is None:
            refused = _failure(HTTPStatus.BAD_REQUEST, "this request has no ends, or two hosts")
            await refused(scope, receive, answer)
        elif (refusal := self._gate.refuse(asked)) is not None:
            cookie = ""
            await _failure(*refusal)(scope, receive, answer)
        else:
            await self._inner(scope, receive, answer)


def asked_of(scope: Scope) -> Inquiry | None:
    """What is judged of a request. None where a header that is judged is there twice, or an end of
    the connection is not known.
    """
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        if key in headers:
            if key != "cookie":  # HTTP/2 may split it (RFC 9113, 8.2.3)
                return None
            headers[key] += f"; {value.decode('latin-1')}"
        else:
            headers[key] = value.decode("latin-1")
    client, server = scope.get("client"), scope.get("server")
    if client is None or server is None or server[1] is None:
        return None
    return Inquiry(
        scope["method"], scope["path"], scope["query_string"], headers, tuple(client), tuple(server)
    )
