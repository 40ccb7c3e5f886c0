"""The lease and the fence: this machine shows that it is alive, and hears when another took over.

The lease is a courtesy between machines of one owner; safety rests on ballots. A supplier that
refuses this machine's claim has to show a higher one, and only when no quorum is left without those
who do is the pen lost.
"""

import trio

from bitdustfs.blocks.pen import Pen
from bitdustfs.errors import Superseded
from bitdustfs.net.register import RootRegister

RENEW_EVERY = 15.0  #: seconds between renewals of the lease
RELEASE_DEADLINE = 5.0  #: seconds that giving the lease back may take
TAKEN_OVER = (
    "another machine took this vault over; this mount is read-only and what it had not "
    "published is kept on this machine"
)


class Lease:
    """The lease of one mount that writes."""

    def __init__(self, register: RootRegister, pen: Pen) -> None:
        self._register, self._pen = register, pen
        self._released = False

    async def run(self) -> None:
        """Renews until the pen is lost."""
        while not self._pen.lost:
            await trio.sleep(RENEW_EVERY)
            await self.renew()

    async def renew(self) -> None:
        """Shows that this machine is alive, or loses the pen."""
        if self._pen.lost or self._released:
            return
        try:
            await self._register.renew(self._pen.claim)
        except Superseded:
            self._pen.lose(TAKEN_OVER)

    async def release(self) -> None:
        """Ends the lease, as far as voters can be reached: another machine need not wait."""
        if not self._released and not self._pen.lost:
            self._released = True
            with trio.move_on_after(RELEASE_DEADLINE):
                await self._register.release(self._pen.claim)
