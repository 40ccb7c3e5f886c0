"""Buffers that payloads are received into, and written to the disk from, without a copy between.

    | front: what the file has before the payload | payload | the rest of a page |

A buffer begins on a page, and ends with one: it can be written past the kernel's cache (O_DIRECT).
Such a write costs a supplier a tenth of the processor time, and a fragment that was just written is
read by nobody soon. A few buffers are kept for the next payloads: fresh memory costs a page fault
for each page.
"""

import mmap
import threading

from bitdustfs.core.erasure import Buffer
from bitdustfs.units import MIB

PAGE = mmap.PAGESIZE  #: bytes; also what addresses and lengths of direct writes are multiples of
KEPT_MAX = 16 * MIB  #: bytes of all buffers that are kept while nobody uses them
SLACK = 4  #: a buffer is used for a payload that leaves at most one in so many of its bytes


class Spare(mmap.mmap):
    """One buffer. Its owner lays it out, and gives it back once nobody looks into it any more."""

    front: int
    length: int

    def lay_out(self, front: int, length: int) -> memoryview:
        """Where a payload of `length` bytes goes, with `front` bytes before it."""
        self.front, self.length = front, length
        return memoryview(self)[front : front + length]

    def whole(self, front: bytes) -> memoryview:
        """The file: `front`, the payload, and up to the end of a page bytes of no meaning."""
        view = memoryview(self)
        view[: self.front] = front
        return view[: _pages(self.front + self.length)]


class Spares:
    """The buffers of one supplier. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[Spare] = []

    def take(self, size: int) -> Spare:
        """A buffer of `size` bytes at least, with whatever in it."""
        size = _pages(size)
        with self._lock:
            fitting = [s for s in self._kept if size <= len(s) <= size + size // SLACK]
            if fitting:
                best = min(fitting, key=len)
                self._kept.remove(best)
                return best
        return Spare(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def give_back(self, spare: Spare) -> None:
        """It is used no more: kept, in place of those that were not used for longest."""
        with self._lock:
            self._kept.append(spare)
            while sum(map(len, self._kept)) > KEPT_MAX:
                del self._kept[0]


def spare_of(payload: Buffer, front: int) -> Spare | None:
    """The buffer that a payload was received into, if it has `front` bytes before it."""
    owner = payload.obj if isinstance(payload, memoryview) else None
    if isinstance(owner, Spare) and (owner.front, owner.length) == (front, len(payload)):
        return owner
    return None


def _pages(size: int) -> int:
    return -(-size // PAGE) * PAGE
