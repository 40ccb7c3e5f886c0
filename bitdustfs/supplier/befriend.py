"""Invitations and deals as whoever runs a supplier makes them: `bitdust invite`, `bitdust join`.

The supplier has to run: it says where it is found, and only then has a friend somebody to reach.
Commands and the supplier share the deals in its folder.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import NamedTuple

import trio
from nacl.signing import SigningKey

from bitdustfs.cache.deals import Deal, DealFolder
from bitdustfs.cache.machine import own_supplier_folders, own_suppliers
from bitdustfs.errors import BitdustError, Malformed, PeerError, Refused, UsageError
from bitdustfs.net.addresses import is_address, is_private_host, is_wildcard, split
from bitdustfs.net.ask import ask_all
from bitdustfs.net.control import ask
from bitdustfs.net.dht.discover import own_word
from bitdustfs.net.dht.seeker import Seeker
from bitdustfs.net.handshake import Credentials
from bitdustfs.net.joinline import JoinLine, read_join_line_untrusted, write_join_line
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.net.supplier import RELAYED
from bitdustfs.net.tls import make_context
from bitdustfs.net.whereabouts import AddressBook
from bitdustfs.supplier.friendship import Friendship
from bitdustfs.supplier.nodekey import node_key
from bitdustfs.supplier.orders import AskCustomers, AskSelf, CustomerLine, Customers, SupplierSelf
from bitdustfs.units import GIB, format_size

REACH_DEADLINE = 12.0  #: seconds in which a friend answers, or is away
ANSWER_SECONDS = 30 * 86400  #: how long an answer is good for that has to be passed on by hand
RUN_ONE = "bitdust supplier run --dir ~/shelf --space 100G --listen '[::]:4000'"


class Agreed(NamedTuple):
    """What came of joining. `answer`: the line to be passed back, or "" where all is done."""

    deal: Deal
    answer: str
    why: str  #: why the friend's node does not know it yet, or ""


@dataclass(frozen=True)
class OwnSupplier:
    """A supplier of this machine, by its folder."""

    folder: Path
    key: SigningKey

    @property
    def deals(self) -> DealFolder:
        return DealFolder(self.folder)

    @property
    def friendship(self) -> Friendship:
        return Friendship(self.key, self.deals)

    def told(self) -> SupplierSelf:
        """How it is. Raises UsageError where it does not run."""
        return ask(self.folder / "control", self._nobody(), AskSelf(), SupplierSelf, _unheard)

    def customers(self) -> list[CustomerLine]:
        """For whom it keeps what. Raises UsageError where it does not run."""
        told = ask(self.folder / "control", self._nobody(), AskCustomers(), Customers, _unheard)
        return told.customers

    def _nobody(self) -> str:
        return f"the supplier in {self.folder} does not run: start it, as with {RUN_ONE}"

    def network(self) -> list[str]:
        """Addresses by which the network is joined that its friends are in, its own first."""
        own: tuple[str, ...] = ()
        with suppress(UsageError):  # it does not run, or knows none
            own = _found_at(self.told())
        theirs = (a for deal in self.deals.all().values() for a in self.deals.where(deal))
        return list(dict.fromkeys((*own, *filter(is_address, theirs))))

    def check_room(self, space: int, told: SupplierSelf) -> None:
        """Raises UsageError where it cannot give so much more: what vaults have is given, what
        friends were promised by whom no vault came yet, and what is offered by lines that are good
        still.
        """
        came = {line.token: line.promised for line in self.customers()}
        deals, now = self.deals.all(), time.time()
        offered = sum(d.space for d in deals.values() if not d.made and d.until >= now)
        made = ((nonce, deal) for nonce, deal in deals.items() if deal.made)
        waiting = sum(max(0, deal.space - came.get(nonce.hex(), 0)) for nonce, deal in made)
        free = max(0, told.space - told.promised - waiting - offered)
        if space > free:
            dir_ = f"--dir {quote(str(self.folder))}"
            more = -(-(told.space - free + space) // GIB)
            take_back = (
                f", or take back an invitation that nobody answered ({format_size(offered)}): "
                f"bitdust friends {dir_}"
            )
            raise UsageError(
                f"your supplier has {format_size(free)} to give, of {format_size(told.space)}: say "
                f"less --space, or donate more: bitdust supplier set {dir_} --space {more}G"
                f"{take_back if offered else ''}"
            )


def own_supplier(named: Path | None) -> OwnSupplier:
    """The supplier of this machine, `named` by its folder or the only one. Raises UsageError."""
    if named is not None:
        if not (named / "node.key").exists():
            raise UsageError(f"no supplier ever ran in {named}")
        return OwnSupplier(named, node_key(named))
    folder = own_folder("friends keep data for each other, and ")
    return OwnSupplier(folder, node_key(folder))


def own_folder(why: str = "") -> Path:
    """Of the only supplier that ran on this machine. Raises UsageError; `why`: one is wanted."""
    there = own_supplier_folders()
    if len(there) > 1:
        raise UsageError(f"several suppliers ran here: name one with --dir, {there[0]} for example")
    if not there:
        raise UsageError(
            f"{why}no supplier ran here yet. Start one, then say this again: {RUN_ONE}"
        )
    return there[0]


class Invited(NamedTuple):
    """An invitation. `near`: its addresses are good within a private network alone."""

    line: str
    near: bool


def invite(own: OwnSupplier, space: int, seconds: float, name: str) -> Invited:
    """A line by which one friend may join. Raises UsageError, Refused."""
    told = own.told()
    own.check_room(space, told)
    addresses = _found_at(told)
    deal = own.friendship.invite(space, int(time.time() + seconds), name)
    near = all(is_private_host(split(address)[0]) for address in addresses)
    return Invited(write_join_line(deal.ours, addresses), near)


def _found_at(told: SupplierSelf) -> tuple[str, ...]:
    """Where the supplier says that it is. Raises UsageError where it does not know."""
    every = told.address.split(", ")
    found = tuple(a for a in every if is_address(a) and not is_wildcard(split(a)[0]))
    if not found:
        raise UsageError(
            "your supplier knows no address at which it is found: start it with --announce "
            "HOST:PORT"
        )
    return found


def read_line(text: str) -> JoinLine:
    """What a friend's line says. Raises UsageError for what no friend's machine wrote."""
    try:
        line = read_join_line_untrusted(text)
    except Malformed as error:
        raise UsageError(f"this line is of no use: {error}") from None
    if line.invitation.supplier in own_suppliers():
        raise UsageError("this invitation is your own: pass it on to a friend, who joins by it")
    return line


async def join(own: OwnSupplier, line: JoinLine, space: int) -> Agreed:
    """The deal that a line leads to; `space`: bytes that the friend gets here, where it begins one.

    The friend's node is told. Raises UsageError, and BitdustError with its word if it says no.
    """
    friendship, told = own.friendship, own.told()
    fresh = not any(d.theirs == line.token for d in friendship.deals.all().values())
    if line.answers:
        deal = _accept(friendship, line)
    else:
        if fresh and line.invitation.until < time.time():
            ended = time.strftime("%F %R", time.localtime(line.invitation.until))
            raise UsageError(f"this invitation ended on {ended}: ask for another one")
        if fresh:
            own.check_room(space, told)
        deal = friendship.take_up(line, space, int(time.time()) + ANSWER_SECONDS)
    answer = write_join_line(deal.ours, _found_at(told), line.invitation.nonce)
    try:
        await tell(own, line, answer)
    except Refused as refusal:
        if fresh:
            friendship.end(deal)
        if refusal.code == "forged":
            raise UsageError(
                "the friend's supplier is of a version that does not know how to join: it has to "
                "be upgraded first"
            ) from None
        raise BitdustError(f"the friend's supplier says no: {refusal.detail}") from None
    except PeerError as error:
        return Agreed(deal, "" if line.answers else answer, str(error))
    return Agreed(friendship.settled(deal), "", "")


def _accept(friendship: Friendship, line: JoinLine) -> Deal:
    """The deal of an invitation of ours that a line answers. Raises UsageError, Refused."""
    deal = friendship.deals.of(line.answers)
    if deal is None:
        raise UsageError(
            "this line answers an invitation that this machine does not know: it is for whoever "
            "sent that invitation"
        )
    return friendship.accept(deal.ours, line)


async def tell(own: OwnSupplier, line: JoinLine, answer: str) -> None:
    """Brings the answer to the friend's node. Raises PeerError."""
    failure: PeerError | None = None
    async with trio.open_nursery() as nursery:
        known = [*own.network(), *filter(is_address, line.addresses)]
        book = AddressBook(Seeker(lambda: known, nursery).find, nursery)
        peer = _friend(own, line.invitation.supplier, line.addresses, nursery, book)
        try:
            await peer.join(line.token, answer)
        except PeerError as error:
            failure = error  # a nursery would put it into a group
        finally:
            await peer.aclose()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


def _friend(
    own: OwnSupplier,
    node: bytes,
    addresses: Sequence[str],
    nursery: trio.Nursery,
    book: AddressBook,
) -> PeerSupplier:
    """A session with a friend's supplier, wherever it is now."""
    public, known = own.key.verify_key.encode(), tuple(filter(is_address, addresses))
    context = make_context(own.key.encode(), server_side=False)
    credentials = Credentials(public, "friend", own.key, public, context)
    return PeerSupplier(node, known, credentials, nursery, whereabouts=book)


class Reached(NamedTuple):
    """Where a friend answers, and how: direct, mapped or relayed."""

    address: str
    way: str


async def reached(
    own: OwnSupplier, friends: Iterable[tuple[bytes, Sequence[str]]]
) -> dict[bytes, Reached]:
    """Which friends answer now, by node; asked all at once."""
    async with trio.open_nursery() as nursery:
        known = own.network()
        book = AddressBook(Seeker(lambda: known, nursery).find, nursery)
        found: dict[bytes, Reached] = {}

        async def ask(peer: PeerSupplier) -> None:
            await peer.ping()
            found[peer.node] = Reached(peer.reached_at(), peer.way())
            if peer.way() != RELAYED:
                record = await own_word(peer.node, peer.literals()[0])
                book.says_mapped(peer.node, record.mapped if record else ())
                found[peer.node] = Reached(peer.reached_at(), peer.way())

        peers = [_friend(own, node, addresses, nursery, book) for node, addresses in friends]
        await ask_all(peers, ask, deadline=REACH_DEADLINE)
        for peer in peers:
            await peer.aclose()
        nursery.cancel_scope.cancel()
    return found


def _unheard(progress: object) -> None:
    """Nobody watches."""
