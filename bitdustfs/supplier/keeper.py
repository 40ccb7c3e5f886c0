"""What is done with fragments: kept where they fit and are genuine, shown, deleted.

Nothing that a customer sends is believed: a fragment is kept once its header carries the owner's
signature and its bytes match that header, and a block is deleted by the owner's signed record
alone. Where the contract has a retention, it stays that long all the same (retention.py).
"""

from collections.abc import Callable

import msgspec

from bitdustfs.core.erasure import Buffer
from bitdustfs.core.fragment import check_fragment_untrusted
from bitdustfs.core.hashing import digest
from bitdustfs.core.records import (
    BlockDead,
    block_dead_records,
    open_header_untrusted,
    root_records,
)
from bitdustfs.errors import Refused
from bitdustfs.net import wire
from bitdustfs.supplier.housekeeping import Housekeeping
from bitdustfs.supplier.kinship import Kinship
from bitdustfs.supplier.retention import Retention
from bitdustfs.supplier.shelf import Shelf
from bitdustfs.supplier.shelfrows import VaultRow, fragment_key, fragment_row
from bitdustfs.supplier.vaultrows import VaultRows
from bitdustfs.supplier.voter import acceptor

DEAD_RECORD_MAX = 320  #: bytes of a block-dead record, which is kept as long as the vault


class Keeper:
    """The fragments of all vaults of one supplier. Thread-safe."""

    def __init__(
        self,
        rows: VaultRows,
        shelf: Shelf,
        kinship: Kinship,
        housekeeping: Housekeeping,
        retention: Retention,
        wall: Callable[[], float],
    ) -> None:
        self._rows, self._shelf, self._kinship = rows, shelf, kinship
        self._housekeeping, self._retention, self._wall = housekeeping, retention, wall
        self._handed: dict[bytes, set[bytes]] = {}  # vault -> keys read since this supplier leaves

    # -- keeping

    def check_head(self, vault: bytes, request: wire.Put, length: int) -> None:
        """Raises Refused for a Put with `length` bytes of payload that its head alone rules out."""
        row = self._rows.known(vault)
        self._check_room(vault, row, request, length)

    def _check_room(self, vault: bytes, row: VaultRow, request: wire.Put, length: int) -> None:
        key = fragment_key(request.block, request.position)
        if self._shelf.fragment(vault, key) is None:
            parts = len(request.header), len(request.chunks), length
            self._housekeeping.check_room(vault, row, fragment_row(*parts, b"").size)

    def put(self, vault: bytes, request: wire.Put, payload: Buffer) -> None:
        """Keeps a fragment that the vault's writer brings. Raises as `keep`."""
        self.keep(vault, request, payload)
        if request.position not in self._rows.known(vault).copies:
            with self._rows.changing(vault) as row:  # said to the owner: here it can be read
                copies = tuple(sorted({*row.copies, request.position}))
                self._rows.write(vault, msgspec.structs.replace(row, copies=copies))

    def keep(self, vault: bytes, request: wire.Put, payload: Buffer) -> None:
        """Keeps a genuine fragment of a vault, whoever brings it.

        Raises Refused, Malformed, Forged.
        """
        row = self._rows.known(vault)
        header = open_header_untrusted(request.header, vault)
        if header.block != request.block:
            raise Refused("malformed", "the header is of another block")
        tombstone = self._shelf.tombstone(vault, request.block)
        if tombstone is not None:
            dead = block_dead_records.peek_untrusted(tombstone)
            if not self._is_lifted(vault, row, dead):
                raise Refused("dead", "the owner deleted this block")
        header_hash = digest(request.header)
        first = self._shelf.header_hash(vault, request.block)
        if first is not None and first != header_hash:
            raise Refused("conflict", "another header was accepted for this block")
        self._check_room(vault, row, request, len(payload))
        check_fragment_untrusted(header, request.position, request.chunks, payload)
        key = fragment_key(request.block, request.position)
        self._shelf.store(vault, key, request.header, request.chunks, payload, header_hash)

    # -- showing

    def read(self, vault: bytes, request: wire.Read) -> bytes:
        """A range of a fragment. Raises Refused."""
        key = fragment_key(request.block, request.position)
        if self._kinship.leaving:
            self._handed.setdefault(vault, set()).add(key)
        return self._shelf.read(vault, key, request.offset, request.length)

    def handed(self, vault: bytes) -> int:
        """Fragments of a vault that others have read from here since this supplier leaves."""
        return len(self._handed.get(vault, ()))

    def head(self, vault: bytes, block: bytes, position: int) -> wire.HeadIs:
        return wire.HeadIs(*self._shelf.head(vault, fragment_key(block, position)))

    def list(self, vault: bytes, after: bytes, limit: int) -> wire.Listed:
        found = self._shelf.keys(vault, after, limit)
        return wire.Listed(tuple(found), len(found) == limit)

    def usage(self, vault: bytes, row: VaultRow) -> wire.UsageIs:
        trash = self._shelf.trash.of(vault)
        return wire.UsageIs(row.space, row.used, trash, row.fragments, row.until)

    # -- deleting

    def kill(self, vault: bytes, row: VaultRow, record: bytes) -> None:
        """Deletes a block by its owner's record. Raises Refused, Malformed, Forged."""
        dead = block_dead_records.open_untrusted(record, vault)
        if dead.vault != vault:
            raise Refused("malformed", "the record is of another vault")
        if len(record) > DEAD_RECORD_MAX:
            raise Refused("malformed", "a block-dead record that says more than it must")
        accepted = acceptor(row).accepted
        if accepted is None or accepted < (dead.ballot, dead.seq):
            raise Refused("stale", "the root that dropped this block is not known here yet")
        if self._is_lifted(vault, row, dead):
            raise Refused("stale", "the history that this block was dropped in was left")
        if self._shelf.header_hash(vault, dead.block) is None:
            return  # nothing of it is here: nothing to remember
        until = self._retention.until(vault)
        self._shelf.kill(vault, dead.block, record, int(self._wall()), until)
        self._housekeeping.tidy()

    def _is_lifted(self, vault: bytes, row: VaultRow, dead: BlockDead) -> bool:
        """Whether the vault was rewound since a block died."""
        family = self._kinship.family(vault, row) if b"rewound:" in row.family else None
        if family is None:
            return False
        lineage = root_records.peek_untrusted(row.root).ballot.lineage
        return dead.ballot.lineage < family.policy.rewound(lineage)
