"""The tree as a model.

Whatever is put, deleted, frozen, thawed and checkpointed, it reads as a dict does.
"""

import tempfile
from pathlib import Path

import trio
from family import KEY
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bitdustfs.blocks.circle import Circle
from bitdustfs.blocks.evict import CacheRoom
from bitdustfs.blocks.fetch import Fetcher
from bitdustfs.blocks.pen import Pen
from bitdustfs.blocks.reader import ExtentReader
from bitdustfs.blocks.sealers import Sealers
from bitdustfs.blocks.writer import ExtentWriter
from bitdustfs.cache.blockfiles import BlockFiles
from bitdustfs.cache.diskroom import DiskRoom
from bitdustfs.cache.pinnedfiles import PinnedFiles
from bitdustfs.cache.state import State
from bitdustfs.core.records import Ballot, Family, Features, Group, Member
from bitdustfs.core.sealing import Suite
from bitdustfs.tree.checkpoint import Checkpointer
from bitdustfs.tree.tree import Tree

# few distinct keys, so that deleting and putting again happens; values long enough for many leaves
keys = st.integers(0, 400).map(lambda n: b"key %06d" % n)
values = st.integers(0, 255).map(lambda n: bytes([n]) * 900)


def store(folder):
    members = tuple(Member(bytes([n]) * 32, (), 1 << 30) for n in range(7))
    family = Family(1, Features(), KEY.vault_id, 0, bytes(32), bytes(32), (Group(4, 2, members),))
    state = State(folder / "state", KEY.cache_key, KEY.vault_id, Suite.AEGIS256)
    files = BlockFiles(folder)
    sealers, pinned = Sealers(KEY.capability()), PinnedFiles(folder)
    room = CacheRoom(files, pinned, 1 << 30, DiskRoom(folder))
    circle = Circle(family, lambda member: None)  # nobody is asked: all is here
    reader = ExtentReader(sealers, files, pinned, Fetcher(circle), room.fetched_limit)
    pen = Pen(Ballot(1, b"m" * 16), b"", 1)
    writer = ExtentWriter(
        sealers, Suite.AEGIS256, state.blocks, files, lambda: family.group, pen,
        lambda inode: None, lambda: None,
    )  # fmt: skip
    return reader, writer, state, files


class TreeModel(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        reader, writer, self._state, self._files = store(Path(self._folder.name))
        self.tree = Tree(reader, None)
        self.checkpointer = Checkpointer(self.tree, writer)
        self.model = {}

    def teardown(self):
        self._files.close()
        self._state.close()
        self._folder.cleanup()

    def run_in_tree(self, function):
        # pytest-trio runs async tests under @given, but no state machines: hypothesis calls their
        # rules as plain functions, so each rule that awaits is a run of its own
        return trio.run(self.tree.run, function)

    @rule(changes=st.dictionaries(keys, st.none() | values, min_size=1, max_size=40))
    def change(self, changes):
        def change(tx):
            for key, value in changes.items():
                if value is None:
                    tx.delete(key)
                else:
                    tx.put(key, value)

        self.run_in_tree(change)
        self.model.update(changes)
        self.model = {key: value for key, value in self.model.items() if value is not None}

    @rule(key=keys)
    def get(self, key):
        assert self.run_in_tree(lambda tx: tx.get(key)) == self.model.get(key)

    @rule(low=keys, high=keys, reverse=st.booleans())
    def scan(self, low, high, reverse):
        expected = sorted((i for i in self.model.items() if low <= i[0] < high), reverse=reverse)
        assert self.run_in_tree(lambda tx: list(tx.scan(low, high, reverse))) == expected

    @rule(key=keys, own=keys)
    def floor_sees_the_transactions_own_changes(self, key, own):
        def look(tx):
            tx.delete(own)
            tx.put(own + b"+", b"new")
            found = tx.floor(b"key ", key)
            tx.changes.clear()
            return found

        there = {**self.model, own + b"+": b"new"}
        there.pop(own, None)
        expected = max((item for item in there.items() if item[0] <= key), default=None)
        assert self.run_in_tree(look) == expected

    @precondition(lambda self: self.tree.frozen is None)
    @rule()
    def freeze(self):
        self.tree.freeze()

    @precondition(lambda self: self.tree.frozen is not None)
    @rule()
    def thaw(self):
        self.tree.thaw()

    @precondition(lambda self: self.tree.frozen is not None)
    @rule(forgets=st.booleans())
    def checkpoint(self, forgets):
        async def write():
            self.checkpointer.finish(await self.checkpointer.write_frozen())

        trio.run(write)
        if forgets:
            self.tree._nodes.clear()  # leaves come from the store again

    @invariant()
    def no_tombstone_hides_nothing(self):
        if self.tree.base is None and self.tree.frozen is None:
            assert None not in self.tree.overlay.values()


TestTree = TreeModel.TestCase
TestTree.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)


async def test_a_look_up_does_not_pass_what_was_overwritten_before(tmp_path):
    """A file overwritten at random offsets again and again, as a database does.

    Nothing of it stays.
    """
    reader, _, state, files = store(tmp_path)
    tree = Tree(reader, None)
    for turn in range(2000):
        tree.apply({b"extent %06d" % turn: b"x", b"extent %06d" % (turn - 1): None})
    assert len(tree.overlay) == 1
    assert await tree.run(lambda tx: tx.floor(b"extent", b"extent 999999")) == (
        b"extent 001999", b"x",
    )  # fmt: skip
    files.close()
    state.close()
