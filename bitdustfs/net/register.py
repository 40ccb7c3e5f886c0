"""The owner's side of the root register: prepare, accept and read at a majority of voters."""

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import trio
from nacl.signing import SigningKey

from bitdustfs.core.placement import majority
from bitdustfs.core.records import (
    Ballot,
    Family,
    Root,
    family_hash,
    open_family_untrusted,
    open_root_untrusted,
)
from bitdustfs.errors import LeaseHeld, Malformed, PeerError, Refused, Superseded, Unavailable
from bitdustfs.net.service import claim_ballot
from bitdustfs.net.supplier import Supplier
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
    refusals: tuple[Refused, ...]
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
    """The family one epoch before the best root's, unless its majority is known to hold that root."""
    for known in seen:
        if known.family.epoch == best.family.epoch - 1:
            voters = {member.node for member in known.family.voters}
            if len(voters & set(holding)) < majority(len(voters)):
                return known.family
    return None


class RootRegister:
    """The voters of one vault. `voters` maps node key to session.

    While a family changes, a majority of those who voted before (`former`) must agree as well.
    """

    def __init__(self, vault: bytes, voters: Mapping[bytes, Supplier]) -> None:
        self._vault, self.voters = vault, voters
        self.former: Mapping[bytes, Supplier] = {}
        self.witnesses: Mapping[bytes, Supplier] = {}  #: reserves: they have no vote, but may know

    def _is_majority(self, nodes: Collection[bytes]) -> bool:
        """Whether these are enough of the voters, and of the former ones."""
        return all(
            len(voters.keys() & set(nodes)) >= majority(len(voters))
            for voters in (self.voters, self.former)
            if voters
        )

    async def _ask(
        self, question: Callable[[Supplier], Awaitable[R]]
    ) -> tuple[dict[bytes, R], list[PeerError]]:
        """Answers and failures; ends DEADLINE after the call, or GRACE after a majority answered."""
        answers: dict[bytes, R] = {}
        failures: list[PeerError] = []
        with trio.move_on_after(DEADLINE) as scope:
            async with trio.open_nursery() as nursery:

                async def one(supplier: Supplier) -> None:
                    try:
                        answers[supplier.node] = await question(supplier)
                    except PeerError as error:
                        failures.append(error)
                    if self._is_majority(answers):
                        scope.deadline = min(scope.deadline, trio.current_time() + GRACE)

                for supplier in {**self.former, **self.voters}.values():
                    nursery.start_soon(one, supplier)
        return answers, failures

    def _view(self, answers: dict[bytes, CurrentIs], failures: list[PeerError]) -> View:
        best: Known | None = None
        promised: Ballot | None = None
        genuine: dict[bytes, Known | None] = {}
        for node, answer in answers.items():
            try:
                known = check_current_untrusted(self._vault, answer)
            except Malformed as error:
                log.warning("a voter lies about the root: %s", error)
                continue
            genuine[node] = known
            if answer.promised is not None and (promised is None or answer.promised > promised):
                promised = answer.promised
            if known is not None and (best is None or known.root.order > best.root.order):
                best = known
        holding = [n for n, known in genuine.items() if best and known and known.raw == best.raw]
        former = None
        if best is not None:
            best = replace(best, confirmed=self._is_majority(holding))
            former = _former(best, [known for known in genuine.values() if known], holding)
        refusals = tuple(f for f in failures if isinstance(f, Refused))
        return View(
            len(genuine.keys() & self.voters.keys()), len(self.voters), best, len(holding), promised,
            refusals, self._is_majority(genuine), former,
        )  # fmt: skip

    async def read(self) -> View:
        """What the voters hold; where they are no majority, also what reserves know."""
        answers, failures = await self._ask(lambda supplier: supplier.current())
        if self._is_majority(answers) or not self.witnesses:
            return self._view(answers, failures)
        with trio.move_on_after(DEADLINE):
            async with trio.open_nursery() as nursery:

                async def one(supplier: Supplier) -> None:
                    try:
                        answers[supplier.node] = await supplier.current()
                    except PeerError as error:
                        log.info("%s bears no witness: %s", supplier.node.hex()[:12], error)

                for supplier in self.witnesses.values():
                    nursery.start_soon(one, supplier)
        return self._view(answers, failures)

    async def prepare(self, key: SigningKey, ballot: Ballot, take_over: bool) -> View:
        """Claims the ballot. Raises LeaseHeld, Superseded or Unavailable when no majority agrees."""
        claim = claim_ballot(key, ballot)
        view = self._view(*await self._ask(lambda supplier: supplier.prepare(claim, take_over)))
        if view.majority:
            return view
        codes = {refusal.code: refusal.detail for refusal in view.refusals}
        if "lease-held" in codes:
            raise LeaseHeld(
                f"machine {codes['lease-held']} has this vault mounted; unmount it there, look with "
                "-o ro, or, if that machine is dead, mount with -o take-over"
            )
        if "fenced" in codes:
            raise Superseded("another machine claimed this vault at the same time; try again")
        raise Unavailable(
            f"{view.answers} of {view.voters} suppliers answered, {majority(view.voters)} are needed"
        )

    async def accept(self, root: bytes, family: bytes) -> int:
        """Stores a root at a majority; how many hold it. Raises Superseded or Unavailable."""
        answers, failures = await self._ask(lambda supplier: supplier.accept(root, family))
        if self._is_majority(answers):
            return len(answers)
        codes = {f.code for f in failures if isinstance(f, Refused)}
        if "fenced" in codes:
            raise Superseded("another machine took this vault over")
        raise Unavailable(
            f"{len(answers)} of {len(self.voters)} suppliers took the new root; "
            f"{majority(len(self.voters))} are needed: it stays on this machine until they are back"
        )

    async def renew(self, ballot: Ballot) -> None:
        """Renews the lease. Raises Superseded when a voter promised another ballot."""
        _, failures = await self._ask(lambda supplier: supplier.renew(ballot))
        if any(isinstance(f, Refused) and f.code == "fenced" for f in failures):
            raise Superseded("another machine took this vault over")

    async def release(self, ballot: Ballot) -> None:
        """Ends the lease, as far as voters can be reached."""
        await self._ask(lambda supplier: supplier.release(ballot))
