"""What may be given back is known from what changed, and is what going through all would say."""

import gc
import random

import msgspec
from test_tree import store

from bitdustfs.cache.rows import CLOSED, DEAD, OPEN, BlockRow
from bitdustfs.core.items import BlockUse, encode_item, use_key
from bitdustfs.core.records import Place
from bitdustfs.rebuild.census import Census
from bitdustfs.tree.tree import Tree
from bitdustfs.units import MIB
from bitdustfs.vault import compact
from bitdustfs.vault.compact import SLACK, SMALL_MANY, STORED_MAX, thin_blocks
from bitdustfs.vault.idle import Idle
from bitdustfs.vault.uses import SMALL_BLOCK, Uses, share

BLOCKS = [bytes([n]) * 16 for n in range(40)]


class Scene:
    """Counts in a tree, rows in a table, lists of suppliers; and the same in plain dictionaries."""

    def __init__(self, folder, seed):
        self.chance = random.Random(seed)
        reader, _, state, self._files = store(folder)
        self._state, self.table, self.tree = state, state.blocks, Tree(reader, None)
        self.uses = Uses(self.tree)
        self.idle = Idle(self.uses, self.table)
        self.counts, self.rows, self.census = {}, {}, Census({})

    def close(self):
        self._files.close()
        self._state.close()

    async def count(self, block):
        total = self.chance.choice([MIB // 2, 16 * MIB])
        live = self.chance.choice([0, 0, total // 3, total])
        use = self.counts[block] = BlockUse(1, live, total)
        await self.tree.run(lambda tx: tx.put(use_key(block), encode_item(use)))

    async def uncount(self, block):
        if self.counts.pop(block, None):
            await self.tree.run(lambda tx: tx.delete(use_key(block)))

    def place(self, block):
        state = self.chance.choice([OPEN, CLOSED, CLOSED, CLOSED, DEAD])
        meta = self.chance.random() < 0.2
        self.rows[block] = BlockRow(state, meta, 0, 4, 7, 100, acked=tuple(range(7)))
        self.table.put(block, self.rows[block], sync=False)

    def forget(self, block):
        self.table.forget(block)
        self.rows.pop(block, None)

    def list_blocks(self):
        listed = sorted(self.chance.sample(BLOCKS, 10))
        self.census = Census({0: (b"node", listed)})

    async def change(self):
        block = self.chance.choice(BLOCKS)
        match self.chance.randrange(10):
            case 0 | 1 | 2 | 3:
                await self.count(block)
            case 4:
                await self.uncount(block)
            case 5 | 6 | 7:
                self.place(block)
            case 8:
                self.forget(block)
            case 9:
                self.list_blocks()

    def check(self):
        everything = {*self.counts, *self.rows, *self.census.blocks()}
        live = {block for block, use in self.counts.items() if use.live}
        assert sorted(self.idle.blocks()) == sorted(everything - live)
        in_use = {
            block: use for block, use in self.counts.items()
            if use.live
            and (block not in self.rows or self.rows[block].state == CLOSED)
            and not (block in self.rows and self.rows[block].meta)
        }  # fmt: skip
        small = {block for block, use in in_use.items() if use.total < SMALL_BLOCK}
        total, left = sum(u.total for u in in_use.values()), sum(u.live for u in in_use.values())
        thinnest = []
        for block in sorted(in_use, key=lambda b: (share(in_use[b]), b)):
            use = in_use[block]
            if total <= STORED_MAX * left + SLACK or use.live >= use.total:
                break
            total -= use.total - use.live
            thinnest.append(block)
        chosen = list(thin_blocks(self.uses, self.table, lambda block: False))
        merged = chosen[: len(chosen) - len(thinnest)]
        assert chosen[len(merged) :] == thinnest
        assert set(merged) <= small and len(set(merged)) == len(merged)
        assert len(merged) == (compact.SMALL_MANY if len(small) >= compact.SMALL_MANY else 0)


async def test_what_changed_says_what_going_through_all_would_say(tmp_path, monkeypatch):
    assert SMALL_MANY > 5
    monkeypatch.setattr(compact, "SMALL_MANY", 5)
    scene = Scene(tmp_path, seed=3)
    for _ in range(30):
        await scene.change()  # there before the first look
    for _ in range(150):
        for _ in range(scene.chance.randrange(4)):
            await scene.change()
        await scene.idle.look(scene.census)
        scene.check()
    scene.close()


async def test_a_later_look_goes_through_what_changed(tmp_path, monkeypatch):
    scene = Scene(tmp_path, seed=4)
    for block in BLOCKS:
        await scene.count(block)
        scene.place(block)
    await scene.idle.look(scene.census)
    scene.check()
    asked, get = [], scene.table.get
    monkeypatch.setattr(scene.table, "get", lambda block: asked.append(block) or get(block))
    for reached in ("snapshot", "in_state"):
        monkeypatch.setattr(scene.table, reached, None)
    await scene.uncount(BLOCKS[7])
    await scene.idle.look(scene.census)
    assert BLOCKS[7] in scene.idle.blocks() and asked == [BLOCKS[7]]
    monkeypatch.undo()
    scene.close()


def test_the_garbage_collector_looks_at_no_rows_and_no_counts():
    place = Place(BLOCKS[0], 0, 0, 1, bytes(32))
    row = BlockRow(CLOSED, False, 0, 4, 7, 100, place)
    for held in (row, place, msgspec.structs.replace(row, meta=True), BlockUse(1, 2, 3)):
        assert not gc.is_tracked(held)
