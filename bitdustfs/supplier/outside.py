"""How the world reaches a supplier that others are to dial: directly, or by a mapped port.

A mapped port's address is announced once others came in by it. Where others dialled an address in
vain that only others see it at, it is not announced.
"""

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

import trio

from bitdustfs.errors import PeerError
from bitdustfs.net.addresses import is_here, split
from bitdustfs.net.handshake import meet
from bitdustfs.net.line import OwnLine
from bitdustfs.net.tls import make_context
from bitdustfs.supplier.mapping import PortMapping
from bitdustfs.supplier.proofs import Proof, Proofs, is_public

TICK = 2.0  #: seconds between looks at what is due
INSIDE_AGAIN = 900.0  #: seconds until an own address is dialled from here again

#: whether this node is met where it dials an own address
MeetItself = Callable[[str], Awaitable[bool]]


class Obstacle(NamedTuple):
    """Why nobody gets here from outside, the rest of a sentence; "" where nothing says so.

    Not `sure`: it has not been tried yet.
    """

    said: str = ""
    sure: bool = True


class Outside(Protocol):
    """What is known of ways in from outside, beside where a supplier listens."""

    def mapped(self) -> tuple[str, ...]:
        """Where the router leads here from, as others found."""
        ...

    def in_vain(self, address: str) -> bool:
        """Whether others dialled an address and did not get here."""
        ...

    def proven(self, announced: Sequence[str]) -> str:
        """One of its addresses that others dialled; "" for none."""
        ...

    def why(self, announced: Sequence[str]) -> Obstacle:
        """Of one that is at these addresses, as it knows."""
        ...

    def how(self) -> str:
        """How a mapped port was mapped, the rest of a sentence."""
        ...

    def besides(self, announced: Sequence[str]) -> str:
        """Who near does not get in, of one that others reach: behind a semicolon, or ""."""
        ...

    def closed(self, announced: Sequence[str]) -> str:
        """That others get in by TCP alone: a sentence, or ""."""
        ...


class NothingKnown(Outside):
    """Of a supplier that nobody dials, since relays lead to it; and where nobody looks."""

    def mapped(self) -> tuple[str, ...]:
        return ()

    def in_vain(self, address: str) -> bool:
        return False

    def proven(self, announced: Sequence[str]) -> str:
        return ""

    def why(self, announced: Sequence[str]) -> Obstacle:
        return Obstacle()

    def how(self) -> str:
        return ""

    def besides(self, announced: Sequence[str]) -> str:
        return ""

    def closed(self, announced: Sequence[str]) -> str:
        return ""


class Doors(Outside):
    """Of a supplier that listens. `mapping`: None where the router is not to be asked.

    It works while `run` does.
    """

    def __init__(
        self, proofs: Proofs, mapping: PortMapping | None, meet_itself: MeetItself
    ) -> None:
        self._proofs, self._mapping, self._meet_itself = proofs, mapping, meet_itself
        self._before, self._seen_at = "", list[str]()
        self._inside: dict[str, bool] = {}  # whether this machine gets in where others do
        self._look_inside_at = 0.0

    async def run(self, announced: Callable[[], Sequence[str]]) -> None:
        """Until cancelled; then the router has its port back. `announced`: where the supplier may
        be, as it knows.
        """
        try:
            while True:
                if self._mapping is not None:
                    await self._mapping.keep()
                candidate = self._candidate()
                if candidate != self._before:
                    self._proofs.forget(self._before)
                    self._before = candidate
                self._seen_at = [address for address in announced() if is_public(address)]
                wanted = [candidate] if candidate else []
                every = [*dict.fromkeys((*wanted, *self._seen_at))]
                await self._proofs.look(every)
                await self._look_inside([a for a in every if self._proofs.of(a).tcp.there])
                await trio.sleep(TICK)
        finally:
            if self._mapping is not None:
                await self._mapping.take_back()

    async def _look_inside(self, proven: list[str]) -> None:
        """Does the router lead back who dials it from inside (RFC 4787, section 6)?"""
        now = trio.current_time()
        if proven == [*self._inside] and now < self._look_inside_at:
            return
        self._look_inside_at = now + INSIDE_AGAIN
        self._inside = {a: is_here(a) or await self._meet_itself(a) for a in proven}

    def _candidate(self) -> str:
        return "" if self._mapping is None else self._mapping.outcome.address

    def mapped(self) -> tuple[str, ...]:
        candidate = self._candidate()
        proven = candidate and is_public(candidate) and self._proofs.of(candidate).tcp.there
        return (candidate,) if proven else ()

    def in_vain(self, address: str) -> bool:
        return self._proofs.of(address).tcp.there is False

    def how(self) -> str:
        return "" if self._mapping is None else self._mapping.outcome.said

    def proven(self, announced: Sequence[str]) -> str:
        return next((a for a in announced if self._proofs.of(a).tcp.there), "")

    def besides(self, announced: Sequence[str]) -> str:
        proven = [a for a in announced if self._proofs.of(a).tcp.there]
        if any(self._inside.get(a) is False for a in proven):
            return (
                "; its router does not lead back who dials that address from inside (no hairpin): "
                "machines in the same house find it in their own network only"
            )
        return ""

    def closed(self, announced: Sequence[str]) -> str:
        proven = [a for a in announced if self._proofs.of(a).tcp.there]
        if not proven or any(self._proofs.of(a).udp.there is not False for a in proven):
            return ""
        return (
            f"others come in at {', '.join(proven)} by TCP, and not by UDP, so that few find it: "
            f"let UDP port {split(proven[0])[1]} in, and have the router forward it, as TCP"
        )

    def why(self, announced: Sequence[str]) -> Obstacle:
        public = [address for address in announced if is_public(address)]
        candidate, said = self._candidate(), self.how()
        if any(not self.in_vain(a) and not _doubt(self._proofs.of(a)) for a in public):
            return Obstacle()
        if candidate and not is_public(candidate):
            host = split(candidate)[0]
            return Obstacle(
                f"the router's own address outside, {host}, is none of the world: another router, "
                "of the provider, is in between"
            )
        unsure = [a for a in (candidate, *public) if a and not self.in_vain(a)]
        if unsure:
            proof = self._proofs.of(unsure[0])
            doubt = _doubt(proof) or (
                f"nobody of another network could be asked to try {unsure[0]} yet"
            )
            return Obstacle(f"{said}, but {doubt}" if said else doubt, sure=False)
        tried = [a for a in dict.fromkeys((candidate, *self._seen_at)) if self.in_vain(a)]
        return Obstacle("; ".join(filter(None, (said, _vain(tried, self._proofs)))))


def _doubt(proof: Proof) -> str:
    """Why it is not known whether others come in, the rest of a sentence; "" for no reason."""
    if proof.tcp.there is not None:
        return ""
    if proof.elsewhere:
        return (
            f"others see this node at {proof.elsewhere} instead: another router is in between, or "
            "there are two ways out"
        )
    if proof.tcp.doubts:
        return "others dialled it in vain, which is tried once more, or by more of them"
    return ""


def _vain(tried: Sequence[str], proofs: Proofs) -> str:
    if not tried:
        return ""
    said = f"others dialled {', '.join(tried)} in vain"
    if any(proofs.of(address).udp.there for address in tried):
        said += " by TCP (by UDP they get in)"
    return said


def meeting_itself(node: bytes) -> MeetItself:
    """Dials the node with a key, as anybody would."""
    context = make_context(os.urandom(32), server_side=False)

    async def meet_itself(address: str) -> bool:
        try:
            met = await meet(address, node, context, False, OwnLine())
        except PeerError:
            return False
        await met.aclose()
        return True

    return meet_itself
