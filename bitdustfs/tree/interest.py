"""Who wants to hear of changes of some objects: asked at each change, so it has to be quick."""

from collections.abc import Collection, Iterable

import trio

from bitdustfs.core.items import key_object


class Interest:
    """The objects that somebody wants to hear of. At first, and after `all`, it is every one."""

    def __init__(self) -> None:
        self._objects: Collection[int] | None = None
        self._changed = trio.Event()

    def of_all(self) -> None:
        """Every change counts from here on; those before are forgotten."""
        self._objects, self._changed = None, trio.Event()

    def of(self, objects: Collection[int]) -> None:
        """Only changes of these count from here on."""
        self._objects = objects

    @property
    def changed(self) -> bool:
        """Whether any of them changed."""
        return self._changed.is_set()

    async def wait_changed(self) -> None:
        """Returns once any of them has."""
        await self._changed.wait()

    def note(self, keys: Iterable[bytes]) -> None:
        """These items changed."""
        if self._changed.is_set():
            return
        objects = self._objects
        if objects is None or any(key_object(key) in objects for key in keys):
            self._changed.set()

    def note_leaves(self) -> None:
        """All is where it was, but in other leaves."""
        self._changed.set()
