"""Where a supplier says that it is: kept true in the DHT, within seconds of every change.

It says what it was told to (`--announce`; names resolved), or else where it listens: at the
addresses of this machine's interfaces where it listens at all of them. What others saw is added
when two of different networks agree: behind a router whose address changed, nobody else knows it.
It stays until its own addresses change, or others agree on another one. A machine with many private
networks still says it: private interfaces come last.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from bitdustfs.cache.folder import write_durably
from bitdustfs.errors import UsageError
from bitdustfs.net.addresses import acceptable, dialable, is_private_host, is_v6, is_wildcard, split
from bitdustfs.net.dht.datagram import sign_node_record
from bitdustfs.net.dht.discover import ANNOUNCE_EVERY, endpoints, is_private, node_record
from bitdustfs.net.dht.node import Dht
from bitdustfs.net.hostnames import is_name, joined_address, resolve_all
from bitdustfs.net.interfaces import interface_addresses
from bitdustfs.supplier.outside import NothingKnown, Outside
from bitdustfs.supplier.service import SupplierService

log = logging.getLogger(__name__)

FIRST_TICK = 0.2  #: seconds between attempts to join
TICK = 2.0  #: seconds between looks at whether there is something new to announce
#: seconds between questions of resolvers, and of others what they see; until two others agree it
#: begins with TICK and doubles: those who join at the same time know few others yet
ASK_EVERY = 20.0
ADDRESSES_MAX = 4  #: of one node record
WITNESSES = 2  #: others of different networks who have to see the same


def check_announced(address: str) -> str:
    """An address that others can dial, or a name that leads to one. Raises UsageError."""
    host, port = split(address)
    named = is_name(host) and port >= 1024
    if not named and not acceptable(host, port, allow_private=True):
        raise UsageError(
            f"others could not reach {address}: write an address of this machine, or its name, and "
            "a port from 1024 on (behind a router: --listen here, --announce where it forwards "
            "from)"
        )
    return address


def check_listened(address: str) -> str:
    """An address to listen at that can be announced: also all of this machine's. Raises
    UsageError.
    """
    host, port = split(address)
    if is_wildcard(host) and port >= 1024:
        return address
    if is_name(host):
        raise UsageError(f"--listen {address}: write an address, or 0.0.0.0 or [::] for all")
    return check_announced(address)


def _heard_at(host: str, interfaces: list[str]) -> list[str]:
    """Those of the interfaces' addresses at which a supplier that listens at `host`, for all, is
    reached.
    """
    return [address for address in interfaces if host == "::" or ":" not in address]


def private_wanted(
    listen: str,
    announced: Sequence[str],
    bootstrap: Sequence[str],
    interfaces: Callable[[], list[str]] = interface_addresses,
) -> bool:
    """Whether private contacts are taken: where others reach this node, or through whom it joins,
    is private. Where it listens at all addresses, one private interface is enough.
    """
    host, _ = split(listen)
    if announced or not is_wildcard(host):
        return is_private([*(announced or [listen]), *bootstrap])
    try:
        heard = _heard_at(host, interfaces())
    except OSError as error:
        log.warning("%s", error)
        return is_private(bootstrap)
    # without any there is but loopback
    return is_private(bootstrap) or not heard or any(is_private_host(one) for one in heard)


class Contacts:
    """DHT contacts that outlive the process, so that a restart needs no bootstrap."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> list[str]:
        try:
            return self._path.read_text().split()
        except OSError:
            return []

    def save(self, contacts: list[str]) -> None:
        write_durably(self._path, "\n".join(contacts).encode())


@dataclass(frozen=True)
class Said:
    """What a supplier announces: where it is, and how many bytes it offers."""

    addresses: tuple[str, ...] = ()
    offer: int = -1
    mapped: tuple[str, ...] = ()  #: those of them that the router leads here from


class OwnRecord:
    """The record of one supplier. `announced`: what it was told to say; nothing: where it
    listens. `friends`: addresses of friends' suppliers, by which the network is joined, too.
    `through`: a node that cannot be dialled says where relays lead to it, and nothing else.
    `outside`: how others get at it past a router.
    """

    def __init__(
        self,
        service: SupplierService,
        dht: Dht,
        listen: str,
        announced: tuple[str, ...],
        bootstrap: tuple[str, ...],
        contacts: Contacts,
        interfaces: Callable[[], list[str]] = interface_addresses,
        friends: Callable[[], list[str]] = list,
        through: Callable[[], tuple[str, ...]] | None = None,
        outside: Outside | None = None,
    ) -> None:
        self._friends, self._through = friends, through
        self._outside = outside or NothingKnown()
        self._service, self._dht, self._contacts = service, dht, contacts
        self._listen, self._announced, self._bootstrap = listen, announced, bootstrap
        self._interfaces = interfaces
        self._resolved: tuple[str, ...] = ()
        self._seen: tuple[str, ...] = ()  # where others agree that this node is
        self._seen_besides: tuple[str, ...] = ()  # the own addresses then
        self._ask_at, self._ask_in = 0.0, TICK / 2
        self._joined_by: list[str] = []
        self._said, self._said_at = Said(), 0.0
        self._seq = 0  # of the last record that was signed

    async def run(self) -> None:
        """Joins the DHT and keeps this node's record there, newer whenever anything changes."""
        dht = self._dht
        while True:
            now = trio.current_time()
            late = self._said.offer < 0 or now - self._said_at > ANNOUNCE_EVERY
            asks = now >= self._ask_at
            met = asks and self._friends() != self._joined_by
            if late or met or not dht.contacts():  # also so that two halves of a network meet again
                await self._join()
            if asks:
                await self._ask()
                self._ask_in = ASK_EVERY if self._seen else min(2 * self._ask_in, ASK_EVERY)
                self._ask_at = now + self._ask_in
            where, mapped = self.addresses(), self._outside.mapped()
            offer = self._service.housekeeping.announced()
            said = Said(where, offer, tuple(a for a in where if a in mapped))
            if late or said != self._said:
                await self._say(said)
            await trio.sleep(TICK if self._said.offer >= 0 else FIRST_TICK)

    def addresses(self) -> tuple[str, ...]:
        """Where this node is found, as far as it knows."""
        if self._through is not None:
            return self._through()[:ADDRESSES_MAX]
        own = self._own()
        # what was seen before the own addresses changed is the old address
        seen = self._seen if own == self._seen_besides else ()
        mapped = self._outside.mapped()
        doors = {split(address)[0] for address in mapped}  # by another port, maybe
        fit = [a for a in seen if split(a)[0] not in doors and not self._outside.in_vain(a)]
        first = own if self._announced else [a for a in own if not is_private([a])]
        return tuple(dict.fromkeys((*first, *mapped, *fit, *own)))[:ADDRESSES_MAX]

    def maybe(self) -> tuple[str, ...]:
        """The same, and where others see it that was dialled in vain."""
        return tuple(dict.fromkeys((*self.addresses(), *self._seen)))

    def _own(self) -> tuple[str, ...]:
        return self._resolved if self._announced else self._listened()

    def _listened(self) -> tuple[str, ...]:
        host, port = split(self._listen)
        if not is_wildcard(host):
            return (self._listen,)
        try:
            every = self._interfaces()
        except OSError as error:
            log.warning("%s", error)
            return self._said.addresses
        heard = (joined_address(a, port) for a in _heard_at(host, every))
        return dialable(heard, allow_private=True)

    async def _join(self) -> None:
        friends = self._friends()
        known = {*self._bootstrap, *self._contacts.load(), *friends} - {*self.addresses()}
        await self._dht.bootstrap(await endpoints(sorted(known)))
        self._joined_by = friends

    async def _ask(self) -> None:
        """Resolvers where the own names lead, and others where they see this node."""
        resolved = await resolve_all(self._announced)
        self._resolved = tuple(resolved) or self._resolved  # else the resolver is down
        _, port = split((*self._announced, self._listen)[0])
        own, seen = self._own(), await self._dht.seen_at(WITNESSES)
        agreed = tuple(joined_address(host, port) for host in seen)
        versions = {is_v6(address) for address in agreed}  # of IP: one says nothing of the other
        if own == self._seen_besides:
            agreed += tuple(known for known in self._seen if is_v6(known) not in versions)
        self._seen, self._seen_besides = agreed, own

    async def _say(self, said: Said) -> None:
        dht = self._dht
        if said.addresses != self._said.addresses:
            log.info("announced at %s", " ".join(said.addresses) or "no address")
        taken = await self._store(said, time.time_ns() // 1_000_000)
        # an earlier record may bear a later time: a clock was ahead then, or is behind now
        shown = await node_record(dht, dht.id)
        if shown is not None and shown.seq > self._seq:
            taken = await self._store(said, shown.seq + 1)
        if taken or not self._bootstrap:
            self._said, self._said_at = said, trio.current_time()
        self._contacts.save([joined_address(*contact) for contact in dht.contacts()])

    async def _store(self, said: Said, seq: int) -> int:
        """Stores a record that is newer than the one before; how many nodes took it."""
        self._seq = max(seq, self._seq + 1)
        record = sign_node_record(
            self._service.node, self._seq, said.addresses, said.offer, said.mapped
        )
        return await self._dht.store(self._dht.id, record)
