"""Hearing of new roots: some voters are asked for one, and answer when they have it.

A question names the newest root that is known, and its answer is held back until there is a newer
one, or WAIT is over: while nothing moves, that is a packet or two in half a minute. Suppliers that
do not know such questions are asked every GAP where they stand, in a few bytes (Kin).

What is heard is signed, so nobody makes up a root. It may not be confirmed: that is for the
register to ask. A root is held by a quorum, so one voter more than are left beside a quorum hear of
each root; one more than that are asked, and a single one that keeps silent hides nothing.
"""

import logging
from collections import deque
from collections.abc import Callable

import trio

from bitdustfs.core.quorum import all_voters, check_shown_untrusted, is_quorum
from bitdustfs.core.records import Ballot, Family, Member, seat_of
from bitdustfs.errors import Malformed, PeerError, ProtocolViolation, Refused
from bitdustfs.net import wire
from bitdustfs.net.supplier import Supplier

log = logging.getLogger(__name__)

WAIT = 25  #: seconds that an answer may be held back
GAP = 2.0  #: seconds from one question to the next where nothing new came of it
AFTER_FAILURE = 3.0  #: seconds until somebody is asked again who did not answer
CLOSED_WITHIN = 1.0  #: seconds that a connection has to end
ASK_AGAIN = 900.0  #: seconds until a supplier that held nothing back is asked whether it does now
SPARE = 1  #: voters that are asked besides

RootOrder = tuple[Ballot, int]


class Hearing:
    """The voters of one family, asked for roots newer than `known`.

    `session`: the session with a member. `answered` is told of each answer.
    """

    def __init__(
        self,
        vault: bytes,
        family: Family,
        session: Callable[[Member], Supplier],
        known: RootOrder,
        answered: Callable[[], None],
    ) -> None:
        self._vault, self._session, self._answered = vault, session, answered
        self.newest = known  #: of all roots that anybody showed
        self._count = asked_at_once(family)
        self._rest = deque(askable(family))
        self._news = trio.Event()
        self._failures: dict[bytes, str] = {}

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(self._count):
                nursery.start_soon(self._ask_one_after_another)

    async def wait_newer(self, than: RootOrder) -> None:
        """Returns once somebody showed a root newer than that."""
        while self.newest <= than:
            self._news = trio.Event()
            await self._news.wait()

    async def _ask_one_after_another(self) -> None:
        while True:
            member = self._rest.popleft()
            try:
                await self._ask(self._session(member))
            except PeerError as error:
                if self._failures.get(member.node) != str(error):  # not every time
                    self._failures[member.node] = str(error)
                    log.info("voter %s tells of no roots: %s", member.node.hex()[:12], error)
            finally:
                self._rest.append(member)
            await trio.sleep(AFTER_FAILURE)

    async def _ask(self, supplier: Supplier) -> None:
        """Until it fails. Raises PeerError."""
        ear = supplier.ear()
        try:
            await self._listen(ear)
        except Refused as refusal:
            if refusal.code not in ("forged", "unauthorised"):
                raise
        finally:
            with trio.move_on_after(CLOSED_WITHIN, shield=True):
                await ear.aclose()
        with trio.move_on_after(ASK_AGAIN):
            await self._look_every_now_and_then(supplier)

    async def _listen(self, ear: Supplier) -> None:
        known = self.newest
        while True:
            known, asked = max(known, self.newest), trio.current_time()
            current = await ear.hear(known, WAIT)
            self._answered()
            shown = None if current is None else self._prove(current)
            if shown is None or shown <= known:
                await trio.sleep_until(asked + GAP)

    async def _look_every_now_and_then(self, supplier: Supplier) -> None:
        said: RootOrder | None = None
        while True:
            told = (await supplier.kin()).root
            self._answered()
            if told is not None and told != said and told > self.newest:
                self._prove(await supplier.current())
            said = told
            await trio.sleep(GAP)

    def _prove(self, current: wire.CurrentIs) -> RootOrder | None:
        """Takes a root that a voter shows, if it is genuine. Raises ProtocolViolation."""
        try:
            shown = check_shown_untrusted(
                self._vault, current.claim, current.root, current.family
            ).known
        except Malformed as error:
            raise ProtocolViolation(f"a voter lies about the root: {error}") from error
        if shown is None:
            return None
        if shown.root.order > self.newest:
            self.newest = shown.root.order
            self._news.set()
        return shown.root.order


def askable(family: Family) -> list[Member]:
    """The voters that can be asked: not the seat of another machine."""
    return [member for node, member in all_voters(family).items() if member != seat_of(node)]


def asked_at_once(family: Family) -> int:
    """How many are asked: so many meet every quorum, whoever they are, and SPARE are left over."""
    there = askable(family)
    if family.former:  # not for long
        return len(there)
    seats = all_voters(family).keys() - {member.node for member in there}
    nodes = [member.node for member in there]
    least = next(n for n in range(len(nodes) + 1) if is_quorum(family, seats | set(nodes[:n])))
    return min(len(there), len(there) - least + 1 + SPARE)
