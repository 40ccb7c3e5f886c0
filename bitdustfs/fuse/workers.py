"""Whose turn it is to read the kernel's next request: what pyfuse3's main loop costs, made less.

pyfuse3 has several workers. Each reads a request, runs its handler, and comes back for the next
one. Only one may wait for the descriptor, so they pass a lock on: each request costs a wait for the
lock, a wait for the descriptor and a step of another worker, also where one program asks one thing
after another and no handler ever waits.

Here a worker keeps its turn for as long as its handlers do not wait:

- A worker is run step by step. Where a handler has to wait for something, the turn goes to another
  worker before anything else happens.
- Whoever has the turn asks first, without waiting, whether a request is there already. After
  ASKED_MAX of those the other tasks of the loop run once.

The way in is the name `trio` in pyfuse3, which its own adapter for asyncio replaces as well
(pyfuse3.asyncio.enable, 3.5.0). A test notices when a new version uses more of it.
"""

import select
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace, TracebackType
from typing import Any

import pyfuse3
import trio

ASKED_MAX = 16  #: requests read in a row without a look at other tasks

Worker = Callable[..., Coroutine[Any, Any, None]]


@contextmanager
def kept_turns() -> Iterator[None]:
    """Has pyfuse3.main of this process run its workers so."""
    pyfuse3.trio = ReaderTurns().as_trio()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        pyfuse3.trio = trio  # type: ignore[attr-defined]


class ReaderTurns:
    """The turns of one session's workers. As a lock it is what pyfuse3 holds while it reads."""

    def __init__(self) -> None:
        self._whose: trio.lowlevel.Task | None = None
        self._reading = False  # that one waits for a request; otherwise a handler of it runs
        self._waiting: list[trio.lowlevel.Task] = []  # who came last goes first: its memory is warm
        self._asked = 0
        self._poll: select.poll | None = None

    def as_trio(self) -> SimpleNamespace:
        """What pyfuse3 uses of trio."""
        lowlevel = SimpleNamespace(
            current_task=trio.lowlevel.current_task,
            current_trio_token=trio.lowlevel.current_trio_token,
            notify_closing=trio.lowlevel.notify_closing,
            wait_readable=self._wait_readable,
        )
        return SimpleNamespace(
            ClosedResourceError=trio.ClosedResourceError,
            Lock=lambda: self,
            lowlevel=lowlevel,
            open_nursery=self._open_workers,
        )

    # -- as a lock

    async def __aenter__(self) -> None:
        task = trio.lowlevel.current_task()
        if self._whose is None:
            self._whose = task
        elif self._whose is not task:
            self._waiting.append(task)
            await trio.lowlevel.wait_task_rescheduled(lambda _: self._give_up(task))
        self._reading = True

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """The turn is kept: it ends when a handler waits, or with the worker."""
        self._reading = False

    def _give_up(self, task: trio.lowlevel.Task) -> trio.lowlevel.Abort:
        self._waiting.remove(task)
        return trio.lowlevel.Abort.SUCCEEDED

    async def _wait_readable(self, fd: int) -> None:
        """Returns when a request can be read from `fd`. Raises as trio's does."""
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(fd, select.POLLIN)
        if self._asked < ASKED_MAX and self._poll.poll(0):
            self._asked += 1
            return
        self._asked = 0
        await trio.lowlevel.wait_readable(fd)

    # -- workers

    @asynccontextmanager
    async def _open_workers(self) -> AsyncIterator["Workers"]:
        async with trio.open_nursery() as nursery:
            yield Workers(nursery, self)

    @types.coroutine
    def run(self, worker: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
        """Runs one worker to its end. Its turn, if it has it, is passed on where it waits."""
        task = trio.lowlevel.current_task()
        step: Callable[[Any], Any] = worker.send
        value: Any = None
        try:
            while True:
                trap = step(value)
                if self._whose is task and not self._reading:
                    self._pass_on()
                try:
                    step, value = worker.send, (yield trap)
                except BaseException as error:  # it belongs where the worker waits
                    step, value = worker.throw, error
        except StopIteration:
            return
        finally:
            if self._whose is task:
                self._pass_on()

    def _pass_on(self) -> None:
        self._reading = False
        self._whose = self._waiting.pop() if self._waiting else None
        if self._whose is not None:
            trio.lowlevel.reschedule(self._whose)


class Workers:
    """The nursery that pyfuse3 starts its workers in."""

    def __init__(self, nursery: trio.Nursery, turns: ReaderTurns) -> None:
        self._nursery, self._turns = nursery, turns

    def start_soon(self, worker: Worker, *args: object, name: str) -> None:
        """One worker more."""

        async def run() -> None:
            await self._turns.run(worker(*args))

        self._nursery.start_soon(run, name=name)
