"""Brings closed blocks to their suppliers, in the background, until every position is served.

For each block: load, encode, sign its header (synced before the first put), put n fragments at once,
record who acknowledged. A supplier that fails leaves its position owed; the block is tried again
later. Nothing is redone because somebody flaps: only owed positions are put.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import msgspec
import trio

from bitdustfs.blocks.fetch import Fetcher, Health
from bitdustfs.blocks.space import Space
from bitdustfs.cache.blockfiles import BlockFiles
from bitdustfs.cache.state import CLOSED, DEAD, BlockRow, State
from bitdustfs.core.erasure import ErasureCode
from bitdustfs.core.fragment import Fragment, encode_block, sign_header
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.placement import acknowledgements_needed
from bitdustfs.core.records import Ballot, BlockHeader
from bitdustfs.core.spans import slice_length
from bitdustfs.errors import BitdustError, LocalError, PeerError, Refused, Superseded, Unavailable
from bitdustfs.failpoints import reach
from bitdustfs.net.supplier import Supplier

log = logging.getLogger(__name__)

IN_FLIGHT = 2  #: blocks encoded and sent at once: bounds memory (about 28 MiB a block at 4/7)
QUIET = 0.5  #: seconds without a write after which uploading starts by itself
HOLD_MAX = 15.0  #: seconds that a busy writer may hold uploading back
HOLD_BLOCKS = 96  #: waiting blocks (1.3 GiB) that end the hold
RETRY_FIRST, RETRY_MAX = 0.5, 15.0  #: seconds until owed positions are tried again
WAIT_DEADLINE = 600.0  #: seconds that one attempt to publish waits for suppliers
RETRY_HURRY = 3.0  #: the same, at most, while somebody waits


class Uploader:
    """Owed blocks of one vault. `ballot` and `seq` tell what puts carry; None while read-only."""

    def __init__(
        self,
        key: VaultKey,
        state: State,
        files: BlockFiles,
        fetcher: Fetcher,
        space: Space,
        ballot: Callable[[], tuple[Ballot, int] | None],
        on_fenced: Callable[[], Awaitable[None]],
    ) -> None:
        self._key, self._state, self._files = key, state, files
        self._fetcher, self._space = fetcher, space
        self._ballot, self._on_fenced = ballot, on_fenced
        self._rows = {b: row for b, row in state.blocks() if row.state == CLOSED and row.owed}
        self._busy: set[bytes] = set()
        self._wake = trio.Event()
        self._changed = trio.Event()
        self._hurry = 0
        self.rounds = 0
        self._last_write = -QUIET
        self.failure: BitdustError | None = None
        #: positions that go to another supplier: what is new goes there, too
        self.moved: dict[tuple[int, int], Supplier] = {}
        #: block -> positions that such a newcomer acknowledged: they count once it is of the family
        self._newcomers: dict[bytes, set[int]] = {}
        space.pending = sum(row.length for row in self._rows.values() if not _enough(row))

    def add(self, block: bytes) -> None:
        """A block was closed."""
        row = self._state.block(block)
        if row is not None:
            self._rows[block] = row
            self._space.pending += row.length
            self.kick()

    def kick(self) -> None:
        """Somebody waits, or a supplier came back: try now what is owed."""
        self._wake.set()

    @property
    def owed(self) -> dict[bytes, BlockRow]:
        """Blocks that some position still lacks."""
        return dict(self._rows)

    def waiting(self, with_newcomers: bool = False) -> list[bytes]:
        """Blocks that a root may not name yet (promise 3), oldest first.

        Not those that had the acknowledgements once, and lost some since: roots name them already, and what
        is new must not wait for them. `with_newcomers`: for the root that takes them into the family.
        """
        there = self._newcomers if with_newcomers else {}
        return [
            block
            for block, row in self._rows.items()
            if not row.safe and not _enough(row, there.get(block, ()))
        ]

    async def wait_acknowledged(self, with_newcomers: bool = False) -> None:
        """Returns when every block that was closed before has the acknowledgements a root needs.

        Raises Unavailable when suppliers take nothing for too long, Superseded when they refuse this writer,
        LocalError when a block cannot be read.
        """
        wanted = set(self.waiting(with_newcomers))
        self.kick()  # once: after that, failures are retried in their own time
        with trio.move_on_after(WAIT_DEADLINE):
            while any(b in wanted for b in self.waiting(with_newcomers)):
                if self.failure is not None:
                    raise self.failure
                await self._changed.wait()
            return
        raise Unavailable(
            "not enough suppliers take what is new; it stays on this machine until then"
        )

    def stop(self, why: Superseded) -> None:
        """This machine may not write any more: whoever waits is told."""
        self.failure = why
        self.kick()
        self._notify()

    def wrote(self) -> None:
        """Somebody writes right now: uploading waits a little, the processor is theirs."""
        self._last_write = trio.current_time()

    @contextmanager
    def hurrying(self) -> Iterator[None]:
        """While somebody waits for the suppliers, writers hold nothing back."""
        self._hurry += 1
        self.kick()
        try:
            yield
        finally:
            self._hurry -= 1

    async def _wait_for_quiet(self) -> None:
        """Holds uploading back while a writer is busy, within bounds."""
        began = trio.current_time()
        while not self._hurry and len(self._rows) < HOLD_BLOCKS:
            now = trio.current_time()
            quiet_at = self._last_write + QUIET
            if now >= quiet_at or now - began >= HOLD_MAX:
                return
            with trio.move_on_after(quiet_at - now):
                await self._wake.wait()
                self._wake = trio.Event()

    async def progress(self) -> None:
        """Returns when a block was tried."""
        if self._rows:
            await self._changed.wait()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def try_all(self) -> None:
        """Returns when nothing is owed, or each owed position was tried once more."""
        enough = self.rounds + 2  # the round under way may have passed a block already
        with self.hurrying():
            while self._rows and self.rounds < enough and self._ballot() is not None:
                self.kick()
                await self._changed.wait()

    async def run(self) -> None:
        """Until cancelled, or until this machine may not write any more."""
        pause = RETRY_FIRST
        async with trio.open_nursery() as nursery:
            limiter = trio.Semaphore(IN_FLIGHT)
            while self._ballot() is not None:
                self._wake = trio.Event()
                await self._wait_for_quiet()
                before = self.owed_positions()
                await self._round(nursery, limiter)
                self.rounds += 1
                self._notify()
                progress = self.owed_positions() < before
                longest = RETRY_HURRY if self._hurry else RETRY_MAX
                pause = RETRY_FIRST if progress else min(pause * 2, longest)
                with trio.move_on_after(pause if self._rows else float("inf")):
                    await self._wake.wait()

    def owed_positions(self) -> int:
        """How many fragments are still to be placed."""
        return sum(len(row.owed) for row in self._rows.values())

    async def _round(self, nursery: trio.Nursery, limiter: trio.Semaphore) -> None:
        """One attempt at every owed block that is here; those without enough holders first."""
        for block, _ in sorted(self._rows.items(), key=lambda item: _enough(item[1])):
            await limiter.acquire()
            if not self._is_due(block):
                limiter.release()
                continue
            nursery.start_soon(self._deliver_one, block, limiter)
        for _ in range(IN_FLIGHT):
            await limiter.acquire()
        for _ in range(IN_FLIGHT):
            limiter.release()

    def _is_due(self, block: bytes) -> bool:
        """Whether a block is here, and owed to somebody who has not got it."""
        row = self._rows.get(block)
        return (
            row is not None and row.local and not {*row.owed} <= self._newcomers.get(block, set())
        )

    async def _deliver_one(self, block: bytes, limiter: trio.Semaphore) -> None:
        self._busy.add(block)
        try:
            await self._deliver(block)
            if not isinstance(self.failure, Superseded):
                self.failure = None  # the disk works again
        except BitdustError as error:
            log.error("block %s cannot be uploaded: %s", block.hex(), error)
            if block in self._rows and not _enough(self._rows[block]):
                self.failure = error
        finally:
            self._busy.discard(block)
            limiter.release()
            self._notify()

    async def _deliver(self, block: bytes) -> None:
        row = self._rows[block]
        writer = self._ballot()
        if writer is None:
            return
        fragments = await trio.to_thread.run_sync(self._encode, block, row)
        row = await self._ensure_header(block, row, fragments, *writer)
        await self._put_all(block, row, dict(enumerate(fragments)), row.owed, writer[0])

    async def place(
        self, header: BlockHeader, raw: bytes, fragments: Mapping[int, Fragment], ballot: Ballot
    ) -> tuple[list[int], bool]:
        """Puts fragments that were made again; who took them, and whether one said the block is dead."""
        row = self._state.block(header.block)
        if row is None or row.state != CLOSED:
            row = BlockRow(
                CLOSED, False, header.group, header.k, header.n, header.length, header=raw
            )
        return await self._put_all(header.block, row, fragments, fragments.keys(), ballot)

    async def _put_all(
        self,
        block: bytes,
        row: BlockRow,
        fragments: Mapping[int, Fragment],
        positions: Iterable[int],
        ballot: Ballot,
    ) -> tuple[list[int], bool]:
        """Puts and records; (positions that acknowledged, whether one said that the block is dead)."""
        acked: list[int] = []
        dead: list[int] = []
        async with trio.open_nursery() as nursery:
            for position in positions:
                nursery.start_soon(self._put, block, row, fragments[position], ballot, acked, dead)
        if block in self._rows:  # else it died meanwhile, or another machine wrote it
            row = self._rows[block]
            if acked:
                self._acknowledge(block, row, acked)
                reach("fragment-acked")
                change = partial(_acknowledged, acked)
                await trio.to_thread.run_sync(self._state.change_block, block, change)
        return acked, bool(dead)

    def drop(self, block: bytes) -> None:
        """The block is dead: nobody needs it any more."""
        row = self._rows.pop(block, None)
        self._newcomers.pop(block, None)
        if row is not None and not _enough(row):
            self._space.pending -= row.length
        self._notify()

    def settle_move(self, group: int, position: int, welcome: bool) -> None:
        """A newcomer is of the family from here on, or (not `welcome`) is none any more."""
        self.moved.pop((group, position), None)
        for block, positions in list(self._newcomers.items()):
            row = self._rows.get(block)
            if position in positions and row is not None and row.group == group:
                positions.discard(position)
                if welcome:
                    self._acknowledge(block, row, [position])
        self._newcomers = {block: at for block, at in self._newcomers.items() if at}
        self._notify()

    def _acknowledge(self, block: bytes, row: BlockRow, positions: Iterable[int]) -> BlockRow:
        """These positions have the block: counts them; the new row."""
        had = _enough(row)
        row = self._rows[block] = _acknowledged(positions, row)
        if _enough(row) and not had:  # from now on suppliers count it
            self._space.pending -= row.length
        if not row.owed:
            self._rows.pop(block, None)
        return row

    def acknowledged(self) -> dict[bytes, tuple[int, ...]]:
        """Closed blocks of this machine, and the positions that once acknowledged them."""
        return {b: row.acked for b, row in self._state.blocks() if row.state == CLOSED}

    async def lost(self, lost: Mapping[bytes, Collection[int]]) -> None:
        """Audits found that positions no longer have what they acknowledged: it is owed again.

        Raises LocalError.
        """

        def without(gone: Collection[int], row: BlockRow) -> BlockRow | None:
            left = tuple(p for p in row.acked if p not in gone)
            changed = row.state == CLOSED and left != row.acked
            return msgspec.structs.replace(row, acked=left) if changed else None

        changes = {block: partial(without, gone) for block, gone in lost.items()}
        rows = await trio.to_thread.run_sync(self._state.change_blocks, changes)
        for block, row in rows.items():
            had = _enough(self._rows[block]) if block in self._rows else True
            self._rows[block] = row
            if had and not _enough(row):
                self._space.pending += row.length
        if rows:
            self.kick()

    @property
    def busy_writer(self) -> bool:
        """Whether somebody writes right now."""
        return trio.current_time() < self._last_write + QUIET

    def may_evict(self, block: bytes) -> bool:
        """Whether the block's local file is not being read here just now."""
        return block not in self._busy

    def evicted(self, block: bytes) -> None:
        """The block's local file goes."""
        if block in self._rows:
            self._rows[block] = msgspec.structs.replace(self._rows[block], local=False)

    def _encode(self, block: bytes, row: BlockRow) -> list[Fragment]:
        padded = slice_length(row.length, row.k) * row.k
        content = self._files.load(block, row.length, padded)
        return encode_block(content, ErasureCode(row.k, row.n))

    async def encode_one(self, block: bytes, position: int) -> Fragment | None:
        """One fragment from this machine's own copy of a block; None where it has none."""
        row = self._state.block(block)
        if row is None or row.state != CLOSED or not row.local or not row.header:
            return None
        try:
            return (await trio.to_thread.run_sync(self._encode, block, row))[position]
        except LocalError:
            return None

    def dead(self) -> set[bytes]:
        """Blocks that are being deleted at the suppliers."""
        return {block for block, row in self._state.blocks() if row.state == DEAD}

    async def _ensure_header(
        self, block: bytes, row: BlockRow, fragments: list[Fragment], ballot: Ballot, seq: int
    ) -> BlockRow:
        if row.header:
            return row
        assert row.directory is not None
        header = sign_header(
            self._key.signing, fragments, block=block, group=row.group, k=row.k, key_epoch=0,
            length=row.length, directory=row.directory, ballot=ballot, seq=seq,
        )  # fmt: skip
        row = msgspec.structs.replace(row, header=header)
        reach("header-record")
        await trio.to_thread.run_sync(self._state.put_block, block, row)
        self._rows[block] = row
        return row

    async def _put(
        self,
        block: bytes,
        row: BlockRow,
        fragment: Fragment,
        ballot: Ballot,
        acked: list[int],
        dead: list[int],
    ) -> None:
        position = fragment.position
        member = self._fetcher.family.group.members[position]
        supplier = self._fetcher.suppliers[member.node]
        newcomer = self.moved.get((row.group, position))
        if newcomer is not None and position not in self._newcomers.get(block, set()):
            if await self._put_to(newcomer, block, row, fragment, ballot, dead):
                self._newcomers.setdefault(block, set()).add(position)
            if not self._fetcher.health[member.node].reachable:
                return
        if await self._put_to(supplier, block, row, fragment, ballot, dead):
            acked.append(position)

    async def _put_to(
        self,
        supplier: Supplier,
        block: bytes,
        row: BlockRow,
        fragment: Fragment,
        ballot: Ballot,
        dead: list[int],
    ) -> bool:
        """Whether the supplier acknowledged the fragment."""
        health = self._fetcher.health.setdefault(supplier.node, Health())
        reach("fragment-put")
        try:
            await supplier.put(
                block, fragment.position, ballot, row.header, fragment.chunks, fragment.payload
            )
        except PeerError as error:
            health.fault(error)
            if isinstance(error, Refused) and error.code == "dead":
                dead.append(fragment.position)
            if isinstance(error, Refused) and error.code == "fenced":
                await self._on_fenced()
            log.debug("%s lacks %s: %s", supplier.node.hex()[:12], block.hex(), error)
            return False
        health.ok()
        self._space.placed(supplier.node, len(fragment))
        return True


def _acknowledged(positions: Iterable[int], row: BlockRow) -> BlockRow:
    """The row after these positions acknowledged the block, too."""
    row = msgspec.structs.replace(row, acked=tuple(sorted({*row.acked, *positions})))
    return msgspec.structs.replace(row, safe=row.safe or _enough(row))


def _enough(row: BlockRow, also: Collection[int] = ()) -> bool:
    return len({*row.acked, *also}) >= acknowledgements_needed(row.k, row.n)
