"""Who acknowledged what: nothing is forgotten before it is durable."""

import pytest
from family import supplier_of

from bitdustfs.blocks.deferral import Deferral
from bitdustfs.blocks.ledger import Ledger
from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.cache.database import Database
from bitdustfs.cache.rows import CLOSED, BlockRow
from bitdustfs.errors import LocalError

BLOCK = b"b" * 16


@pytest.fixture
def table(tmp_path):
    database = Database(tmp_path / "state")
    made = BlockTable(database)
    made.put(BLOCK, BlockRow(CLOSED, False, 0, 4, 7, 100, acked=(0, 1, 2)))
    yield made
    database.close()


async def test_promise_3_a_newcomer_s_word_counts_until_it_is_durable(table, tmp_path, monkeypatch):
    ledger = Ledger(table, Deferral())
    async with supplier_of("memory", tmp_path) as newcomer:
        ledger.welcome(5, newcomer)
        ledger.newcomer_acknowledged(BLOCK, 5)

        def refused(changes):
            raise LocalError("the disk refuses")

        with monkeypatch.context() as patched:
            patched.setattr(table, "change_all", refused)
            with pytest.raises(LocalError):
                await ledger.settle(5, joined=True)
        assert ledger.newcomer_has(BLOCK, 5)
        await ledger.settle(5, joined=True)
        assert table.get(BLOCK).acked == (0, 1, 2, 5)
        assert not ledger.newcomer_has(BLOCK, 5)


async def test_a_newcomer_that_did_not_join_leaves_nothing_behind(table, tmp_path):
    ledger = Ledger(table, Deferral())
    async with supplier_of("memory", tmp_path) as newcomer:
        ledger.welcome(5, newcomer)
        ledger.newcomer_acknowledged(BLOCK, 5)
        await ledger.settle(5, joined=False)
    assert ledger.newcomer(5) is None and not ledger.newcomer_has(BLOCK, 5)
    assert table.get(BLOCK).acked == (0, 1, 2)
