"""How a supplier gets at the others of its families: sessions, and look-ups of those that moved.

Where they are, a stranger says who owns the vault, and each node itself in the DHT: only addresses
of the kinds that are wanted are dialled (net/addresses.py), and look-ups have a rate of their own.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial

import trio
from nacl.signing import SigningKey

from bitdustfs.core.records import Member
from bitdustfs.errors import Unreachable
from bitdustfs.net.addresses import dialable
from bitdustfs.net.dht.node import Dht
from bitdustfs.net.dht.seeker import located
from bitdustfs.net.handshake import Credentials
from bitdustfs.net.lan.nearby import Near
from bitdustfs.net.line import OwnLine
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.net.tls import make_context
from bitdustfs.net.whereabouts import AddressBook, HintsOnly, Trials, Whereabouts
from bitdustfs.supplier.dials import Dials
from bitdustfs.supplier.kin import MemberConnect
from bitdustfs.supplier.shares import VaultRates, Whose, alone

KIN_SESSIONS_MAX = 256  #: sessions with suppliers of families; the one not used for longest ends
LOOK_UP_RATE, LOOK_UP_BURST = 0.05, 8.0  #: look-ups a second, for one vault; at once
LOOK_UP_RATE_ALL, LOOK_UP_BURST_ALL = 0.2, 32.0  #: the same for all vaults together


class LookUpRates:
    """How often nodes are looked up for the families of strangers."""

    def __init__(
        self, whose: Whose = alone, clock: Callable[[], float] = trio.current_time
    ) -> None:
        of_one, in_all = (LOOK_UP_RATE, LOOK_UP_BURST), (LOOK_UP_RATE_ALL, LOOK_UP_BURST_ALL)
        self._rates = VaultRates(of_one, in_all, whose, clock)

    def admits(self, vault: bytes) -> bool:
        """Whether another look-up for a vault may begin; it is counted then."""
        return self._rates.admits(vault)


def kin_book(
    dht: Dht, nursery: trio.Nursery, near: Near | None = None, whose: Whose = alone
) -> AddressBook:
    """What one supplier knows of others of its families; look-ups by `dht`."""
    rates = LookUpRates(whose)
    return AddressBook(partial(located, dht), nursery, admits=rates.admits, near=near)


class KinBook(Whereabouts):
    """What one session knows: with one node, for one vault.

    Where the node answered or did not is the session's own: a stranger chooses where a family
    leads, and what happens there changes nothing for other vaults. What the node itself signed is
    shared.
    """

    def __init__(self, shared: AddressBook, vault: bytes, dials: Dials) -> None:
        self._shared, self._vault, self._dials = shared, vault, dials
        self._trials = Trials()
        self._worked: tuple[str, ...] = ()
        self._tried: tuple[str, ...] = ()  # what the last dialling began with

    def of(self, node: bytes, hints: Iterable[str]) -> tuple[str, ...]:
        """As said. Raises Unreachable where none may be dialled now (dials.py)."""
        known = self._trials.arranged((*self._worked, *self._shared.found(node), *hints))
        self._tried = self._dials.admitted(self._vault, node, known)
        asked = not known or bool(self._tried)
        self._dials.note(self._vault, node, asked)
        if not asked:
            raise Unreachable("none of its addresses may be dialled so soon")
        return self._tried

    def reached(self, node: bytes, address: str) -> None:
        if not self._shared.is_only_near(node, address):
            self._worked = (address,)
        self._dials.answered(node, address)
        self._trials.reached(address)
        self._shared.is_there(node)

    def failed(self, node: bytes, address: str) -> None:
        self._trials.failed(address)
        self.search(node)

    def search(self, node: bytes) -> None:
        self._shared.search(node, self._vault)

    async def look_up(self, node: bytes) -> tuple[str, ...]:
        found = await self._shared.look_up(node, self._vault)
        fresh = [address for address in found if address not in self._tried]
        return self._dials.admitted(self._vault, node, fresh)


def kin_connector(
    node: SigningKey,
    nursery: trio.Nursery,
    allow_private: bool = True,
    shared: AddressBook | None = None,
    dials: Dials | None = None,
    line: OwnLine | None = None,
) -> MemberConnect:
    """Sessions with the other suppliers of families that this node belongs to, one each.

    `shared`: what is known of where they are; without it what families name is dialled at any time.
    `dials`: how often; the guard asks it who was not asked. `line`: what may be used of it.
    """
    own = node.verify_key.encode()
    context = make_context(node.encode(), server_side=False)
    budget, shares = dials or Dials(), line or OwnLine()
    sessions: OrderedDict[tuple[bytes, bytes], PeerSupplier] = OrderedDict()

    def connect(vault: bytes, member: Member) -> PeerSupplier:
        addresses = dialable(member.addresses, allow_private)
        known = sessions.get((vault, member.node))
        if known is None or known.addresses != addresses:
            credentials = Credentials(vault, "member", node, own, context, line=shares)
            if known is not None:
                nursery.start_soon(known.aclose)
            book = HintsOnly() if shared is None else KinBook(shared, vault, budget)
            known = PeerSupplier(member.node, addresses, credentials, nursery, whereabouts=book)
            sessions[vault, member.node] = known
        sessions.move_to_end((vault, member.node))
        if len(sessions) > KIN_SESSIONS_MAX:
            nursery.start_soon(sessions.popitem(last=False)[1].aclose)
        return known

    return connect
