"""What the kernel keeps of a mount that follows another machine, taken back when it is outdated.

The kernel may keep names, attributes and content for an hour (entries.py). It is told what is not
so any more by notifications. These may block until requests are answered which this process has
still to answer: they are sent in a thread, never by the loop.

The kernel forgets before the tree turns, and what it is told from then on it does not keep: so a
program sees all of a root from the moment on at which it is shown. It is told once more after the
turn: it may have read content meanwhile. Names are told again AGAIN later: a program may be about
to take the answer to a request that the kernel got before.
"""

import errno
import logging
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

import pyfuse3
import trio

from bitdustfs.fs.outdated import OldName, Outdated
from bitdustfs.fuse.operations import Operations

log = logging.getLogger(__name__)

HELD_UP = 1.0  #: seconds that a turn waits for the kernel to forget
AGAIN = 1.0  #: seconds until names are told again
#: the kernel does not know of it any more; or it forgot the name of a folder that is gone, and only
#: keeps the folder itself while somebody is in it
HARMLESS = (errno.ENOENT, errno.ENOTDIR, errno.ENOTEMPTY, errno.EBUSY)


class KernelCache:
    """What the kernel keeps of one mount: a Beholder (vault/following.py)."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._attributes: dict[int, bool] = {}  # inode -> whether also its content
        self._names: dict[tuple[int, bytes], OldName] = {}
        self._told: list[OldName] = []  # to be told again
        self._due = trio.Event()
        self._ended = threading.Event()

    @contextmanager
    def looking_away(self) -> Iterator[None]:
        """What is answered meanwhile is not kept."""
        with self._operations.fleeting():
            yield

    async def forget(self, what: Outdated) -> None:
        """This is not so from the next turn on. A request that waits holds it up, not for long."""
        attributes = {**dict.fromkeys(what.attributes, False), **dict.fromkeys(what.contents, True)}
        with trio.move_on_after(HELD_UP):
            await self._send(attributes, what.names)

    def opened(self) -> Collection[int]:
        """The inodes that programs have open."""
        return self._operations.opened()

    def listing(self) -> Collection[int]:
        """Which roots the listings are of that go on."""
        return self._operations.listings.turns

    def tell(self, what: Outdated) -> None:
        """This is not so any more. Returns at once."""
        for inode in (*what.attributes, *what.unlinked):
            self._attributes.setdefault(inode, False)
        self._attributes.update(dict.fromkeys(what.contents, True))
        self._names.update({(old.folder, old.name): old for old in what.names})
        self._due.set()

    async def run(self) -> None:
        """Until cancelled."""
        try:
            await self._tell_what_comes()
        finally:
            self._ended.set()

    async def _send(self, attributes: dict[int, bool], names: Sequence[OldName]) -> None:
        """Cancelled, it leaves the thread alone: that may wait for what nobody answers any more."""
        await trio.to_thread.run_sync(
            _notify_all, attributes, names, self._ended.is_set, abandon_on_cancel=True
        )

    async def _tell_what_comes(self) -> None:
        while True:
            with trio.move_on_after(AGAIN if self._told else float("inf")):
                await self._due.wait()
            self._due = trio.Event()
            attributes, self._attributes = self._attributes, {}
            names, self._names = list(self._names.values()), {}
            again, self._told = self._told, names
            if attributes or names or again:
                await self._send(attributes, [*again, *names])


def _notify_all(
    attributes: dict[int, bool], names: Sequence[OldName], ended: Callable[[], bool]
) -> None:
    """In a thread: it may wait for requests that are under way."""
    for old in names:
        if not ended():
            _notify(pyfuse3.invalidate_entry, old.folder, old.name, old.gone)
    for inode, content in attributes.items():
        if not ended():
            _notify(pyfuse3.invalidate_inode, inode, not content)


def _notify(notification: Callable[..., None], *words: object) -> None:
    try:
        notification(*words)
    except OSError as error:
        if error.errno not in HARMLESS:
            log.warning("the kernel keeps what is outdated: %s", error)
