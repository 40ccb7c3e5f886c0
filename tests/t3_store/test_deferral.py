"""How long a root waits for more suppliers than it needs; what is lent to reserves meanwhile."""

import pytest
import trio

from bitdustfs.blocks.deferral import SOON, Deferral
from bitdustfs.blocks.loans import Loans
from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.cache.database import Database
from bitdustfs.cache.rows import CLOSED, BlockRow

pytestmark = pytest.mark.deadline(300)  # of virtual time
BLOCK, OTHER, NODE = b"b" * 16, b"o" * 16, b"n" * 32


async def test_a_block_is_waited_for_a_minute_from_its_first_delivery(autojump_clock):
    deferral = Deferral()
    assert deferral.left(BLOCK, {1}) == SOON
    deferral.tried(BLOCK, [])
    await trio.sleep(10)
    deferral.tried(BLOCK, [])  # a retry begins no other minute
    assert deferral.left(BLOCK, {1}) == SOON - 10
    await trio.sleep(SOON)
    assert deferral.left(BLOCK, {1}) == 0


async def test_who_took_nothing_for_a_minute_is_not_waited_for(autojump_clock):
    deferral = Deferral()
    deferral.failed(1)
    await trio.sleep(SOON)
    assert deferral.left(BLOCK, {1}) == 0
    assert deferral.left(BLOCK, {1, 2}) == SOON  # 2 may take it yet
    deferral.served(1)
    deferral.failed(1)
    assert deferral.left(BLOCK, {1}) == SOON


@pytest.fixture
def table(tmp_path):
    database = Database(tmp_path / "state")
    made = BlockTable(database)
    for block in (BLOCK, OTHER):
        made.put(block, BlockRow(CLOSED, False, 0, 1, 2, 100, acked=(0,)))
    yield made
    database.close()


async def drop():
    return True


async def test_promise_3_no_copy_is_dropped_that_its_position_has_not_got(table):
    loans = Loans(table)
    for block in (BLOCK, OTHER):
        await loans.taken(block, {1: NODE})
    assert table.get(BLOCK).safe and table.get(BLOCK).enough
    table.put(BLOCK, BlockRow(CLOSED, False, 0, 1, 2, 100, acked=(0, 1), copies=((1, NODE),)))
    assert not await loans.end(1, NODE, drop)  # the other block's
    table.put(OTHER, BlockRow(CLOSED, False, 0, 1, 2, 100, acked=(0, 1), copies=((1, NODE),)))
    with loans.coming({1: NODE}):
        assert not await loans.end(1, NODE, drop)  # one more is on its way

    async def dropping():
        assert not loans.is_open(1, NODE)  # nothing is sent there meanwhile
        return True

    assert await loans.end(1, NODE, dropping)
    assert loans.is_open(1, NODE) and not table.get(BLOCK).copies and not table.get(OTHER).copies
