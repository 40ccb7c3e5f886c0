"""The records of this machine's state of one vault, as LMDB keeps them (docs/format.md, "This
machine").
"""

from bitdustfs.core.block import ExtentEntry
from bitdustfs.core.codec import U16, U32, U63
from bitdustfs.core.placement import acknowledgements_least, acknowledgements_wanted
from bitdustfs.core.records import JournalRef, Place, Record

OPEN, CLOSED, DEAD = 0, 1, 2  #: states of a block


class BlockRow(Record, frozen=True):
    """What is known of one block.

    `length` grows with each batch while OPEN. CLOSED: `directory` is in place and all bytes are
    synced. `header` is set, synced, before the first put. `acked`: positions that acknowledged
    their fragment. DEAD: to be deleted by the signed record `kill`; `acked`: positions that
    confirmed it.

    `copies`: (position, node) of reserves that keep a fragment for a position that was away.
    `beside`: of `acked`, positions on this machine. They go where this machine goes, so their word
    does not count.
    """

    state: int
    meta: bool
    group: U16
    k: U16
    n: U16
    length: U32
    directory: Place | None = None
    header: bytes = b""
    acked: tuple[int, ...] = ()
    local: bool = True
    kill: bytes = b""
    safe: bool = False  #: it once had the acknowledgements that a root needs
    copies: tuple[tuple[int, bytes], ...] = ()
    beside: tuple[int, ...] = ()

    @property
    def owed(self) -> tuple[int, ...]:
        """Positions still to be served."""
        return tuple(i for i in range(self.n) if i not in self.acked)

    @property
    def settled(self) -> bool:
        """Whether it is closed, and every position away from this machine has its fragment."""
        return (
            self.state == CLOSED
            and len(self.acked) == self.n
            and not self.beside
            and not self.copies
        )

    @property
    def holders(self) -> frozenset[int]:
        """Positions whose fragment somebody keeps away from this machine."""
        return frozenset(self.acked).difference(self.beside).union(p for p, _ in self.copies)

    @property
    def least(self) -> int:
        """How many of these a root cannot do without."""
        return acknowledgements_least(self.k, self.n, self.meta)

    @property
    def wanted(self) -> int:
        """How many of these one more may be lost of."""
        elsewhere = self.n - len(self.beside)
        return max(self.least, min(acknowledgements_wanted(self.k, self.n), elsewhere))

    @property
    def enough(self) -> bool:
        """Whether so many hold it that one of them may be lost (promise 3)."""
        return len(self.holders) >= self.wanted

    @property
    def thin(self) -> bool:
        """Whether a root may name it, and yet fewer hold it than should."""
        return self.state == CLOSED and self.safe and not self.enough

    @property
    def waits(self) -> bool:
        """Whether no root may name it yet. One that lost acknowledgements since is named
        already.
        """
        return self.state == CLOSED and not self.safe and not self.enough


class BlockPart(Record, frozen=True):
    """What one batch added to one open block."""

    block: bytes
    length: U32
    entries: tuple[ExtentEntry, ...]


class Batch(Record, frozen=True):
    """One commit: changed items (None deletes) and what they rely on in open blocks."""

    generation: U63
    changes: tuple[tuple[bytes, bytes | None], ...]
    parts: tuple[BlockPart, ...] = ()


class Checkpoint(Record, frozen=True):
    """The leaves that everything up to `generation` was rewritten into."""

    index: Place | None
    generation: U63


class Published(Record, frozen=True):
    """The newest root followed and the family it names; signed bytes."""

    root: bytes
    family: bytes
    generation: U63
    journal: tuple[JournalRef, ...]
    journal_bytes: U63
    based_on: U63  #: generation of the checkpoint that the root's index is
    guarded: bool = False  #: the root must not be followed by programs without its features


class Proposed(Record, frozen=True):
    """A signed root that was sent and not yet confirmed: only these bytes may be sent again."""

    root: bytes
    generation: U63
    journal: tuple[JournalRef, ...]
    journal_bytes: U63
    based_on: U63
    family: bytes = b""  #: the family it names, when that is a new one
    guarded: bool = False  #: as in Published


class SeatRow(Record, frozen=True):
    """An owner's seat that is held here: what it promised and accepted, as signed bytes."""

    name: bytes
    claim: bytes = b""
    root: bytes = b""
    family: bytes = b""


class Seats(Record, frozen=True):
    """The seats that are held here, the newest last.

    `mark`: of the file that was written with them (vault/seat.py).
    """

    rows: tuple[SeatRow, ...] = ()
    mark: bytes = b""
