"""What was fetched from suppliers and is kept on this machine's disk."""

import errno
import os
import threading

import pytest

from bitdustfs.cache.blockfiles import OPEN_FILES, BlockFiles
from bitdustfs.units import MIB

BLOCK, OTHER = b"b" * 16, b"o" * 16


@pytest.fixture
def files(tmp_path):
    made = BlockFiles(tmp_path)
    yield made
    made.close()


def test_more_pieces_than_one_write_takes_are_kept(files):
    content = os.urandom(3000)
    files.store_fetched(OTHER, 0, [b"before"], MIB)
    files.store_fetched(BLOCK, 100, [content[i : i + 1] for i in range(3000)], MIB)
    assert files.read_fetched(BLOCK, 100, 3000) == content
    assert files.read_fetched(OTHER, 0, 6) == b"before"


@pytest.mark.parametrize(("code", "kept"), [(errno.EIO, True), (errno.ENOSPC, False)])
def test_only_a_full_disk_drops_what_was_fetched(files, monkeypatch, code, kept):
    files.store_fetched(OTHER, 0, [b"before"], MIB)

    def refuse(*arguments):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "pwritev", refuse)
    files.store_fetched(BLOCK, 0, [b"more"], MIB)
    assert (files.read_fetched(OTHER, 0, 6) == b"before") is kept
    assert not files.read_fetched(BLOCK, 0, 4)


def test_who_waits_for_the_disk_holds_nobody_up_and_keeps_its_file(files, monkeypatch):
    """A thread reads a run of extents ahead while the loop's thread wants another one."""
    reading, go_on, pread, got = threading.Event(), threading.Event(), os.pread, []

    def slow(fd, length, offset):
        if length == 4:
            reading.set()
            assert go_on.wait(10)
        return pread(fd, length, offset)

    monkeypatch.setattr(os, "pread", slow)
    files.store_fetched(BLOCK, 0, [b"slow"], MIB)
    files.store_fetched(OTHER, 0, [b"other"], MIB)
    thread = threading.Thread(target=lambda: got.append(files.read_fetched(BLOCK, 0, 4)))
    thread.start()
    assert reading.wait(10)
    assert files.read_fetched(OTHER, 0, 5) == b"other"
    files.trim_fetched(0)  # the file is removed, and its descriptor is not another file's
    files.store_fetched(OTHER, 0, [b"again"], MIB)
    assert files.read_fetched(OTHER, 0, 5) == b"again"
    go_on.set()
    thread.join(10)
    assert got == [b"slow"]


def test_descriptors_are_bounded_and_closed(files):
    before = len(os.listdir("/proc/self/fd"))
    for number in range(2 * OPEN_FILES):
        block = number.to_bytes(16, "big")
        files.store_fetched(block, 0, [b"here"], MIB)
        for alone in (True, False):
            assert files.read_fetched(block, 0, 4, alone) == b"here"
    assert len(os.listdir("/proc/self/fd")) == before + OPEN_FILES
    files.trim_fetched(0)
    assert len(os.listdir("/proc/self/fd")) == before
