"""As much of HTTP/1.1 (RFC 9112) as a router's UPnP needs: one question, one answer. No I/O."""

import re
from typing import NamedTuple

from bitdustfs.errors import Malformed

ANSWER_MAX = (
    64 * 1024
)  #: bytes of one answer, head included; descriptions of routers have 2 to 16 KiB
HEAD_MAX = 8 * 1024  #: bytes of its head
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?")
_LENGTH = re.compile(rb"[0-9]{1,6}")
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,6})[ \t]*(?:;[^\r\n]*)?\r\n")


class HttpAnswer(NamedTuple):
    """`headers`: by name in small letters, the first of each name."""

    status: int
    headers: dict[str, str]
    body: bytes


def read_answer_untrusted(data: bytes, ended: bool) -> HttpAnswer | None:
    """What came so far: the answer, or None where more has to come. `ended`: no more comes.

    Raises Malformed.
    """
    if len(data) > ANSWER_MAX:
        raise Malformed("an answer of the router is too long")
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end or len(head) > HEAD_MAX:
        if ended or len(head) > HEAD_MAX:
            raise Malformed("an answer of the router has no head of HTTP")
        return None
    status, headers = _read_head(head)
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = _read_chunks(rest)
    elif "content-length" in headers:
        body = _read_length(rest, headers["content-length"].encode())
    else:
        body = rest if ended else None
    if body is None and ended:
        raise Malformed("an answer of the router was cut off")
    return None if body is None else HttpAnswer(status, headers, body)


def _read_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.split(b"\r\n")
    status = _STATUS.fullmatch(first)
    if status is None:
        raise Malformed("the router does not answer by HTTP")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers.setdefault(name.decode("latin-1").lower(), value.decode("latin-1").strip())
    return int(status[1]), headers


def _read_length(rest: bytes, said: bytes) -> bytes | None:
    if not _LENGTH.fullmatch(said) or int(said) > ANSWER_MAX:
        raise Malformed("an answer of the router says no length that could be")
    return rest[: int(said)] if len(rest) >= int(said) else None


def _read_chunks(rest: bytes) -> bytes | None:
    """Section 7.1; trailers are not read."""
    body, at = b"", 0
    while at < len(rest):
        head = _CHUNK.match(rest, at)
        if head is None:
            if b"\r\n" in rest[at:]:
                raise Malformed("an answer of the router is chunked wrongly")
            return None
        length = int(head[1], 16)
        if not length:
            return body
        body += rest[head.end() : head.end() + length]
        at = head.end() + length + 2
    return None
