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


Named = str | bytes  #: the coarsest share in which a node is on standby (shares.py)
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


class PassingRates:
    """How many bytes are passed on. Who speaks by many circuits, or with many nodes, has no more of
    it than by one: it is divided among those to whom something is passed on just now.
    """

    def __init__(self, caps: RelayCaps) -> None:
        one = caps.rate_of_one
        self._of_caller, self._of_one = (Rates(one, one * BURST_SECONDS) for _ in range(2))
        self._all = Rates(caps.rate, caps.rate * BURST_SECONDS)

    def spend(
        self, name: Named, network: str, speaking: Collection[tuple[Named, str]], size: int
    ) -> float:
        """Seconds until `size` bytes may be passed on. `name`: for whom the node is on standby;
        `network`: its caller's; `speaking`: these two of all circuits, this one among them, on
        which something was passed on just now.
        """
        names = {one for one, _ in speaking}
        callers = {other for one, other in speaking if one == name}
        dear = size * max(1.0, len(names) / 2)  # one has a half where there are no more than two
        return max(
            self._of_caller.spend((name, network), dear * len(callers)),
            self._of_one.spend(name, dear),
            self._all.spend(None, size),
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
