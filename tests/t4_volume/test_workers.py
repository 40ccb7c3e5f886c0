"""Workers that keep their turn: each request is read once, nobody is forgotten, others run too.

The workers here do what pyfuse3's do (its internal.pxi): take the lock, wait for the descriptor,
read a request, run a handler. A pipe stands for the kernel. Real mounts go through it in t5.
"""

import os
import re
from itertools import pairwise
from pathlib import Path

import pyfuse3
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from bitdustfs.fuse.workers import ASKED_MAX, ReaderTurns, kept_turns

USED = {
    "ClosedResourceError",
    "Lock",
    "lowlevel.current_task",
    "lowlevel.current_trio_token",
    "lowlevel.notify_closing",
    "lowlevel.wait_readable",
    "open_nursery",
}


class Kernel:
    """A pipe with one byte for each request, and workers that answer them."""

    def __init__(self, handler):
        self.trio = ReaderTurns().as_trio()
        self.lock = self.trio.Lock()
        self.fd, self.asked = os.pipe()
        os.set_blocking(self.fd, False)
        self.handler = handler
        self.served = []  # (worker, request) in the order of reading

    def ask(self, requests: bytes):
        os.write(self.asked, requests)

    async def work(self, name, ending=b""):
        """Until a request of `ending` came, or the pipe ended."""
        while True:
            async with self.lock:
                await self.trio.lowlevel.wait_readable(self.fd)
            request = os.read(self.fd, 1)
            if not request:
                return
            self.served.append((name, request))
            await self.handler(request)
            if request in ending and ending:
                return

    async def serve(self, names="AB", **more):
        async with self.trio.open_nursery() as workers:
            for name in names:
                workers.start_soon(self.work, name, *more.values(), name=name)

    def close(self):
        os.close(self.asked)


async def at_once(request):
    """A handler that never waits."""


@pytest.fixture
async def serving():
    """Starts a kernel's workers; all ends with the test."""
    kernels = []
    async with trio.open_nursery() as nursery:

        async def serve(handler, names="AB", **more):
            kernel = Kernel(handler)
            kernels.append(kernel)
            nursery.start_soon(lambda: kernel.serve(names, **more))
            await wait_all_tasks_blocked()
            return kernel

        yield serve
        nursery.cancel_scope.cancel()
    for kernel in kernels:
        os.close(kernel.fd)
        os.close(kernel.asked)


async def test_who_has_the_turn_keeps_it_while_nothing_waits(serving):
    kernel = await serving(at_once)
    for number in range(40):
        kernel.ask(bytes([number]))
        await wait_all_tasks_blocked()
    assert [request[0] for _, request in kernel.served] == list(range(40))
    assert len({worker for worker, _ in kernel.served}) == 1


async def test_a_handler_that_waits_gives_the_turn_away_and_is_awaited(serving):
    woken, ended = trio.Event(), []

    async def handler(request):
        if request == b"w":
            await woken.wait()
        ended.append(request)

    kernel = await serving(handler)
    kernel.ask(b"w123")
    await wait_all_tasks_blocked()
    assert ended == [b"1", b"2", b"3"]
    woken.set()
    await wait_all_tasks_blocked()
    assert ended[-1] == b"w"
    kernel.ask(b"45")
    await wait_all_tasks_blocked()
    assert ended[-2:] == [b"4", b"5"]


async def test_a_handler_that_waits_gets_what_it_waited_for(serving):
    send, receive = trio.open_memory_channel(1)
    got = []

    async def handler(request):
        try:
            with trio.fail_after(5):
                got.append(await receive.receive())
            await trio.to_thread.run_sync(os.getpid)
            with trio.CancelScope() as scope:
                scope.cancel()
                await trio.sleep_forever()
            got.append(scope.cancelled_caught)
            raise OSError("it failed")
        except OSError as error:
            got.append(str(error))

    kernel = await serving(handler)
    kernel.ask(b"r")
    await wait_all_tasks_blocked()
    await send.send("sent")
    with trio.fail_after(5):
        while len(got) < 3:
            await trio.lowlevel.checkpoint()
    assert got == ["sent", True, "it failed"]


async def test_no_request_waits_while_any_worker_is_free(serving):
    """While all workers wait, a request stays with the kernel until the first of them is done."""
    doors = {bytes([n]): trio.Event() for n in range(5)}

    async def handler(request):
        await doors[request].wait()

    kernel = await serving(handler, names="ABC")
    kernel.ask(bytes(range(5)))
    await wait_all_tasks_blocked()
    assert len(kernel.served) == 3
    doors[b"\1"].set()
    await wait_all_tasks_blocked()
    assert len(kernel.served) == 4
    doors[b"\0"].set()
    doors[b"\2"].set()
    await wait_all_tasks_blocked()
    assert len(kernel.served) == 5


async def test_a_worker_that_ends_leaves_its_turn(serving):
    kernel = await serving(at_once, names="ABC", ending=b"xy")
    for requests in (b"x", b"1", b"y", b"2"):
        kernel.ask(requests)
        await wait_all_tasks_blocked()
    assert [request for _, request in kernel.served] == [b"x", b"1", b"y", b"2"]
    assert len({worker for worker, _ in kernel.served}) == 3


async def test_all_workers_end_with_the_session():
    kernel = Kernel(at_once)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kernel.serve, "ABCDEF")
            await wait_all_tasks_blocked()
            kernel.close()
    os.close(kernel.fd)


async def test_cancelled_workers_end_whether_they_have_the_turn_or_not():
    kernel = Kernel(at_once)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kernel.serve, "ABC")
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    kernel.close()
    os.close(kernel.fd)


async def test_a_handlers_fault_ends_the_session_as_it_would_have():
    async def handler(request):
        if request == b"2":
            await trio.lowlevel.checkpoint()
        raise LookupError(request)

    for request in (b"1", b"2"):
        kernel = Kernel(handler)
        kernel.ask(request)
        with trio.fail_after(5), pytest.raises(ExceptionGroup) as raised:
            await kernel.serve()
        assert raised.group_contains(LookupError)
        kernel.close()
        os.close(kernel.fd)


async def test_requests_without_end_let_the_others_run(serving):
    most, steps = [0], [0]

    async def handler(request):
        kernel.ask(request)  # the next one is there before this one is answered
        most[0] += 1

    async def other():
        while steps[0] < 10:
            steps[0] += 1
            most.append(most[0])
            await trio.lowlevel.checkpoint()

    kernel = await serving(handler)
    kernel.ask(b"1")
    with trio.fail_after(20):
        await other()
    between = [after - before for before, after in pairwise(most[1:])]
    # trio shuffles: two turns of ours may lie between two of the other's
    assert 0 < max(between) <= 2 * (ASKED_MAX + 1)


def test_pyfuse3_uses_no_more_of_trio_than_stands_for_it():
    package = Path(pyfuse3.__file__).parent
    sources = [p.read_text() for p in package.iterdir() if p.suffix in (".pyx", ".pxi")]
    assert sources, "pyfuse3 comes without its sources: look at what it uses of trio by other means"
    code = re.sub(r"'''.*?'''|#[^\n]*", "", "\n".join(sources), flags=re.DOTALL)
    used = set(re.findall(r"\btrio\.((?:lowlevel\.)?\w+)", code))
    assert used == USED, "read pyfuse3's main loop again, and adapt bitdustfs/fuse/workers.py"
    with kept_turns():
        for name in USED:
            stand_in = pyfuse3.trio
            for part in name.split("."):
                stand_in = getattr(stand_in, part)
    assert pyfuse3.trio is trio
