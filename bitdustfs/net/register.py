"""The owner's side of the root register: prepare, accept and read at a majority of voters.

The register holds one root at a time (Paxos-like; the voters' side is core/acceptor.py):

    read       what do you hold?             a majority answers: the best root is known
    prepare    promise me this ballot;       a majority promised: nobody else writes
               what do you hold?
    accept     hold this root                a majority holds it: it is published
    renew      I am alive                    it is the courtesy lease, for other machines

`follow` says whose voters they are. While the family changes, `change_to` adds the new voters: from
then on majorities of both families must agree, until `settle`.
"""

import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from nacl.signing import SigningKey

from bitdustfs.core.placement import majority
from bitdustfs.core.records import (
    Ballot,
    Family,
    Member,
    Root,
    claim_ballot,
    family_hash,
    open_family_untrusted,
    open_root_untrusted,
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

DEADLINE = 15.0  #: seconds for one question to all voters
GRACE = 1.0  #: seconds for the rest, once a majority answered
R = TypeVar("R")


@dataclass(frozen=True)
class Known:
    """The best root seen, checked, with the family it names, as signed bytes and decoded.

    `confirmed`: a majority of voters is known to hold it.
    """

    root: Root
    raw: bytes
    family: Family
    raw_family: bytes
    confirmed: bool = False


Held = tuple[Ballot | None, Known | None]  #: what a voter promised, and the root it holds


@dataclass(frozen=True)
class View:
    """What the voters said: how many answered, what is best, how many hold just that.

    `former`: the family before the best root's, if it is not certain that its majority agreed.
    """

    answers: int
    voters: int
    best: Known | None
    holders: int
    promised: Ballot | None
    majority: bool
    former: Family | None


def check_current_untrusted(vault: bytes, current: CurrentIs) -> Known | None:
    """The root and family a voter claims to hold, if genuine. Raises Malformed or Forged."""
    if not current.root:
        return None
    root = open_root_untrusted(current.root, vault)
    family = open_family_untrusted(current.family, vault)
    if family_hash(current.family) != root.family_hash:
        raise Malformed("a voter's root and family do not belong together")
    return Known(root, current.root, family, current.family)


def _former(best: Known, seen: list[Known], holding: list[bytes]) -> Family | None:
    """The family one epoch before the best root's, unless its majority is known to hold that
    root.
    """
    for known in seen:
        if known.family.epoch == best.family.epoch - 1:
            voters = {member.node for member in known.family.voters}
            if len(voters & set(holding)) < majority(len(voters)):
                return known.family
    return None


class RootRegister:
    """The voters of one vault. `connect` makes the session with a member."""

    def __init__(self, vault: bytes, connect: Connect, family: Family) -> None:
        self._vault, self._connect = vault, connect
        self._claim = b""  # the ballot claimed last, signed
        self._voters: dict[bytes, Supplier] = {}
        self._former: dict[bytes, Supplier] = {}  # who voted before, while the family changes
        self._witnesses: dict[bytes, Supplier] = {}  # reserves: no vote, but they may know
        self.follow(family)

    @property
    def changing(self) -> bool:
        """Whether majorities of two families are asked."""
        return bool(self._former)

    def follow(self, family: Family, former: Family | None = None) -> None:
        """The voters are those of `family`, and of `former` where its majority may not agree
        yet.
        """
        self._voters = self._sessions(family.voters)
        self._witnesses = self._sessions(family.bench)
        self._former = self._sessions(former.voters) if former else {}

    def change_to(self, family: Family) -> None:
        """From here on majorities of the present voters and of `family` must agree."""
        voters = self._sessions(family.voters)
        if voters.keys() != self._voters.keys():
            self._former, self._voters = self._voters, voters

    def settle(self) -> None:
        """The change is accepted: the former voters count no more."""
        self._former = {}

    def _sessions(self, members: Iterable[Member]) -> dict[bytes, Supplier]:
        return {member.node: self._connect(member) for member in members}

    def _is_majority(self, nodes: Collection[bytes]) -> bool:
        """Whether these are enough of the voters, and of the former ones."""
        return all(
            len(voters.keys() & set(nodes)) >= majority(len(voters))
            for voters in (self._voters, self._former)
            if voters
        )

    def _is_lost(self, failures: Mapping[bytes, PeerError]) -> bool:
        """Whether so many voters are fenced off that no majority is left: another machine has one.

        One alone may lie, or was away when this machine's ballot was claimed.
        """
        fenced = {n for n, f in failures.items() if isinstance(f, Refused) and f.code == "fenced"}
        return any(
            len(voters.keys() - fenced) < majority(len(voters))
            for voters in (self._voters, self._former)
            if voters
        )

    async def _current(self, answer: Awaitable[CurrentIs]) -> Held:
        """What a voter says that it holds, if that is genuine: else it is as good as silent."""
        current = await answer
        try:
            return current.promised, check_current_untrusted(self._vault, current)
        except Malformed as error:
            raise ProtocolViolation(f"a voter lies about the root: {error}") from error

    async def _ask(
        self, question: Callable[[Supplier], Awaitable[R]]
    ) -> tuple[dict[bytes, R], dict[bytes, PeerError]]:
        """Answers and failures; ends DEADLINE after the call, or GRACE after a majority
        answered.
        """
        voters = {**self._former, **self._voters}
        answers = await ask_all(
            voters,
            lambda node: question(voters[node]),
            deadline=DEADLINE,
            enough=self._is_majority,
            grace=GRACE,
        )
        for node, error in answers.failed.items():
            log.info("voter %s: %s", node.hex()[:12], error)
        return answers.given, answers.failed

    def _view(self, answers: dict[bytes, Held]) -> View:
        promises = [promised for promised, _ in answers.values() if promised is not None]
        seen = {node: known for node, (_, known) in answers.items() if known is not None}
        best = max(seen.values(), key=lambda known: known.root.order, default=None)
        holding = [node for node, known in seen.items() if best and known.raw == best.raw]
        former = None
        if best is not None:
            best = replace(best, confirmed=self._is_majority(holding))
            former = _former(best, list(seen.values()), holding)
        return View(
            len(answers.keys() & self._voters.keys()), len(self._voters), best, len(holding),
            max(promises, default=None), self._is_majority(answers), former,
        )  # fmt: skip

    async def read(self) -> View:
        """What the voters hold; where they are no majority, also what reserves know."""
        answers, _ = await self._ask(lambda supplier: self._current(supplier.current()))
        if self._is_majority(answers) or not self._witnesses:
            return self._view(answers)
        told = await ask_all(
            self._witnesses,
            lambda node: self._current(self._witnesses[node].current()),
            deadline=DEADLINE,
        )
        for node, error in told.failed.items():
            log.info("%s bears no witness: %s", node.hex()[:12], error)
        return self._view({**answers, **told.given})

    async def prepare(self, key: SigningKey, ballot: Ballot, take_over: bool) -> View:
        """Claims the ballot. Raises LeaseHeld, Superseded or Unavailable when no majority
        agrees.
        """
        claim = self._claim = claim_ballot(key, ballot)
        answers, failures = await self._ask(
            lambda supplier: self._current(supplier.prepare(claim, take_over))
        )
        view = self._view(answers)
        if view.majority:
            return view
        codes = {f.code: f.detail for f in failures.values() if isinstance(f, Refused)}
        if "lease-held" in codes:
            raise LeaseHeld(
                f"machine {codes['lease-held']} has this vault mounted; unmount it there, look "
                "with "
                "-o ro, or, if that machine is dead, mount with -o take-over"
            )
        if "fenced" in codes:
            raise Superseded("another machine claimed this vault at the same time; try again")
        raise Unavailable(
            f"{view.answers} of {view.voters} suppliers answered, {majority(view.voters)} are "
            "needed"
        )

    async def accept(self, root: bytes, family: bytes) -> int:
        """Stores a root at a majority; how many hold it. Raises Superseded or Unavailable."""
        answers, failures = await self._ask(lambda supplier: supplier.accept(root, family))
        if self._is_majority(answers):
            return len(answers)
        if self._is_lost(failures):
            raise Superseded("another machine took this vault over")
        raise Unavailable(
            f"{len(answers)} of {len(self._voters)} suppliers took the new root; "
            f"{majority(len(self._voters))} are needed: it stays on this machine until they are "
            "back"
        )

    async def renew(self, ballot: Ballot) -> None:
        """Renews the lease. Raises Superseded when no majority is left that promised this ballot.

        A voter that was away when it was claimed is asked to promise it now.
        """

        async def one(supplier: Supplier) -> None:
            try:
                await supplier.renew(ballot)
            except Refused as refusal:
                if refusal.code != "fenced" or not self._claim:
                    raise
                await supplier.prepare(self._claim, True)

        _, failures = await self._ask(one)
        if self._is_lost(failures):
            raise Superseded("another machine took this vault over")

    async def release(self, ballot: Ballot) -> None:
        """Ends the lease, as far as voters can be reached."""
        await self._ask(lambda supplier: supplier.release(ballot))
