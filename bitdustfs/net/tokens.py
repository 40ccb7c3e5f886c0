"""Tokens by which suppliers invite: as text that people pass on, and as the owner gives them.

Who signed one can be read off it; whether it is genuine only its supplier has to know.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable

from bitdustfs.core.codec import U63, Public, Uid
from bitdustfs.core.records import Opener, Record
from bitdustfs.errors import Malformed, UsageError

PREFIX = "bitdust-invitation-"

Given = dict[bytes, bytes]  #: supplier's key -> the token that it signed


class Invitation(Record, frozen=True):
    """Signed by a supplier: whoever shows it first gets a contract, over so many bytes at most.

    `until`: Unix seconds until which it may be shown.
    """

    supplier: Public
    nonce: Uid
    space: U63
    until: int


invitation_records = Opener(Invitation, "invitation", 1024)


def write_token(raw: bytes) -> str:
    """A token as text."""
    return PREFIX + urlsafe_b64encode(raw).decode().rstrip("=")


def read_tokens(texts: Iterable[str]) -> Given:
    """The tokens that somebody was given. Raises UsageError."""
    found: Given = {}
    for text in texts:
        body = text.strip().removeprefix(PREFIX)
        try:
            raw = urlsafe_b64decode(body + "=" * (-len(body) % 4))
            found[invitation_records.peek_untrusted(raw).supplier] = raw
        except (ValueError, Malformed):
            raise UsageError(f"{text[:40]!r} is no token that a supplier printed") from None
    return found
