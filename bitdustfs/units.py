"""Sizes and limits, each with its unit, used by more than one layer; and how they are said.

Everything that bounds what a peer may send stands here, so that one page shows how much memory a
stranger can make us use.
"""

from bitdustfs.errors import UsageError

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

# Formats (docs/format.md).
EXTENT_MAX = 128 * KIB  #: plaintext bytes of one data extent, at most
META_EXTENT_MAX = 1 * MIB  #: plaintext bytes of one metadata extent (leaf, index, directory)
BLOCK_MAX = 16 * MIB  #: bytes of one block, directory included, at most
BLOCK_FILL = BLOCK_MAX - 2 * MIB  #: a block takes no further extent past this length
BLOCK_EXTENTS_MAX = 8192  #: extents of one block, at most (bounds its directory)
CHUNK_SIZE = 64 * KIB  #: fragment bytes covered by one chunk hash
SLICE_ALIGN = 64  #: fragment lengths are multiples of this many bytes
GROUP_MAX = 64  #: positions in one group, at most
ITEM_MAX = 4 * KIB + 512  #: bytes of one item value: a longest symlink target and its attributes
INLINE_MAX = 512  #: files up to this many bytes live in their inode item
NAME_MAX = 255  #: bytes of one file name (POSIX NAME_MAX)
SYMLINK_MAX = 4095  #: bytes of a symlink target (Linux PATH_MAX less the final zero)
XATTR_INLINE_MAX = 3 * KIB  #: bytes of an xattr value that still fits its item
XATTR_MAX = 64 * KIB  #: bytes of an xattr value (Linux XATTR_SIZE_MAX)
XATTR_LIST_MAX = 64 * KIB  #: bytes of all names of a file's xattrs, a zero behind each (Linux)
FILE_MAX = 1 << 62  #: bytes of one file

# The wire (docs/protocol.md).
FRAME_HEAD_MAX = 512 * KIB  #: bytes of a frame's typed part
FRAGMENT_MAX = BLOCK_MAX + SLICE_ALIGN  #: payload bytes of one fragment, at most
ROOT_MAX = 192 * KIB  #: bytes of a signed root
FAMILY_MAX = 128 * KIB  #: bytes of a signed family
HEADER_MAX = 8 * KIB  #: bytes of a signed block header
READ_MAX = 4 * MIB  #: bytes one read request may ask for
DHT_RECORD_MAX = 1000  #: bytes of a DHT record
DATAGRAM_MAX = 1400  #: bytes of a DHT datagram

SIZE_SUFFIXES = {"": 1, "K": KIB, "M": MIB, "G": GIB, "T": 1024 * GIB}


def parse_size(text: str) -> int:
    """Bytes from "512", "64K", "1.5G" (powers of 1024; a trailing B or iB is allowed).

    Raises UsageError for anything else.
    """
    stripped = text.strip().upper().removesuffix("IB").removesuffix("B")
    suffix = stripped[-1:] if stripped[-1:] in ("K", "M", "G", "T") else ""
    number = stripped.removesuffix(suffix) if suffix else stripped
    try:
        size = int(float(number) * SIZE_SUFFIXES[suffix])
    except (ValueError, OverflowError):
        raise UsageError(f"{text!r} is not a size; write for example 512M or 10G") from None
    if size < 0:
        raise UsageError(f"{text!r} is negative; a size must be positive")
    return size


def format_size(size: float) -> str:
    """A size in bytes for people: 0 B, 12.0 KiB, 3.4 GiB."""
    value = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def within(seconds: float) -> str:
    """A time to come, for people."""
    if seconds < 90:
        return f"in {max(1, round(seconds))} s"
    if seconds < 5400:
        return f"in {seconds / 60:.0f} min"
    return f"in {seconds / 3600:.0f} h" if seconds < 172800 else f"in {seconds / 86400:.0f} days"


def ago(seconds: float) -> str:
    """A time that has passed, for people."""
    if seconds < 120:
        return f"{seconds:.0f} s ago"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min ago"
    if seconds < 172800:
        return f"{seconds / 3600:.0f} h ago"
    return f"{seconds / 86400:.0f} days ago"
