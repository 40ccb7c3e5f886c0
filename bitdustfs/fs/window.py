"""Dirty bytes of one inode: written, not yet sealed; and those being sealed right now.

A window belongs to the inode, not to a handle. Segments never cross a multiple of EXTENT_MAX, never
overlap, and become one extent each. What is being sealed stays readable, and a truncate that comes
meanwhile shortens it: `valid` says how much of it still counts when it is done.
"""

from dataclasses import dataclass

from sortedcontainers import SortedDict

from bitdustfs.core.items import Inode
from bitdustfs.core.spans import split_aligned
from bitdustfs.units import EXTENT_MAX


@dataclass(eq=False)
class Sealing:
    """A segment on its way into an extent. Bytes [0, valid) of `data` still count."""

    offset: int
    data: bytes
    valid: int

    def cut(self, size: int) -> None:
        """The file was truncated to `size` bytes meanwhile."""
        self.valid = max(0, min(self.valid, size - self.offset))


@dataclass
class Tally:
    """Of all windows together: dirty bytes, those on their way to an extent, and full segments."""

    dirty: int = 0
    sealing: int = 0
    full: int = 0

    @property
    def unmapped(self) -> int:
        """Bytes that are in no extent item yet."""
        return self.dirty + self.sealing

    def add(self, change: int) -> None:
        """`change` bytes more, or (negative) fewer."""
        self.dirty += change

    def add_sealing(self, change: int) -> None:
        """`change` bytes more, or (negative) fewer, are on their way."""
        self.sealing += change

    def add_full(self, change: int) -> None:
        """`change` full segments more, or (negative) fewer."""
        self.full += change


class Window:
    """Dirty state of one inode; `size` is the file's true length in bytes while it exists."""

    def __init__(self, size: int, tally: Tally) -> None:
        self.size = size
        self.segments: SortedDict = SortedDict()  # offset -> bytearray
        self._full: set[int] = set()  # offsets of segments that cannot grow any more
        self.sealing: list[Sealing] = []
        self.dirty = 0  # bytes in segments
        self._tally = tally
        self.inline = False  # the item holds the content: the window must hold all of it, too

    def hold_inline(self, content: bytes) -> None:
        """The file's item holds its content: from here on the window does, all of it."""
        self.inline = True
        self.write(0, content)

    def leave_inline(self) -> None:
        """The file's content is in extents, or on its way there."""
        self.inline = False

    @property
    def empty(self) -> bool:
        return not self.segments and not self.sealing

    @property
    def unmapped(self) -> int:
        """Bytes that are in no extent item yet; those written again meanwhile count twice."""
        return self.dirty + sum(piece.valid for piece in self.sealing)

    def _count(self, change: int) -> None:
        self.dirty += change
        self._tally.add(change)

    def _count_sealing(self, pieces: list[Sealing], sign: int) -> None:
        self._tally.add_sealing(sign * sum(len(piece.data) for piece in pieces))

    @property
    def full(self) -> bool:
        """Whether a segment cannot grow any more."""
        return bool(self._full)

    def _note_length(self, offset: int, length: int) -> None:
        """The segment at `offset` has `length` bytes now (0: it is gone)."""
        before = len(self._full)
        if length == EXTENT_MAX:
            self._full.add(offset)
        else:
            self._full.discard(offset)
        self._tally.add_full(len(self._full) - before)

    def close(self) -> None:
        """The window ends: what is left in it is safe elsewhere, or belongs to nobody."""
        self.segments.clear()
        self._count(-self.dirty)
        self._tally.add_full(-len(self._full))
        self._full.clear()

    def write(self, offset: int, data: bytes) -> None:
        """Takes `data`; the file grows when it reaches beyond its end."""
        at = 0
        for start, length in split_aligned(offset, len(data), EXTENT_MAX):
            self._put(start, data[at : at + length])
            at += length
        self.size = max(self.size, offset + len(data))

    def _put(self, start: int, data: bytes) -> None:
        base = start - start % EXTENT_MAX
        stop = start + len(data)
        touching = [
            o
            for o in self.segments.irange(base, stop)
            if o + len(self.segments[o]) >= start and o < base + EXTENT_MAX
        ]
        if len(touching) == 1 and touching[0] <= start:  # appends and overwrites, the usual case
            segment = self.segments[touching[0]]
            before, at = len(segment), start - touching[0]
            segment[at : at + len(data)] = data
            if len(segment) != before:
                self._count(len(segment) - before)
                self._note_length(touching[0], len(segment))
            return
        merged_start = min([start, *touching])
        merged_stop = max([stop, *(o + len(self.segments[o]) for o in touching)])
        merged = bytearray(merged_stop - merged_start)
        for o in touching:
            old = self.segments.pop(o)
            merged[o - merged_start : o - merged_start + len(old)] = old
            self._count(-len(old))
            self._note_length(o, 0)
        merged[start - merged_start : stop - merged_start] = data
        self.segments[merged_start] = merged
        self._count(len(merged))
        self._note_length(merged_start, len(merged))

    def truncate(self, size: int) -> None:
        """Cuts everything beyond `size`, also what is being sealed; or lengthens the file."""
        for o in list(self.segments.irange(max(0, size - EXTENT_MAX))):
            segment = self.segments[o]
            keep = max(0, size - o)
            if keep < len(segment):
                self._count(-(len(segment) - keep))
                del segment[keep:]
                self._note_length(o, keep)
            if not segment:
                del self.segments[o]
        for piece in self.sealing:
            piece.cut(size)
        self.size = size

    def take(self, full_only: bool, limit: int) -> list[Sealing]:
        """Moves about `limit` bytes of segments to `sealing`, in order of offset.

        `full_only` leaves those that may still grow.
        """
        chosen: list[int] = []
        size = 0
        for o in sorted(self._full) if full_only else self.segments:
            if size >= limit:
                break
            chosen.append(o)
            size += len(self.segments[o])
        taken = []
        for o in chosen:
            data = bytes(self.segments.pop(o))
            self._count(-len(data))
            self._note_length(o, 0)
            taken.append(Sealing(o, data, len(data)))
        self.sealing += taken
        self._count_sealing(taken, 1)
        return taken

    def put_back(self, taken: list[Sealing]) -> None:
        """Sealing failed: the bytes are dirty again, under anything written since."""
        self._count_sealing(taken, -1)
        for piece in reversed(taken):  # the newest first: older ones go under it
            self.sealing.remove(piece)
            base = piece.offset - piece.offset % EXTENT_MAX
            near = self.segments.irange(base, base + EXTENT_MAX, inclusive=(True, False))
            newer = {o: bytes(self.segments[o]) for o in near}
            if piece.valid:
                self._put(piece.offset, piece.data[: piece.valid])
                for o, data in newer.items():
                    self._put(o, data)

    def done(self, taken: list[Sealing]) -> None:
        """The pieces are in the tree."""
        self._count_sealing(taken, -1)
        over = set(map(id, taken))
        self.sealing = [piece for piece in self.sealing if id(piece) not in over]

    def overlay(self, offset: int, buffer: bytearray) -> None:
        """Lays dirty bytes over `buffer`, which holds the file's bytes from `offset` on."""
        for piece in self.sealing:
            _lay(buffer, offset, piece.offset, piece.data[: piece.valid])
        first = offset - offset % EXTENT_MAX
        for o in self.segments.irange(first, offset + len(buffer)):
            _lay(buffer, offset, o, self.segments[o])

    def covers(self, offset: int, length: int) -> bool:
        """Whether dirty segments alone hold the whole range."""
        at = offset
        for o in self.segments.irange(offset - offset % EXTENT_MAX, offset + length):
            if o > at:
                return False
            at = max(at, o + len(self.segments[o]))
        return at >= offset + length


class Windows:
    """The dirty windows of all inodes."""

    def __init__(self) -> None:
        self._windows: dict[int, Window] = {}
        self.tally = Tally()

    def get(self, inode: int) -> Window | None:
        """The inode's window, None while nothing of it is dirty."""
        return self._windows.get(inode)

    def open(self, inode: int, attributes: Inode) -> Window:
        """The inode's window, made when there is none. `attributes`: as its item says."""
        window = self._windows.get(inode)
        if window is None:
            window = self._windows[inode] = Window(attributes.size, self.tally)
            if attributes.inline is not None:
                window.hold_inline(attributes.inline)
        return window

    def all(self) -> list[tuple[int, Window]]:
        """Every window there is now, with its inode."""
        return list(self._windows.items())

    def size_of(self, inode: int, attributes: Inode) -> int:
        """A file's true size: a window knows better than the item."""
        window = self._windows.get(inode)
        return attributes.size if window is None else window.size

    def drop(self, inode: int) -> None:
        """The window has nothing left to say."""
        self._windows.pop(inode, None)

    def forget(self, inode: int) -> None:
        """The inode is purged: its dirty bytes go too."""
        window = self._windows.pop(inode, None)
        if window is not None:
            window.truncate(0)
            window.close()


def _lay(buffer: bytearray, base: int, offset: int, data: bytes | bytearray) -> None:
    """Copies the part of `data` (at file offset `offset`) that falls into `buffer` (at `base`)."""
    start, stop = max(base, offset), min(base + len(buffer), offset + len(data))
    if start < stop:
        buffer[start - base : stop - base] = data[start - offset : stop - offset]
