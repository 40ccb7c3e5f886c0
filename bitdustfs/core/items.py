"""The vault's metadata as sorted items: key -> value, both bytes.

    key   = object u64 | kind u8 | tail            (big endian, so bytes sort like the tuple)
    value = msgpack array, first element the version; at most ITEM_MAX bytes

    kind  object  tail                   value
    1     inode   -                      Inode
    2     inode   name                   Xattr
    3     folder  cookie u64             Entry
    4     inode   file offset u64        Extent (a hole is an Extent without a place)
    5     0       inode u64              Orphan: nlink 0, to be purged
    6     0       -                      Counters
    7     0       block id               BlockUse
    8     0       name                   Snapshot

What is created in a folder is numbered together, so that `ls -l` touches few leaves. Numbers below
2^32 come first, in runs that a folder takes of the free ones (fs/numbers.py). When they are used
up, and in older programs, a number is u40 folder group | u24 index, and a group is one folder's.

New fields go to the `more` map: what an older program does not know there, it keeps. Fields behind
the map are those that an older program would leave behind wrong: it drops them.
"""

import struct
from hashlib import blake2b
from typing import Annotated, Any

import msgspec

from bitdustfs.core.codec import U8, U32, U63, Decoder, encode
from bitdustfs.core.records import Place
from bitdustfs.errors import Malformed
from bitdustfs.units import EXTENT_MAX, ITEM_MAX, NAME_MAX

INODE, XATTR, ENTRY, EXTENT, ORPHAN, COUNTERS, USE, SNAPSHOT = 1, 2, 3, 4, 5, 6, 7, 8
PAST = "past"  #: in `BlockUse.more`: [first, last] number of the snapshots that refer to a block
SCHEDULED = "scheduled"  #: in `Snapshot.more`: true where nobody made it by hand
SNAPSHOTS_MADE = "snapshots"  #: in `Counters.more`: the number of the snapshot made last
ROOT_INODE = 1
INDEX_BITS = 24
INDEX_MAX = (1 << INDEX_BITS) - 1
SMALL_NUMBERS = 1 << 32  #: inode numbers below are told by programs without large-file support
SLOTS = 256  #: directory entries that may share one 55-bit name hash
COOKIE_FIRST = 1 << 8  #: cookies below are "." and ".."

_HEAD = struct.Struct(">QB")
_TAIL = struct.Struct(">QBQ")

Time = tuple[int, U32]  #: (seconds since 1970, possibly negative; nanoseconds)


class Item(msgspec.Struct, array_like=True, gc=False):
    """Base of all values. As of records, the garbage collector does not look at them."""


class Inode(Item):
    """Attributes of one file, folder or other object.

    `parent`, `group`, `next_index`, `numbers`: folders only. `numbers` is (next, end, length): what
    is left of the run of small inode numbers that the folder took last, and how long that was.
    `holes` counts the bytes of the extents that are holes; where an older program wrote the file,
    there may be more.
    """

    version: U8
    mode: U32
    uid: U32
    gid: U32
    nlink: U32
    size: U63
    rdev: U63
    atime: Time
    mtime: Time
    ctime: Time
    parent: U63 = 0
    group: U63 = 0
    next_index: U32 = 0
    inline: bytes | None = None  #: whole content of a small file, or a symlink's target
    more: dict[str, Any] = {}
    holes: U63 = 0
    numbers: tuple[U63, U63, U63] | None = None


class Entry(Item):
    """One name in a folder."""

    version: U8
    name: Annotated[bytes, msgspec.Meta(min_length=1, max_length=NAME_MAX)]
    inode: U63
    mode: U32  #: only the file type bits are meant
    more: dict[str, Any] = {}


class Extent(Item):
    """File bytes [tail, tail + length): `skip` bytes into the extent at `place`, or a hole."""

    version: U8
    place: Place | None
    skip: Annotated[int, msgspec.Meta(ge=0, le=EXTENT_MAX)]
    length: U63
    more: dict[str, Any] = {}


class Xattr(Item):
    """An extended attribute: its value here, or in extents of their own when it is large."""

    version: U8
    value: bytes
    extents: tuple[Place, ...] = ()
    more: dict[str, Any] = {}


class Counters(Item):
    """Totals of the vault. `live`: bytes of file content that is not holes."""

    version: U8
    next_group: U63
    inodes: U63
    live: U63
    more: dict[str, Any] = {}


class Orphan(Item):
    """An inode without a name, kept until nobody has it open."""

    version: U8
    more: dict[str, Any] = {}


class BlockUse(Item):
    """Plaintext bytes that items refer to in a block: still (`live`), and ever (`total`)."""

    version: U8
    live: U63
    total: U63
    more: dict[str, Any] = {}


class Snapshot(Item):
    """The tree as it was at one instant, kept under a name: the key's tail.

    `number`: never given twice, rises with each. `seq`: of the root that was worked towards: no
    block that it refers to was begun for a later one. `index`: place of the index of that tree,
    None where it had no item. `inodes`, `live`: as `Counters` said then.
    """

    version: U8
    number: U63
    seq: U63
    time: Time
    generation: U63
    index: Place | None
    inodes: U63
    live: U63
    more: dict[str, Any] = {}


decode_inode = Decoder(Inode, "inode item", ITEM_MAX).decode_untrusted
decode_entry = Decoder(Entry, "entry item", ITEM_MAX).decode_untrusted
decode_extent = Decoder(Extent, "extent item", ITEM_MAX).decode_untrusted
decode_xattr = Decoder(Xattr, "xattr item", ITEM_MAX).decode_untrusted
decode_counters = Decoder(Counters, "counters item", ITEM_MAX).decode_untrusted

decode_use = Decoder(BlockUse, "block use item", ITEM_MAX).decode_untrusted
decode_snapshot = Decoder(Snapshot, "snapshot item", ITEM_MAX).decode_untrusted


def encode_item(item: Item) -> bytes:
    """The value bytes of an item. Raises Malformed when it would break ITEM_MAX."""
    value = encode(item)
    if len(value) > ITEM_MAX:
        raise Malformed(f"a {type(item).__name__.lower()} item would take {len(value)} bytes")
    return value


def inode_key(inode: int) -> bytes:
    return _HEAD.pack(inode, INODE)


def xattr_key(inode: int, name: bytes) -> bytes:
    return _HEAD.pack(inode, XATTR) + name


def entry_key(folder: int, cookie: int) -> bytes:
    return _TAIL.pack(folder, ENTRY, cookie)


def extent_key(inode: int, offset: int) -> bytes:
    return _TAIL.pack(inode, EXTENT, offset)


def orphan_key(inode: int) -> bytes:
    return _TAIL.pack(0, ORPHAN, inode)


def use_key(block: bytes) -> bytes:
    return USE_PREFIX + block


def snapshot_key(name: bytes) -> bytes:
    return SNAPSHOT_PREFIX + name


USE_PREFIX = _HEAD.pack(0, USE)
SNAPSHOT_PREFIX = _HEAD.pack(0, SNAPSHOT)
COUNTERS_KEY = _HEAD.pack(0, COUNTERS)


def kind_range(inode: int, kind: int) -> tuple[bytes, bytes]:
    """The half-open key range of all items of one kind of one object."""
    return _HEAD.pack(inode, kind), _HEAD.pack(inode, kind + 1)


def object_range(inode: int) -> tuple[bytes, bytes]:
    """The half-open key range of all items of one object."""
    return inode.to_bytes(8, "big"), (inode + 1).to_bytes(8, "big")


def tail_u64(key: bytes) -> int:
    """The cookie or offset at the end of a key."""
    return int.from_bytes(key[-8:], "big")


def key_kind(key: bytes) -> int:
    """The kind of a key."""
    return key[8]


def key_object(key: bytes) -> int:
    """The object number at the start of a key."""
    return int.from_bytes(key[:8], "big")


def name_cookie(name_key: bytes, name: bytes) -> int:
    """First of the SLOTS cookies of a name: 55 bits of its keyed hash, then slot 0.

    Cookies are positive i64 (they go through off_t) and never below COOKIE_FIRST.
    """
    raw = blake2b(name, key=name_key, digest_size=8, person=b"dirent").digest()
    hashed = int.from_bytes(raw, "big") >> 9
    return max(hashed, 1) << 8
