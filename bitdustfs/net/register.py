"""The owner's side of the root register: prepare, accept and read at a quorum of voters.

The register holds one root at a time (Paxos-like; the voters' side is core/acceptor.py, what their
answers add up to is core/quorum.py):

    read       what do you hold?             a quorum answers: the best root is known
    prepare    promise me this ballot;       a quorum promised: nobody else writes
               what do you hold?
    accept     hold this root                a quorum holds it: it is published
    renew      I am alive                    it is the courtesy lease, for other machines

Nothing counts that is not signed by the owner. A voter that refuses a ballot shows the claim of the
higher one; one that shows none may lie, or was never asked, and is as good as silent.

Once a quorum answered, the others have GRACE more: every answer makes it harder to hide the newest
root (promise 8), and every voter that holds a root makes it harder to lose. Whoever let that pass
at one question without a word is not waited for at the next. `read`, and the lease while nobody
waits for it, give all of them that time again: so one that is slow, or is back, counts again.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import trio

from bitdustfs.core.quorum import (
    Known,
    Poll,
    Shown,
    all_voters,
    can_be_quorum,
    check_shown_untrusted,
    is_quorum,
    members_needed,
    rival_untrusted,
)
from bitdustfs.core.records import (
    Ballot,
    BallotClaim,
    Family,
    Member,
    open_claim_untrusted,
    seat_of,
)
from bitdustfs.errors import (
    LeaseHeld,
    Malformed,
    PeerError,
    ProtocolViolation,
    Refused,
    Superseded,
    Unavailable,
)
from bitdustfs.net.ask import ask_all
from bitdustfs.net.supplier import Connect, Supplier
from bitdustfs.net.wire import CurrentIs

log = logging.getLogger(__name__)

DEADLINE = 15.0  #: seconds for one question to all voters, however many families it follows
GRACE = 1.0  #: seconds for the rest, once a quorum answered
R = TypeVar("R")


class Fenced(Superseded):
    """A higher claim is in the way: of another machine, or of a copy of this one."""

    def __init__(self, rival: BallotClaim) -> None:
        super().__init__("another machine claimed this vault at the same time; try again")
        self.rival = rival


@dataclass(frozen=True)
class View:
    """What the voters showed. `family`: whose voters counted. `best`: the root to follow.

    `majority`: whether a quorum answered.
    """

    family: Family
    best: Known | None
    majority: bool
    shown: Mapping[bytes, Shown]

    @property
    def voters(self) -> int:
        """How many suppliers vote."""
        return len(self.family.members)

    @property
    def answers(self) -> int:
        """How many of them answered."""
        return sum(member.node in self.shown for member in self.family.members)

    @property
    def needed(self) -> int:
        """How many of them have to answer."""
        return members_needed(self.family, self.shown)

    @property
    def proven(self) -> Ballot | None:
        """The highest ballot that anybody proved to exist."""
        ballots = [each.ballot for each in self.shown.values() if each.ballot is not None]
        return max(ballots, default=None)


class RootRegister:
    """The voters of one vault. `connect` makes the session with a member.

    `seats`: the owner's seats that this machine holds, by their names. `heard_since`: whether a
    node answered anything at all since a time of the loop's clock.
    """

    def __init__(
        self,
        vault: bytes,
        connect: Connect,
        family: Family,
        seats: Mapping[bytes, Supplier] = {},
        heard_since: Callable[[bytes, float], bool] = lambda node, time: False,
    ) -> None:
        self._vault, self._connect, self._family = vault, connect, family
        self._seats = seats
        self._mine: set[bytes] = set()  # claims of this process: no rivals of each other
        self._heard_since = heard_since
        self._silent: dict[bytes, float] = {}  # voters that let a question pass, and when

    def follow(self, family: Family) -> None:
        """The voters are those of `family`."""
        self._family = family

    @property
    def family(self) -> Family:
        """The newest one that was followed."""
        return self._family

    @property
    def needed(self) -> int:
        """How many of the suppliers this machine needs to publish, or to claim the vault."""
        return members_needed(self._family, self._seats)

    async def _shown(self, answer: Awaitable[CurrentIs]) -> Shown:
        """What a voter shows, if that is genuine: else it is as good as silent."""
        current = await answer
        try:
            return check_shown_untrusted(self._vault, current.claim, current.root, current.family)
        except Malformed as error:
            raise ProtocolViolation(f"a voter lies about the root: {error}") from error

    async def _poll(
        self, question: Callable[[Supplier], Awaitable[CurrentIs]], patient: bool
    ) -> tuple[View, dict[bytes, PeerError]]:
        """Asks the voters, and those of newer families that they show; follows the best root."""
        poll, failures = Poll(self._family), dict[bytes, PeerError]()
        end = trio.current_time() + DEADLINE
        while (voters := poll.next_voters()) and trio.current_time() < end:
            given, failed = await self._ask(
                voters,
                lambda supplier: self._shown(question(supplier)),
                poll.would_be_enough,
                patient,
                end - trio.current_time(),
            )
            poll.take(given)
            failures |= failed
        self._family = poll.family
        return View(poll.family, poll.best, poll.complete, poll.shown), failures

    async def _ask(
        self,
        members: Mapping[bytes, Member],
        question: Callable[[Supplier], Awaitable[R]],
        enough: Callable[..., bool],
        patient: bool,
        deadline: float = DEADLINE,
    ) -> tuple[dict[bytes, R], dict[bytes, PeerError]]:
        """Answers and failures; ends GRACE after those who answered are enough.

        Unless it is `patient`, that is at once where only silent ones are left.
        """
        sessions = {
            node: self._seats[node] if node in self._seats else self._connect(member)
            for node, member in members.items()
            if node in self._seats or member != seat_of(node)
        }  # nobody can ask the seat of another machine
        answers = await ask_all(
            sessions,
            lambda node: question(sessions[node]),
            deadline=deadline,
            enough=enough,
            grace=GRACE,
            unlikely=() if patient else self._still_silent(),
        )
        now = trio.current_time()
        for node in sessions:
            if node in answers.given:
                self._silent.pop(node, None)
            elif node not in answers.failed:
                self._silent[node] = now
        for node, error in answers.failed.items():
            log.info("voter %s: %s", node.hex()[:12], error)
        return answers.given, answers.failed

    def _still_silent(self) -> list[bytes]:
        """Who acknowledged a fragment meanwhile, or answered a ping, is waited for: what it keeps
        counts as safe by the root that it should learn.
        """
        return [node for node, at in self._silent.items() if not self._heard_since(node, at)]

    async def _tell(
        self, family: Family, question: Callable[[Supplier], Awaitable[R]], patient: bool = False
    ) -> tuple[dict[bytes, R], dict[bytes, PeerError]]:
        return await self._ask(
            all_voters(family), question, lambda nodes: is_quorum(family, nodes), patient
        )

    def _rivals(
        self, failures: Mapping[bytes, PeerError], claim: bytes
    ) -> dict[bytes, BallotClaim]:
        """The higher claims that voters proved to have promised."""
        ballot = open_claim_untrusted(claim, self._vault).ballot
        rivals = {
            node: rival_untrusted(self._vault, failure.proof, ballot, claim)
            for node, failure in failures.items()
            if isinstance(failure, Refused)
            and failure.code == "fenced"
            and failure.proof not in self._mine
        }
        return {node: rival for node, rival in rivals.items() if rival is not None}

    async def read(self) -> View:
        """What the voters hold; where they are no quorum, also what reserves know."""
        view, _ = await self._poll(lambda supplier: supplier.current(), patient=True)
        reserves = {member.node: member for member in view.family.bench}
        if view.majority or not reserves:
            return view
        told, _ = await self._ask(
            reserves, lambda supplier: self._shown(supplier.current()), lambda nodes: False, True
        )
        poll = Poll(view.family)
        poll.take({**view.shown, **told})
        return View(poll.family, poll.best, poll.complete, poll.shown)

    async def look(self) -> View:
        """As `read` for whoever looks again and again: who was silent is not waited for, and
        reserves are not asked.
        """
        view, _ = await self._poll(lambda supplier: supplier.current(), patient=False)
        return view

    async def prepare(self, claim: bytes, take_over: bool) -> View:
        """Has a quorum promise a claim's ballot. Raises LeaseHeld, Fenced or Unavailable."""
        self._mine.add(claim)
        view, failures = await self._poll(
            lambda supplier: supplier.prepare(claim, take_over), patient=False
        )
        if view.majority:
            return view
        self._raise_refusal(failures, claim)
        raise _too_few(view.answers, view.voters, view.needed)

    def _raise_refusal(self, failures: Mapping[bytes, PeerError], claim: bytes) -> None:
        """Raises LeaseHeld or Fenced where voters gave one of these for a reason."""
        codes = {f.code: f.detail for f in failures.values() if isinstance(f, Refused)}
        if "lease-held" in codes:
            raise LeaseHeld(
                f"machine {codes['lease-held']} has this vault mounted; unmount it there, look "
                "with -o ro, or, if that machine is dead, mount with -o take-over"
            )
        rivals = self._rivals(failures, claim)
        if rivals:
            raise Fenced(max(rivals.values(), key=lambda rival: rival.ballot))

    async def found(self, root: bytes, family: bytes, claim: bytes) -> None:
        """Begins a history with a root: of a new vault, or of one that leaves what was before.

        Whatever the voters hold counts for nothing. `family`: of this register, signed. Raises
        LeaseHeld, Superseded or Unavailable.
        """
        promised, failures = await self._tell(
            self._family, lambda supplier: supplier.prepare(claim, True)
        )
        if not is_quorum(self._family, promised):
            self._raise_refusal(failures, claim)
            members = self._family.members
            needed = members_needed(self._family, promised)
            raise _too_few(sum(m.node in promised for m in members), len(members), needed)
        await self.accept(root, family, self._family, claim)
        await self.release(claim)

    async def accept(self, root: bytes, family: bytes, named: Family, claim: bytes) -> int:
        """Stores a root at a quorum of the family that it names; how many hold it.

        `family`, `named`: that family, signed and opened. Raises Superseded or Unavailable.
        """
        answers, failures = await self._tell(
            named, lambda supplier: supplier.accept(root, family, claim)
        )
        if is_quorum(named, answers):
            return len(answers)
        if not can_be_quorum(named, self._rivals(failures, claim)):
            raise Superseded("another machine took this vault over")
        took = sum(member.node in answers for member in named.members)
        raise Unavailable(
            f"{took} of {len(named.members)} suppliers took the new root; "
            f"{members_needed(named, answers)} are needed: it stays on this machine"
        )

    async def renew(self, claim: bytes, patient: bool = False) -> Ballot | None:
        """Renews the lease. Raises Superseded when no quorum is left that promised this claim.

        A voter that was away when it was claimed promises it now. Returns the highest claim of
        another machine that some voters promised, while a quorum still answers to this one.
        `patient`: nobody waits for that.
        """
        given, failures = await self._tell(
            self._family, lambda supplier: supplier.renew(claim), patient
        )
        rivals = self._rivals(failures, claim)
        if not can_be_quorum(self._family, rivals):
            raise Superseded("another machine took this vault over")
        if not is_quorum(self._family, given):
            return None
        return max((rival.ballot for rival in rivals.values()), default=None)

    async def release(self, claim: bytes) -> None:
        """Ends the lease, as far as voters can be reached."""
        await self._tell(self._family, lambda supplier: supplier.release(claim))


def _too_few(answers: int, voters: int, needed: int) -> Unavailable:
    return Unavailable(f"{answers} of {voters} suppliers answered, {needed} are needed")
