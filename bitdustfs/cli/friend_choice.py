"""Which friends keep a new vault: those who joined, and give space that no vault of ours has."""

import argparse
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from bitdustfs.cache.deals import Deal, DealFolder
from bitdustfs.cache.machine import own_supplier_folders
from bitdustfs.cache.nicknames import DIGITS_MIN, Nicknames
from bitdustfs.cli.friend_words import name_friends
from bitdustfs.cli.named import complain_named
from bitdustfs.cli.texts import NODE_DIGITS
from bitdustfs.config import names_path
from bitdustfs.core.placement import largest_size, promise_each
from bitdustfs.errors import UsageError
from bitdustfs.family.create import SMALLEST, FriendsSupplier
from bitdustfs.net.addresses import is_address
from bitdustfs.net.tokens import write_token
from bitdustfs.plain import complain
from bitdustfs.supplier.friendship import nonce_of
from bitdustfs.units import GIB, format_size, parse_size

SPACE = 10 * GIB  #: bytes of a vault for which neither a size nor friends are named


class _Free(NamedTuple):
    """A deal whose space no vault of ours has, and the supplier's folder in which it is kept."""

    folder: Path
    deal: Deal


class Friends:
    """Those that give something, who gives most first."""

    def __init__(self, free: Sequence[_Free] = ()) -> None:
        largest: dict[bytes, _Free] = {}
        for one in sorted(free, key=lambda one: one.deal.gives):
            largest[one.deal.node] = one
        self._free = sorted(largest.values(), key=lambda one: -one.deal.gives)

    @property
    def count(self) -> int:
        return len(self._free)

    @property
    def tokens(self) -> tuple[str, ...]:
        """By which they give it."""
        return tuple(write_token(one.deal.theirs) for one in self._free)

    def known(self, n: int) -> tuple[FriendsSupplier, ...]:
        """The first n, as suppliers."""
        return tuple(
            FriendsSupplier(
                one.deal.node, tuple(filter(is_address, DealFolder(one.folder).where(one.deal)))
            )
            for one in self._free[:n]
        )

    def size(self, wanted: str | None, k: int, n: int) -> int:
        """Bytes of the vault: what is wanted, or as much as they give. Raises UsageError."""
        if not self._free:
            return parse_size(wanted) if wanted else SPACE
        least = self._free[:n][-1].deal
        largest = largest_size(least.gives, k)
        size = parse_size(wanted) if wanted else largest
        if size > largest or largest < SMALLEST:
            raise UsageError(
                f"with {k}/{n} that takes {format_size(promise_each(max(size, SMALLEST), k))} of "
                f"each, and {least.node.hex()[:NODE_DIGITS]} gives {format_size(least.gives)}: "
                + (f"--space {largest >> 20}M fits" if largest >= SMALLEST else "it is too little")
                + ", or another --ecc; or make a larger deal by another bitdust invite"
            )
        return size

    def tell(self) -> None:
        """Says who they are and what each gives."""
        for one in self._free:
            node = one.deal.node.hex()[:NODE_DIGITS]
            complain_named(f"friend {node} gives {format_size(one.deal.gives)}")

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the first of them says that it is."""
        return self.known(1)[0].addresses if self._free else ()

    @property
    def nodes(self) -> frozenset[bytes]:
        """Their keys."""
        return frozenset(one.deal.node for one in self._free)

    def note(self, vault: bytes, nodes: Collection[bytes]) -> None:
        """From now on a vault of ours has what those of its suppliers give."""
        for folder, deal in self._free:
            if deal.node in nodes:
                deals = DealFolder(folder)
                with deals.changing():
                    nonce = nonce_of(deal.ours)
                    known = deals.with_ended().get(nonce, deal)  # it may be taken back by now
                    deals.keep(nonce, msgspec.structs.replace(known, vault=vault))


NO_FRIENDS = Friends()


def set_free(vault: bytes) -> None:
    """A vault of ours ended: what friends gave it is free for another one."""
    for folder in own_supplier_folders():
        deals = DealFolder(folder)
        with deals.changing():
            for nonce, deal in deals.all().items():
                if deal.vault == vault:
                    deals.keep(nonce, msgspec.structs.replace(deal, vault=b""))


def choose_friends(args: argparse.Namespace) -> Friends:
    """Where they are asked for, or nobody else is named. Raises UsageError where none joined."""
    if not args.friends and (args.supplier or args.bootstrap):
        return NO_FRIENDS
    for folder in own_supplier_folders():
        for nonce, deal in DealFolder(folder).all().items():
            if not deal.made and deal.until > time.time():
                complain(
                    f"{deal.name or nonce.hex()[:NODE_DIGITS]} was invited and did not join yet"
                )
    every = _deals()
    name_friends(one.deal for one in every)
    friends = free_friends()
    if args.friends and not friends.count:
        raise UsageError(
            "no friend has space left that no vault of yours has: bitdust invite one, or delete a "
            "vault (bitdust vault delete)"
            if every
            else "no friend joined yet: bitdust invite prints a line for one"
        )
    friends.tell()
    return friends


def free_friends(least: int = 1, nodes: Collection[bytes] = ()) -> Friends:
    """Those who give so many bytes at least that no vault of ours has; of these nodes, if named."""
    return Friends(
        [
            one
            for one in _free()
            if one.deal.gives >= least and (not nodes or one.deal.node in nodes)
        ]
    )


def _free() -> list[_Free]:
    """What friends give and no vault of ours has."""
    return [one for one in _deals() if one.deal.gives and not one.deal.vault]


def friend_named(word: str) -> Friends:
    """The one with this name, or with a key that begins so. Raises UsageError."""
    named = Nicknames(names_path()).key_of(word)
    friends = [
        one
        for one in _free()
        if one.deal.node.hex() == named
        or (len(word) >= DIGITS_MIN and one.deal.node.hex().startswith(word))
    ]
    if len({one.deal.node for one in friends}) != 1:
        raise UsageError(
            f"{word} is no friend with space that no vault of yours has: bitdust friends shows them"
        )
    return Friends(friends)


def _deals() -> list[_Free]:
    return [
        _Free(folder, deal)
        for folder in own_supplier_folders()
        for deal in DealFolder(folder).all().values()
        if deal.made
    ]
