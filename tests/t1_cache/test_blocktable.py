"""The block table: its indexes say what a scan of all rows would say; memory follows the
database.
"""

import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bitdustfs import failpoints
from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.cache.database import Database
from bitdustfs.cache.rows import CLOSED, DEAD, OPEN, BlockRow
from bitdustfs.core.spans import slice_length
from bitdustfs.errors import LocalError

BLOCKS = [bytes([n]) * 16 for n in range(12)]
blocks = st.sampled_from(BLOCKS)
rows = st.builds(
    BlockRow,
    state=st.sampled_from([OPEN, CLOSED, DEAD]),
    meta=st.booleans(),
    group=st.just(0),
    k=st.just(4),
    n=st.just(7),
    length=st.integers(0, 1000),
    acked=st.just(tuple(range(7))) | st.sets(st.integers(0, 6)).map(lambda at: tuple(sorted(at))),
    local=st.booleans(),
    safe=st.booleans(),
    copies=st.sampled_from([(), ((2, b"node"),)]),
    beside=st.sampled_from([(), (1,)]),
)


class TableModel(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.model, self.states = {}, {}
        self.open()

    def open(self):
        self.database = Database(Path(self._folder.name) / "state")
        self.table = BlockTable(self.database)
        self.reopened = True

    def teardown(self):
        self.database.close()
        self._folder.cleanup()

    @rule(block=blocks, row=rows)
    def put(self, block, row):
        self.table.put(block, row, sync=False)
        self.model[block] = row

    @rule(block=blocks)
    def forget(self, block):
        self.table.forget(block)
        self.model.pop(block, None)

    @rule(chosen=st.sets(blocks), position=st.integers(0, 6))
    def acknowledge(self, chosen, position):
        def change(row):
            return msgspec.structs.replace(row, acked=tuple(sorted({*row.acked, position})))

        self.table.change_all(dict.fromkeys(chosen, change))
        for block in chosen & self.model.keys():
            self.model[block] = change(self.model[block])

    @rule()
    def another_process(self):
        self.database.close()
        self.open()

    @invariant()
    def the_indexes_are_what_a_scan_would_say(self):
        closed = {b: row for b, row in self.model.items() if row.state == CLOSED}
        owed = {b: row for b, row in closed.items() if row.owed}
        assert self.table.snapshot() == self.model
        touched = self.table.take_touched()
        states = {b: row.state for b, row in self.model.items()}
        changed = {b for b in BLOCKS if self.states.get(b) != states.get(b)}
        assert changed <= touched
        assert not self.reopened or touched == set(self.model)
        self.states, self.reopened = states, False
        copied = {b: row for b, row in closed.items() if row.copies}
        assert self.table.copied(2, b"node") == copied
        for state in (OPEN, CLOSED, DEAD):
            expected = sorted(b for b, row in self.model.items() if row.state == state)
            assert self.table.in_state(state) == expected
        assert sorted(self.table.owed()) == sorted(owed)
        assert sorted(self.table.to_deliver()) == sorted(b for b in owed if owed[b].local)
        enough = [owed[b].enough for b in self.table.to_deliver()]
        assert enough == sorted(enough)  # those without enough holders first
        named = [not owed[b].waits for b in self.table.to_deliver()]
        assert named == sorted(named)  # of these, those that no root may name yet
        thin = sorted(b for b, row in owed.items() if not row.enough and not row.waits)
        assert self.table.thin() == thin
        assert self.table.waiting() == sorted(b for b, row in closed.items() if row.waits)
        assert dict(self.table.metadata()) == {b: r for b, r in self.model.items() if r.meta}
        assert self.table.owed_positions == sum(len(row.owed) for row in closed.values())
        assert self.table.pending == sum(
            slice_length(r.length, r.k) for r in closed.values() if not r.enough
        )


TestTable = TableModel.TestCase
TestTable.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


def test_promise_3_memory_follows_the_disk_when_the_sync_after_a_commit_fails(tmp_path):
    database = Database(tmp_path / "state")
    table = BlockTable(database)
    row = BlockRow(OPEN, False, 0, 4, 7, 0)
    table.put(BLOCKS[0], row)
    closed = msgspec.structs.replace(row, state=CLOSED, length=100)
    env = database._env

    class Refusing:
        """An environment that commits, and cannot sync."""

        def begin(self, **how):
            return env.begin(**how)

        def sync(self, force):
            raise OSError(5, "Input/output error")

    database._env = Refusing()
    with pytest.raises(LocalError):
        table.put(BLOCKS[0], closed)
    database._env = env
    assert table.get(BLOCKS[0]) == closed and table.owed() == [BLOCKS[0]]
    assert BlockTable(database).get(BLOCKS[0]) == closed
    database.close()


@pytest.mark.parametrize("how", ["sync", "settle", "another write"])
def test_promise_3_after_a_failed_sync_the_meta_page_is_written_again(tmp_path, how):
    """The kernel may have marked the page clean that it could not write: a sync alone lies then."""
    database = Database(tmp_path / "state")
    table = BlockTable(database)
    row = BlockRow(CLOSED, False, 0, 4, 7, 100)
    failpoints.plan = failpoints.FaultPlan("state-sync=eio@1")
    try:
        with pytest.raises(LocalError):
            table.put(BLOCKS[0], row)
    finally:
        failpoints.plan = None
    before = database._env.info()["last_txnid"]
    if how == "sync":
        database.sync()
    elif how == "settle":
        table.settle()
    else:
        table.change_all({})
    after = database._env.info()["last_txnid"]
    assert after == before + 1
    table.settle()  # nothing to be done
    assert database._env.info()["last_txnid"] == after
    database.close()


def test_what_is_not_committed_does_not_show_in_memory(tmp_path):
    database = Database(tmp_path / "state")
    table = BlockTable(database)
    failpoints.plan = failpoints.FaultPlan("state-commit=eio@1")
    try:
        with pytest.raises(LocalError):
            table.put(BLOCKS[0], BlockRow(OPEN, False, 0, 4, 7, 0))
    finally:
        failpoints.plan = None
    assert table.get(BLOCKS[0]) is None and BlockTable(database).get(BLOCKS[0]) is None
    database.close()
