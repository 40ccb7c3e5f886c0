"""The snapshots that a tree keeps: making one, dropping one, listing them.

A snapshot is an item with the place of an index: leaves are immutable, so the tree of then stays
readable as long as its blocks are kept. They are read once and remembered: this machine is the only
one that changes them.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from bitdustfs.core.items import (
    COUNTERS_KEY,
    SCHEDULED,
    SNAPSHOT,
    SNAPSHOT_PREFIX,
    SNAPSHOTS_MADE,
    Snapshot,
    Time,
    decode_counters,
    decode_snapshot,
    encode_item,
    kind_range,
    snapshot_key,
)
from bitdustfs.core.records import Place
from bitdustfs.errors import UsageError
from bitdustfs.tree.transaction import Transaction, page
from bitdustfs.tree.tree import Tree

PAGE = 1000  #: items read in one transaction
KEPT_MAX = 10_000  #: snapshots that a vault keeps at once
NUMBER_MAX = (1 << 20) - 1  #: snapshots that are ever made of one vault (fs/past.py)


class KeptSnapshot(NamedTuple):
    """One snapshot and its name."""

    name: bytes
    item: Snapshot

    @property
    def scheduled(self) -> bool:
        """Whether the schedule made it: then it may be thinned."""
        return self.item.more.get(SCHEDULED) is True


class Catalogue:
    """The snapshots of one vault."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._kept: tuple[KeptSnapshot, ...] | None = None
        self.version = 0  #: another one after each change

    async def kept(self) -> Sequence[KeptSnapshot]:
        """All of them, the oldest first. Raises Unavailable."""
        while self._kept is None:
            version, found = self.version, []
            low, high = kind_range(0, SNAPSHOT)
            while items := await self._tree.run(page, low, high, PAGE):
                found += [
                    KeptSnapshot(key[len(SNAPSHOT_PREFIX) :], decode_snapshot(value))
                    for key, value in items
                ]
                low = items[-1][0] + b"\0"
            if version == self.version:
                self._kept = tuple(sorted(found, key=_number))
        return self._kept

    async def find(self, name: bytes) -> KeptSnapshot | None:
        """The one of this name."""
        value = await self._tree.run(lambda tx: tx.get(snapshot_key(name)))
        return None if value is None else KeptSnapshot(name, decode_snapshot(value))

    async def as_of(self, wanted: str) -> KeptSnapshot:
        """The one of a name, or the last one made until a time in ISO 8601 (of this machine's time
        zone where it names none). Raises UsageError.
        """
        named = await self.find(wanted.encode(errors="surrogateescape"))
        if named is not None:
            return named
        try:
            moment = datetime.fromisoformat(wanted).timestamp()
        except ValueError:
            raise UsageError(f"there is no snapshot {wanted}, and it is no time") from None
        until = [kept for kept in await self.kept() if kept.item.time[0] <= moment]
        if not until:
            raise UsageError(f"no snapshot was made until {wanted}")
        return until[-1]

    async def any(self) -> bool:
        """Whether there is one."""
        low, high = kind_range(0, SNAPSHOT)
        return bool(await self._tree.run(page, low, high, 1))

    async def check_new(self, name: bytes) -> None:
        """Raises UsageError where no snapshot can be made under this name."""
        if await self.find(name) is not None:
            raise UsageError(
                f"there is a snapshot {name.decode(errors='replace')} already; delete it first, or "
                "take another name"
            )
        if len(await self.kept()) >= KEPT_MAX:
            raise UsageError(f"{KEPT_MAX:,} snapshots are kept already: delete some first")
        if await self._tree.run(_made) >= NUMBER_MAX:
            raise UsageError(f"{NUMBER_MAX:,} snapshots were made of this vault: no more can be")

    async def make(
        self,
        name: bytes,
        time: Time,
        seq: int,
        generation: int,
        index: Place | None,
        scheduled: bool = False,
    ) -> KeptSnapshot:
        """A snapshot of the tree that `index` is the index of, to be committed.

        `scheduled`: it was not made by hand. Raises UsageError where there is one of this name.
        """
        more = {SCHEDULED: True} if scheduled else {}
        item = await self._tree.tidy(_make, name, time, seq, generation, index, more)
        self._changed()  # no await since it was applied
        return KeptSnapshot(name, item)

    async def drop(self, name: bytes) -> KeptSnapshot:
        """It is not kept any more, once that is committed. Raises UsageError for an unknown one."""
        dropped = await self._tree.tidy(_drop, name)
        self._changed()  # no await since it was applied
        return dropped

    def turned(self) -> None:
        """Another machine made or dropped some."""
        self._changed()

    def _changed(self) -> None:
        self.version += 1
        self._kept = None


def _number(kept: KeptSnapshot) -> int:
    return kept.item.number


def _made(tx: Transaction) -> int:
    raw = tx.get(COUNTERS_KEY)
    return 0 if raw is None else int(decode_counters(raw).more.get(SNAPSHOTS_MADE, 0))


def _make(
    tx: Transaction,
    name: bytes,
    time: Time,
    seq: int,
    generation: int,
    index: Place | None,
    more: dict[str, Any],
) -> Snapshot:
    raw = tx.get(COUNTERS_KEY)
    if raw is None:
        raise UsageError("this vault is empty: nothing was ever written to it")
    if tx.get(snapshot_key(name)) is not None:
        raise UsageError("there is a snapshot of that name already")
    counters = decode_counters(raw)
    number = int(counters.more.get(SNAPSHOTS_MADE, 0)) + 1
    counters.more[SNAPSHOTS_MADE] = number
    item = Snapshot(1, number, seq, time, generation, index, counters.inodes, counters.live, more)
    tx.put(COUNTERS_KEY, encode_item(counters))
    tx.put(snapshot_key(name), encode_item(item))
    return item


def _drop(tx: Transaction, name: bytes) -> KeptSnapshot:
    value = tx.get(snapshot_key(name))
    if value is None:
        raise UsageError(f"there is no snapshot {name.decode(errors='replace')}")
    tx.delete(snapshot_key(name))
    return KeptSnapshot(name, decode_snapshot(value))
