"""What was measured of a vault's suppliers, put as a question to rebuild/odds.py.

Whatever was not measured is taken for what is worse: who was just hired was never seen; whoever is
away for longer than a quarter of the patience, or was found to lack something, has left; suppliers
on this machine, and the copies here, are not there at all.
"""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import NamedTuple

from bitdustfs.blocks.circle import Circle, addresses_of
from bitdustfs.core.records import Member
from bitdustfs.core.spread import joined, neighbourhood
from bitdustfs.mount.risk_words import ASSUMED_DAYS
from bitdustfs.net.addresses import is_at_home, relayed
from bitdustfs.rebuild.lifetimes import YEAR
from bitdustfs.rebuild.odds import (
    LEAST,
    LEAST_ASSUMED,
    OddsQuestion,
    SupplierSeen,
    seconds_to_fill,
)
from bitdustfs.rebuild.plan import LATE
from bitdustfs.rebuild.reputation import History
from bitdustfs.rebuild.watch import PING_EVERY, lived
from bitdustfs.vault.reading import ReadVault

PINGS_ASSUMED, UPTIME_ASSUMED = 360, 0.8  #: an hour of pings is given before the first
MOUNTED_MIN = 0.02  #: share of time that an owner is reckoned with at least
HOUSE = "a house"  #: all that are reached at addresses of homes are in one
LOST = 10.0  #: times the patience: away for so long is who is there without what it should have


class Measured(NamedTuple):
    """The question; which position and which key each of its suppliers has; for how many days they
    were seen in the mean.
    """

    question: OddsQuestion
    positions: tuple[int, ...]
    nodes: tuple[bytes, ...]
    days: float


def measure(vault: ReadVault, now: float) -> Measured:
    """As things are now (`now`: Unix seconds)."""
    family, watch = vault.known.family, vault.watch
    beside = vault.circle.beside()
    elsewhere = tuple(p for p in range(len(family.members)) if p not in beside)
    positions = elsewhere if len(elsewhere) >= family.group.k else tuple(range(family.group.n))
    histories = watch.reputation.everybody()
    there = {member.node for member in family.everybody}
    lives = tuple(
        (age_of(seen), has_left(seen, node in there, watch.patience))
        for node, seen in histories.items() if seen.answered
    )  # fmt: skip
    networks = joined([_networks(vault.circle, family.members[p]) for p in positions])
    suppliers = tuple(
        _seen(vault, p, family.members[p], network)
        for p, network in zip(positions, networks, strict=True)
    )
    days = sum(seen.age for seen in suppliers) / len(suppliers) * YEAR / 86400
    used = max(vault.space.used(family.members[p]) for p in positions)
    question = OddsQuestion(
        k=family.group.k, patience=watch.patience, margin=family.policy.margin,
        fill=seconds_to_fill(used, family.group.k, family.policy.bandwidth), suppliers=suppliers,
        reserves=sum(watch.stays(member.node) for member in family.bench), lives=lives,
        mounted=_mounted([histories[node] for node in there & histories.keys()], now),
        least=LEAST_ASSUMED if days < ASSUMED_DAYS else LEAST,
    )  # fmt: skip
    return Measured(question, positions, tuple(family.members[p].node for p in positions), days)


def age_of(seen: History) -> float:
    """Years between the first answer of a supplier and the last one; where nobody wrote down when
    these were, those in which it answered at least.
    """
    return max(0.0, seen.heard - seen.since if seen.dated else lived(seen)) / YEAR


def has_left(seen: History, member: bool, patience: float) -> bool:
    """Whether a supplier left for ever, as far as anybody can tell.

    One that was replaced while it answered did not; one that was away for so long that it may have
    been replaced for that did.
    """
    bound = patience if member else patience * LATE
    return bool(seen.gone) or (seen.missed > 0 and seen.away > bound)


def _networks(circle: Circle, member: Member) -> set[str]:
    """The networks that a supplier falls with: of all addresses that it has in the world, and the
    house where it is reached at an address of a home. A relay that falls takes no data along.
    """
    every = [a for a in addresses_of(circle, member) if relayed(a) is None]
    at_home = [_is_of_a_home(address) for address in every]
    there = {neighbourhood(a) for a, home in zip(every, at_home, strict=True) if not home} - {""}
    return {*there, HOUSE} if any(at_home[:1]) else there


def _is_of_a_home(address: str) -> bool:
    try:
        return is_at_home(ip_address(address.rpartition(":")[0].strip("[]")))
    except ValueError:  # a name
        return False


def _seen(vault: ReadVault, position: int, member: Member, network: str) -> SupplierSeen:
    seen = vault.watch.history(member.node)
    return SupplierSeen(
        age=age_of(seen),
        uptime=(seen.answered + PINGS_ASSUMED * UPTIME_ASSUMED) / (seen.rounds + PINGS_ASSUMED),
        audits=seen.audits,
        audits_failed=seen.audits_failed,
        network=network,
        away=_away(vault, position, member.node),
    )


def _away(vault: ReadVault, position: int, node: bytes) -> float | None:
    """Seconds for which a position's fragments are away; None where they are to be had again."""
    watch, patience = vault.watch, vault.watch.patience
    if watch.stand_in(position) is not None:
        return None
    if watch.history(node).gone or vault.circle.damage.at(position):
        return LOST * patience
    away = watch.lasting(node)
    return away if away > patience * LATE else None


def _mounted(histories: Sequence[History], now: float) -> float:
    """Share of time in which the owner has the vault mounted, by how often he asked the supplier
    that has been there longest. Before anybody answered the least is assumed.
    """
    dated = [seen for seen in histories if seen.dated and seen.since < now]
    if not dated:
        return MOUNTED_MIN
    longest = min(dated, key=lambda seen: seen.since)
    return min(1.0, max(MOUNTED_MIN, longest.rounds * PING_EVERY / (now - longest.since)))
