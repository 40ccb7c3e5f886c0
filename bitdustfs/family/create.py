"""A vault is founded: suppliers are found, each signs a contract, the first root is accepted.

The caller makes the key and keeps it. When this fails half-way, those who promised space get it
back, and an invitation can be used again. Who cannot be told then forgets the promise by itself.
"""

import os
import time
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import trio

from bitdustfs.core.keys import VaultKey
from bitdustfs.core.placement import metadata_k, promise_each
from bitdustfs.core.policy import read_policy
from bitdustfs.core.records import (
    FORMAT,
    Ballot,
    Family,
    Features,
    Group,
    Member,
    Root,
    claim_ballot,
    open_family_untrusted,
    open_root_untrusted,
    seal_record,
)
from bitdustfs.core.roots import first_root
from bitdustfs.core.sealing import Suite
from bitdustfs.core.spread import apart
from bitdustfs.errors import Malformed, PeerError, Unavailable, UsageError
from bitdustfs.family.find import owner_credentials
from bitdustfs.family.hire import agree_to_retain, contract
from bitdustfs.family.own import WITHOUT_OWN, check_own, on_this_machine
from bitdustfs.net.ask import ask_all
from bitdustfs.net.dht.discover import announce_vault, find_offers, joined
from bitdustfs.net.dht.node import Dht
from bitdustfs.net.dht.seeker import located
from bitdustfs.net.hostnames import resolve_all
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.net.register import RootRegister
from bitdustfs.net.tokens import read_tokens
from bitdustfs.net.whereabouts import AddressBook
from bitdustfs.units import MIB, format_size

SMALLEST = 16 * MIB  #: bytes of the smallest vault
SEARCHES = 8  #: searches for suppliers while too few are found
SEARCH_AGAIN = 1.0  #: seconds until the next one: who has just joined is not known to all yet
GIVE_BACK_DEADLINE = 5.0  #: seconds that suppliers have to hear that nothing came of it
JOINED_BY = 16  #: addresses by which the DHT is joined
CHOICE = 3  #: times as many suppliers as are needed are looked for: some may be neighbours


class FriendsSupplier(NamedTuple):
    """A friend's supplier: whoever else answers at its addresses is not taken for it."""

    node: bytes
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Order:
    """What the vault is to be like. Any `k` of its `n` suppliers rebuild all."""

    k: int
    n: int
    size: int  #: bytes
    words: dict[str, int] = field(default_factory=dict)  #: of the policy (core/policy.py)
    suppliers: tuple[str, ...] = ()  #: addresses that are wanted; more are found by `bootstrap`
    bootstrap: tuple[str, ...] = ()  #: addresses of any nodes of the network
    friends: tuple[FriendsSupplier, ...] = ()  #: suppliers whose keys are known: they come first
    own: bool = False  #: one of them may be on this machine (own.py)
    tokens: tuple[str, ...] = ()  #: by which suppliers invited the owner

    def check(self) -> None:
        """Raises UsageError for what no vault can be."""
        if self.size < SMALLEST:
            raise UsageError(f"a vault has {format_size(SMALLEST)} at least")
        if self.words.get("margin", 0) > self.n - self.k:
            raise UsageError(f"with {self.k}/{self.n} the margin is at most {self.n - self.k}")
        read_tokens(self.tokens)
        if self.own:
            check_own(self.k, self.n, ())

    @property
    def promise(self) -> int:
        """Bytes that each supplier has to promise."""
        return promise_each(self.size, self.k)

    @property
    def retain(self) -> int:
        """Seconds for which each supplier has to keep what is deleted."""
        return read_policy(self.words).retain


class Founder(NamedTuple):
    """One supplier of the new vault. `offers`: bytes that it says it offers to anyone; None where
    it was named by its address, and so was not asked.
    """

    member: Member
    offers: int | None


class Created(NamedTuple):
    """The new vault's family, and who was found for it, by position."""

    family: Family
    founders: tuple[Founder, ...]


@dataclass(frozen=True)
class _Founded:
    """The first root and its family, with the family's signed bytes."""

    root: Root
    family: Family
    raw_family: bytes


async def create_vault(key: VaultKey, order: Order, suite: Suite) -> Created:
    """Founds the vault of a new key.

    Raises UsageError, and Unavailable when too few suppliers are found or one makes no contract.
    """
    order.check()
    friends = order.friends[: order.n]
    named = order.suppliers[: order.n - len(friends)]
    near = [a for friend in friends for a in friend.addresses]
    async with joined([*(order.bootstrap or (*named[:1], *near))][:JOINED_BY]) as dht:
        offers = await _find_the_rest(dht, order, (*near, *named), len(friends) + len(named))
        others = (FriendsSupplier(b"", (address,)) for address in (*named, *offers))
        founded = await _found(dht, key, order, [*friends, *others], suite)
    members = founded.family.members
    founders = (Founder(m, next(filter(None, map(offers.get, m.addresses)), None)) for m in members)
    return Created(founded.family, tuple(founders))


async def _find_the_rest(
    dht: Dht, order: Order, named: tuple[str, ...], count: int
) -> dict[str, int]:
    """Addresses of suppliers that were not named, at least as many as are missing, with offers.

    They are apart from each other by the policy. `named`: addresses of the `count` that were.
    """
    missing = order.n - count
    if not missing:
        return {}
    if not dht.contacts():
        raise Unavailable(f"nobody answers at {', '.join(order.bootstrap)}")
    found = await _search(dht, missing, order.promise)
    offers = [address for address in found if address not in named]
    taken = [*named, *await resolve_all(named)]
    fit = apart(offers, taken, read_policy(order.words).spread)
    if len(fit) < missing:
        raise Unavailable(_too_few(order, count + len(fit), len(offers) - len(fit)))
    return {address: found[address] for address in fit}


async def _search(dht: Dht, count: int, space: int) -> dict[str, int]:
    """Addresses of suppliers, at least `count` where there are so many, and what they offer.

    It asks more than once: answers get lost on a busy network.
    """
    found: dict[str, int] = {}
    for number in range(SEARCHES):
        if number:
            await trio.sleep(SEARCH_AGAIN)
        more = await find_offers(dht, CHOICE * count, space)
        found = more | found
        if len(found) >= count:
            break
    return found


def _too_few(order: Order, there: int, near: int) -> str:
    """`there` were found that are apart, and `near` that are neighbours of those."""
    k, n = order.k, order.n
    otherwise = f", or take {near} of networks that are there already: --policy spread=none"
    return (
        f"{k}/{n} needs {n} suppliers that offer {format_size(order.promise)} each; {there} were "
        f"found. Ask for less --space, or another --ecc{otherwise if near else ''}"
    )


async def _found(
    dht: Dht, key: VaultKey, order: Order, chosen: list[FriendsSupplier], suite: Suite
) -> _Founded:
    """All of it, or nothing: whatever fails, the contracts are given back."""
    credentials = owner_credentials(key, order.tokens)
    async with trio.open_nursery() as nursery:
        book = AddressBook(partial(located, dht), nursery)
        suppliers = [PeerSupplier(*k, credentials, nursery, whereabouts=book) for k in chosen]
        try:
            members = await _contracts(suppliers, order, key)
            family = _sign_family(key, order, members)
            founded = await _accept_first_root(key, family, suppliers, suite)
            await announce_vault(dht, key, founded.root, founded.family, founded.raw_family, suite)
            return founded
        except BaseException:
            with trio.move_on_after(GIVE_BACK_DEADLINE, shield=True):
                await ask_all([s for s in suppliers if s.node], lambda peer: peer.give_back())
            raise
        finally:
            for supplier in suppliers:
                await supplier.aclose()
            nursery.cancel_scope.cancel()


async def _contracts(
    suppliers: list[PeerSupplier], order: Order, key: VaultKey
) -> tuple[Member, ...]:
    """n contracts, the first of the suppliers by their owner's choice, the others as found.

    One on this machine is passed over, or, where it was named, refused, unless it was asked for.
    """
    members: list[Member] = []
    named, own = len(order.friends) + len(order.suppliers), 0
    for number, supplier in enumerate(suppliers):
        if len(members) == order.n:
            break
        address, known = next(iter(supplier.addresses), "no address"), number < len(order.friends)
        try:
            await supplier.ping()
            beside = on_this_machine(Member(supplier.node, supplier.literals(), 0))
            if beside and number < named and not order.own:
                raise UsageError(f"the supplier at {address}: {WITHOUT_OWN}")
            if beside and number < named and own:
                raise UsageError("more than one of the suppliers is on this machine")
            if beside and (own or not order.own):
                continue
            member = await contract(supplier, order.promise)
            if order.retain:
                await agree_to_retain(
                    supplier, key.vault_id, key.signing, order.promise, order.retain
                )
            members.append(member)
            own += beside
        except (PeerError, Malformed) as error:
            friend = f"{supplier.node.hex()[:16]}, your friend's supplier," if known else ""
            who = friend or f"the supplier at {address}"
            raise Unavailable(f"{who} made no contract: {error}") from error
    if len(members) < order.n:
        raise Unavailable(_too_few(order, len(members), 0))
    if len({member.node for member in members}) != len(members):
        raise UsageError("two of the addresses lead to the same supplier")
    return tuple(members)


def _sign_family(key: VaultKey, order: Order, members: tuple[Member, ...]) -> bytes:
    """The signed family of epoch 0."""
    body = Family(
        FORMAT, Features(), key.vault_id, 0, bytes(32), key.capability().read_proof_public,
        (Group(order.k, metadata_k(order.k), members),), words=order.words,
    )  # fmt: skip
    return seal_record(key.signing, "family", body)


async def _accept_first_root(
    key: VaultKey, family: bytes, suppliers: list[PeerSupplier], suite: Suite
) -> _Founded:
    """Has a majority accept the root of an empty vault, and gives the lease back."""
    sessions = {supplier.node: supplier for supplier in suppliers}
    opened = open_family_untrusted(family, key.vault_id)
    register = RootRegister(key.vault_id, lambda member: sessions[member.node], opened)
    ballot = Ballot(1, os.urandom(16))
    root = first_root(key, suite, ballot, family, int(time.time()))
    await register.found(root, family, claim_ballot(key.signing, ballot))
    return _Founded(
        open_root_untrusted(root, key.vault_id),
        opened,
        family,
    )
