"""What is pinned on this machine: by the numbers of inodes, in this machine's state of the vault.

A pin is about this machine: a laptop keeps the photos here, the desktop beside it has other disks.
So it is in no vault and goes nowhere else. It follows the inode: a folder that is renamed stays
pinned, and a number is never used again. The path is how it was called when it was pinned.
"""

from bitdustfs.cache.state import State
from bitdustfs.core.codec import U63, Decoder, encode
from bitdustfs.core.records import Record
from bitdustfs.errors import UsageError
from bitdustfs.units import MIB

PINS_MAX = 1000  #: pins of one vault


class PinRow(Record, frozen=True):
    """One pin. `path`: from the mountpoint on, as it was called then."""

    inode: U63
    path: bytes


_rows = Decoder(tuple[PinRow, ...], "list of pins", 16 * MIB)


class Pins:
    """The pins of one vault on this machine. Methods block on the disk; they raise LocalError."""

    def __init__(self, state: State) -> None:
        self._state = state
        raw = state.get_value("pins")
        rows = _rows.decode_untrusted(raw) if raw else ()
        self._rows = {row.inode: row for row in rows}

    def all(self) -> list[PinRow]:
        """All, in the order in which they were pinned."""
        return list(self._rows.values())

    def has(self, inode: int) -> bool:
        """Whether the inode itself is pinned."""
        return inode in self._rows

    def add(self, inode: int, path: bytes) -> None:
        """Pins; once more: by its name of now. Raises UsageError where there are too many."""
        if inode not in self._rows and len(self._rows) >= PINS_MAX:
            raise UsageError(f"{PINS_MAX} pins are the most: pin a folder above")
        self._write({**self._rows, inode: PinRow(inode, path)})

    def drop(self, inode: int) -> bool:
        """Pins no more; whether it was."""
        if inode not in self._rows:
            return False
        self._write({number: row for number, row in self._rows.items() if number != inode})
        return True

    def _write(self, rows: dict[int, PinRow]) -> None:
        self._state.set_value("pins", encode(tuple(rows.values())))
        self._state.sync()
        self._rows = rows

    def begin(self) -> bool:
        """A mount begins. Whether the last one ended in order: what it kept is on this disk."""
        clean = self._state.get_value("pins-kept") == b"1"
        if clean:
            self._state.set_value("pins-kept", b"")
            self._state.sync()
        return clean

    def end(self) -> None:
        """The mount ends, and all that is pinned was synced."""
        self._state.set_value("pins-kept", b"1")
        self._state.sync()
