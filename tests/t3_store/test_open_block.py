"""An open block owns its descriptor: syncing and closing exclude each other, whatever fails."""

import errno
import os
import threading

import pytest
from family import KEY

from bitdustfs.blocks.open_block import OpenBlock
from bitdustfs.blocks.sealers import Sealers
from bitdustfs.cache.blockfiles import BlockFiles
from bitdustfs.core.block import ExtentEntry
from bitdustfs.core.hashing import digest
from bitdustfs.errors import LocalError

BLOCK = b"b" * 16


@pytest.fixture
def block(tmp_path):
    files = BlockFiles(tmp_path)
    made = OpenBlock(BLOCK, files.create(BLOCK), False, Sealers(KEY.capability()).of(BLOCK))
    yield made
    made.release()
    files.close()


def add(block, sealed):
    number = len(block.entries)
    entry = ExtentEntry(
        number, 1, block.length, len(sealed), digest(sealed), 1, 0, len(sealed), 0, 1
    )
    block.append([sealed], [entry])


def test_a_sync_that_comes_after_the_close_touches_no_descriptor(block, monkeypatch):
    """Its number may be another file's by then."""
    add(block, b"x" * 1000)
    block.close(b"directory")
    block.release()
    block._synced = 0  # as a commit saw it that took its list of open blocks before
    monkeypatch.setattr(os, "fdatasync", lambda fd: pytest.fail(f"descriptor {fd} was synced"))
    block.sync()


def test_promise_3_a_sync_under_way_is_waited_for_before_the_block_is_closed(block, monkeypatch):
    add(block, b"x" * 1000)
    fdatasync, entered, go = os.fdatasync, threading.Event(), threading.Event()
    order = []

    def slow(fd):
        order.append("sync begins")
        entered.set()
        go.wait(10)
        fdatasync(fd)
        order.append("sync ends")

    monkeypatch.setattr(os, "fdatasync", slow)
    syncing = threading.Thread(target=block.sync)
    syncing.start()
    assert entered.wait(10)
    monkeypatch.setattr(os, "fdatasync", lambda fd: order.append("close syncs"))
    closing = threading.Thread(target=block.close, args=(b"directory",))
    closing.start()
    go.set()
    syncing.join(10)
    closing.join(10)
    assert order == ["sync begins", "sync ends", "close syncs"]


def test_promise_2_after_a_failed_sync_everything_is_written_again(block, monkeypatch):
    add(block, b"x" * 1000)
    block.sync()
    add(block, b"y" * 1000)
    fdatasync, written, pwrite = os.fdatasync, [], os.pwrite

    def failing(fd):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", failing)
    with pytest.raises(LocalError):
        block.sync()
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    monkeypatch.setattr(
        os, "pwrite", lambda fd, data, at: (written.append(at), pwrite(fd, data, at))[1]
    )
    block.sync()
    assert written == [1000]  # what was synced before need not be


def test_promise_2_a_batch_never_carries_extents_beyond_what_its_sync_covers(block):
    """A commit takes new entries and then syncs up to `length`, while another thread appends."""

    class Watched(list):
        def __iadd__(self, new):
            assert block.length >= new[-1].offset + new[-1].length
            return super().__iadd__(new)

    block.entries = Watched()
    add(block, b"x" * 1000)
    add(block, b"y" * 1000)
    assert [entry.ordinal for entry in block.take_new()] == [0, 1]


def test_promise_2_what_is_appended_while_a_batch_takes_its_entries_is_in_the_next(block):
    class Growing(list):
        """One more extent is appended right after somebody took a slice."""

        def __getitem__(self, at):
            taken = super().__getitem__(at)
            if isinstance(at, slice) and len(self) == 1:
                add(block, b"y" * 1000)
            return taken

    block.entries = Growing()
    add(block, b"x" * 1000)
    assert [entry.ordinal for entry in block.take_new()] == [0]
    assert [entry.ordinal for entry in block.take_new()] == [1]
