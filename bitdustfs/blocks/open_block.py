"""A block that still grows: it owns its descriptor, its lock and its closed state.

Appending is one thread's at a time (the writer's lock sees to that) and may go on while another
thread syncs. Syncing and closing exclude each other, here: a descriptor that was closed is never
synced, and nothing is inferred from an error of the operating system.
"""

import errno
import os
import threading
from collections.abc import Iterable, Sequence

from bitdustfs.cache.blockfiles import append
from bitdustfs.cache.folder import local_error
from bitdustfs.core.block import ExtentEntry, InodeHint, directory_size
from bitdustfs.core.hashing import digest
from bitdustfs.core.sealing import Sealer
from bitdustfs.failpoints import reach
from bitdustfs.units import BLOCK_EXTENTS_MAX, BLOCK_FILL, KIB, META_EXTENT_MAX, MIB

DIRECTORY_FILL = META_EXTENT_MAX - 16 * KIB  #: bytes from which a directory is full
#: bytes or extents that a block has before a full directory closes it: paths may be very long
CROWDED_LENGTH, CROWDED_EXTENTS = MIB, 1024


class OpenBlock:
    """One open block and its descriptor `fd`. `length` counts whole extents, in bytes."""

    def __init__(self, block: bytes, fd: int, meta: bool, sealer: Sealer) -> None:
        self.id, self.meta, self.sealer = block, meta, sealer
        self.length = 0
        self.entries: list[ExtentEntry] = []
        self.hints: dict[int, InodeHint] = {}
        self._paths = 0  # bytes of the hints' paths
        self._fd = fd
        self._lock = threading.Lock()  # over syncing and closing
        self._closed = False
        self._reported = 0  # entries that a batch already carries
        self._synced = 0  # bytes that are on disk
        self._doubtful = False  # a sync failed: the kernel may have dropped what it could not write

    @property
    def full(self) -> bool:
        """Whether it takes no further extent."""
        return self.is_full_with(0, 0)

    def is_full_with(self, entries: int, length: int) -> bool:
        """Whether it takes no further extent after `entries` more, of `length` bytes.

        A block of small files is full when its directory is: each file is to be found by its path.
        """
        entries, length = len(self.entries) + entries, self.length + length
        if length >= BLOCK_FILL or entries >= BLOCK_EXTENTS_MAX - 1:
            return True
        size = directory_size(entries, len(self.hints), self._paths)
        crowded = length >= CROWDED_LENGTH or entries >= CROWDED_EXTENTS
        return crowded and size >= DIRECTORY_FILL

    def tell(self, hint: InodeHint) -> None:
        """What the directory will say of an inode, as it is known now."""
        before = self.hints.get(hint.inode)
        if before is not None:
            hint = hint.after(before)
            self._paths -= len(before.path)
        self._paths += len(hint.path)
        self.hints[hint.inode] = hint

    def append(self, sealed: Sequence[bytes], entries: Sequence[ExtentEntry]) -> None:
        """Extents, each with its entry. Raises DiskFull or LocalError; then none of them is
        there.
        """
        append(self._fd, list(sealed), self.length)
        # the length first: a batch that takes the entries is synced up to the length after that
        self.length += sum(map(len, sealed))
        self.entries += entries

    def restore(self, entries: Iterable[ExtentEntry], length: int) -> None:
        """After a crash: what was committed of it."""
        self.entries, self.length = list(entries), length

    def sync(self) -> None:
        """Brings all extents to disk; nothing is to be done once it is closed. Raises
        LocalError.
        """
        with self._lock:
            length = self.length
            if self._closed or self._synced >= length:
                return
            try:
                reach("block-sync")
                self._sync()
            except OSError as error:
                raise local_error(error) from error
            self._synced = length

    def close(self, directory: bytes) -> int:
        """Writes the sealed directory behind the extents and syncs; bytes of the whole block.

        The descriptor stays until `release`: the block is closed when its row says so. Raises
        DiskFull or LocalError; then it is open still.
        """
        with self._lock:
            append(self._fd, [directory], self.length)
            try:
                reach("block-close")
                self._sync()
            except OSError as error:
                raise local_error(error) from error
            self._synced = self.length
        return self.length + len(directory)

    def release(self) -> None:
        """Its row says that it is closed: the descriptor goes."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._fd)

    def take_new(self) -> tuple[ExtentEntry, ...]:
        """The entries that no batch carries yet."""
        new = tuple(self.entries[self._reported :])
        self._reported += len(new)  # an append in another thread may have gone on meanwhile
        return new

    def put_back(self, count: int) -> None:
        """The batch that was to carry the last `count` of them failed."""
        self._reported -= count

    def _sync(self) -> None:
        """fdatasync. After a failure, what was not synced is written again first.

        A failed fdatasync leaves pages marked clean that never reached the disk, so that the next
        one succeeds for nothing (Rebello et al., "Can applications recover from fsync failures?",
        2020).
        """
        if self._doubtful:
            for entry in list(self.entries):
                if entry.offset >= self._synced:
                    sealed = os.pread(self._fd, entry.length, entry.offset)
                    if digest(sealed) != entry.hash:
                        raise OSError(errno.EIO, "what was written here cannot be read back")
                    os.pwrite(self._fd, sealed, entry.offset)
        self._doubtful = True
        os.fdatasync(self._fd)
        self._doubtful = False
