"""Which side a request is for: the vault as it is now, or its past below `.snapshots`; or, where it
follows another machine, a file that is open and gone.

Nothing of the past can be changed, and nothing can be put in its place.
"""

import errno
from itertools import pairwise
from typing import Any

from bitdustfs.core.items import ROOT_INODE
from bitdustfs.errors import FsError, Unavailable
from bitdustfs.fs.content import Content
from bitdustfs.fs.past import PAST_NAME, Past, is_past
from bitdustfs.fs.volume import Seen, Volume
from bitdustfs.fs.xattrs import Xattrs
from bitdustfs.vault.reading import ReadVault

CALL_INODES = 3  #: of a request's arguments, those among which inodes are


class Sides:
    """What of one open vault answers for an inode."""

    def __init__(self, vault: ReadVault) -> None:
        self._showing = vault.showing
        self._volume, self._content, self._xattrs = vault.volume, vault.content, vault.xattrs
        self._past = vault.past

    def volume(self, inode: int) -> Volume | Past:
        """Names and attributes."""
        if is_past(inode):
            return self._past
        departed = self._showing.find(inode)
        return self._volume if departed is None else departed.volume

    def listed(self, folder: int, turn: int) -> Volume | Past:
        """What lists a folder in a listing that began at that turn."""
        if is_past(folder):
            return self._past
        before = self._showing.before(turn)
        return self._volume if before is None else before.volume

    async def find(self, inode: int) -> None:
        """Raises ESTALE where a root is shown that does not have it, though one before had.

        The kernel then looks the name up again, and finds what is there now.
        """
        if self._showing.turn and not is_past(inode):
            await self.volume(inode).getattr(inode)

    def _content_of(self, inode: int) -> Content | Past:
        if is_past(inode):
            return self._past
        departed = self._showing.find(inode)
        return self._content if departed is None else departed.content

    async def read(self, inode: int, offset: int, length: int) -> bytes:
        """Up to `length` bytes of a file.

        What fails is planned again where another root is shown meanwhile: blocks that this one
        does not need may be gone, and the file may have departed.
        """
        since = self._showing.turn
        try:
            return await self._content_of(inode).read(inode, offset, length)
        except FsError as error:
            if error.errno != errno.ESTALE or self._showing.find(inode) is None:
                raise
        except Unavailable:
            if not await self._showing.moved_on(since):
                raise
        return await self._content_of(inode).read(inode, offset, length)

    def xattrs(self, inode: int) -> Xattrs | Past:
        """Extended attributes."""
        if is_past(inode):
            return self._past
        departed = self._showing.find(inode)
        return self._xattrs if departed is None else departed.xattrs

    async def lookup(self, folder: int, name: bytes) -> Seen | None:
        """The inode behind a name; what the owner made goes before the past."""
        found = await self.volume(folder).lookup(folder, name)
        if found is None and folder == ROOT_INODE and name == PAST_NAME:
            return await self._past.all()
        return found

    async def forget(self, inode: int, count: int) -> None:
        """The kernel forgot `count` look-ups, also of a file that has departed."""
        side = self._past if is_past(inode) else self._volume
        await side.forget(inode, count)

    async def changes_past(self, arguments: tuple[Any, ...]) -> bool:
        """Whether a request to change something, with these arguments, is about the past."""
        first = arguments[:CALL_INODES]
        if any(isinstance(word, int) and is_past(word) for word in first):
            return True
        named = (ROOT_INODE, PAST_NAME)
        pairs = pairwise(arguments)
        return named in pairs and not await self._past.is_hidden()
