"""Local files of blocks, and of what was fetched of blocks that live elsewhere.

    blocks/<id>    this machine wrote it: grows while open, then never changes
    fetched/<id>   sparse; holds whatever sealed extents were read from suppliers

Nothing indexes a fetched file: every reader checks the hash in its reference, so a hole, a torn
write or bit rot is simply a miss. Files are plain and large; their index is in LMDB.
"""

import errno
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

from bitdustfs.cache.folder import fsync_folder, local_error
from bitdustfs.core.erasure import Buffer
from bitdustfs.errors import LocalError
from bitdustfs.failpoints import reach

log = logging.getLogger(__name__)

PIECES_MAX = 1024  #: that one write takes: IOV_MAX of Linux
FULL = (errno.ENOSPC, errno.EDQUOT)
OPEN_FILES = 64  #: descriptors kept for reading


class _Readable:
    """A descriptor for reading. It is closed once nobody has it, whoever let it go last."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


class BlockFiles:
    """The two folders under `path`. Thread-safe; methods block on the disk."""

    def __init__(self, path: Path) -> None:
        self._own, self._fetched = path / "blocks", path / "fetched"
        for folder in (self._own, self._fetched):
            folder.mkdir(mode=0o700, exist_ok=True)
        self._lock = threading.Lock()
        # own?, block, read in one place alone?
        self._readable: OrderedDict[tuple[bool, bytes, bool], _Readable] = OrderedDict()
        self._own_sizes: OrderedDict[bytes, int] = OrderedDict()  # least recently used first
        for file in sorted(self._own.iterdir(), key=lambda f: f.stat().st_mtime):
            self._own_sizes[bytes.fromhex(file.name)] = file.stat().st_size
        self._fetched_sizes: OrderedDict[bytes, int] = OrderedDict()
        for file in sorted(self._fetched.iterdir(), key=lambda f: f.stat().st_mtime):
            self._fetched_sizes[bytes.fromhex(file.name)] = file.stat().st_blocks * 512
        self._own_total = sum(self._own_sizes.values())
        self._fetched_total = sum(self._fetched_sizes.values())

    def close(self) -> None:
        with self._lock:
            self._readable.clear()

    def create(self, block: bytes) -> int:
        """A descriptor to append a new block to; its name is durable when this returns."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            fd = os.open(self._path(block), flags, 0o600)
            fsync_folder(self._own)
        except OSError as error:
            raise local_error(error) from error
        self.grew(block, 0)
        return fd

    def reopen(self, block: bytes, length: int) -> int:
        """A descriptor of a block left open by a crash, cut to its committed length."""
        try:
            fd = os.open(self._path(block), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise LocalError(f"the local block {block.hex()} is gone") from None
        if os.fstat(fd).st_size < length:
            os.close(fd)
            raise LocalError(f"the local block {block.hex()} is shorter than was committed")
        os.ftruncate(fd, length)
        return fd

    def read(self, block: bytes, offset: int, length: int, alone: bool = False) -> bytes | None:
        """Bytes of a block from its own file, or None where this machine has no such file.

        `alone`: what lies behind them is not wanted, too.
        """
        with self._lock:
            if block not in self._own_sizes:
                return None
            self._own_sizes.move_to_end(block)
        return self._pread(self._own, block, offset, length, alone)

    def read_fetched(
        self, block: bytes, offset: int, length: int, alone: bool = False
    ) -> bytes | None:
        """Bytes once fetched, or None. May be anything: the caller checks the hash."""
        if block not in self._fetched_sizes:
            return None
        return self._pread(self._fetched, block, offset, length, alone)

    def store_fetched(
        self, block: bytes, offset: int, pieces: Sequence[Buffer], limit: int
    ) -> None:
        """Keeps fetched bytes, pieces that follow each other from `offset` on.

        The oldest blocks' are dropped, so that all stay within `limit` bytes.

        A cache, not a promise: a full disk is no error here, and what was not written is fetched
        again.
        """
        try:
            fd = os.open(
                self._fetched / block.hex(), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError:
            return
        size = 0
        try:
            for at in range(0, len(pieces), PIECES_MAX):
                size += os.pwritev(fd, pieces[at : at + PIECES_MAX], offset + size)
        except OSError as error:
            if error.errno in FULL:
                limit = 0
        finally:
            os.close(fd)
        with self._lock:
            self._fetched_sizes[block] = self._fetched_sizes.pop(block, 0) + size
            self._fetched_total += size
        self.trim_fetched(limit)

    def trim_fetched(self, limit: int) -> None:
        """Drops what was fetched, the oldest blocks' first, until it is within `limit` bytes."""
        with self._lock:
            victims = []
            while self._fetched_total > limit and self._fetched_sizes:
                victim, size = self._fetched_sizes.popitem(last=False)
                self._fetched_total -= size
                victims.append(victim)
        for victim in victims:
            self._remove(self._fetched, victim)

    def load(self, block: bytes, length: int, padded: int) -> bytearray:
        """A whole closed block, zeros up to `padded` bytes. Raises LocalError when gone or
        short.
        """
        return self.load_range(block, length, 0, padded)

    def load_range(self, block: bytes, length: int, start: int, stop: int) -> bytearray:
        """Bytes [start, stop) of a closed block of `length` bytes, zeros where they lie beyond it.

        Raises LocalError when it is gone or short.
        """
        content = bytearray(stop - start)
        there = max(0, min(length, stop) - start)
        try:
            with open(self._path(block), "rb", buffering=0) as file:
                file.seek(start)
                got = file.readinto(memoryview(content)[:there])
        except OSError as error:
            raise LocalError(f"the local block {block.hex()} cannot be read: {error}") from error
        if got != there:
            raise LocalError(f"the local block {block.hex()} is shorter than was committed")
        return content

    def remove(self, block: bytes) -> None:
        """Deletes the block's own file, if any. The caller has committed why it may."""
        with self._lock:
            self._own_total -= self._own_sizes.pop(block, 0)
        self._remove(self._own, block)

    def grew(self, block: bytes, length: int) -> None:
        """A block of this machine has `length` bytes now."""
        with self._lock:
            self._own_total += length - self._own_sizes.get(block, 0)
            self._own_sizes[block] = length

    def own(self) -> list[bytes]:
        """The ids of all own blocks, least recently used first."""
        with self._lock:
            return list(self._own_sizes)

    @property
    def own_total(self) -> int:
        """Bytes of all own blocks."""
        return self._own_total

    @property
    def fetched_total(self) -> int:
        """Bytes of fetched extents kept."""
        return self._fetched_total

    def _path(self, block: bytes) -> Path:
        return self._own / block.hex()

    def _remove(self, folder: Path, block: bytes) -> None:
        (folder / block.hex()).unlink(missing_ok=True)  # takes its time: nobody waits for the lock
        with self._lock:
            for alone in (True, False):
                self._readable.pop((folder is self._own, block, alone), None)

    def _pread(
        self, folder: Path, block: bytes, offset: int, length: int, alone: bool
    ) -> bytes | None:
        file = self._readable_file(folder, block, alone)
        if file is None:
            return None
        try:
            return os.pread(file.fd, length, offset)  # others read meanwhile
        except OSError as error:  # a bad sector: suppliers may have it
            log.error("%s cannot be read at %d: %s", block.hex(), offset, error)
            return None

    def _readable_file(self, folder: Path, block: bytes, alone: bool) -> _Readable | None:
        key = (folder is self._own, block, alone)  # no path: making one takes longer than reading
        with self._lock:
            file = self._readable.get(key)
            if file is not None:
                self._readable.move_to_end(key)
                return file
            try:
                file = _Readable(os.open(folder / block.hex(), os.O_RDONLY | os.O_CLOEXEC))
            except FileNotFoundError:
                return None
            if alone:
                # else the kernel reads ahead: for an extent, a page more than it reads at once,
                # that is twice the time
                os.posix_fadvise(file.fd, 0, 0, os.POSIX_FADV_RANDOM)
            self._readable[key] = file
            if len(self._readable) > OPEN_FILES:
                self._readable.popitem(last=False)
            return file


def append(fd: int, pieces: list[bytes], offset: int) -> None:
    """Writes `pieces` one after another at `offset`; raises DiskFull or LocalError.

    A failed append leaves bytes beyond the block's known length; the next one overwrites them.
    """
    data = b"".join(pieces)
    try:
        written = 0
        reach("block-append")
        while written < len(data):
            written += os.pwrite(fd, memoryview(data)[written:], offset + written)
    except OSError as error:
        raise local_error(error) from error
