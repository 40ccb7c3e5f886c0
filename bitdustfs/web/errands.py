"""Work that was begun on the page and takes its time: one thread each, which follows the mount.

The mount does the work. Where this process ends meanwhile, the mount goes on as it does when a
command is interrupted (cli/pages.py).
"""

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable
from functools import partial

import msgspec
import trio

from bitdustfs.errors import BitdustError, UsageError
from bitdustfs.mount.client import Onlooker
from bitdustfs.net.control import Progress
from bitdustfs.web.views import ErrandLine

log = logging.getLogger(__name__)

KEPT = 20  #: of those that ended
AT_ONCE = 8  #: that run, of all mounts

LongWork = Callable[[Onlooker], list[str]]  #: blocks; what came of it, in sentences


class Errands:
    """All of them. `ended` hears a sentence of each that came to its end."""

    def __init__(self, nursery: trio.Nursery, ended: Callable[[str], None]) -> None:
        self._nursery, self._ended = nursery, ended
        self._numbers = itertools.count(1)
        self._limiter = trio.CapacityLimiter(AT_ONCE)
        self._running: dict[str, ErrandLine] = {}
        self._done: deque[ErrandLine] = deque(maxlen=KEPT)

    def all(self) -> list[ErrandLine]:
        """The newest first."""
        return [*reversed(self._running.values()), *self._done]

    def begin(self, mount: str, verb: str, work: LongWork) -> ErrandLine:
        """Has it done. Raises UsageError where the mount does the same already."""
        if any(line.mount == mount and line.verb == verb for line in self._running.values()):
            raise UsageError(f"{verb} runs there already")
        if len(self._running) >= AT_ONCE:
            raise UsageError("too much runs already: wait until some of it is done")
        line = ErrandLine(
            id=str(next(self._numbers)), mount=mount, verb=verb, state="running",
            began=time.time(), ended=None, done=0, total=0, what="", unit="", said=[],
        )  # fmt: skip
        self._running[line.id] = line
        self._nursery.start_soon(self._run, line.id, work)
        return line

    async def _run(self, number: str, work: LongWork) -> None:
        def watch(progress: Progress) -> None:  # in the thread
            trio.from_thread.run_sync(self._moved, number, progress)

        state, said = "failed", list[str]()
        try:
            said = await trio.to_thread.run_sync(
                partial(work, watch), abandon_on_cancel=True, limiter=self._limiter
            )
            state = "done"
        except (BitdustError, OSError) as error:
            said = [str(error).encode(errors="replace").decode()]  # paths need not be UTF-8
        except Exception as error:
            log.exception("work that the page began failed by our own fault")
            said = [f"a bug of bitdustfs, see the log of the dashboard: {error!r}"]
        line = self._running.pop(number)
        ended = msgspec.structs.replace(line, state=state, said=said, ended=time.time())
        self._done.appendleft(ended)
        self._ended(f"{line.verb}: {said[-1] if said else state}")

    def _moved(self, number: str, progress: Progress) -> None:
        if number in self._running:
            self._running[number] = msgspec.structs.replace(
                self._running[number], done=progress.done, total=progress.total,
                what=progress.what, unit=progress.unit,
            )  # fmt: skip
