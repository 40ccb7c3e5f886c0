"""How the world reaches a supplier that others are to dial: directly, or by a mapped port.

A mapped port's address is announced once others came in by it. Where others dialled an address in
vain that only others see it at, it is not announced.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import trio

from bitdustfs.net.addresses import split
from bitdustfs.supplier.mapping import PortMapping
from bitdustfs.supplier.proofs import Proofs, is_public

TICK = 2.0  #: seconds between looks at what is due


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


class Doors(Outside):
    """Of a supplier that listens. `mapping`: None where the router is not to be asked.

    It works while `run` does.
    """

    def __init__(
        self,
        proofs: Proofs,
        mapping: PortMapping | None,
    ) -> None:
        self._proofs, self._mapping = proofs, mapping
        self._before, self._seen_at = "", list[str]()

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
                await self._proofs.look(dict.fromkeys((*wanted, *self._seen_at)))
                await trio.sleep(TICK)
        finally:
            if self._mapping is not None:
                await self._mapping.take_back()

    def _candidate(self) -> str:
        return "" if self._mapping is None else self._mapping.outcome.address

    def mapped(self) -> tuple[str, ...]:
        candidate = self._candidate()
        proven = candidate and is_public(candidate) and self._proofs.of(candidate).tcp
        return (candidate,) if proven else ()

    def in_vain(self, address: str) -> bool:
        return self._proofs.of(address).tcp is False

    def how(self) -> str:
        if self._mapping is None:
            return ""
        udp = self._proofs.of(self._candidate()).udp
        closed = "; others do not get in by UDP, so that few find it" if udp is False else ""
        return self._mapping.outcome.said + closed

    def proven(self, announced: Sequence[str]) -> str:
        return next((a for a in announced if self._proofs.of(a).tcp), "")

    def why(self, announced: Sequence[str]) -> Obstacle:
        public = [address for address in announced if is_public(address)]
        if any(not self.in_vain(address) for address in public):
            return Obstacle()
        candidate, said = self._candidate(), self.how()
        if candidate and not is_public(candidate):
            host = split(candidate)[0]
            return Obstacle(
                f"the router's own address outside, {host}, is none of the world: another router, "
                "of the provider, is in between"
            )
        if candidate and not self.in_vain(candidate):
            nobody = f"nobody of another network could be asked to try {candidate} yet"
            return Obstacle(f"{said}, but {nobody}", sure=False)
        tried = [a for a in dict.fromkeys((candidate, *self._seen_at)) if self.in_vain(a)]
        vain = f"others dialled {', '.join(tried)} in vain" if tried else ""
        return Obstacle("; ".join(filter(None, (said, vain))))
