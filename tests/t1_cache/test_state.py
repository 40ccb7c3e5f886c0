"""This machine's store: batches, rows, identity, lock."""

import json

import pytest

from bitdustfs.cache.blockfiles import BlockFiles
from bitdustfs.cache.folder import OwnedFolder
from bitdustfs.cache.rows import OPEN, Batch, BlockPart, BlockRow, Checkpoint
from bitdustfs.cache.state import State
from bitdustfs.core.block import ExtentEntry
from bitdustfs.core.sealing import Suite
from bitdustfs.errors import Forged, LocalError, StateForeign, StateLocked
from bitdustfs.units import MIB

BLOCK = b"b" * 16


def opened(path, key=b"c" * 32):
    return State(path / "state", key, bytes(32), Suite.AEGIS256)


def batch(generation, changes=((b"key", b"value"),), parts=()):
    return Batch(generation, tuple(changes), parts)


def test_batches_come_back_in_order_after_a_restart(tmp_path):
    state = opened(tmp_path)
    for generation in (1, 2, 3):
        state.append(batch(generation, ((b"k%d" % generation, None),)), sync=generation == 3)
    state.close()
    state = opened(tmp_path)
    assert [b.generation for b in state.batches()] == [1, 2, 3]
    assert [b.generation for b in state.batches(1, 2)] == [2]
    assert state.last_generation() == 3
    state.close()


def test_a_batch_larger_than_any_extent_can_be_read_again(tmp_path):
    changes = tuple((b"key %08d" % i, b"a compressible value " * 5) for i in range(40_000))
    assert sum(len(k) + len(v) for k, v in changes) > 4 * MIB
    state = opened(tmp_path)
    state.append(batch(1, changes), sync=True)
    state.close()
    state = opened(tmp_path)
    assert next(iter(state.batches())).changes == changes
    state.close()


def test_promise_8_the_journal_does_not_open_with_another_key(tmp_path):
    state = opened(tmp_path)
    state.append(batch(1), sync=True)
    state.close()
    assert b"value" not in (tmp_path / "state" / "data.mdb").read_bytes()
    state = opened(tmp_path, key=b"d" * 32)
    with pytest.raises(Forged):
        list(state.batches())
    state.close()


def test_a_batch_grows_its_open_blocks_in_the_same_transaction(tmp_path):
    state = opened(tmp_path)
    state.blocks.put(BLOCK, BlockRow(OPEN, False, 0, 4, 7, 0))
    entry = ExtentEntry(0, 1, 0, 500, bytes(32), 9, 0, 400, 0, 1)
    state.append(batch(1, parts=(BlockPart(BLOCK, 500, (entry,)),)), sync=True)
    assert state.blocks.get(BLOCK).length == 500
    with pytest.raises(LocalError):
        state.append(batch(2, parts=(BlockPart(b"x" * 16, 500, (entry,)),)), sync=True)
    assert state.last_generation() == 1
    state.close()


def test_a_checkpoint_drops_the_batches_it_contains(tmp_path):
    state = opened(tmp_path)
    for generation in (1, 2, 3):
        state.append(batch(generation), sync=False)
    state.set_checkpoint(Checkpoint(None, 2))
    assert [b.generation for b in state.batches()] == [3]
    state.set_checkpoint(Checkpoint(None, 3))
    assert state.last_generation() == 3
    state.close()


def test_one_process_at_a_time(tmp_path):
    first = OwnedFolder(tmp_path / "x", "vault", {"id": "one"})
    with pytest.raises(StateLocked, match="in use by process"):
        OwnedFolder(tmp_path / "x", "vault", {"id": "one"})
    first.close()
    OwnedFolder(tmp_path / "x", "vault", {"id": "one"}).close()


def test_a_folder_of_another_or_of_nobody_is_refused(tmp_path):
    OwnedFolder(tmp_path / "x", "vault", {"id": "one"}).close()
    with pytest.raises(StateForeign):
        OwnedFolder(tmp_path / "x", "vault", {"id": "two"})
    with pytest.raises(StateForeign):
        OwnedFolder(tmp_path / "x", "shelf", {"id": "one"})
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "data").write_text("somebody's")
    with pytest.raises(StateForeign, match="right disk"):
        OwnedFolder(tmp_path / "y", "vault", {"id": "one"})
    marker = tmp_path / "x" / "bitdust.json"
    marker.write_text("{")
    with pytest.raises(StateForeign):
        OwnedFolder(tmp_path / "x", "vault", {"id": "one"})
    marker.write_text(json.dumps({"kind": "vault", "format": "2", "id": "one"}))
    with pytest.raises(StateForeign, match="format"):
        OwnedFolder(tmp_path / "x", "vault", {"id": "one"})


def test_a_block_left_open_is_cut_to_its_committed_length(tmp_path):
    files = BlockFiles(tmp_path)
    with open(files.create(BLOCK), "wb") as file:
        file.write(b"committed" + b"torn")
    with open(files.reopen(BLOCK, 9), "rb") as file:
        assert file.read() == b"committed"
    with pytest.raises(LocalError, match="shorter"):
        files.reopen(BLOCK, 10)
    assert bytes(files.load(BLOCK, 9, 64)) == b"committed".ljust(64, b"\0")
    files.close()


def test_fetched_extents_stay_within_their_limit(tmp_path):
    files = BlockFiles(tmp_path)
    for number in range(10):
        files.store_fetched(bytes([number]) * 16, 0, [bytes(400), bytes(600)], limit=3500)
    kept = [n for n in range(10) if files.read_fetched(bytes([n]) * 16, 0, 1000) is not None]
    assert kept == [7, 8, 9]
    files.close()
