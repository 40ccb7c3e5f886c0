"""From a key and any address to sessions with the whole family.

One reachable member is enough: it tells root and family, which the vault's own signature proves.
"""

import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import trio
from nacl.signing import SigningKey

from bitdustfs.core.keys import VaultKey
from bitdustfs.core.quorum import Known, check_known_untrusted, is_quorum
from bitdustfs.core.records import Member
from bitdustfs.core.sightings import CONTACTS_MAX, Sightings
from bitdustfs.errors import Malformed, PeerError, Unavailable, UsageError
from bitdustfs.family.own import on_this_machine
from bitdustfs.net.addresses import relayed
from bitdustfs.net.ask import ask_all
from bitdustfs.net.dht.discover import find_family_addresses, own_word
from bitdustfs.net.dht.seeker import Seeker
from bitdustfs.net.dialing import LATER_AFTER
from bitdustfs.net.handshake import Credentials
from bitdustfs.net.lan.nearby import Near
from bitdustfs.net.line import OwnLine
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.net.supplier import MakeWay, for_nobody
from bitdustfs.net.tls import make_context
from bitdustfs.net.tokens import read_tokens
from bitdustfs.net.whereabouts import AddressBook

GIVEN_MAX = 8  #: addresses given by hand that the DHT is joined by before others
#: seconds until a supplier is asked again how it is reached; where it did not answer
HOW_AGAIN, HOW_SILENT_AGAIN = 1800.0, 60.0
#: seconds for the rest, once one address led to the vault: unless a quorum of the best family
#: answered, which knows whatever is newer
GRACE = 1.0


def owner_credentials(
    key: VaultKey, tokens: Sequence[str] = (), line: OwnLine | None = None
) -> Credentials:
    """The owner's sessions; TLS shows a key made for this process only.

    `tokens`: by which suppliers invited him. `line`: what may be used of it. Raises UsageError for
    a token that is none.
    """
    seed = os.urandom(32)
    public = SigningKey(seed).verify_key.encode()
    context = make_context(seed, False)
    return Credentials(
        key.vault_id, "owner", key.signing, public, context, read_tokens(tokens), line or OwnLine()
    )


class Lead(NamedTuple):
    """Where a supplier of the vault may be: the one with that key, or, with an empty one, any."""

    node: bytes
    address: str


def anybody_at(addresses: Iterable[str]) -> list[Lead]:
    """For whom it does not matter who answers: what he shows, the vault signed."""
    return [Lead(b"", address) for address in addresses]


class Ways:
    """How one process of the owner gets at the suppliers of a vault.

    `addresses`: of any of them, or of any nodes of the network, given by hand first. `remembered`:
    of an earlier process. `tokens`: by which suppliers invited the owner. `line`: its own.
    `make_way`: how fast fragments are sent. `near`: who is in the same network.
    """

    def __init__(
        self,
        key: VaultKey,
        addresses: Sequence[str],
        nursery: trio.Nursery,
        remembered: Sightings | None = None,
        tokens: Sequence[str] = (),
        line: OwnLine | None = None,
        make_way: MakeWay = for_nobody,
        near: Near | None = None,
    ) -> None:
        self.credentials = owner_credentials(key, tokens, line)
        self._key, self._given, self._nursery = key, addresses, nursery
        self._make_way = make_way
        self._contacts = () if remembered is None else remembered.contacts
        self.seeker = Seeker(self._joined_by, nursery, line)
        self._book = AddressBook(self.seeker.find, nursery, remembered, near=near)
        self._sessions: dict[bytes, PeerSupplier] = {}
        self._asked_how: dict[bytes, tuple[str, float]] = {}  # by node: where, until when

    def _joined_by(self) -> list[str]:
        return [*self._given[:GIVEN_MAX], *self._contacts, *self._book.addresses(), *self._given]

    async def find_family(self) -> Known:
        """The newest root and family, from members at known addresses, found through the DHT, or
        heard of in the local network meanwhile.

        Raises UsageError where no address is known, and Unavailable.
        """
        addresses = list(dict.fromkeys((*self._given, *self._book.addresses())))
        if not addresses:
            raise UsageError("no supplier's address is known here; add -o bootstrap=HOST:PORT")
        known: list[Known] = []
        asked: set[Lead] = set()
        failed = trio.Event()
        failures: list[Unavailable] = []

        async def ask(leads: Sequence[Lead]) -> None:
            fresh = [lead for lead in dict.fromkeys(leads) if lead not in asked]
            asked.update(fresh)
            if not fresh:
                return
            try:
                known.append(await self._ask(fresh))
                all_ways.cancel_scope.cancel()
            except Unavailable as error:
                failures.append(error)
                failed.set()

        async with trio.open_nursery() as all_ways:
            all_ways.start_soon(ask, anybody_at(addresses))
            with trio.move_on_after(LATER_AFTER):
                await failed.wait()
            all_ways.start_soon(ask, self._nearby())
            found = anybody_at(await self._found_in_dht())
            await ask([*found, *self._nearby()])
        if not known:
            raise failures[0]
        return known[0]

    def _nearby(self) -> list[Lead]:
        """Suppliers of the vault that are heard in this machine's networks."""
        return [Lead(*heard) for heard in self._book.nearby()]

    async def _found_in_dht(self) -> list[str]:
        """Where the suppliers are that the vault's record names."""
        return await find_family_addresses(await self.seeker.dht(), self._key.capability())

    async def _ask(self, leads: Sequence[Lead]) -> Known:
        return await _ask_members(self._key, leads, self.credentials, self._nursery, self._book)

    def connect(self, member: Member) -> PeerSupplier:
        """The session with a member of a family, opened when it is first used.

        Called again with other addresses, it tries these as well.
        """
        session = self._sessions.get(member.node)
        if session is None:
            session = self._sessions[member.node] = PeerSupplier(
                member.node, member.addresses, self.credentials, self._nursery,
                whereabouts=self._book, make_way=self._make_way, punches=True,
            )  # fmt: skip
        session.also_at(member.addresses)
        return session

    async def hear_how(self) -> None:
        """Asks suppliers, where they were reached, how that is: directly, or by a router. One that
        was asked there lately is not.
        """
        for session in list(self._sessions.values()):
            address, now = session.reached_at(), trio.current_time()
            asked, again = self._asked_how.get(session.node, ("", 0.0))
            if not address or relayed(address) or (asked == address and now < again):
                continue
            record = await own_word(session.node, session.literals()[0])
            if record is not None:
                self._book.says_mapped(session.node, record.mapped)
            pause = HOW_SILENT_AGAIN if record is None else HOW_AGAIN
            self._asked_how[session.node] = address, now + pause

    def is_own(self, member: Member) -> bool:
        """Whether a supplier is on this machine, by where it is likeliest to be now.

        An address that it had once may be this machine's today.
        """
        session = self._sessions.get(member.node)
        likeliest = self._book.of(member.node, member.addresses)[:1]
        if session is not None and session.reached_at() in likeliest:
            likeliest = session.literals()
        return on_this_machine(Member(member.node, likeliest, member.space))

    # -- what outlives the process

    def sightings(self) -> Sightings:
        """What is worth remembering."""
        contacts = dict.fromkeys((*self.seeker.contacts(), *self._contacts))
        return Sightings(self._book.sightings(), tuple(contacts)[:CONTACTS_MAX])

    async def wait_changed(self) -> None:
        """Until a supplier was found where it was not before."""
        await self._book.wait_changed()


async def _ask_members(
    key: VaultKey,
    leads: Sequence[Lead],
    credentials: Credentials,
    nursery: trio.Nursery,
    book: AddressBook,
) -> Known:
    best: Known | None = None
    failures: list[str] = []
    answered: set[bytes] = set()
    asking = trio.CancelScope()

    async def ask(lead: Lead) -> None:
        nonlocal best
        address = lead.address
        peer = PeerSupplier(lead.node, (address,), credentials, nursery)
        try:
            held = await peer.current()
            known = check_known_untrusted(key.vault_id, held.root, held.family)
        except (PeerError, Malformed) as error:
            failures.append(str(error) if address in str(error) else f"{address}: {error}")
            return
        finally:
            with trio.CancelScope(shield=True):
                await peer.aclose()
        if known is not None:
            book.reached(peer.node, peer.reached_at())
            answered.add(peer.node)
        if known is None:
            failures.append(f"{address}: has a contract with this vault but no root")
        elif best is None or known.root.order > best.root.order:
            best = known
        if best is not None and is_quorum(best.family, answered):
            asking.cancel()

    # the voters are asked next, and show whatever is newer: nobody who is silent is waited for
    with asking:
        await ask_all(leads, ask, enough=lambda _: best is not None, grace=GRACE)
    if best is None:
        raise Unavailable(
            f"none of {len(leads)} addresses leads to this vault (without any of its "
            "suppliers it "
            "cannot be mounted): " + "; ".join(failures[:4])
        )
    return best
