"""An index of the trash: how much there is of each vault, and what is oldest.

The trash itself is the shelf's. Each deletion, each `Usage` and each tidying asks this index, and
none of them may take time in proportion to the trash: a vault that is emptied puts a million
fragments there. Here is the interface, and the index of a shelf in memory; disktrash.py has the
other one.
"""

import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import NamedTuple

from sortedcontainers import SortedList

from bitdustfs.supplier.shelfrows import KEY_SIZE, VAULT_SIZE

NAME_SIZE = VAULT_SIZE + KEY_SIZE
#: when killed, name, size: their order as bytes is that by time
ENTRY = struct.Struct(f">Q{NAME_SIZE}sQ")


class Trashed(NamedTuple):
    """One fragment in the trash."""

    killed: int  #: Unix seconds
    name: bytes  #: vault and fragment key
    size: int  #: bytes

    @property
    def vault(self) -> bytes:
        return self.name[:VAULT_SIZE]

    @property
    def key(self) -> bytes:
        return self.name[VAULT_SIZE:]


class TrashIndex(ABC):
    """What is in the trash. Thread-safe."""

    @property
    @abstractmethod
    def total(self) -> int:
        """Bytes of all fragments in the trash."""

    @abstractmethod
    def of(self, vault: bytes) -> int:
        """Bytes of one vault's fragments in the trash."""

    @abstractmethod
    def due(self, before: float, excess: int, limit: int) -> list[Trashed]:
        """The oldest, `limit` at most.

        Those killed until `before`, then more for `excess` bytes in all.

        Looks at what it returns and at one more.
        """


class Trash(TrashIndex):
    """The index in memory. Only a shelf adds and removes."""

    def __init__(self, items: Iterable[Trashed] = ()) -> None:
        self._lock = threading.Lock()
        self._bytes: dict[bytes, int] = {}
        self._total = 0
        self._order = SortedList([self._count(item) for item in items])

    @property
    def total(self) -> int:
        return self._total

    def of(self, vault: bytes) -> int:
        return self._bytes.get(vault, 0)

    def due(self, before: float, excess: int, limit: int) -> list[Trashed]:
        found: list[Trashed] = []
        with self._lock:
            for packed in self._order:
                item = unpack(packed)
                if len(found) >= limit or (item.killed > before and excess <= 0):
                    break
                found.append(item)
                excess -= item.size
        return found

    def add(self, items: Iterable[Trashed]) -> None:
        with self._lock:
            for item in items:
                self._order.add(self._count(item))

    def remove(self, items: Iterable[Trashed]) -> None:
        """Takes out those of the items that are in it."""
        with self._lock:
            for item in items:
                packed = ENTRY.pack(*item)
                if packed in self._order:
                    self._order.remove(packed)
                    self._add_bytes(item.vault, -item.size)

    def _count(self, item: Trashed) -> bytes:
        self._add_bytes(item.vault, item.size)
        return ENTRY.pack(*item)

    def _add_bytes(self, vault: bytes, size: int) -> None:
        self._total += size
        left = self._bytes.get(vault, 0) + size
        if left:
            self._bytes[vault] = left
        else:
            self._bytes.pop(vault, None)


def unpack(packed: bytes) -> Trashed:
    """An entry of the index."""
    return Trashed(*ENTRY.unpack(packed))
