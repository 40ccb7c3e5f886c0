"""Extent items as a model.

They tile the file, tell where each byte is, and count what blocks still hold.
"""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from bitdustfs.core.items import USE, Inode, decode_use, kind_range
from bitdustfs.core.records import Place
from bitdustfs.fs.extents import Mapped, move, put_extents, resize, to_read
from bitdustfs.tree.transaction import Transaction
from bitdustfs.tree.tree import Tree

INODE, SPAN, LONGEST = 7, 2000, 300
steps = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, SPAN), st.integers(1, LONGEST), st.integers(0, 3)),
        st.tuples(st.just("resize"), st.integers(0, SPAN), st.integers(1, 4)),
        st.tuples(st.just("move"), st.integers(0, 40)),
    ),
    max_size=40,
)


def place(number, block):
    return Place(bytes([block]) * 16, number, number * LONGEST, LONGEST, bytes(32))


@settings(max_examples=200, deadline=None)
@given(steps)
def test_extents_tile_the_file_and_block_use_is_counted_to_the_byte(steps):
    tree = Tree(None, None)
    inode = Inode(1, 0o100644, 0, 0, 1, 0, 0, (0, 0), (0, 0), (0, 0))
    file, live = [], 0  # for each byte (block, ordinal, byte of the extent), or None in a hole
    for number, step in enumerate(steps):
        tx = Transaction(tree, {})
        match step:
            case ("put", offset, length, block):
                file += [None] * (offset - len(file))
                file[offset : offset + length] = [(block, number, at) for at in range(length)]
                live += put_extents(
                    tx, INODE, inode, [Mapped(offset, length, place(number, block), 0)]
                )
            case ("resize", size, most):
                while inode.size != size:
                    live += resize(tx, INODE, inode, size, most)
                    tree.apply(tx.changes)
                    tx = Transaction(tree, {})
                file = file[:size] + [None] * (size - len(file))
            case ("move", which):
                items = [m for m in to_read(tx, INODE, 0, inode.size) if m.place] if file else []
                if items:
                    item = items[which % len(items)]
                    assert move(tx, INODE, item, place(number, 9))
                    stop = item.offset + item.length
                    file[item.offset : stop] = [(9, number, at) for at in range(item.length)]
        tree.apply(tx.changes)
        tx = Transaction(tree, {})
        shown = []
        for item in to_read(tx, INODE, 0, inode.size) if inode.size else []:
            where = item.place
            for at in range(item.skip, item.skip + item.length):
                shown.append(None if where is None else (where.block[0], where.ordinal, at))
        assert shown == file and inode.size == len(file)
        counted = Counter(at[0] for at in file if at is not None)
        uses = {k[-1]: decode_use(v).live for k, v in tx.scan(*kind_range(0, USE))}
        assert {block: use for block, use in uses.items() if use} == counted
        assert live == sum(counted.values()) == inode.size - inode.holes


@given(steps, st.integers(0, 300))
def test_holes_that_an_older_program_did_not_count_are_never_too_many(steps, hole):
    """So no file is shown to take less than it has."""
    tree = Tree(None, None)
    inode = Inode(1, 0o100644, 0, 0, 1, 0, 0, (0, 0), (0, 0), (0, 0))
    tx = Transaction(tree, {})
    mapped = put_extents(tx, INODE, inode, [Mapped(hole, 100, place(0, 1), 0)])
    inode.holes, was_empty = 0, False
    for number, step in enumerate(steps):
        match step:
            case ("put", offset, length, block):
                mapped += put_extents(
                    tx, INODE, inode, [Mapped(offset, length, place(number, block), 0)]
                )
            case ("resize", size, _):
                mapped += resize(tx, INODE, inode, size, 1000)
        was_empty = was_empty or inode.size == 0
        assert 0 <= inode.holes <= inode.size - mapped
        assert not was_empty or inode.holes == inode.size - mapped
