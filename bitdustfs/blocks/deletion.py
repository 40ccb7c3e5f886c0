"""Deletes dead blocks: a signed record here first, then at every supplier until each has confirmed.

    the record is synced in the block's row (DEAD) -> the local file goes -> the suppliers are told
    -> when all positions confirmed, the row is forgotten

Who decides that a block is dead is vault/reclaim.py; nothing here looks at the tree.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial

import msgspec
import trio

from bitdustfs.blocks.circle import Circle
from bitdustfs.blocks.ledger import Ledger
from bitdustfs.blocks.pen import Pen
from bitdustfs.cache.blockfiles import BlockFiles
from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.cache.rows import DEAD, BlockRow
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.quorum import rival_untrusted
from bitdustfs.core.records import BlockDead, Root, block_dead_records, seal_record
from bitdustfs.errors import PeerError, Refused
from bitdustfs.failpoints import reach
from bitdustfs.net.ask import ask_all

log = logging.getLogger(__name__)

TELL_DEADLINE = 30.0  #: seconds that suppliers have in one look to confirm deletions
REFUSED_MAX = 3  #: deletions in a row that an honest supplier may refuse
#: codes of refusals that are no refusal to delete
EXCUSES = ("stale", "busy", "failed", "no-space")


class Deletion:
    """The deaths of one vault's blocks. `on_liar` is told of a supplier that refuses to delete."""

    def __init__(
        self,
        key: VaultKey,
        pen: Pen,
        circle: Circle,
        table: BlockTable,
        files: BlockFiles,
        ledger: Ledger,
        on_liar: Callable[[bytes, str], None],
    ) -> None:
        self._key, self._pen, self._circle, self._table = key, pen, circle, table
        self._files, self._ledger, self._on_liar = files, ledger, on_liar

    @property
    def untold(self) -> bool:
        """Whether some supplier has not confirmed some death."""
        return self._table.any_dead

    async def condemn(self, block: bytes, row: BlockRow, root: Root) -> None:
        """Signs the death of a block that `root`, which was accepted, does not need.

        `row`: as it is, or made up for a block of another machine. Raises LocalError.
        """
        dead = BlockDead(self._key.vault_id, block, root.ballot, root.seq)
        record = seal_record(self._key.signing, "block-dead", dead)
        row = msgspec.structs.replace(row, state=DEAD, kill=record, acked=(), local=False)
        reach("condemn")
        await trio.to_thread.run_sync(self._table.put, block, row)
        reach("condemned")
        self._ledger.forget(block)
        await trio.to_thread.run_sync(self._files.remove, block)  # 16 MiB take milliseconds
        log.info("block %s is dead since root %d", block.hex(), root.seq)

    async def tell(self) -> bool:
        """Tells suppliers of dead blocks, but those that are away; whether there were any to tell.

        Raises LocalError.
        """
        dead = self._table.in_state(DEAD)
        if not dead:
            return False
        rows = {block: row for block in dead if (row := self._table.get(block)) is not None}
        for block in self._lifted(rows):
            del rows[block]  # suppliers keep it again: as one that nobody knows it dies once more
            await trio.to_thread.run_sync(self._table.forget, block)
        confirmed: dict[bytes, set[int]] = {block: set(row.acked) for block, row in rows.items()}
        owing: dict[int, list[bytes]] = {}
        for block, row in rows.items():
            for position in row.owed:
                if not self._is_away(position):
                    owing.setdefault(position, []).append(block)

        async def tell(position: int) -> None:
            for block in owing[position]:
                if not await self._tell_one(position, rows[block].kill):
                    return
                confirmed[block].add(position)

        await ask_all(owing, tell, deadline=TELL_DEADLINE)
        reach("death-told")
        for block, row in rows.items():
            if len(confirmed[block]) == row.n:
                await trio.to_thread.run_sync(self._table.forget, block)
            elif len(confirmed[block]) > len(row.acked):
                change = partial(_confirmed, tuple(sorted(confirmed[block])))
                await trio.to_thread.run_sync(self._table.change, block, change)
        return bool(owing)

    def _lifted(self, rows: Mapping[bytes, BlockRow]) -> list[bytes]:
        """Blocks that died before the vault was rewound."""
        rewound = self._circle.family.policy.rewound(self._pen.ballot.lineage)
        peek = block_dead_records.peek_untrusted
        return [b for b, row in rows.items() if rewound and peek(row.kill).ballot.lineage < rewound]

    def _is_away(self, position: int) -> bool:
        return self._circle.health(self._circle.family.members[position].node).away

    async def _tell_one(self, position: int, record: bytes) -> bool:
        """Whether the supplier of a position confirmed one death."""
        member = self._circle.family.members[position]
        health = self._circle.health(member.node)
        try:
            await self._circle.session(member).kill(record, self._pen.claim)
        except PeerError as error:
            log.info("%s does not delete yet: %s", member.node.hex()[:12], error)
            if self._is_refusal(error) and health.deletion(refused=True) >= REFUSED_MAX:
                self._on_liar(member.node, "refuses to delete what its customer deleted")
            return False
        health.deletion(refused=False)
        return True

    def _is_refusal(self, error: PeerError) -> bool:
        """Whether a supplier does not want to delete, and cannot prove that it must not."""
        if not isinstance(error, Refused) or error.code in EXCUSES:
            return False
        pen, vault = self._pen, self._key.vault_id
        return rival_untrusted(vault, error.proof, pen.ballot, pen.claim) is None


def _confirmed(positions: tuple[int, ...], row: BlockRow) -> BlockRow | None:
    return msgspec.structs.replace(row, acked=positions) if row.state == DEAD else None
