"""What was fetched from suppliers and is kept on this machine's disk."""

import errno
import os

import pytest

from bitdustfs.cache.blockfiles import BlockFiles
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
