"""For whom a supplier is a relay, and how much it passes on, as whoever runs it may say."""

from collections.abc import Collection
from typing import NamedTuple

from bitdustfs.errors import UsageError
from bitdustfs.net.rates import Rates
from bitdustfs.supplier.shares import Portion
from bitdustfs.units import KIB, MIB

RATE_LEAST = 16 * KIB
CIRCUITS_LEAST = 4
CIRCUITS_MOST = 128  #: one has two connections, of those that there are for all (connections.py)
BURST_SECONDS = 16.0  #: seconds' worth that may go at once
CALLS_SECONDS = 16.0  #: seconds in which as many circuits begin as there may be; at once twice that
CIRCUITS_FEW = 16  #: with fewer circuits than that, as many begin as with that: mounts redial


class RelayCaps(NamedTuple):
    """`rate`: bytes a second for all nodes together; `circuits`: how many there are at once, and in
    CALLS_SECONDS begin.
    """

    rate: int = 8 * MIB
    circuits: int = CIRCUITS_MOST

    @property
    def rate_of_one(self) -> float:
        """Bytes a second to and from the nodes of one friend, one vault, or all that came as
        anybody from one network.
        """
        return self.rate / 2

    @property
    def circuits_of_node(self) -> int:
        """How many lead to one node: a mount has two, and one more to get past the relay."""
        return min(self.circuits, max(8, self.circuits // 4))


USUAL = RelayCaps()  #: where nothing is said


class CallRates:
    """How many circuits may begin. Who calls again and again takes nobody else's."""

    def __init__(self, caps: RelayCaps) -> None:
        every = max(CIRCUITS_FEW, caps.circuits)
        self._from_network, self._to_one, self._all = (
            Rates(every / part / CALLS_SECONDS, 2 * every / part) for part in (4, 2, 1)
        )

    def admits(self, network: str, share: Portion) -> bool:
        """Whether one may begin from a network to a node of a share; it is counted then."""
        return (
            self._from_network.admits(network)
            and self._to_one.admits(share[0])
            and self._all.admits(None)
        )


def check_caps(caps: RelayCaps) -> RelayCaps:
    """Raises UsageError."""
    if caps.rate < RATE_LEAST:
        raise UsageError(
            f"a relay passes on {RATE_LEAST // KIB}K bytes a second at least; with --relay off it "
            "passes on nothing"
        )
    if not CIRCUITS_LEAST <= caps.circuits <= CIRCUITS_MOST:
        raise UsageError(f"a relay has from {CIRCUITS_LEAST} to {CIRCUITS_MOST} circuits")
    return caps


def relay_words(words: Collection[str]) -> tuple[str, ...]:
    """What `--relay` says: off, or circle and keys of nodes besides. Raises UsageError."""
    said = tuple(word.lower() for word in words)
    if said == ("off",):
        return said
    for word in said:
        if word != "circle" and (len(word) != 64 or not set(word) <= set("0123456789abcdef")):
            raise UsageError(f"{word!r}: write off, circle, or the 64 digits of a node's key")
    return said
