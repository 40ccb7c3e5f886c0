"""The owner's side of the root register: prepare, accept and read at a majority of voters."""

import logging
from collections.abc import Awaitable, Callable, Mapping
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
    """What the voters said: how many answered, what is best, how many hold just that."""

    answers: int
    voters: int
    best: Known | None
    holders: int
    promised: Ballot | None
    refusals: tuple[Refused, ...]

    @property
    def majority(self) -> bool:
        return self.answers >= majority(self.voters)


def check_current_untrusted(vault: bytes, current: CurrentIs) -> Known | None:
    """The root and family a voter claims to hold, if genuine. Raises Malformed or Forged."""
    if not current.root:
        return None
    root = open_root_untrusted(current.root, vault)
    family = open_family_untrusted(current.family, vault)
    if family_hash(current.family) != root.family_hash:
        raise Malformed("a voter's root and family do not belong together")
    return Known(root, current.root, family, current.family)


class RootRegister:
    """The voters of one vault. `voters` maps node key to session."""

    def __init__(self, vault: bytes, voters: Mapping[bytes, Supplier]) -> None:
        self._vault, self.voters = vault, voters

    async def _ask(
        self, question: Callable[[Supplier], Awaitable[R]]
    ) -> tuple[list[R], list[PeerError]]:
        """Answers and failures; ends DEADLINE after the call, or GRACE after a majority answered."""
        answers: list[R] = []
        failures: list[PeerError] = []
        with trio.move_on_after(DEADLINE) as scope:
            async with trio.open_nursery() as nursery:

                async def one(supplier: Supplier) -> None:
                    try:
                        answers.append(await question(supplier))
                    except PeerError as error:
                        failures.append(error)
                    if len(answers) == majority(len(self.voters)):
                        scope.deadline = min(scope.deadline, trio.current_time() + GRACE)

                for supplier in self.voters.values():
                    nursery.start_soon(one, supplier)
        return answers, failures

    def _view(self, answers: list[CurrentIs], failures: list[PeerError]) -> View:
        best: Known | None = None
        promised: Ballot | None = None
        genuine = holders = 0
        for answer in answers:
            try:
                known = check_current_untrusted(self._vault, answer)
            except Malformed as error:
                log.warning("a voter lies about the root: %s", error)
                continue
            genuine += 1
            if answer.promised is not None and (promised is None or answer.promised > promised):
                promised = answer.promised
            if known is not None:
                if best is None or known.root.order > best.root.order:
                    best, holders = known, 0
                holders += known.raw == best.raw
        if best is not None:
            best = replace(best, confirmed=holders >= majority(len(self.voters)))
        refusals = tuple(f for f in failures if isinstance(f, Refused))
        return View(genuine, len(self.voters), best, holders, promised, refusals)

    async def read(self) -> View:
        """What the voters hold."""
        return self._view(*await self._ask(lambda supplier: supplier.current()))

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
        if len(answers) >= majority(len(self.voters)):
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
