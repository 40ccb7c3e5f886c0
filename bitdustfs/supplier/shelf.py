"""Where a supplier keeps fragments: the interface, its rows, and the kind in memory."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import msgspec

from bitdustfs.core.codec import U32, U63, Decoder, encode
from bitdustfs.core.erasure import Buffer
from bitdustfs.core.records import Ballot, Record, Visit
from bitdustfs.core.warrants import WARRANTS_BYTES_MAX
from bitdustfs.errors import Refused
from bitdustfs.units import FAMILY_MAX, KIB, ROOT_MAX

KEY_SIZE = 17  # block id + position byte


class VaultRow(Record, frozen=True):
    """What a supplier remembers of one vault: its contract, its use, its register."""

    space: U63
    until: int
    used: U63 = 0
    fragments: U63 = 0
    promised: Ballot | None = None
    root: bytes = b""
    family: bytes = b""
    standing: int = -1  #: position that it stands in for
    #: that hold in `family`: who was let in while the owner was away
    warrants: tuple[bytes, ...] = ()
    visits: tuple[Visit, ...] = ()  #: what those let in have read, for the owner to see
    released: bool = False  #: the writer unmounted: no lease is to be waited for
    former: tuple[bytes, ...] = ()  #: nodes of families before: they may hear that they are out


class FragmentRow(Record, frozen=True):
    """One kept fragment: bytes of the parts of its file, and the hash of its header."""

    header: U32
    chunks: U32
    payload: U32
    header_hash: bytes

    @property
    def size(self) -> int:
        return self.header + self.chunks + self.payload


class TrashRow(Record, frozen=True):
    """A fragment of a block that its owner deleted, and when (Unix seconds)."""

    fragment: FragmentRow
    killed: U63


decode_trash_row = Decoder(TrashRow, "trash row", KIB).decode_untrusted
ROW_MAX = ROOT_MAX + FAMILY_MAX + WARRANTS_BYTES_MAX + 16 * KIB
decode_vault_row = Decoder(VaultRow, "vault row", ROW_MAX).decode_untrusted
decode_fragment_row = Decoder(FragmentRow, "fragment row", KIB).decode_untrusted


def encode_vault_row(row: VaultRow) -> bytes:
    """The row's bytes. Raises Refused for one that could not be read again."""
    raw = encode(row)
    if len(raw) > ROW_MAX:
        raise Refused("malformed", "more is to be remembered of this vault than is allowed")
    return raw


def fragment_key(block: bytes, position: int) -> bytes:
    """How fragments of a vault are ordered: by block id, then position."""
    return block + bytes([position])


class Shelf(ABC):
    """Fragments and rows of many vaults. Thread-safe; every change is durable when it returns."""

    @abstractmethod
    def vault(self, vault: bytes) -> VaultRow | None: ...

    @abstractmethod
    def set_vault(self, vault: bytes, row: VaultRow) -> None: ...

    @abstractmethod
    def all_rows(self) -> Iterator[tuple[bytes, VaultRow]]:
        """All vaults that have a row that can be read."""

    @abstractmethod
    def forget(self, vault: bytes) -> None:
        """Deletes all that is kept of a vault, and its row."""

    def used_total(self) -> int:
        """Bytes of fragments kept for all vaults together, the trash not counted."""
        return sum(row.used for _, row in self.all_rows())

    @abstractmethod
    def fragment(self, vault: bytes, key: bytes) -> FragmentRow | None: ...

    @abstractmethod
    def header_hash(self, vault: bytes, block: bytes) -> bytes | None:
        """The hash of the first header kept for this block id, whatever its position."""

    @abstractmethod
    def store(
        self, vault: bytes, key: bytes, header: bytes, chunks: bytes, payload: Buffer,
        header_hash: bytes,
    ) -> None:  # fmt: skip
        """Keeps a new fragment and counts it in its vault's row."""

    @abstractmethod
    def head(self, vault: bytes, key: bytes) -> tuple[bytes, bytes]:
        """(header, chunks), or Refused not-found."""

    @abstractmethod
    def read(self, vault: bytes, key: bytes, offset: int, length: int) -> bytes:
        """A range of the payload, or Refused not-found / malformed."""

    @abstractmethod
    def keys(self, vault: bytes, after: bytes, limit: int) -> list[tuple[bytes, int]]:
        """(key, size) in order, after `after`."""

    @abstractmethod
    def kill(self, vault: bytes, block: bytes, record: bytes, now: int) -> None:
        """Moves all fragments of a block to the trash, and keeps the record as a tombstone for ever.

        What is in the trash can still be read (by mounts of older roots), and is in nobody's quota.
        """

    @abstractmethod
    def drop(self, vault: bytes, keys: Sequence[bytes]) -> None:
        """Deletes these fragments for good, without a tombstone: others keep the blocks."""

    @abstractmethod
    def vaults(self) -> list[bytes]:
        """All vaults that have a row."""

    @abstractmethod
    def trash(self) -> list[tuple[bytes, TrashRow]]:
        """(vault + key, row) of all that is in the trash, oldest first."""

    @abstractmethod
    def discard(self, names: Sequence[bytes]) -> None:
        """Deletes these (vault + key) from the trash for good."""

    @abstractmethod
    def tombstone(self, vault: bytes, block: bytes) -> bytes | None: ...

    def close(self) -> None:
        """Nothing may use the shelf afterwards."""


class MemoryShelf(Shelf):
    """For tests and for whole families in one process."""

    def __init__(self) -> None:
        self.rows: dict[bytes, VaultRow] = {}
        self.kept: dict[tuple[bytes, bytes], tuple[bytes, bytes, bytearray, bytes]] = {}
        self.tombstones: dict[tuple[bytes, bytes], bytes] = {}
        self.killed: dict[tuple[bytes, bytes], tuple[bytes, bytes, bytearray, bytes]] = {}
        self.killed_at: dict[bytes, TrashRow] = {}

    def vault(self, vault: bytes) -> VaultRow | None:
        return self.rows.get(vault)

    def set_vault(self, vault: bytes, row: VaultRow) -> None:
        encode_vault_row(row)
        self.rows[vault] = row

    def all_rows(self) -> Iterator[tuple[bytes, VaultRow]]:
        return iter(list(self.rows.items()))

    def forget(self, vault: bytes) -> None:
        for kept in (self.kept, self.killed):
            for owner, key in [name for name in kept if name[0] == vault]:
                del kept[owner, key]
        self.killed_at = {n: row for n, row in self.killed_at.items() if not n.startswith(vault)}
        self.rows.pop(vault, None)

    def fragment(self, vault: bytes, key: bytes) -> FragmentRow | None:
        kept = self.kept.get((vault, key))
        if kept is None:
            return None
        return FragmentRow(len(kept[0]), len(kept[1]), len(kept[2]), kept[3])

    def header_hash(self, vault: bytes, block: bytes) -> bytes | None:
        for (owner, key), kept in self.kept.items():
            if owner == vault and key.startswith(block):
                return kept[3]
        return None

    def store(
        self, vault: bytes, key: bytes, header: bytes, chunks: bytes, payload: Buffer,
        header_hash: bytes,
    ) -> None:  # fmt: skip
        if (vault, key) not in self.kept:
            self._count(vault, len(header) + len(chunks) + len(payload), 1)
        self.kept[vault, key] = (header, chunks, bytearray(payload), header_hash)

    def _count(self, vault: bytes, size: int, fragments: int) -> None:
        self.rows[vault] = counted(self.rows[vault], size, fragments)

    def _kept(self, vault: bytes, key: bytes) -> tuple[bytes, bytes, bytearray, bytes]:
        found = self.kept.get((vault, key)) or self.killed.get((vault, key))
        if found is None:
            raise Refused("not-found", key.hex())
        return found

    def head(self, vault: bytes, key: bytes) -> tuple[bytes, bytes]:
        return self._kept(vault, key)[:2]

    def read(self, vault: bytes, key: bytes, offset: int, length: int) -> bytes:
        payload = self._kept(vault, key)[2]
        check_range(offset, length, len(payload))
        return bytes(payload[offset : offset + length])

    def keys(self, vault: bytes, after: bytes, limit: int) -> list[tuple[bytes, int]]:
        mine = sorted(key for owner, key in self.kept if owner == vault and key > after)
        return [(key, self._size(vault, key)) for key in mine[:limit]]

    def _size(self, vault: bytes, key: bytes) -> int:
        row = self.fragment(vault, key)
        return row.size if row else 0

    def kill(self, vault: bytes, block: bytes, record: bytes, now: int) -> None:
        self.tombstones[vault, block] = record
        for key in [k for owner, k in self.kept if owner == vault and k.startswith(block)]:
            row = self.fragment(vault, key)
            assert row is not None
            self._count(vault, -row.size, -1)
            self.killed[vault, key] = self.kept.pop((vault, key))
            self.killed_at[vault + key] = TrashRow(row, now)

    def drop(self, vault: bytes, keys: Sequence[bytes]) -> None:
        for key in keys:
            row = self.fragment(vault, key)
            if row is not None:
                self._count(vault, -row.size, -1)
                del self.kept[vault, key]

    def vaults(self) -> list[bytes]:
        return list(self.rows)

    def trash(self) -> list[tuple[bytes, TrashRow]]:
        return sorted(self.killed_at.items(), key=killed)

    def discard(self, names: Sequence[bytes]) -> None:
        for name in names:
            self.killed_at.pop(name, None)
            self.killed.pop((name[:32], name[32:]), None)

    def tombstone(self, vault: bytes, block: bytes) -> bytes | None:
        return self.tombstones.get((vault, block))


def killed(item: tuple[bytes, TrashRow]) -> int:
    """When something in the trash was deleted: its order there."""
    return item[1].killed


def counted(row: VaultRow, size: int, fragments: int) -> VaultRow:
    """The vault row after `size` bytes in `fragments` fragments came (or, negative, went)."""
    return msgspec.structs.replace(row, used=row.used + size, fragments=row.fragments + fragments)


def check_range(offset: int, length: int, size: int) -> None:
    """Raises Refused unless [offset, offset + length) lies within `size` bytes."""
    if offset < 0 or length < 1 or offset + length > size:
        raise Refused("malformed", "the range is outside the fragment")
