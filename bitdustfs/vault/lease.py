"""The lease and the fence: this machine shows that it is alive, and hears when another took over.

The lease is a courtesy between machines of one owner; safety rests on ballots. A supplier that
refuses this machine's claim has to show a higher one, and only when no quorum is left without those
who do is the pen lost.

A claim that reached a few suppliers and came to nothing would keep these from serving this machine.
While a quorum answers to this machine, and such a claim has stood for a minute, it is *in the way*:
this machine claims again, above it (publish.py).
"""

import trio

from bitdustfs.blocks.pen import Pen
from bitdustfs.core.records import Ballot
from bitdustfs.errors import Superseded
from bitdustfs.net.register import RootRegister

RENEW_EVERY = 15.0  #: seconds between renewals of the lease
IN_THE_WAY = 60.0  #: seconds that another machine has to come to the end of a take-over
RELEASE_DEADLINE = 5.0  #: seconds that giving the lease back may take
#: what becomes of what is not published, if anything is, says the account
TAKEN_OVER = "another machine took this vault over; this mount is read-only"


class Lease:
    """The lease of one mount that writes."""

    def __init__(self, register: RootRegister, pen: Pen) -> None:
        self._register, self._pen = register, pen
        self._released = False
        self._rival: Ballot | None = None
        self._since = 0.0  # of the rival, by trio's clock
        self._in_the_way = trio.Event()

    async def wait_in_the_way(self) -> Ballot:
        """The claim of another machine that came to nothing and fences suppliers, once there is."""
        while self._rival is None or not self._in_the_way.is_set():
            await self._in_the_way.wait()
        return self._rival

    @property
    def stalled(self) -> bool:
        """Whether some suppliers can serve only after this machine claimed again."""
        return self._rival is not None and self._in_the_way.is_set()

    async def run(self) -> None:
        """Renews until the pen is lost."""
        while not self._pen.lost:
            await trio.sleep(RENEW_EVERY)
            await self.renew(patient=True)

    async def renew(self, patient: bool = False) -> None:
        """Shows that this machine is alive, or loses the pen. `patient`: nobody waits for it."""
        if self._pen.lost or self._released or self._pen.waits:
            return
        try:
            rival = await self._register.renew(self._pen.claim, patient)
        except Superseded:
            self._pen.lose(TAKEN_OVER)
            return
        if rival is not None and rival.lineage > self._pen.ballot.lineage:
            rival = None  # somebody refounded the vault: that is for its owner to judge
        now = trio.current_time()
        if rival != self._rival:
            self._rival, self._since = rival, now
            self._in_the_way.set()  # whoever waits looks again
            self._in_the_way = trio.Event()
        if rival is not None and now - self._since >= IN_THE_WAY:
            self._in_the_way.set()

    async def release(self) -> None:
        """Ends the lease, as far as voters can be reached: another machine need not wait."""
        if not self._released and not self._pen.lost and not self._pen.waits:
            self._released = True
            with trio.move_on_after(RELEASE_DEADLINE):
                await self._register.release(self._pen.claim)
