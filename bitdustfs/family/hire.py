"""Hiring: a supplier that is not in the family yet promises space to a vault."""

import logging
import time
from collections.abc import Collection, Sequence
from typing import NamedTuple

import trio
from nacl.signing import SigningKey

from bitdustfs.core.records import (
    Family,
    Member,
    RetentionWanted,
    contract_records,
    seal_record,
)
from bitdustfs.core.spread import apart
from bitdustfs.errors import Malformed, PeerError, Refused, Unavailable
from bitdustfs.family.own import WITHOUT_OWN, check_own, on_this_machine
from bitdustfs.net.dht.discover import find_suppliers, joined
from bitdustfs.net.handshake import Credentials
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.net.supplier import Supplier
from bitdustfs.rebuild.census import FRAGMENTS_MIN, list_all

log = logging.getLogger(__name__)

CONTRACT_SECONDS = 365 * 86400  #: how long suppliers are asked to promise
CANNOT = "it cannot keep what is deleted: its bitdustfs is of a version before retentions"
LIST_DEADLINE = 10.0  #: seconds in which a candidate may say what it keeps of a position already
ADDRESSES_MAX = 4  #: of a member
CANDIDATES = 16  #: suppliers looked at for one position


class Wanted(NamedTuple):
    """Bytes to be promised, by none of the nodes `taken`, and by no neighbour of the addresses
    `near`.

    `fill`: bytes of that which are needed at once. `retain`: seconds of the vault's retention.
    """

    space: int
    taken: set[bytes]
    near: list[str]
    spread: int
    fill: int = 0
    own: bool = False  #: one on this very machine is taken, too
    retain: int = 0


async def contract(supplier: PeerSupplier, space: int) -> Member:
    """The supplier's contract, as a member of a family. Raises what `agree` does."""
    await agree(supplier, supplier.vault, space)
    known = dict.fromkeys(filter(None, (supplier.reached_at(), *supplier.addresses)))
    return Member(supplier.node, tuple(known)[:ADDRESSES_MAX], space)


async def agree(supplier: Supplier, vault: bytes, space: int) -> None:
    """Has a supplier sign a contract over `space` bytes, instead of the one it may have.

    What was asked for counts. More that the supplier promises is only its word, and nobody else
    could be hired if all had to promise as much. Raises PeerError, or Malformed for less.
    """
    until = int(time.time()) + CONTRACT_SECONDS
    record = await supplier.promise(space, until)
    promised = contract_records.open_untrusted(record, supplier.node)
    if promised.vault != vault or promised.space < space or promised.until < until:
        raise Malformed("the contract promises less than was asked for")


async def agree_to_retain(
    supplier: Supplier, vault: bytes, signer: SigningKey, space: int, seconds: int
) -> None:
    """Has a supplier with a contract over `space` bytes promise a retention.

    `signer`: the vault's key. Raises PeerError, and Malformed where it promises less.
    """
    record = seal_record(signer, "retention", RetentionWanted(vault, seconds))
    until = int(time.time()) + CONTRACT_SECONDS
    try:
        answer = await supplier.retain(space, until, record)
    except Refused as error:
        if error.code in ("forged", "malformed", "unauthorised"):
            raise Malformed(CANNOT) from error
        raise
    promised = contract_records.open_untrusted(answer, supplier.node)
    if promised.vault != vault or promised.retain < seconds:
        raise Malformed(CANNOT)


def asked_of_each(family: Family) -> int:
    """Bytes that a newcomer has to promise: the smallest contract is what bounds the vault.

    Larger ones may be those of suppliers that wrote what they liked.
    """
    return min(member.space for member in family.members)


async def hire(
    family: Family,
    position: int,
    credentials: Credentials,
    known: list[str],
    wanted: str = "",
    unwanted: Collection[bytes] = (),
    reserves: Sequence[str] = (),
    fill: int = 0,
    own: bool = False,
) -> Member:
    """A new member for a position: at the address `wanted`; else a reserve.

    Else found through the DHT.

    Never one of the family or of the nodes `unwanted`, nor, unless it is named, a neighbour of the
    other members (core/spread.py). Who leaves makes no contract; who has no room for the `fill`
    bytes that the position has now is passed over. Who had the position before and still keeps its
    fragments comes first. `own`: it may be one on this machine (own.py). Raises Unavailable;
    UsageError where such a one would be the second, or would be needed to read anything.
    """
    if own:
        others_there = [m for p, m in enumerate(family.members) if p != position]
        check_own(family.group.k, family.group.n, others_there)
    space = asked_of_each(family)
    taken = {*(member.node for member in family.members), *unwanted}
    others = [a for p, m in enumerate(family.members) if p != position for a in m.addresses]
    near, retain = [] if wanted else others, family.policy.retain
    rules = Wanted(space, taken, near, _spread(family), fill, own, retain)
    failures: list[str] = []
    found = await _engage(
        [wanted] if wanted else reserves, rules, 1, credentials, failures, position
    )
    if not found and not wanted:
        candidates = await _offers(known, space)
        found = await _engage(candidates, rules, 1, credentials, failures, position)
    if found:
        return found[0]
    said = "; ".join(failures[:3])
    raise Unavailable(
        f"no supplier outside the family offers the space for position {position}"
        + (f" ({said})" if said else "; start one and name the network it is in")
    )


async def line_up(
    family: Family,
    count: int,
    credentials: Credentials,
    known: list[str],
    unwanted: Collection[bytes] = (),
    answering: Collection[Member] = (),
) -> list[Member]:
    """Up to `count` more reserves for the bench, by the rules of `hire`.

    Where those who are `answering` are, nobody else is asked for.
    """
    space = asked_of_each(family)
    there = [*family.members, *family.bench]
    near = [address for member in there for address in member.addresses]
    taken = {*(m.node for m in there), *unwanted}
    rules = Wanted(space, taken, near, _spread(family), retain=family.policy.retain)
    theirs = {address for member in answering for address in member.addresses}
    offers = [address for address in await _offers(known, space) if address not in theirs]
    return await _engage(offers, rules, count, credentials, [])


def _spread(family: Family) -> int:
    return family.policy.spread


async def _offers(known: list[str], space: int) -> list[str]:
    async with joined(known[:16]) as dht:
        return await find_suppliers(dht, CANDIDATES, space)


async def _engage(
    candidates: Sequence[str],
    rules: Wanted,
    count: int,
    credentials: Credentials,
    failures: list[str],
    position: int | None = None,
) -> list[Member]:
    """Contracts with up to `count` of the candidates; why others made none goes to `failures`."""
    engaged: list[Member] = []
    near = list(rules.near)
    async with trio.open_nursery() as nursery:
        peers = [PeerSupplier(b"", (address,), credentials, nursery) for address in candidates]
        kept: dict[str, int] = {}

        async def ask(peer: PeerSupplier) -> None:
            try:
                await peer.ping()
                kept[peer.addresses[0]] = 0 if position is None else await _kept(peer, position)
            except PeerError as error:
                failures.append(f"{peer.addresses[0]}: {error}")

        try:
            async with trio.open_nursery() as asking:
                for peer in peers:
                    asking.start_soon(ask, peer)
            there = [peer for peer in peers if peer.addresses[0] in kept]
            for peer in sorted(there, key=lambda peer: -kept[peer.addresses[0]]):
                if peer.node in rules.taken or len(engaged) >= count:
                    continue
                if not rules.own and on_this_machine(Member(peer.node, peer.literals(), 0)):
                    failures.append(f"{peer.addresses[0]}: {WITHOUT_OWN}")
                    continue
                if not apart(peer.literals(), near, rules.spread):
                    failures.append(
                        f"{peer.addresses[0]}: a neighbour of one that is there already"
                    )
                    continue
                try:
                    member = await contract(peer, rules.space)
                    if rules.retain:
                        signer = credentials.key
                        await agree_to_retain(
                            peer, credentials.vault, signer, rules.space, rules.retain
                        )
                    await _check_room(peer, kept[peer.addresses[0]], rules.fill)
                    engaged.append(member)
                    near += (*peer.addresses, *peer.literals())
                except (PeerError, Malformed) as error:
                    failures.append(f"{peer.addresses[0]}: {error}")
        finally:
            for peer in peers:
                await peer.aclose()
            nursery.cancel_scope.cancel()
    return engaged


async def _check_room(peer: PeerSupplier, kept: int, fill: int) -> None:
    """Raises Refused where a contract has no room for `fill` bytes of one position.

    It may be full of other things. The `kept` fragments of the position itself need no more room.
    """
    told = await peer.usage()
    others = told.used - told.used * min(kept, told.fragments) // max(1, told.fragments)
    if told.space - others < fill:
        raise Refused("no-space", "it is full already")


async def _kept(peer: PeerSupplier, position: int) -> int:
    """Fragments of the position that a candidate has kept since it had the position before."""
    try:
        with trio.move_on_after(LIST_DEADLINE):
            return len(await list_all(peer, position, FRAGMENTS_MIN))
    except Refused:
        return 0
    return 0
