"""What a supplier remembers, as it is stored: a row a vault, a fragment, a fragment in the trash.

The fields in their order are the format (docs/format.md). What is done with rows is elsewhere.
"""

from typing import Annotated

import msgspec

from bitdustfs.core.codec import U32, U63, Decoder, encode
from bitdustfs.core.hashing import HASH_SIZE, digest
from bitdustfs.core.records import Ballot, Record, Visit
from bitdustfs.core.warrants import WARRANTS_BYTES_MAX
from bitdustfs.errors import Refused
from bitdustfs.units import FAMILY_MAX, KIB, ROOT_MAX

PAGE = 4 * KIB  #: bytes that the smallest file takes of a disk, and in which larger ones grow
FILE_PREFIX = 8  #: bytes in a fragment's file besides its parts
TOMBSTONE_CHARGE = 512  #: bytes that a block-dead record takes of the index, its key included
VAULT_SIZE = 32  #: bytes of a vault's id
KEY_SIZE = 17  #: bytes of a fragment's key: block id, then a byte for the position
ROW_MAX = ROOT_MAX + FAMILY_MAX + WARRANTS_BYTES_MAX + 16 * KIB  #: bytes of a vault row


class VaultRow(Record, frozen=True):
    """What a supplier remembers of one vault: its contract, its use, its register."""

    space: U63  #: bytes promised
    until: int  #: Unix seconds at which the contract ends
    used: U63 = 0  #: bytes charged for fragments and tombstones, the trash not counted
    fragments: U63 = 0
    promised: Ballot | None = None  #: that of `claim`; without one it is not heeded
    root: bytes = b""
    family: bytes = b""
    standing: int = -1  #: position that it stands in for
    #: that hold in `family`: who was let in while the owner was away
    warrants: tuple[bytes, ...] = ()
    visits: tuple[Visit, ...] = ()  #: what those let in have read, for the owner to see
    released: bool = False  #: the writer unmounted: no lease is to be waited for
    former: tuple[bytes, ...] = ()  #: nodes of families before: they may hear that they are out
    claim: bytes = b""  #: the signed claim that was promised
    copies: tuple[int, ...] = ()  #: positions of which its owner gave it fragments, its own or not
    made: int = 0  #: Unix seconds at which an unused contract was made
    invited: bytes = b""  #: by which token, or that it is listed; empty: as anybody
    network: Annotated[str, msgspec.Meta(max_length=64)] = ""  #: where its owner asked from
    # the retention (retention.py); times are seconds of this supplier's steady time
    retain: U63 = 0  #: seconds that it has
    lessened: U63 = 0  #: seconds that it will have from `lessens` on
    lessens: U63 = 0  #: 0: it does not get shorter
    rooted: U63 = 0  #: when `root` was accepted
    begun: Ballot | None = None  #: under which it was accepted first
    held: U63 = 0  #: until when nothing of the vault may be forgotten
    ended: U63 = 0  #: from when on it is to be forgotten, as its owner said; 0: not at all
    revived: U63 = 0  #: the lineage of the last rewinding after which all was kept again


class FragmentRow(Record, frozen=True):
    """One kept fragment: bytes of the parts of its file, and the hash of its header."""

    header: U32
    chunks: U32
    payload: U32
    header_hash: bytes
    charged: U32 = 0  #: 0 for one of an older shelf: its parts alone count

    @property
    def size(self) -> int:
        """Bytes that count in the quota: what the disk spends."""
        return self.charged or self.header + self.chunks + self.payload


def fragment_row(header: int, chunks: int, payload: int, header_hash: bytes) -> FragmentRow:
    """The row of a new fragment with parts of so many bytes."""
    pages = -(-(FILE_PREFIX + header + chunks + payload) // PAGE)
    return FragmentRow(header, chunks, payload, header_hash, pages * PAGE)


class TrashRow(Record, frozen=True):
    """A fragment of a block that its owner deleted, and when (Unix seconds).

    Of one that is retained: the steady time until which it is.
    """

    fragment: FragmentRow
    killed: U63


class RingRow(Record, frozen=True):
    """A root that was the newest one, from `since` until `left` (steady time).

    `turned`: another ballot's root followed. `family`: its hash.
    """

    since: U63
    left: U63
    turned: bool
    root: bytes
    family: bytes


decode_vault_row = Decoder(VaultRow, "vault row", ROW_MAX).decode_untrusted
decode_fragment_row = Decoder(FragmentRow, "fragment row", KIB).decode_untrusted
decode_ring_row = Decoder(RingRow, "past root", ROOT_MAX + KIB).decode_untrusted
decode_trash_row = Decoder(TrashRow, "trash row", KIB).decode_untrusted


def charge_of(raw: bytes) -> int:
    """Bytes that a record of the ring counts in the quota."""
    return -(-len(raw) // PAGE) * PAGE


def encode_vault_row(row: VaultRow) -> bytes:
    """The row's bytes. Raises Refused for one that could not be read again."""
    raw = encode(row)
    if len(raw) > ROW_MAX:
        raise Refused("malformed", "more is to be remembered of this vault than is allowed")
    return raw


def weight(row: VaultRow) -> int:
    """Bytes of a row that are not bounded by a few hundred."""
    return len(row.root) + len(row.family) + sum(map(len, row.warrants))


def summary(row: VaultRow) -> VaultRow:
    """What of a row is held in memory for every vault: instead of its family the hash of that."""
    return msgspec.structs.replace(
        row, root=b"", family=family_token(row), claim=b"", warrants=(), visits=(), former=()
    )


def family_token(row: VaultRow) -> bytes:
    """What changes with the row's family, of a row or of its summary; empty without one."""
    return digest(row.family) if len(row.family) > HASH_SIZE else row.family


def fragment_key(block: bytes, position: int) -> bytes:
    """How fragments of a vault are ordered: by block id, then position."""
    return block + bytes([position])


def counted(row: VaultRow, size: int, fragments: int) -> VaultRow:
    """The vault row after `size` bytes in `fragments` fragments came (or, negative, went)."""
    return msgspec.structs.replace(row, used=row.used + size, fragments=row.fragments + fragments)
