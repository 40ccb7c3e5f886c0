"""What this machine knows of its friends, and how it finds out: `bitdust friends`."""

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

import trio

from bitdustfs.cache.deals import Deal
from bitdustfs.cache.nicknames import DIGITS_MIN
from bitdustfs.errors import UsageError
from bitdustfs.net.supplier import PUNCHED, RELAYED
from bitdustfs.supplier.befriend import OwnSupplier, Reached, reached
from bitdustfs.supplier.friendship import nonce_of
from bitdustfs.supplier.orders import CustomerLine, FriendLine


class KeptThere(NamedTuple):
    """What a friend's supplier keeps of mounted vaults, as their mounts say."""

    stored: int  #: bytes
    heard: float | None  #: seconds since it answered a mount last
    way: str = ""  #: how it is reached by a mount


def friend_lines(
    own: OwnSupplier, kept_there: Mapping[bytes, KeptThere], names: Mapping[str, str]
) -> list[FriendLine]:
    """A line for each friend, and for each invitation that somebody may come by; all friends are
    asked, at once, whether they are there.

    `kept_there`: by node; `names`: by node, hexadecimal.
    """
    deals = own.friendship.deals.all()
    friends: dict[bytes, list[Deal]] = {}
    for deal in deals.values():
        if deal.made:
            friends.setdefault(deal.node, []).append(deal)
    there = trio.run(
        reached, own, [(node, own.deals.where(told[-1])) for node, told in friends.items()]
    )
    now = time.time()
    own.deals.note_seen({node.hex(): (int(now), met.address) for node, met in there.items()})
    customers: list[CustomerLine] | None = None
    with suppress(UsageError):  # it does not run
        customers = own.customers()
    seen = {bytes.fromhex(node): now - when for node, (when, _) in own.deals.seen().items()}
    for node, kept in kept_there.items():
        if kept.heard is not None:
            seen[node] = min(kept.heard, seen.get(node, kept.heard))
    lines = [
        FriendLine(
            node=node.hex(), name=names.get(node.hex(), ""),
            state="online" if node in there else "away",
            way=way_of(there[node], kept_there.get(node)) if node in there else "",
            address=there[node].address if node in there else " ".join(told[-1].addresses),
            seen=seen.get(node),
            gives=sum(deal.gives for deal in told), given=sum(deal.space for deal in told),
            keeps=_kept_by(node, told, kept_there),
            kept=None if customers is None else _kept_for(told, customers),
            vaults=[deal.vault.hex() for deal in told if deal.vault],
            since=told[0].since, until=0, settled=all(deal.told for deal in told),
            invitations=[nonce_of(deal.ours).hex() for deal in told],
        )
        for node, told in friends.items()
    ]  # fmt: skip
    return lines + [_waiting(deal) for deal in deals.values() if not deal.made and deal.until > now]


def way_of(met: Reached, kept: KeptThere | None) -> str:
    """How a friend is reached: whoever just asks does not punch, and a mount does."""
    return PUNCHED if met.way == RELAYED and kept and kept.way == PUNCHED else met.way


def end_deals(own: OwnSupplier, word: str, named: str) -> list[Deal]:
    """Takes deals with one friend back, or an invitation that nobody came by; which those were.

    `word`: how the friend's key or the invitation's nonce begins, or for whom it was made; `named`:
    the friend's key, if `word` is the name that it was given. Contracts that were made stay. Raises
    UsageError where nothing, or more than one friend or invitation, is meant.
    """
    meant = [
        deal for nonce, deal in own.deals.all().items()
        if (named and deal.node.hex() == named)
        or (not deal.made and word == deal.name)
        or (len(word) >= DIGITS_MIN and word in (deal.node.hex()[: len(word)],
                                                 nonce.hex()[: len(word)]))
    ]  # fmt: skip
    if not meant or len({deal.node for deal in meant}) > 1:
        raise UsageError(
            f"{word} means no friend or invitation, or several: write a name, or the first digits "
            "that bitdust friends shows"
        )
    if len(meant) > 1 and not any(deal.made for deal in meant):
        raise UsageError(
            f"{word} was invited {len(meant)} times: write the first digits of one, as bitdust "
            "friends shows them"
        )
    for deal in meant:
        own.friendship.end(deal)
    return meant


def _kept_by(node: bytes, told: list[Deal], kept_there: Mapping[bytes, KeptThere]) -> int | None:
    """Bytes that a friend keeps of mounted vaults; nothing where no vault of mine came by it."""
    if node in kept_there:
        return kept_there[node].stored
    return None if any(deal.vault for deal in told) else 0


def _kept_for(told: list[Deal], customers: list[CustomerLine]) -> int:
    """Bytes that the vaults use here that came by these deals."""
    tokens = {nonce_of(deal.ours).hex() for deal in told}
    return sum(line.used for line in customers if line.token in tokens)


def _waiting(deal: Deal) -> FriendLine:
    return FriendLine(
        node="", name=deal.name, state="invited", way="", address="", seen=None, gives=0,
        keeps=None, given=deal.space, kept=0, vaults=[], since=deal.since, until=deal.until,
        settled=False, invitations=[nonce_of(deal.ours).hex()],
    )  # fmt: skip
