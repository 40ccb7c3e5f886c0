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
    """What is known of an inode with extents in this block, when the block was closed."""

    inode: U63
    path: bytes
    mode: U32
    size: U63
    mtime: int


class Directory(Record, frozen=True):
    """The last extent of a block."""

    format: U8
    extents: Annotated[tuple[ExtentEntry, ...], msgspec.Meta(max_length=BLOCK_EXTENTS_MAX)]
    inodes: tuple[InodeHint, ...] = ()


_directories = Decoder(Directory, "block directory", META_EXTENT_MAX)


def encode_directory(extents: list[ExtentEntry], inodes: list[InodeHint]) -> bytes:
    """The plaintext of a directory extent; hints are dropped when they would not fit."""
    plain = encode(Directory(1, tuple(extents), tuple(inodes)))
    if len(plain) > META_EXTENT_MAX:
        plain = encode(Directory(1, tuple(extents), ()))
    return plain


def decode_directory_untrusted(plain: bytes) -> Directory:
    """The directory in an opened extent, or Malformed."""
    return _directories.decode_untrusted(plain)
