"""The root register against its promises: every schedule of small worlds.

Three voters and a newcomer. One writer gives the place of voter 2 to the newcomer (two roots: one
that names the former voters too, one that does not) and publishes; another takes the vault over
and publishes. In each step one message reaches one voter, and its answer arrives or is lost; or a
writer goes on to what comes next. A writer that stops anywhere is a schedule in which it takes no
further step. Another world is of two friends and two machines of one owner, each with a seat that
nobody else can ask (vault/seat.py): the one publishes and replaces a friend, the other takes the
vault over and makes a seat of its own. Voters are the real acceptors, and what answers add up to is
the real Poll.

In every state: the roots that were ever confirmed are one history, and nobody who asks a quorum
finds a root that lacks one of them. From every state: once all are reachable, a new writer gets
through, and finds them all.
"""

from collections import deque
from functools import cache, lru_cache
from itertools import combinations, pairwise
from typing import NamedTuple

from msgspec.structs import replace

from bitdustfs.core.acceptor import Acceptor
from bitdustfs.core.quorum import Known, Poll, Shown, all_voters, is_quorum
from bitdustfs.core.records import Ballot, Family, Features, Group, Member, Root
from bitdustfs.errors import Refused

VAULT = bytes(32)
FIRST, SECOND, THIRD = Ballot(1, b"a" * 16), Ballot(2, b"b" * 16), Ballot(9, b"c" * 16)
AGAIN = Ballot(3, b"a" * 16)


def members(*numbers):
    return tuple(Member(bytes([number]) * 32, (), 0) for number in numbers)


def family(epoch, voters, former=(), seat=b""):
    """The name of a family: what a state remembers of it."""
    return named(
        Family(
            1, Features(), VAULT, epoch, VAULT, VAULT, (Group(1, 1, members(*voters)),),
            former=members(*former), seat=seat,
        )
    )  # fmt: skip


def named(family):
    numbers = [[NUMBERS[m.node] for m in voters] for voters in (family.voters, family.former)]
    name = f"{family.epoch}: {numbers}"
    FAMILIES[name] = family
    return name


def changed(name, position=None, member=None, seat=None):
    """The family that follows, as core/families.py makes it; it names former voters."""
    before = FAMILIES[name]
    places = [*before.members]
    if position is not None:
        places[position] = member
    after = Family(
        1, Features(), VAULT, before.epoch + 1, VAULT, VAULT, (Group(1, 1, tuple(places)),),
        former=before.voters, seat=before.seat if seat is None else seat,
    )  # fmt: skip
    return named(after)


def settled(name):
    """The family without former voters that follows."""
    before = FAMILIES[name]
    return named(replace(before, epoch=before.epoch + 1, former=()))


def root(ballot, history, family):
    """The signed bytes of a root, as it were. Its uid is the last of `history`, the uids so far."""
    raw = repr((ballot.rank, history, family)).encode()
    if raw not in ROOTS:
        named = FAMILIES[family]
        body = Root(
            1, Features(), VAULT, ballot, len(history), uid(history[-1]), VAULT[:16], 0,
            named.epoch, VAULT, 0, b"",
        )  # fmt: skip
        ROOTS[raw], HISTORIES[raw], NAMES[raw] = Known(body, raw, named, b""), history, family
    return raw


SEATS = {"a": b"A" * 32, "b": b"B" * 32}  # only the machine of that name can ask it
NUMBERS = {member.node: number for number, member in enumerate(members(0, 1, 2, 3))}
NUMBERS |= {SEATS["a"]: 4, SEATS["b"]: 5}
FAMILIES: dict[str, Family] = {}
ROOTS: dict[bytes, Known] = {}
HISTORIES: dict[bytes, tuple[str, ...]] = {}
NAMES: dict[bytes, str] = {}
OLD = family(0, (0, 1, 2))
BOTH, NEW = family(1, (0, 1, 3), (0, 1, 2)), family(2, (0, 1, 3))
AT_ONCE = family(1, (0, 1, 3))  # as version 1 did it: the change names nobody who voted before
FRIENDS = family(0, (0, 1), seat=SEATS["a"])  # two, and the seat of one machine
BASE = ("base",)


def uid(name):
    return name.encode().ljust(16, b".")[:16]


def claim_of(ballot):
    return repr(ballot.rank).encode()


Answer = tuple[bytes, bytes, bytes]  # a voter's node, the claim that it promised, its root


@lru_cache(100_000)
def poll_of(first, shown):
    """The answers so far to a writer's claim."""
    poll = Poll(FAMILIES[first])
    poll.take({node: Shown(claim, None, ROOTS.get(raw)) for node, claim, raw in shown})
    return poll, poll.family, poll.complete


class Writer(NamedTuple):
    """One mount. `shown`: what voters answered to its claim, None once a quorum did."""

    name: str
    ballot: Ballot
    first: str
    shown: tuple[Answer, ...] | None
    target: bytes = b""  # the root that it proposes
    acks: frozenset[bytes] = frozenset()
    left: tuple[str, ...] = ()  # what it does once its root is confirmed
    again: bool = False  # whether it may claim again, at any time
    own: tuple[bytes, ...] = ()  # while it does: its newest root, and the one before

    def asks(self):
        """The voters that its present question goes to, and have not answered yet."""
        others = {seat for name, seat in SEATS.items() if name != self.name}
        return self._waits_for() - others

    def _waits_for(self):
        if self.shown is not None:
            asked = {node for node, _, _ in self.shown}
            return all_voters(poll_of(self.first, self.shown)[1]).keys() - asked
        return all_voters(ROOTS[self.target].family).keys() - self.acks if self.target else set()

    def ready(self):
        """Whether it can go on."""
        if self.shown is not None:
            return poll_of(self.first, self.shown)[2]
        return bool(self.target) and is_quorum(ROOTS[self.target].family, self.acks)

    def claims_again(self):
        """The writer after a claim above its own and that of another machine (publish.py)."""
        own = tuple({HISTORIES[self.target], HISTORIES[self.target][:-1]})
        return self._replace(ballot=AGAIN, shown=(), acks=frozenset(), again=False, own=own)

    def _goes_on_again(self, found):
        """Its newest root under the new ballot; nothing where another machine's root turned up."""
        if found not in self.own:
            return self._replace(shown=None, target=b"", acks=frozenset(), left=(), own=())
        return self._replace(own=()).proposes(HISTORIES[self.target], NAMES[self.target])

    def proposes(self, history, family):
        target = root(self.ballot, history, family)
        return self._replace(shown=None, target=target, acks=frozenset())

    def goes_on_from(self, target):
        """The writer at its next question after a root of its own was confirmed."""
        return self._replace(target=target).goes_on()

    def goes_on(self):
        """The writer at its next question."""
        if self.shown is not None:
            best = poll_of(self.first, self.shown)[0].best
            assert best is not None
            if self.own:
                return self._goes_on_again(HISTORIES[best.raw])
            return self.proposes(HISTORIES[best.raw], NAMES[best.raw])
        history, name = HISTORIES[self.target], NAMES[self.target]
        if FAMILIES[name].former:
            return self.proposes((*history, f"{self.name} settles"), settled(name))
        if not self.left:
            return self._replace(target=b"")
        what, *left = self.left
        if what.startswith(" sits"):
            name = changed(name, seat=SEATS[self.name])
        if what == " sits at once":
            name = named(replace(FAMILIES[name], former=()))
        if what == " replaces":
            name = changed(name, 1, *members(2))
        after = self._replace(left=tuple(left), first=NAMES[self.target])
        return after.proposes((*history, self.name + what), name)


class World(NamedTuple):
    """A state of the small world, made of small numbers: there are many of them."""

    voters: tuple[int, ...]  # of their acceptors
    writers: tuple[int, ...]
    confirmed: int  # of the set of roots that a writer saw accepted by a quorum


class Numbers:
    """A small number for each thing, always the same one."""

    def __init__(self):
        self.things, self._numbers = [], {}

    def of(self, thing):
        if thing not in self._numbers:
            self._numbers[thing] = len(self.things)
            self.things.append(thing)
        return self._numbers[thing]


ACCEPTORS, WRITERS, CONFIRMED = Numbers(), Numbers(), Numbers()


def answer_of(node, number, liar=False):
    """What a voter shows; a liar shows what was there in the beginning."""
    if liar:
        return node, b"", root(FIRST, BASE, OLD)
    acceptor = ACCEPTORS.things[number]
    return node, acceptor.claim, acceptor.root or b""


def deliver(number, writer):
    """The voter after the writer's question, or None: it refuses."""
    return delivered(number, writer.ballot, b"" if writer.shown is not None else writer.target)


@cache
def delivered(number, ballot, target):
    acceptor, claim = ACCEPTORS.things[number], claim_of(ballot)
    try:
        if not target:
            return ACCEPTORS.of(acceptor.prepare(ballot, claim, False))
        known = ROOTS[target]
        acceptor = acceptor.heed(ballot, claim)
        return ACCEPTORS.of(acceptor.accept(known.root, known.raw, b"", known.family.epoch))
    except Refused:
        return None


def heard(writer, answer):
    """The writer after an answer."""
    if writer.shown is not None:
        return writer._replace(shown=tuple(sorted((*writer.shown, answer))))
    return writer._replace(acks=writer.acks | {answer[0]})


def steps(world, liar):
    """All worlds that are one step away."""
    for at, number_of_writer in enumerate(world.writers):
        writer = WRITERS.things[number_of_writer]

        def with_writer(changed, confirmed=world.confirmed, voters=world.voters, at=at):
            writers = (*world.writers[:at], WRITERS.of(changed), *world.writers[at + 1 :])
            return World(voters, writers, confirmed)

        if writer.ready():
            confirmed = world.confirmed
            if writer.shown is None:
                confirmed = CONFIRMED.of(CONFIRMED.things[confirmed] | {writer.target})
            yield with_writer(writer.goes_on(), confirmed)
        if writer.again and writer.target:
            yield with_writer(writer.claims_again())
        for node in writer.asks():
            number = NUMBERS[node]
            if number == liar:
                if writer.shown is not None:  # it promises, tells lies, and accepts nothing
                    yield with_writer(heard(writer, answer_of(node, None, liar=True)))
                continue
            after = deliver(world.voters[number], writer)
            if after is None:
                continue
            voters = (*world.voters[:number], after, *world.voters[number + 1 :])
            yield with_writer(writer, voters=voters)  # the answer is lost
            yield with_writer(heard(writer, answer_of(node, after)), voters=voters)


def is_one_history(confirmed):
    histories = sorted((HISTORIES[raw] for raw in confirmed), key=len)
    return all(longer[: len(shorter)] == shorter for shorter, longer in pairwise(histories))


def is_kept(world, liar):
    """Whether whoever asks a quorum finds a root that has all that was confirmed."""
    answers = [
        answer_of(node, world.voters[number], number == liar) for node, number in NUMBERS.items()
    ]
    confirmed = CONFIRMED.things[world.confirmed]
    longest = max((HISTORIES[raw] for raw in confirmed), key=len, default=BASE)
    known = {NAMES[raw] for raw in confirmed}
    for size in range(2, 5):
        for shown in combinations(answers, size):
            for first in known:
                poll, _, complete = poll_of(first, shown)
                found = HISTORIES[poll.best.raw] if complete and poll.best else longest
                if found[: len(longest)] != longest:
                    return False
    return True


def gets_through(world, liar):
    """Whether a new writer that reaches everybody publishes, over all that was confirmed."""
    confirmed = set(CONFIRMED.things[world.confirmed])
    first = min((NAMES[raw] for raw in confirmed), key=lambda name: FAMILIES[name].epoch)
    writer, voters = Writer("c", THIRD, first, (), left=(" goes on",)), [*world.voters]
    for _ in range(12):
        for node in sorted(writer.asks()):
            number = NUMBERS[node]
            if number == liar:
                if writer.shown is not None:
                    writer = heard(writer, answer_of(node, None, liar=True))
                continue
            after = deliver(voters[number], writer)
            assert after is not None, "an honest voter refuses the highest claim"
            voters[number] = after
            writer = heard(writer, answer_of(node, after))
        if writer.asks() - {node for node, number in NUMBERS.items() if number == liar}:
            continue  # somebody showed a newer family
        if not writer.ready():
            return False
        if writer.shown is None:
            confirmed.add(writer.target)
        writer = writer.goes_on()
        if not writer.target and writer.shown is None:
            return is_one_history(confirmed)
    return False


def explore(change, knows, liar=None):
    """Where one writer changes three voters, and another takes the vault over."""
    one = Writer("a", FIRST, OLD, None, left=(" publishes",))
    one = one.proposes((*BASE, "a changes"), change)
    two = Writer("b", SECOND, knows, (), left=(" publishes",))
    return explored(OLD, one, two, liar)


def explored(family, one, two, liar=None, limit=10**6):
    """Every state that can be reached; the first one that breaks a promise, and how many there
    are. `family`: whose voters hold the root that there is.
    """
    start = root(FIRST, BASE, family)
    held = ACCEPTORS.of(Acceptor(FIRST, claim_of(FIRST), ROOTS[start].root.order, start, b"", 0))
    there = all_voters(FAMILIES[family])
    voters = tuple(held if node in there else ACCEPTORS.of(Acceptor()) for node in NUMBERS)
    writers = (WRITERS.of(one), WRITERS.of(two))
    first = World(voters, writers, CONFIRMED.of(frozenset({start})))
    seen, waiting = {first}, deque([first])
    judged = {}
    while waiting:
        world = waiting.popleft()
        if not is_one_history(CONFIRMED.things[world.confirmed]):
            return "two histories", len(seen)
        what = (world.voters, world.confirmed)  # the promises are about these
        if what not in judged:
            judged[what] = is_kept(world, liar) and gets_through(world, liar)
            if not judged[what]:
                return "lost or stuck", len(seen)
        for after in steps(world, liar):
            if after not in seen:
                seen.add(after)
                waiting.append(after)
        assert len(seen) < limit
    return "", len(seen)
