"""What every shelf does: one suite over the one in memory and the one on disk."""

import os

import pytest

from bitdustfs.cache.folder import OwnedFolder
from bitdustfs.errors import Refused
from bitdustfs.supplier.diskshelf import DiskShelf
from bitdustfs.supplier.shelf import MemoryShelf
from bitdustfs.supplier.shelfrows import VaultRow, fragment_key

ONE, TWO = b"1" * 32, b"2" * 32  # vaults
HEADER, CHUNKS = b"header", b"c" * 32
SIZE = len(HEADER) + len(CHUNKS) + 1000


class Shelves:
    """A shelf, and how to open it again."""

    def __init__(self, kind, path):
        self.kind, self.path = kind, path
        self.folder = None
        self.shelf = MemoryShelf()
        self.open()

    def open(self):
        if self.kind == "disk":
            self.folder = OwnedFolder(self.path / "shelf", "shelf", {"id": "test"})
            self.shelf = DiskShelf(self.folder)
        return self.shelf

    def close(self):
        if self.folder is not None:
            self.shelf.close()
            self.folder.close()
            self.folder = None


@pytest.fixture(params=["memory", "disk"])
def shelves(request, tmp_path):
    made = Shelves(request.param, tmp_path)
    for vault in (ONE, TWO):
        made.shelf.set_vault(vault, VaultRow(1 << 30, 2_000_000_000))
    yield made
    made.close()


def block(number):
    return number.to_bytes(16, "big")


def fill(shelf, vault, numbers, position=0):
    for number in numbers:
        key = fragment_key(block(number), position)
        shelf.store(vault, key, HEADER, CHUNKS, os.urandom(1000), b"h" * 32)


def test_what_is_stored_is_counted_listed_and_read(shelves):
    shelf = shelves.shelf
    fill(shelf, ONE, range(5))
    fill(shelf, ONE, range(1))  # the same once more is not counted again
    row = shelf.vault(ONE)
    assert (row.used, row.fragments) == (5 * SIZE, 5) and shelf.used_total() == 5 * SIZE
    keys = [key for key, _ in shelf.keys(ONE, b"", 3)]
    assert keys == [fragment_key(block(n), 0) for n in range(3)]
    assert [key for key, _ in shelf.keys(ONE, keys[-1], 9)] == [
        fragment_key(block(n), 0) for n in (3, 4)
    ]
    assert shelf.head(ONE, keys[0]) == (HEADER, CHUNKS)
    assert len(shelf.read(ONE, keys[0], 10, 100)) == 100
    assert shelf.keys(TWO, b"", 9) == [] and shelf.header_hash(TWO, block(0)) is None
    for wrong in ((0, 1001), (-1, 5), (0, 0)):
        with pytest.raises(Refused, match="malformed"):
            shelf.read(ONE, keys[0], *wrong)


def test_a_killed_block_is_in_the_trash_in_nobodys_quota_and_readable(shelves):
    shelf = shelves.shelf
    fill(shelf, ONE, range(3))
    fill(shelf, ONE, range(3), position=1)
    shelf.kill(ONE, block(1), b"record", 100)
    assert shelf.vault(ONE).used == 4 * SIZE and shelf.tombstone(ONE, block(1)) == b"record"
    assert shelf.trash.of(ONE) == 2 * SIZE and shelf.trash.of(TWO) == 0
    assert len(shelf.read(ONE, fragment_key(block(1), 0), 0, 1000)) == 1000
    assert block(1) not in {key[:16] for key, _ in shelf.keys(ONE, b"", 99)}


def test_the_oldest_of_the_trash_goes_first_and_is_gone_then(shelves):
    shelf = shelves.shelf
    fill(shelf, ONE, range(3))
    fill(shelf, TWO, range(3))
    for when, (vault, number) in enumerate([(TWO, 2), (ONE, 0), (TWO, 0), (ONE, 1)]):
        shelf.kill(vault, block(number), b"record", 100 + when)
    oldest = shelf.trash.due(0, 2 * SIZE, 9)
    assert [(item.vault, item.key[:16]) for item in oldest] == [(TWO, block(2)), (ONE, block(0))]
    assert shelf.discard(oldest) == 2 * SIZE
    assert (shelf.trash.of(ONE), shelf.trash.of(TWO)) == (SIZE, SIZE)
    with pytest.raises(Refused, match="not-found"):
        shelf.head(ONE, fragment_key(block(0), 0))
    assert shelf.tombstone(ONE, block(0)) == b"record"  # for ever


def test_what_is_dropped_leaves_no_tombstone(shelves):
    shelf = shelves.shelf
    fill(shelf, ONE, range(3))
    shelf.drop(ONE, [fragment_key(block(n), 0) for n in (0, 2)])
    assert shelf.vault(ONE).fragments == 1 and shelf.tombstone(ONE, block(0)) is None
    fill(shelf, ONE, [0])
    assert shelf.vault(ONE).fragments == 2


def test_of_a_vault_that_is_forgotten_nothing_is_left(shelves):
    shelf = shelves.shelf
    fill(shelf, ONE, range(3))
    fill(shelf, TWO, range(2))
    shelf.kill(ONE, block(0), b"record", 100)
    shelf.forget(ONE)
    assert shelf.vault(ONE) is None and [vault for vault, _ in shelf.all_rows()] == [TWO]
    assert shelf.trash.of(ONE) == 0 and shelf.used_total() == 2 * SIZE
    assert len(shelf.keys(TWO, b"", 9)) == 2


def test_everything_is_there_again_after_a_restart(tmp_path):
    shelves = Shelves("disk", tmp_path)
    shelves.shelf.set_vault(ONE, VaultRow(1 << 30, 2_000_000_000))
    fill(shelves.shelf, ONE, range(4))
    shelves.shelf.kill(ONE, block(3), b"record", 100)
    row = shelves.shelf.vault(ONE)
    shelves.close()
    shelf = shelves.open()
    assert shelf.vault(ONE) == row and shelf.used_total() == 3 * SIZE
    assert shelf.trash.of(ONE) == SIZE
    assert [item.key for item in shelf.trash.due(1000, 0, 9)] == [fragment_key(block(3), 0)]
    assert shelf.tombstone(ONE, block(3)) == b"record"
    shelves.close()


def test_deleting_does_not_look_at_what_was_deleted_before(tmp_path, monkeypatch):
    """Each deletion decodes what it moves, not the trash: deleting in bulk is linear."""
    shelves = Shelves("disk", tmp_path)
    shelves.shelf.set_vault(ONE, VaultRow(1 << 30, 2_000_000_000))
    fill(shelves.shelf, ONE, range(60))
    from bitdustfs.supplier import diskshelf

    decoded = 0
    decode = diskshelf.decode_trash_row

    def counting(raw):
        nonlocal decoded
        decoded += 1
        return decode(raw)

    monkeypatch.setattr(diskshelf, "decode_trash_row", counting)
    for number in range(60):
        shelves.shelf.kill(ONE, block(number), b"record", number)
        assert shelves.shelf.trash.of(ONE) == (number + 1) * SIZE
    assert decoded == 0
    shelves.close()
