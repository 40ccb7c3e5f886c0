"""The published journal: changed items since the tree was last rewritten, as plaintexts of extents.

extent plaintext = msgpack array of [key, value or nil], sorted by key; later extents win
"""

from collections.abc import Mapping

from bitdustfs.core.codec import Decoder, encode
from bitdustfs.units import META_EXTENT_MAX

PIECE_MAX = META_EXTENT_MAX * 3 // 4  #: bytes of items in one journal extent

JournalChange = tuple[bytes, bytes | None]
_changes = Decoder(tuple[JournalChange, ...], "published journal", META_EXTENT_MAX)


def encode_journal(changes: Mapping[bytes, bytes | None]) -> list[bytes]:
    """The plaintexts of journal extents."""
    pieces: list[bytes] = []
    part: list[JournalChange] = []
    size = 0
    for key in sorted(changes):
        value = changes[key]
        part.append((key, value))
        size += len(key) + len(value or b"") + 12
        if size >= PIECE_MAX:
            pieces.append(encode(tuple(part)))
            part, size = [], 0
    if part:
        pieces.append(encode(tuple(part)))
    return pieces


def decode_journal_untrusted(plain: bytes) -> tuple[JournalChange, ...]:
    """The changes in an opened journal extent, or Malformed."""
    return _changes.decode_untrusted(plain)
