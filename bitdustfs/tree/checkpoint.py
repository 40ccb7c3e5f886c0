"""Checkpoints: the leaves that the frozen overlay touches are rewritten, and the index above them.

freeze (the overlay becomes the frozen one, in the instant of a commit) -> new leaves and branches
into metadata blocks, beside the old ones -> the index's place is committed -> the frozen overlay is
dropped. Until the commit the old leaves and the frozen overlay are the truth, and `Tree.thaw` gives
up.
"""

from collections.abc import Collection, Iterator

import trio

from bitdustfs.blocks.writer import ExtentWriter, Plain
from bitdustfs.core.leaves import (
    Index,
    Leaf,
    Ref,
    encode_index,
    encode_leaf,
    merge_items,
    split_items,
    split_refs,
)
from bitdustfs.core.records import Place
from bitdustfs.core.sealing import Kind
from bitdustfs.failpoints import reach
from bitdustfs.tree.tree import Tree

Edits = list[tuple[bytes, bytes | None]]


class Checkpointer:
    """Writes a tree's checkpoints."""

    def __init__(self, tree: Tree, writer: ExtentWriter) -> None:
        self._tree, self._writer = tree, writer
        self._moving: frozenset[bytes] = frozenset()  # blocks whose leaves are rewritten

    def empty_out(self, blocks: Collection[bytes]) -> None:
        """The next checkpoint moves all leaves out of these (thin) metadata blocks."""
        self._moving = frozenset(blocks)

    def finish(self, base: Place | None) -> None:
        """The checkpoint is committed: leaves replace the frozen overlay. No await inside."""
        self._tree.finish_checkpoint(base)
        self._moving = frozenset()

    async def write_frozen(self) -> Place | None:
        """Rewrites the leaves that the frozen overlay touches, and the index above; its place."""
        assert self._tree.frozen is not None
        changes: Edits = list(self._tree.frozen.items())
        branches: list[Ref] = []
        if self._tree.base is None:
            refs = await self._write_leaves(merge_items([], changes), b"")
            branches = await self._write_branches(refs)
        else:
            index = await self._tree.load_index(self._tree.base)
            for branch_ref, part in _partition(index, changes):
                if not part and not await self._moves(branch_ref):
                    branches.append(branch_ref)
                    continue
                branch = await self._tree.load_index(branch_ref.place)
                branches += await self._rewrite_branch(branch, part)
        if not branches:
            return None
        branches[0] = Ref(b"", branches[0].place)
        [place] = await self._writer.append(True, [Plain(Kind.INDEX, encode_index(branches))])
        return place

    async def _moves(self, branch_ref: Ref) -> bool:
        """Whether a branch without changes is rewritten to empty a thin block."""
        if not self._moving or branch_ref.place.block in self._moving:
            return bool(self._moving)
        branch = await self._tree.load_index(branch_ref.place)
        return any(ref.place.block in self._moving for ref in branch.refs)

    async def _rewrite_branch(self, branch: Index, changes: Edits) -> list[Ref]:
        refs: list[Ref] = []
        for leaf_ref, part in _partition(branch, changes):
            if not part and leaf_ref.place.block not in self._moving:
                refs.append(leaf_ref)
                continue
            leaf = await self._tree.load(leaf_ref.place, Kind.LEAF)
            assert isinstance(leaf, Leaf)
            items = merge_items(zip(leaf.keys, leaf.values, strict=True), part)
            refs += await self._write_leaves(items, leaf_ref.low)
        return await self._write_branches(refs)

    async def _write_leaves(self, items: list[tuple[bytes, bytes]], low: bytes) -> list[Ref]:
        leaves = await trio.to_thread.run_sync(
            lambda: [(part[0][0], encode_leaf(part)) for part in split_items(items)]
        )
        reach("leaf-write")
        places = await self._writer.append(True, [Plain(Kind.LEAF, plain) for _, plain in leaves])
        refs = [Ref(key, place) for (key, _), place in zip(leaves, places, strict=True)]
        return [Ref(low, refs[0].place), *refs[1:]] if refs else []

    async def _write_branches(self, refs: list[Ref]) -> list[Ref]:
        if not refs:
            return []
        parts = list(split_refs(refs))
        places = await self._writer.append(
            True, [Plain(Kind.INDEX, encode_index(part)) for part in parts]
        )
        return [Ref(part[0].low, place) for part, place in zip(parts, places, strict=True)]


def _partition(index: Index, changes: Edits) -> Iterator[tuple[Ref, Edits]]:
    """Each entry of an index level with the changes that fall into it."""
    at = 0
    for number, ref in enumerate(index.refs):
        end = at
        if number + 1 < len(index.refs):
            boundary = index.refs[number + 1].low
            while end < len(changes) and changes[end][0] < boundary:
                end += 1
        else:
            end = len(changes)
        yield ref, changes[at:end]
        at = end
