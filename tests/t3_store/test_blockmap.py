"""The map of blocks by suppliers, against rows: all are counted once, the thinnest come first."""

from hypothesis import given
from hypothesis import strategies as st

from bitdustfs.cache.rows import CLOSED, DEAD, OPEN, BlockRow
from bitdustfs.mount.blockmap import LINES_MAX, block_map

N = 7
POSITIONS = st.sets(st.integers(0, N - 1)).map(lambda found: tuple(sorted(found)))
ROWS = st.builds(
    BlockRow, state=st.sampled_from([OPEN, CLOSED, DEAD]), meta=st.booleans(), group=st.just(0),
    k=st.sampled_from([2, 4]), n=st.just(N), length=st.integers(0, 1 << 24), acked=POSITIONS,
    local=st.booleans(),
)  # fmt: skip
BLOCKS = st.dictionaries(st.binary(min_size=16, max_size=16), ROWS, max_size=200)


@given(BLOCKS, st.data())
def test_every_living_block_is_in_one_line_and_the_thinnest_come_first(rows, data):
    found = data.draw(st.sets(st.sampled_from(sorted(rows)))) if rows else set()
    damaged = {block: frozenset(data.draw(POSITIONS)) for block in found}
    made = block_map(rows.items(), damaged)
    living = {block: row for block, row in rows.items() if row.state != DEAD}
    assert sum(line.blocks for line in made.lines) + made.more == len(living)
    spare = [len(line.has) - line.k for line in made.lines]
    assert spare == sorted(spare) and len(made.lines) <= LINES_MAX
    for line in made.lines:
        same = [
            row for block, row in living.items()
            if row.k == line.k and set(row.acked) - damaged.get(block, set()) == set(line.has)
        ]  # fmt: skip
        assert line.blocks == len(same) and line.local == sum(row.local for row in same)
        assert line.bytes == sum(row.length for row in same)


def test_what_bears_more_is_counted_where_there_are_too_many_lines():
    rows = {
        bytes([number]) * 16: BlockRow(
            CLOSED, False, 0, 1, N, 1, acked=tuple(p for p in range(N) if number >> p & 1)
        )
        for number in range(100)
    }
    made = block_map(rows.items(), {})
    assert len(made.lines) == LINES_MAX and made.more == 100 - LINES_MAX
    assert made.lines[0].has == []
