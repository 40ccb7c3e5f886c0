"""Whether nobody answers, and how much of a vault can be read then: what is shown to people.

It is counted once, when that begins: nothing comes from anybody then, and what is written meanwhile
is here. Of a vault with very many files it is not counted.
"""

import trio

from bitdustfs.blocks.bringing import Bringing
from bitdustfs.blocks.circle import Circle
from bitdustfs.core.items import ROOT_INODE
from bitdustfs.errors import Unavailable
from bitdustfs.fs.attributes import load_counters
from bitdustfs.tree.tree import Tree
from bitdustfs.vault.survey import Survey

COUNTED_MAX = 300_000  #: files and folders that are counted
LOOK_EVERY = 1.0  #: seconds between looks whether anybody answers


class Offline:
    """One vault while nobody answers."""

    def __init__(self, tree: Tree, bringing: Bringing, circle: Circle) -> None:
        self._tree, self._bringing, self._circle = tree, bringing, circle
        self._counted = ""
        self._looked = trio.Event()

    @property
    def said(self) -> str:
        """That nobody answers, and how much is here, a sentence; "" while somebody does."""
        if not self._circle.nobody_answers:
            return ""
        return self._counted or "offline: no supplier answers; what this machine keeps can be read"

    async def wait_looked(self, seconds: float) -> None:
        """Returns once it was counted, or need not be, or after so many seconds."""
        with trio.move_on_after(seconds):
            await self._looked.wait()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if not self._circle.nobody_answers:
                self._counted = ""
            elif not self._counted:
                self._counted = await self._count()
            self._looked.set()
            await trio.sleep(LOOK_EVERY)

    async def _count(self) -> str:
        try:
            every = (await self._tree.run(load_counters)).inodes
        except Unavailable:
            return ""
        if every > COUNTED_MAX:
            return f"offline: what is here of {every} files and folders can be read"
        figures = await Survey(self._tree, self._bringing.absent).below(ROOT_INODE)
        here = min(figures.files_here, every)
        return f"offline: {here} of {every} files and folders are here"
