"""Which suppliers have which blocks, as this machine knows: blocks that the same suppliers have are
one line. What audits found lost or damaged is not there. Of blocks that another machine wrote and
this one never had, nothing is known here.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import trio

from bitdustfs.cache.rows import DEAD, BlockRow
from bitdustfs.mount.statements import BlockMap, HoldingLine
from bitdustfs.vault.reading import ReadVault

LINES_MAX = 64  #: of one map


async def map_of(vault: ReadVault) -> BlockMap:
    """The map of a vault, made in a thread: it takes time in proportion to the number of blocks."""
    rows, damaged = vault.state.blocks.snapshot(), vault.circle.damage.blocks()
    return await trio.to_thread.run_sync(block_map, rows.items(), damaged)


def block_map(
    rows: Iterable[tuple[bytes, BlockRow]], damaged: Mapping[bytes, frozenset[int]]
) -> BlockMap:
    """`damaged`: positions, by blocks, whose fragments were found wrong or lost.

    The lines with the fewest suppliers beyond what reading takes come first.
    """
    found: dict[tuple[int, tuple[int, ...]], list[BlockRow]] = defaultdict(list)
    for block, row in rows:
        if row.state != DEAD:
            has = sorted(set(row.acked) - damaged.get(block, frozenset()))
            found[row.k, tuple(has)].append(row)
    keys = sorted(found, key=lambda key: (len(key[1]) - key[0], key))
    lines = [
        HoldingLine(
            k=k, has=list(has), blocks=len(found[k, has]),
            bytes=sum(row.length for row in found[k, has]),
            local=sum(row.local for row in found[k, has]),
        )
        for k, has in keys[:LINES_MAX]
    ]  # fmt: skip
    return BlockMap(lines=lines, more=sum(len(found[key]) for key in keys[LINES_MAX:]))
