"""The line by which friends make a deal: one prints it, the other gives it to `bitdust join`.

    line = "bitdust-join-1-" and the URL-safe base64, without padding, of body | check 4
    body = [token, addresses, nonce of the token that it answers (or nothing)]
    check = the first bytes of H("join line", body)

The check tells a line that was cut or mistyped from a forged one. The token says whose the line is;
only its node can have signed it. The addresses are hints, so they need no signature: whoever
answers there has to prove the node's key. An address that a program does not understand is kept,
and not dialled: they need not be HOST:PORT.

Docs: docs/format.md has a worked example.
"""

from base64 import b64decode, urlsafe_b64encode
from binascii import Error as NoBase64
from typing import Annotated, NamedTuple

import msgspec

from bitdustfs.core.codec import Decoder, encode
from bitdustfs.core.hashing import tagged
from bitdustfs.core.records import Record
from bitdustfs.errors import Malformed
from bitdustfs.net.tokens import PREFIX as TOKEN_PREFIX
from bitdustfs.net.tokens import Invitation, invitation_records
from bitdustfs.net.wire import JOIN_LINE_MAX as LINE_MAX

FAMILY, VERSION = "bitdust-join-", "1-"
CHECK_SIZE = 4
ADDRESSES_MAX = 8

#: without blanks, so that several stand in one line of text
Way = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]{1,200}\Z")]


class _Offer(Record, frozen=True):
    """What the line says; fields to come stand behind these."""

    token: Annotated[bytes, msgspec.Meta(max_length=1024)]
    addresses: Annotated[tuple[Way, ...], msgspec.Meta(max_length=ADDRESSES_MAX)]
    answers: Annotated[bytes, msgspec.Meta(max_length=16)] = b""


_bodies = Decoder(_Offer, "join line", LINE_MAX)


class JoinLine(NamedTuple):
    """A line that was read. `invitation`: what its token says, signed by the node itself."""

    token: bytes
    invitation: Invitation
    addresses: tuple[str, ...]
    answers: bytes  #: nonce of the other one's token, which this answers; empty for the first line


def write_join_line(token: bytes, addresses: tuple[str, ...], answers: bytes = b"") -> str:
    """A line as it is passed on."""
    body = encode(_Offer(token, addresses[:ADDRESSES_MAX], answers))
    raw = body + tagged("join line", body)[:CHECK_SIZE]
    return FAMILY + VERSION + urlsafe_b64encode(raw).decode().rstrip("=")


def read_join_line_untrusted(text: str) -> JoinLine:
    """What a line says; white space that was put in on the way is left out. Raises Malformed."""
    if len(text) > 2 * LINE_MAX:
        raise Malformed("it is much longer than an invitation")
    line = "".join(text.split())
    if line.startswith(TOKEN_PREFIX):
        raise Malformed("it is a token for one vault: give it to vault create --invitation")
    if not line.startswith(FAMILY):
        raise Malformed(f"it is no invitation: one begins with {FAMILY}")
    if not line.startswith(FAMILY + VERSION):
        raise Malformed("it is of a newer version of bitdustfs: upgrade this one first")
    if not line.isascii():
        raise Malformed("it was cut or mistyped: copy the whole line")
    raw = _decoded(line.removeprefix(FAMILY + VERSION))
    body, check = raw[:-CHECK_SIZE], raw[-CHECK_SIZE:]
    if tagged("join line", body)[:CHECK_SIZE] != check:
        raise Malformed("it was cut or mistyped: copy the whole line")
    said = _bodies.decode_untrusted(body)
    if len(said.answers) not in (0, 16):
        raise Malformed("it answers nothing that is an invitation")
    invitation = invitation_records.open_untrusted(
        said.token, invitation_records.peek_untrusted(said.token).supplier
    )
    return JoinLine(said.token, invitation, said.addresses, said.answers)


def _decoded(text: str) -> bytes:
    if len(text) > LINE_MAX:
        raise Malformed("it is longer than an invitation")
    try:
        return b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
    except (NoBase64, ValueError):
        raise Malformed("it was cut or mistyped: copy the whole line") from None
