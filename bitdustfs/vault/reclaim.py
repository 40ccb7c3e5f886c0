"""Space comes back: dead blocks are deleted at the suppliers, thin ones emptied into new ones.

A block is deleted in steps, each after what justifies it is durable (promise 3):

    no item refers to it (its use count says so, then every entry of its directory is looked up)
    -> a root that no longer needs it is accepted by a majority
    -> the signed block-dead record, naming that root, is synced here
    -> its local file goes, and the suppliers are told until each has confirmed

Blocks never come back to life: items only ever refer to what was just written.
"""

import itertools
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec
import trio

from bitdustfs.blocks.fetch import Fetcher
from bitdustfs.blocks.space import Space
from bitdustfs.blocks.store import Piece, Store
from bitdustfs.blocks.upload import Uploader
from bitdustfs.cache.blockfiles import BlockFiles
from bitdustfs.cache.state import CLOSED, DEAD, BlockRow, State
from bitdustfs.core.block import ExtentEntry, decode_directory_untrusted
from bitdustfs.core.items import USE, XATTR, BlockUse, decode_use, decode_xattr, kind_range, use_key
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import BlockDead, Place, open_root_untrusted, root_records, seal_record
from bitdustfs.core.sealing import Kind
from bitdustfs.errors import LocalError, Malformed, PeerError, Refused, Unavailable
from bitdustfs.failpoints import reach
from bitdustfs.fs.content import Content
from bitdustfs.fs.extents import Mapped, move, references
from bitdustfs.rebuild.audit import Auditor
from bitdustfs.tree.commit import Committer
from bitdustfs.tree.tree import Transaction, Tree
from bitdustfs.units import MIB
from bitdustfs.vault.publish import Publisher

log = logging.getLogger(__name__)

TICK = 5.0  #: seconds between two looks
REST = 20  #: times as long as the last look took that is rested after it
STORED_MAX = 1.3  #: bytes stored per live byte above which blocks are emptied
SLACK = 4 * MIB  #: bytes of waste that are not worth the work
SMALL_BLOCK, SMALL_MANY = MIB, 32  #: so many blocks smaller than that are merged
THIN_METADATA = 0.3  #: live share of a metadata block below which its leaves are rewritten
STEP_BLOCKS = 32  #: blocks emptied in one look
STEP_BYTES = 4 * MIB  #: bytes moved while writers wait
PAGE = 1000  #: use items looked at in one transaction
CHECK_STEP = 256  #: directory entries looked up in one transaction
REFUSED_DELETES_MAX = 3  #: deletions in a row that an honest supplier may refuse
#: codes of refusals that are no refusal to delete
EXCUSES = ("stale", "busy", "failed", "no-space")
TELL_DEADLINE = 30.0  #: seconds that suppliers have in one look to confirm deletions


@dataclass
class Parts:
    """What of an open vault the reclaimer works on."""

    key: VaultKey
    tree: Tree
    content: Content
    store: Store
    state: State
    files: BlockFiles
    fetcher: Fetcher
    committer: Committer
    publisher: Publisher
    uploader: Uploader
    space: Space
    auditor: Auditor


class Reclaimer:
    """Gives the space of one vault back while it is mounted for writing."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._stepping = trio.Lock()
        self._uses: dict[bytes, BlockUse] | None = None
        #: dead block -> generation in which nothing refers to it
        self._proven: dict[bytes, int] = {}
        self._condemned: set[bytes] = set()
        self._alive: set[bytes] = set()  # looked up, and in use although it is not counted
        self._situation: tuple[int, int] | None = None  # in which nothing was left to do
        self.on_liar: Callable[[bytes, str], None] = lambda node, why: None
        self._untold = False  # whether some supplier has not confirmed a death
        self._walked = 0  # generation of the checkpoint whose leaves were walked; 0: there is none
        self._leaves: set[bytes] = set()  # blocks of its index and leaves

    async def run(self) -> None:
        """Until cancelled."""
        took = 0.0
        while True:
            await trio.sleep(max(TICK, REST * took))
            began = trio.current_time()
            try:
                await self.step(compact=not self._parts.uploader.busy_writer)
            except (Unavailable, Malformed, LocalError) as error:
                log.info("space is given back later: %s", error)
            took = trio.current_time() - began

    async def step(self, compact: bool = True) -> None:
        """One look at everything: what is dead goes, and, with `compact`, what is thin is emptied."""
        async with self._stepping:
            await self._step(compact)

    async def _step(self, compact: bool) -> None:
        situation = (self._parts.publisher.published.generation, id(self._parts.auditor.census))
        if situation == self._situation and not (self._parts.tree.touched_uses or self._untold):
            return
        await self._look()
        await self._walk()
        for block in self._candidates():
            await self._prove(block)
        for block, generation in list(self._proven.items()):
            if self._parts.publisher.published.generation < generation:
                continue
            needed = self._needed()  # by the root as it is now: it may have moved since the proof
            if needed is None:
                break
            if block in needed:
                del self._proven[block]
            else:
                await self._condemn(block)
        await self._tell()
        if compact:
            await self._compact()
            self._situation = situation

    def needs(self, block: bytes) -> bool:
        """Whether a root may need a block. What is not known yet counts as needed."""
        if block in self._proven or block in self._condemned:
            return False
        needed = self._needed()
        if self._uses is None or needed is None or block in needed:
            return True
        use = self._uses.get(block)
        return use is not None and use.live > 0

    # -- what is in use

    async def _look(self) -> None:
        """Brings `_uses` up to date with the tree."""
        tree = self._parts.tree
        if self._uses is None:
            uses: dict[bytes, BlockUse] = {}
            tree.touched_uses.clear()
            low, high = kind_range(0, USE)
            while page := await tree.run(_page, low, high):
                uses.update((key[-16:], decode_use(value)) for key, value in page)
                low = page[-1][0] + b"\0"
            self._uses = uses  # only when it is whole
        while tree.touched_uses:
            key = next(iter(tree.touched_uses))
            value = await tree.run(_get, key)
            tree.touched_uses.discard(key)  # once it was read; a change after that touches it again
            if value is None:
                self._uses.pop(key[-16:], None)
            else:
                self._uses[key[-16:]] = decode_use(value)

    async def _walk(self) -> None:
        """Finds the blocks that the index of the last checkpoint and its leaves are in."""
        state, tree = self._parts.state, self._parts.tree
        checkpoint = state.checkpoint()
        if checkpoint is None or self._walked == checkpoint.generation:
            return
        sizes: dict[bytes, int] = {}
        for place in await tree.nodes():
            sizes[place.block] = sizes.get(place.block, 0) + place.length
        if state.checkpoint() != checkpoint:
            return  # another one meanwhile: next time
        self._walked, self._leaves = checkpoint.generation, set(sizes)
        self._alive.clear()
        tree.moving = {
            block
            for block, row in state.blocks()
            if row.meta and sizes.get(block, 0) < THIN_METADATA * row.length and block in sizes
        }

    def _needed(self) -> set[bytes] | None:
        """The blocks that index, leaves and journal of the published root are in; None: not known now.

        Plain: it is of the very root that is published at the call.
        """
        published = self._parts.publisher.published
        if published.based_on != self._walked:
            return None
        return {ref.place.block for ref in published.journal} | self._leaves

    def _candidates(self) -> list[bytes]:
        """Closed blocks, older than the published root, that nothing seems to refer to."""
        assert self._uses is not None
        needed = self._needed()
        if needed is None:
            return []
        seq = self._published_seq()
        # what is listed and not known here was left by a machine that died before it published
        rows = dict(self._parts.state.blocks())
        found = []
        for block in {*self._uses, *rows, *self._parts.auditor.census.blocks()}:
            use, row = self._uses.get(block), rows.get(block)
            if row is not None and row.state != CLOSED:
                continue
            settled = block in self._alive or block in self._proven or block in self._condemned
            if settled or (use is not None and use.live):
                continue
            if int.from_bytes(block[:8], "big") < seq and block not in needed:
                found.append(block)
        return found

    def _published_seq(self) -> int:
        return root_records.peek_untrusted(self._parts.publisher.published.root).seq

    async def _directory(self, block: bytes) -> tuple[BlockRow, tuple[ExtentEntry, ...]]:
        """The row (made up from the signed header for another machine's block) and the entries."""
        row = self._parts.state.block(block)
        if row is None or row.directory is None:
            header = await self._parts.fetcher.header(block)
            row = BlockRow(
                CLOSED, header.k != self._parts.store.family.group.k, header.group,
                header.k, header.n, header.length, header.directory, local=False,
            )  # fmt: skip
        assert row.directory is not None
        plain = await self._parts.store.read_extent(row.directory, Kind.DIRECTORY)
        return row, decode_directory_untrusted(plain).extents

    async def _prove(self, block: bytes) -> None:
        """Looks every entry of the block's directory up in the tree; nothing is being mapped."""
        try:
            _, entries = await self._directory(block)
        except Unavailable as error:  # left half uploaded by a machine that died, or too few answer
            log.info("block %s cannot be looked into: %s", block.hex(), error)
            if self._is_gone(block):
                await self._parts.tree.run(_delete, use_key(block))
            else:
                self._alive.add(block)
            return
        async with self._parts.content.sealing:
            for at in range(0, len(entries), CHECK_STEP):
                part = entries[at : at + CHECK_STEP]
                if await self._parts.tree.run(_in_use, block, part, self._published_seq()):
                    log.warning("block %s is in use although it is not counted", block.hex())
                    self._alive.add(block)
                    return
            pending = 1 if self._parts.tree.batch else 0
            self._proven[block] = self._parts.committer.taken + pending

    def _is_gone(self, block: bytes) -> bool:
        """Whether an unused block was deleted by a machine that had no time to say so in the tree."""
        assert self._uses is not None
        use, lists = self._uses.get(block), self._parts.auditor.census
        complete = len(lists.lists) == sum(g.n for g in self._parts.fetcher.family.groups)
        return use is not None and not use.live and complete and not lists.holders(block)

    # -- deleting

    async def _condemn(self, block: bytes) -> None:
        """Signs the death of a block that the published root does not need."""
        row, _ = await self._directory(block)
        published = self._parts.publisher.published.root
        root = open_root_untrusted(published, self._parts.key.vault_id)
        dead = BlockDead(self._parts.key.vault_id, block, root.ballot, root.seq)
        record = seal_record(self._parts.key.signing, "block-dead", dead)
        row = msgspec.structs.replace(row, state=DEAD, kill=record, acked=(), local=False)
        reach("condemn")
        await trio.to_thread.run_sync(self._parts.state.put_block, block, row)
        del self._proven[block]
        self._condemned.add(block)  # a census from before may list it still
        reach("condemned")
        self._parts.uploader.drop(block)
        self._parts.files.remove(block)
        await self._parts.tree.run(_delete, use_key(block))
        log.info("block %s is dead since root %d", block.hex(), root.seq)

    async def _tell(self) -> None:
        """Tells suppliers of dead blocks until each has confirmed each."""
        rows = {block: row for block, row in self._parts.state.blocks() if row.state == DEAD}
        self._untold = bool(rows)
        if not rows:
            return
        confirmed: dict[bytes, set[int]] = {block: set(row.acked) for block, row in rows.items()}
        by_place: dict[tuple[int, int], list[bytes]] = {}
        for block, row in rows.items():
            for position in row.owed:
                by_place.setdefault((row.group, position), []).append(block)

        async def tell(group: int, position: int, blocks: list[bytes]) -> None:
            member = self._parts.fetcher.family.group.members[position]
            for block in blocks:
                health = self._parts.fetcher.health[member.node]
                try:
                    await self._parts.fetcher.suppliers[member.node].kill(rows[block].kill)
                except PeerError as error:
                    log.info("%s does not delete yet: %s", member.node.hex()[:12], error)
                    if isinstance(error, Refused) and error.code not in EXCUSES:
                        health.refused_deletes += 1
                    if health.refused_deletes >= REFUSED_DELETES_MAX:
                        self.on_liar(member.node, "refuses to delete what its customer deleted")
                    return
                health.refused_deletes = 0
                confirmed[block].add(position)

        with trio.move_on_after(TELL_DEADLINE):
            async with trio.open_nursery() as nursery:
                for (group, position), blocks in by_place.items():
                    nursery.start_soon(tell, group, position, blocks)
        reach("death-told")
        for block, row in rows.items():
            if len(confirmed[block]) == row.n:
                await trio.to_thread.run_sync(self._parts.state.forget_block, block)
            elif len(confirmed[block]) > len(row.acked):
                told = msgspec.structs.replace(row, acked=tuple(sorted(confirmed[block])))
                await trio.to_thread.run_sync(self._parts.state.put_block, block, told)
        await self._parts.space.refresh()

    # -- emptying

    def _thin(self) -> Iterator[bytes]:
        """Blocks worth emptying, thinnest first."""
        assert self._uses is not None
        rows = dict(self._parts.state.blocks())
        uses = {
            block: use
            for block, use in self._uses.items()
            if use.live and (block not in rows or (rows[block].state, rows[block].meta) == (CLOSED, False))
        }  # fmt: skip
        small = [block for block, use in uses.items() if use.total < SMALL_BLOCK]
        if len(small) >= SMALL_MANY:
            yield from small
        total = sum(use.total for use in uses.values())
        live = sum(use.live for use in uses.values())
        for block in sorted(uses, key=lambda b: uses[b].live / max(1, uses[b].total)):
            if total <= STORED_MAX * live + SLACK or uses[block].live >= uses[block].total:
                return
            total -= uses[block].total - uses[block].live
            yield block

    async def _compact(self) -> None:
        """Copies what is live of the thinnest blocks into new ones; they die by that."""
        for block in itertools.islice(list(self._thin()), STEP_BLOCKS):
            try:
                await self._empty(block)
            except Unavailable as error:  # the others can be emptied all the same
                log.info("block %s is emptied later: %s", block.hex(), error)

    async def _empty(self, block: bytes) -> None:
        _, entries = await self._directory(block)
        group: list[tuple[int, Mapped, bytes]] = []
        size = 0
        for entry in entries:
            if entry.kind != Kind.DATA:
                continue
            stop = entry.file_offset + entry.plain_length
            for item in await self._parts.tree.run(
                references, entry.inode, entry.file_offset, stop, block
            ):
                assert item.place is not None
                if item.place.ordinal != entry.ordinal:
                    continue
                plain = await self._parts.store.read_extent(item.place, Kind.DATA)
                data = plain[item.skip : item.skip + item.length]
                group.append((entry.inode, item, data))
                size += len(data)
                if size >= STEP_BYTES:
                    await self._rewrite(group)
                    group, size = [], 0
        await self._rewrite(group)

    async def _rewrite(self, group: list[tuple[int, Mapped, bytes]]) -> None:
        if not group:
            return
        pieces = [Piece(Kind.DATA, data, inode, item.offset) for inode, item, data in group]
        async with self._parts.content.sealing:  # nobody must take the copies for dead
            places = await self._parts.store.append(False, pieces)
            for (inode, item, _), place in zip(group, places, strict=True):
                if await self._parts.tree.run(move, inode, item, place):
                    self._parts.tree.bump(inode)


def _page(tx: Transaction, low: bytes, high: bytes) -> list[tuple[bytes, bytes]]:
    page = []
    for item in tx.scan(low, high):
        page.append(item)
        if len(page) >= PAGE:
            break
    return page


def _get(tx: Transaction, key: bytes) -> bytes | None:
    return tx.get(key)


def _delete(tx: Transaction, key: bytes) -> None:
    if tx.get(key) is not None:
        tx.delete(key)


def _in_use(tx: Transaction, block: bytes, entries: tuple[ExtentEntry, ...], seq: int) -> bool:
    """Whether any of these extents is still referred to, or was written for a root after the one of `seq`."""
    for entry in entries:
        if entry.kind == Kind.DATA:
            stop = entry.file_offset + entry.plain_length
            if references(tx, entry.inode, entry.file_offset, stop, block):
                return True
        elif entry.kind == Kind.XATTR:
            if any(p.block == block for p in _xattr_places(tx, entry.inode)):
                return True
        elif entry.seq > seq:
            return True  # journal, leaf or index of a root that is under way
    return False


def _xattr_places(tx: Transaction, inode: int) -> Iterator[Place]:
    for _, value in tx.scan(*kind_range(inode, XATTR)):
        yield from decode_xattr(value).extents
