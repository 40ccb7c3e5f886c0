"""Among whom a supplier's places, threads, memory and rates are shared out. No I/O.

A share is a path from coarse to fine. Of what is short each coarse share has a part, and within it
each finer one. The first word is what is dear to have in numbers:

    whoever has no session yet     network
    a vault that was invited       vault
    a vault as anybody             network of its contract, vault

So a stranger with five hundred small vaults in one network has what another one has with one. A
vault whose contract names no network (it was asked for in a private network, or before networks
were recorded; it is at the next renewal) has a share of its own: nobody gets such a contract from
outside any more.

Of those who come through relays nothing is proven but that. They are one network together, then
those of one relay, then those whom that relay tells apart by where they come from: a relay that
does not, or lies, takes from nobody else.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from hashlib import blake2b

import trio

from bitdustfs.net.rates import Rates
from bitdustfs.supplier.shelfrows import VaultRow

Portion = tuple[str | bytes, ...]
Whose = Callable[[bytes], Portion]  #: in whose name a vault comes

RELAYED = "relayed"  #: the network of those who come through relays
MARK = 8  #: bytes of a circuit's name by which a relay tells its callers apart
PARTS = 4  #: a network has a part in so many of what all vaults may have done


def relayed_network(relay: bytes, circuit: bytes) -> str:
    """The network of who comes by a circuit (its name) of the relay with that key."""
    return f"{RELAYED} {relay[:MARK].hex()} {circuit[:MARK].hex()}"


def mark_of(secret: bytes, node: bytes, network: str) -> bytes:
    """What a relay makes of a caller's network: the node that is called learns nothing by it but
    who comes from the same one.
    """
    return blake2b(node + network.encode(), key=secret, digest_size=MARK).digest()


def share_of_network(network: str) -> Portion:
    """That of whoever is nobody's customer."""
    return tuple(network.split(" ")) if network.startswith(RELAYED) else (network,)


def is_several(share: Portion) -> bool:
    """Whether those of several networks lie in it: all who come through relays, or through one."""
    return share[0] == RELAYED and len(share) < len((RELAYED, "relay", "mark"))


def share_of_vault(vault: bytes, row: VaultRow | None) -> Portion:
    """That of a vault with this row, and of all who come in its name."""
    if row is None or row.invited or not row.network:
        return (vault,)
    return (*share_of_network(row.network), vault)


def alone(vault: bytes) -> Portion:
    """That of a vault of which no more is known."""
    return (vault,)


def parts_of(share: Portion) -> list[Portion]:
    """The shares that a share lies in, the coarsest first, itself last."""
    return [share[:length] for length in range(1, len(share) + 1)]


def counted(shares: Iterable[Portion]) -> Counter[Portion]:
    """How many lie in each share, whatever it is coarse or fine."""
    return Counter(part for share in shares for part in parts_of(share))


def weight(share: Portion, counts: Counter[Portion]) -> tuple[int, ...]:
    """To be compared: who has most has most in the coarse, then in the fine."""
    weights = [counts[part] for part in parts_of(share)]
    return (*weights, *weights[-1:] * (4 - len(weights)))


def gives_way(holder: Portion, newcomer: Portion, counts: Counter[Portion]) -> bool:
    """Whether a newcomer will have less than a holder, where their ways part."""
    for mine, other in zip(parts_of(holder), parts_of(newcomer), strict=False):
        if mine != other:
            return counts[other] + 1 < counts[mine]
    return False


class ShareRates:
    """`rate` units a second for each network, `burst` at once. For each of those whom a relay tells
    apart it is half as much.
    """

    def __init__(self, rate: float, burst: float) -> None:
        self._levels = [Rates(rate / part, burst / part) for part in (1, 1, 2)]

    def admits(self, share: Portion) -> bool:
        """Whether it may be done once more now; it is counted then. Who has spent his own part
        spends nothing of others'.
        """
        levels = [*zip(self._levels, parts_of(share), strict=False)]
        return all(rates.admits(part) for rates, part in reversed(levels))

    async def spend(self, share: Portion, amount: float = 1.0) -> None:
        """Returns when that is made good."""
        for rates, part in reversed([*zip(self._levels, parts_of(share), strict=False)]):
            await trio.sleep(rates.spend(part, amount))


class VaultRates:
    """How often something is done for one vault, and in all, as (rate a second, at once).

    For the vaults of one network together it is done as often as for one of them, or one time in
    PARTS of all.
    """

    def __init__(
        self,
        of_one: tuple[float, float],
        in_all: tuple[float, float],
        whose: Whose = alone,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._whose = whose
        rates = [max(one, every / PARTS) for one, every in zip(of_one, in_all, strict=True)]
        self._of_one, self._in_all = Rates(*of_one, clock), Rates(*in_all, clock)
        self._of_network = Rates(rates[0], rates[1], clock)

    def admits(self, vault: bytes) -> bool:
        """Whether it may be done once more now for a vault; it is counted then."""
        return (
            self._of_one.admits(vault)
            and self._of_network.admits(self._whose(vault)[0])
            and self._in_all.admits(None)
        )
