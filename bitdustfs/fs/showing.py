"""Which root of a vault is shown, and what is open of one before.

Where another machine is followed, the tree turns to its roots one after another. A file that lost
its last name in one of them, while it is open here, can be read on in the tree of before, as on a
disk: as long as suppliers have its blocks (in their trash, for some days). After that it is an
error. A listing of a folder goes on in the tree that it began in.
"""

from collections.abc import Collection, Mapping

import msgspec
import trio

from bitdustfs.core.items import decode_inode, encode_item, inode_key, object_range
from bitdustfs.fs.past import Past, PastView
from bitdustfs.tree.tree import Tree

BEFORE_MAX = 8  #: roots that are kept because folders are listed
TURN_SOON = 5.0  #: seconds that a read which failed waits for a newer root that was heard of


class Showing:
    """What one vault shows just now. `turn`: how many roots were shown before."""

    def __init__(self, past: Past) -> None:
        self._past = past
        self._departed: dict[int, PastView] = {}
        self._before: dict[int, PastView] = {}  # by the turn at which it was shown
        self._turned = trio.Event()
        self._expected = False
        self.turn = 0

    @property
    def departed(self) -> Collection[int]:
        """Files that are open and have no name any more; no other file ever gets their numbers."""
        return self._departed.keys()

    def find(self, inode: int) -> PastView | None:
        """What is shown of one of them."""
        return self._departed.get(inode)

    def before(self, turn: int) -> PastView | None:
        """What was shown at that turn, where a listing goes on with it; None: it is shown now."""
        return self._before.get(turn)

    def expect(self) -> None:
        """A newer root was heard of."""
        self._expected = True

    async def moved_on(self, since: int) -> bool:
        """Whether another root is shown than at that turn, now or, where one is expected, soon."""
        if self.turn == since and self._expected:
            with trio.move_on_after(TURN_SOON):
                await self._turned.wait()
        return self.turn != since

    def forget(self) -> None:
        """Another history is shown from here on: its files may have the numbers of those before."""
        self._departed, self._before = {}, {}
        self._past.forget_views()

    def move(
        self,
        tree: Tree,
        leaving: Collection[int],
        opened: Collection[int],
        listing: Collection[int],
    ) -> None:
        """The `tree` is about to show the next root, no await in between, and these leave it.

        Who had departed and is not `opened` any more goes for good, and so does what was shown at
        turns that no listing goes on with.
        """
        self._before = {turn: view for turn, view in self._before.items() if turn in listing}
        if self.turn in listing:
            self._before[self.turn] = self._past.view_of(_as_it_is(tree))
            while len(self._before) > BEFORE_MAX:  # such a listing goes on with what is shown then
                del self._before[min(self._before)]
        self._departed = {i: view for i, view in self._departed.items() if i in opened}
        for inode in set(leaving) & set(opened) - self._departed.keys():
            before = tree.beside(tree.base, _own(tree, inode))
            self._departed[inode] = self._past.view_of(before)
        self.turn += 1
        self._expected = False
        self._turned.set()
        self._turned = trio.Event()


def _as_it_is(tree: Tree) -> Tree:
    """The same, to stay so."""
    loose: dict[bytes, bytes | None] = {}
    for layer in reversed(tree.layers()):
        loose.update(layer)
    return tree.beside(tree.base, loose)


def _own(tree: Tree, inode: int) -> Mapping[bytes, bytes | None]:
    """One inode's items that are in no leaf, as of a file that has no name."""
    low, high = object_range(inode)
    loose = {
        key: layer[key]
        for layer in reversed(tree.layers())
        for key in layer.irange(low, high, inclusive=(True, False))
    }
    value = tree.glance(inode_key(inode))
    if value is not None:
        nameless = msgspec.structs.replace(decode_inode(value), nlink=0)
        loose[inode_key(inode)] = encode_item(nameless)
    return loose
