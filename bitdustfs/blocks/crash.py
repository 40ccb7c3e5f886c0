"""After a crash: what this machine's blocks are worth.

A block that was open is closed at its committed length: what lies beyond was never referred to by a
commit. Files without a row were never committed; those of evicted blocks had no time to go.
"""

from bitdustfs.blocks.open_block import OpenBlock
from bitdustfs.blocks.sealers import Sealers
from bitdustfs.blocks.writer import close_block
from bitdustfs.cache.blockfiles import BlockFiles
from bitdustfs.cache.rows import OPEN
from bitdustfs.cache.state import State
from bitdustfs.core.block import ExtentEntry
from bitdustfs.core.sealing import Suite


def recover_open_blocks(state: State, files: BlockFiles, sealers: Sealers, suite: Suite) -> None:
    """Closes blocks left open, drops files that mean nothing. Raises LocalError or DiskFull."""
    table = state.blocks
    for block_id in files.own():
        known = table.get(block_id)
        if known is None or not known.local:
            files.remove(block_id)
    left = table.in_state(OPEN)
    if not left:
        return
    entries: dict[bytes, list[ExtentEntry]] = {}
    for batch in state.batches():
        for part in batch.parts:
            entries.setdefault(part.block, []).extend(part.entries)
    for block_id in left:
        row = table.get(block_id)
        if row is None or row.length == 0:
            table.forget(block_id)
            files.remove(block_id)
            continue
        fd = files.reopen(block_id, row.length)
        block = OpenBlock(block_id, fd, row.meta, sealers.of(block_id))
        try:
            block.restore(entries.get(block_id, []), row.length)
            close_block(block, suite, table)
        finally:
            block.release()
