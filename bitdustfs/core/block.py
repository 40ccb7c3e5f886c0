"""Blocks: write-once containers of sealed extents, the last of them a sealed directory.

    block     = extent 0 | extent 1 | ... | directory
    block id  = birth seq u64 | 8 random bytes, never used again

The directory repeats what the tree says, so that a tree can be rebuilt from blocks alone
(`bitdust vault recover`): for each extent where it is and what it holds, for each inode a hint of
its path and attributes.
"""

from os import urandom
from typing import Annotated

import msgspec
from msgspec import structs

from bitdustfs.core.codec import U8, U32, U63, Decoder, Hash, encode
from bitdustfs.core.records import Record
from bitdustfs.units import BLOCK_EXTENTS_MAX, META_EXTENT_MAX


def new_block_id(birth_seq: int) -> bytes:
    """A fresh block id; `birth_seq` is the seq of the root being worked towards."""
    return birth_seq.to_bytes(8, "big") + urandom(8)


class ExtentEntry(Record, frozen=True):
    """One extent of a block, as its directory tells it. Times are Unix nanoseconds."""

    ordinal: U32
    kind: U8
    offset: U32
    length: U32
    hash: Hash
    inode: U63
    file_offset: U63
    plain_length: U32
    written: int
    seq: U63


class InodeHint(Record, frozen=True):
    """What is known of an inode with extents in this block, when the block was closed.

    `path` is from the root, empty where it is not known.
    """

    inode: U63
    path: bytes
    mode: U32
    size: U63
    mtime: int

    def after(self, before: "InodeHint") -> "InodeHint":
        """This, newer one with the path of the one `before` where it has none."""
        return self if self.path else structs.replace(self, path=before.path)


class Directory(Record, frozen=True):
    """The last extent of a block."""

    format: U8
    extents: Annotated[tuple[ExtentEntry, ...], msgspec.Meta(max_length=BLOCK_EXTENTS_MAX)]
    inodes: tuple[InodeHint, ...] = ()


_directories = Decoder(Directory, "block directory", META_EXTENT_MAX)


#: bytes of a directory's head, of an entry, and of a hint without its path, at most. All entries
#: that a block may have, and a hint for each, fit a directory: 64 + 8,192 * (90 + 36) < 1 MiB
HEAD_MAX, ENTRY_MAX, HINT_MAX = 64, 90, 36


def directory_size(extents: int, inodes: int, paths: int) -> int:
    """Bytes of a directory, at most; `paths`: bytes of all hints' paths together."""
    return HEAD_MAX + extents * ENTRY_MAX + inodes * HINT_MAX + paths


def encode_directory(extents: list[ExtentEntry], inodes: list[InodeHint]) -> bytes:
    """The plaintext of a directory extent. Where not all paths fit, the longest are left out."""
    room = META_EXTENT_MAX - directory_size(len(extents), len(inodes), 0)
    hints = []
    for hint in sorted(inodes, key=lambda hint: len(hint.path)):
        room -= len(hint.path)
        hints.append(hint if room >= 0 else structs.replace(hint, path=b""))
    return encode(Directory(1, tuple(extents), tuple(hints)))


def decode_directory_untrusted(plain: bytes) -> Directory:
    """The directory in an opened extent, or Malformed."""
    return _directories.decode_untrusted(plain)
