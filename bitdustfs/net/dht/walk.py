"""A look-up: ever nearer nodes are asked who is near an id, until the K nearest have answered.

Kademlia's (Maymounkov and Mazières, 2002), among nodes of which some lie. What is different:

- Who is there is who answered, by the key that signed the answer: never who was named. Another id
  than the one that was named is what answers at that address, and the naming was false.
- Whoever names falsely (another node answers there, or nobody) more than NAMED_FALSELY times more
  often than rightly is not believed any more: what only such nodes named is not asked.
- Of one /24 network at most PER_PREFIX nodes get into the result.
- An answer that is slow holds up nobody: after SLOW seconds another one is asked besides.

`Frontier` decides, without I/O; `walk` asks.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

import trio

from bitdustfs.net.dht.bounds import Neighbourhoods, distance
from bitdustfs.net.dht.datagram import Contact, Endpoint
from bitdustfs.net.dht.kad import K

ALPHA, LAST = 3, 8  #: questions under way at once; the latter once nothing nearer turns up
SLOW = 0.7  #: seconds after which a question under way holds up no other one
NAMED_FALSELY = 2  #: namings more false than right for which a node is still believed
ASKED_MAX = 200  #: nodes asked in one look-up


class Heard(NamedTuple):
    """An answer: who gave it, proven by its signature, and whom it names."""

    who: Contact
    named: list[Contact]


#: asks the node at a contact's address: its answer, or None when there is none
AskForNearest = Callable[[Contact], Awaitable[Heard | None]]


class _Candidate:
    """A contact that was named, and by whom: ids of nodes; nobody, for one known before."""

    def __init__(self, contact: Contact, far: int) -> None:
        self.contact, self.far = contact, far
        self.namers: set[bytes] = set()
        self.known = False

    def name(self, namer: bytes | None) -> None:
        """It was named once more; by None: it was known before."""
        if namer is None:
            self.known = True
        else:
            self.namers.add(namer)


class Frontier:
    """What one look-up knows: who was named, who answered, whom to ask next."""

    def __init__(
        self, target: bytes, start: Iterable[Contact], neighbourhoods: Neighbourhoods
    ) -> None:
        self._target, self._crowd = target, neighbourhoods.crowd()
        self._candidates: dict[Contact, _Candidate] = {}
        self._asked: set[Endpoint] = set()
        self._pending: dict[Contact, _Candidate] = {}
        self._proven: dict[bytes, Contact] = {}
        self._false: Counter[bytes] = Counter()  # by namer: false namings less right ones
        self._waited: Counter[bytes] = Counter()  # by namer: namings that are being tried
        self._since_nearer = 0
        self._hear_of(start, None)

    @property
    def nearest(self) -> list[Contact]:
        """The up to K nearest nodes that answered, nearest first."""
        return sorted(self._proven.values(), key=self._far)[:K]

    @property
    def width(self) -> int:
        """How many questions may be under way at once, slow ones not counted."""
        return ALPHA if self._since_nearer < ALPHA else LAST

    def next(self) -> Contact | None:
        """Whom to ask now, from here on under way; None: nobody who may be of the K nearest."""
        limit = self._limit()
        best: _Candidate | None = None
        for candidate in self._candidates.values():
            if (
                candidate.far < limit
                and (best is None or candidate.far < best.far)
                and self._may_be_asked(candidate, self._waited)
            ):
                best = candidate
        if best is None or len(self._asked) >= ASKED_MAX:
            return None
        del self._candidates[best.contact]
        self._asked.add(best.contact.endpoint)
        self._pending[best.contact] = best
        self._waited.update(best.namers)
        return best.contact

    @property
    def waits(self) -> bool:
        """Whether an answer that is due may add to the K nearest: itself, or by what follows."""
        limit = self._limit()
        if any(candidate.far < limit for candidate in self._pending.values()):
            return True
        return bool(self._pending) and any(
            candidate.far < limit and self._may_be_asked(candidate, Counter())
            for candidate in self._candidates.values()
        )

    def answered(self, asked: Contact, heard: Heard | None) -> None:
        """What became of a question; None: there was no answer."""
        candidate = self._pending.pop(asked)
        self._waited.subtract(candidate.namers)
        right = heard is not None and heard.who.id == asked.id
        for namer in candidate.namers:
            self._false[namer] += -1 if right else 1
        if heard is None:
            return
        if heard.who.id in self._proven or self._crowd.is_full(heard.who.host):
            return
        nearer = all(self._far(heard.who) < self._far(c) for c in self._proven.values())
        self._since_nearer = 0 if nearer else self._since_nearer + 1
        self._proven[heard.who.id] = heard.who
        self._crowd.add(heard.who.host)
        self._hear_of(heard.named, heard.who.id)

    def _hear_of(self, contacts: Iterable[Contact], namer: bytes | None) -> None:
        for contact in contacts:
            if contact.endpoint in self._asked or contact.id in self._proven:
                continue
            candidate = self._candidates.get(contact)
            if candidate is None:
                candidate = self._candidates[contact] = _Candidate(contact, self._far(contact))
            candidate.name(namer)

    def _may_be_asked(self, candidate: _Candidate, waited: Counter[bytes]) -> bool:
        """`waited`: how many namings of each node are being tried, and may prove false."""
        contact = candidate.contact
        if contact.endpoint in self._asked or contact.id in self._proven:
            return False
        if self._crowd.is_full(contact.host):
            return False
        return candidate.known or any(
            self._false[namer] + waited[namer] <= NAMED_FALSELY for namer in candidate.namers
        )

    def _limit(self) -> int:
        """The distance below which a node would be among the K nearest."""
        if len(self._proven) < K:
            return 1 << 200
        return sorted(map(self._far, self._proven.values()))[K - 1]

    def _far(self, contact: Contact) -> int:
        return distance(contact.id, self._target)


async def walk(
    target: bytes,
    start: Iterable[Contact],
    ask: AskForNearest,
    neighbourhoods: Neighbourhoods,
    deadline: float,
) -> list[Contact]:
    """The up to K nodes nearest to `target`, nearest first, found by asking from `start` on.

    No address is asked twice. After `deadline` seconds it returns the nearest that answered so far.
    What `ask` raises comes through; cancelling is safe at any time, the walk keeps nothing.
    """
    frontier = Frontier(target, start, neighbourhoods)
    began: dict[Contact, float] = {}
    changed = trio.Event()

    async def one(contact: Contact) -> None:
        frontier.answered(contact, await ask(contact))
        del began[contact]
        changed.set()

    with trio.move_on_after(deadline):
        async with trio.open_nursery() as nursery:
            while True:
                changed, now = trio.Event(), trio.current_time()
                fresh = [since + SLOW for since in began.values() if since + SLOW > now]
                contact = frontier.next() if len(fresh) < frontier.width else None
                if contact is not None:
                    began[contact] = now
                    nursery.start_soon(one, contact)
                    continue
                if not frontier.waits and len(fresh) < frontier.width:
                    break
                with trio.move_on_at(min(fresh, default=trio.current_time() + deadline)):
                    await changed.wait()
            nursery.cancel_scope.cancel()
    return frontier.nearest
