"""Puts of fragments, each in a task of its own: a slow supplier holds up nobody but itself.

A fragment that is on its way to a slow supplier is not taken back, since it would only be sent
again from its beginning. Where nothing but such ones is waited for, and nobody needs them soon,
they are *let go*: they come to their end beside what goes on. Until then whom they go to is given
nothing else.

Memory bounds of how many blocks fragments may be let go. Where there is no place for one more,
whoever takes the longest is given up in the end, and rests: so suppliers that take byte after byte
hold up nobody for long, however many they are. Four or more that end each put just before that cost
a block up to HELD_MAX.
"""

import math
from collections.abc import Awaitable, Callable, Hashable, Mapping

import trio

from bitdustfs.errors import BitdustError

LAG = 5.0  #: seconds after which those that are left may be let go
LAG_REMADE = 60.0  #: the same of what was made again: to make it took longer
LOOK_EVERY = 1.0  #: seconds between looks whether they may, from then on
LET_GO_MAX = 3  #: blocks; fragments of each may keep 16 MiB and its parity in memory
HELD_MAX = 60.0  #: seconds that nobody needs those left, and there is no place; then they rest
LET_GO_SECONDS = 1800.0  #: seconds after which those that were let go make a place for others
#: seconds that a supplier is given nothing: there was no place for it; it held one for too long
REST, LONG_REST = 60.0, 1800.0

SendOne = Callable[[], Awaitable[None]]


class Sending:
    """The puts of one block. Whom they go to is a *key*: a supplier's node."""

    def __init__(self, puts: Mapping[Hashable, SendOne]) -> None:
        self.left = {key: trio.CancelScope() for key in puts}  #: that have not ended
        self.let_go_at = math.inf  #: trio's clock
        self.failures: list[BitdustError] = []  #: of puts that were waited for
        self._changed = trio.Event()

    @property
    def is_let_go(self) -> bool:
        """Whether nobody waits for those left."""
        return self.let_go_at < math.inf

    def let_go(self) -> None:
        """From now on nobody does."""
        self.let_go_at = trio.current_time()

    def ended(self, key: Hashable) -> None:
        """One has come to its end."""
        del self.left[key]
        self._changed.set()
        self._changed = trio.Event()

    async def wait_ended(self, at: float) -> None:
        """Until one has, or it is `at`, by trio's clock."""
        with trio.move_on_at(at):
            await self._changed.wait()

    def cancel(self) -> None:
        """Gives up those left."""
        for scope in self.left.values():
            scope.cancel()


class Laggards:
    """The puts of one courier.

    `ended` hears when one that was let go has come to its end, `failed` of the error with which.
    """

    def __init__(self, ended: Callable[[], None], failed: Callable[[BitdustError], None]) -> None:
        self._ended, self._failed = ended, failed
        self._nursery: trio.Nursery | None = None
        self._let_go: list[Sending] = []  # the longest first
        self._resting: dict[Hashable, float] = {}  # key -> until when, trio's clock

    async def run(self) -> None:
        """Until cancelled. While nobody runs it, every put is waited for."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    @property
    def busy(self) -> bool:
        """Whether any that were let go are still on their way."""
        return bool(self._let_go)

    def holds(self, key: Hashable) -> bool:
        """Whether one is to be sent nothing now: something that was let go is on its way there, or
        it rests.
        """
        if self._resting.get(key, -math.inf) > trio.current_time():
            return True
        return any(key in sending.left for sending in self._let_go)

    async def put_all(
        self, puts: Mapping[Hashable, SendOne], may_let_go: Callable[[], bool], lag: float = LAG
    ) -> Sending:
        """Runs the puts of a block; returns when all have ended, or those left are let go.

        `may_let_go`: whether nobody waits for the rest, asked after `lag` seconds. When this is
        cancelled, so are the puts. Raises the first BitdustError of a put that was waited for,
        after all have ended.
        """
        sending = Sending(puts)
        if self._nursery is None:
            async with trio.open_nursery() as nursery:
                for key, put in puts.items():
                    nursery.start_soon(self._run, sending, key, put)
        else:
            for key, put in puts.items():
                self._nursery.start_soon(self._run, sending, key, put)
            try:
                await self._wait(sending, may_let_go, lag)
            except BaseException:
                sending.cancel()
                raise
        if sending.failures:
            raise sending.failures[0]
        return sending

    async def _run(self, sending: Sending, key: Hashable, put: SendOne) -> None:
        try:
            with sending.left[key]:
                await put()
        except BitdustError as error:
            if sending.is_let_go:
                self._failed(error)
            else:
                sending.failures.append(error)
        finally:
            sending.ended(key)
            if sending.is_let_go:
                if not sending.left and sending in self._let_go:
                    self._let_go.remove(sending)
                self._ended()

    async def _wait(self, sending: Sending, may_let_go: Callable[[], bool], lag: float) -> None:
        look_at, spare_since = trio.current_time() + lag, math.inf
        while sending.left:
            await sending.wait_ended(look_at)
            now = trio.current_time()
            if now < look_at or not sending.left:
                continue
            look_at = now + LOOK_EVERY
            spare_since = min(spare_since, now) if may_let_go() else math.inf
            if spare_since == math.inf:
                continue
            if self._has_place():
                sending.let_go()
                self._let_go.append(sending)
                return
            if now - spare_since >= HELD_MAX:
                self._give_up(sending, REST)

    def _has_place(self) -> bool:
        """Whether one more block's may be let go. Those that take too long make a place."""
        if len(self._let_go) < LET_GO_MAX:
            return True
        longest = self._let_go[0]
        if trio.current_time() - longest.let_go_at < LET_GO_SECONDS:
            return False
        self._let_go.remove(longest)
        self._give_up(longest, LONG_REST)
        return True

    def _give_up(self, sending: Sending, rest: float) -> None:
        """Takes back those left; to whom they went is given nothing for some time."""
        until = trio.current_time() + rest
        self._resting = {key: at for key, at in self._resting.items() if at > trio.current_time()}
        self._resting.update(dict.fromkeys(sending.left, until))
        sending.cancel()
