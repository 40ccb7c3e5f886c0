"""Puts of fragments, each in a task of its own: a slow supplier holds up nobody but itself.

A fragment that is on its way to a slow supplier is not taken back, since it would only be sent
again from its beginning. Where nothing but such ones is waited for, and nobody needs them soon,
they are *let go*: they come to their end beside what goes on. Until then that position is given
nothing else.
"""

from collections.abc import Awaitable, Callable, Mapping

import trio

LAG = 5.0  #: seconds after which those that are left may be let go
LOOK_EVERY = 1.0  #: seconds between looks whether they may, from then on
LET_GO_MAX = 3  #: fragments; each may keep a block of 16 MiB and its parity in memory


class Laggards:
    """The puts of one courier. `ended` hears when one that was let go has come to its end."""

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended
        self._nursery: trio.Nursery | None = None
        self._let_go: set[int] = set()

    async def run(self) -> None:
        """Until cancelled. While nobody runs it, every put is waited for."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def holds(self, position: int) -> bool:
        """Whether a position's supplier is still being sent something that was let go."""
        return position in self._let_go

    async def put_all(
        self, puts: Mapping[int, Callable[[], Awaitable[None]]], may_let_go: Callable[[], bool]
    ) -> None:
        """Runs the puts of some positions; returns when all have ended or those left are let go.

        `may_let_go`: whether nobody waits for the rest. When this is cancelled, so are the puts.
        """
        if self._nursery is None:
            async with trio.open_nursery() as nursery:
                for put in puts.values():
                    nursery.start_soon(put)
            return
        left = {position: trio.CancelScope() for position in puts}
        changed = trio.Event()

        async def run(position: int) -> None:
            try:
                with left[position]:
                    await puts[position]()
            finally:
                del left[position]
                changed.set()
                if position in self._let_go:
                    self._let_go.discard(position)
                    self._ended()

        for position in puts:
            self._nursery.start_soon(run, position)
        try:
            look_at = trio.current_time() + LAG
            while left:
                changed = trio.Event()
                with trio.move_on_at(look_at):
                    await changed.wait()
                if trio.current_time() < look_at:
                    continue
                look_at = trio.current_time() + LOOK_EVERY
                if left and len(self._let_go) + len(left) <= LET_GO_MAX and may_let_go():
                    self._let_go.update(left)
                    return
        except BaseException:
            for scope in left.values():
                scope.cancel()
            raise
