"""What a mount does when it is asked to keep something on this machine, and says of it."""

import trio

from bitdustfs.cache.pins import PinRow
from bitdustfs.errors import UsageError
from bitdustfs.mount.commands import Pin, Unpin
from bitdustfs.mount.statements import PinLine, PinsSaid
from bitdustfs.net.control import Progress, Say
from bitdustfs.vault.pinning import Pinning
from bitdustfs.vault.reading import ReadVault
from bitdustfs.vault.survey import Figures

TICK = 0.3  #: seconds between words about how much is here


class PinAnswers:
    """The pins of one mounted vault, as commands see them."""

    def __init__(self, vault: ReadVault) -> None:
        self._vault = vault

    @property
    def _pinning(self) -> Pinning:
        return self._vault.pinning

    def said(self) -> PinsSaid:
        """All of them, as far as was looked."""
        return PinsSaid(pins=pin_lines(self._vault), room=self._pinning.room, why=self._pinning.why)

    async def pin(self, asked: Pin, say: Say) -> PinsSaid:
        """Returns once all of it is here, or nothing more of it comes for now, unless nobody wants
        to wait. Raises UsageError where there is no room for it.
        """
        pinning = self._pinning
        if self._vault.volume.tree is not pinning.tree:
            raise UsageError("only what is in the vault as it is now can be pinned")
        await say(Progress(done=0, total=0, what="counting"))
        await pinning.measure(asked.inode)
        await pinning.add(asked.inode, asked.path.encode())
        if asked.wait:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_saying, asked.inode, say)
                await pinning.wait_settled()
                nursery.cancel_scope.cancel()
        return self.said()

    async def _keep_saying(self, inode: int, say: Say) -> None:
        while True:
            figures = dict((row.inode, found) for row, found in self._pinning.rows()).get(inode)
            if figures is not None and figures.size:
                here = min(figures.size_here, figures.size)
                await say(Progress(done=here, total=figures.size, what="pinning", unit="B"))
            await trio.sleep(TICK)

    async def unpin(self, asked: Unpin) -> PinsSaid:
        """By the inode; of what is not there any more, by its path. Raises UsageError where it is
        not pinned.
        """
        meant = [
            row.inode
            for row, _ in self._pinning.rows()
            if (row.inode == asked.inode if asked.inode else row.path == asked.path.encode())
        ]
        if not meant:
            raise UsageError(
                f"{asked.path or 'the whole vault'} is not pinned; bitdust pins lists what is"
            )
        for inode in meant:
            await self._pinning.drop(inode)
        return self.said()


def pin_lines(vault: ReadVault) -> list[PinLine]:
    """One line a pin."""
    return [_line(row, figures) for row, figures in vault.pinning.rows()]


def _line(row: PinRow, figures: Figures) -> PinLine:
    return PinLine(
        inode=row.inode,
        path=row.path.decode(errors="replace"),
        files=figures.files,
        files_here=figures.files_here,
        bytes=figures.size,
        bytes_here=figures.size_here,
        complete=figures.all_here and figures.files > 0,
    )
