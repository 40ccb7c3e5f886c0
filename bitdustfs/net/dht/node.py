"""A node of the DHT: signed questions and responses over UDP, on trio.

Whom to ask is Kademlia's (`kad`), what a datagram says is `datagram`'s, what strangers may make us
keep is `bounds`'. Three rules are this module's own. A response larger than its question goes only
to an address that proved, by a token, that it receives. A contact enters the table only after it
answered a question of ours. Who answered is who signed the answer, whoever was asked for.
"""

import logging
import os
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing, suppress
from typing import Any, Protocol

import trio
from nacl.signing import SigningKey

from bitdustfs.core.keys import node_id
from bitdustfs.errors import Malformed
from bitdustfs.net.addresses import acceptable
from bitdustfs.net.dht import datagram
from bitdustfs.net.dht.bounds import DatagramRates, KeptRecords, Neighbourhoods, Tokens
from bitdustfs.net.dht.datagram import Body, Contact, Endpoint
from bitdustfs.net.dht.kad import ContactTable, K
from bitdustfs.net.dht.walk import Heard, walk
from bitdustfs.units import DATAGRAM_MAX

log = logging.getLogger(__name__)

#: seconds for one response; after the first the question is sent once more: datagrams get lost
TIMEOUTS = (0.7, 1.3)
LOOKUP_DEADLINE = 10.0  #: seconds for a whole look-up
REPUBLISH_MAX = 200  #: kept records that are stored again in one go
CHECKERS = 8  #: contacts pinged at once, to see whether they are there
CHECKS_MAX = 64  #: contacts that wait to be pinged; more are not, they will be met again


class DatagramSocket(Protocol):
    """What a node sends and receives by: a UDP socket, or what plays one in tests."""

    async def bind(self, address: Endpoint) -> None: ...

    def getsockname(self) -> Any: ...

    async def sendto(self, data: bytes, address: Endpoint, /) -> int: ...

    def recvfrom(self, size: int, /) -> Awaitable[tuple[bytes, Any]]: ...

    def close(self) -> None: ...


def udp_socket() -> DatagramSocket:
    """A UDP socket over IPv4."""
    return trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)


class Dht:
    """One node. `serves=False`: asks only (a mount, a command), and nobody keeps it as a contact.

    `allow_private`: loopback and private addresses are contacts too (swarms, home networks).
    """

    def __init__(
        self,
        key: SigningKey,
        serves: bool,
        allow_private: bool,
        make_socket: Callable[[], DatagramSocket] = udp_socket,
    ) -> None:
        self._key, self._serves, self.allow_private = key, serves, allow_private
        self.id = node_id(key.verify_key.encode())
        self.records = KeptRecords(self.id)
        self._neighbourhoods = Neighbourhoods(allow_private)
        self._rates, self._tokens = DatagramRates(self._neighbourhoods), Tokens()
        self._socket = make_socket()
        self._due: dict[bytes, _Due] = {}
        self._table = ContactTable(self.id, self._check_later)
        self._to_check, self._checks = trio.open_memory_channel[Contact](CHECKS_MAX)

    async def bind(self, host: str, port: int) -> int:
        """Takes a UDP port; which one."""
        await self._socket.bind((host, port))
        return self.endpoint[1]

    @property
    def endpoint(self) -> Endpoint:
        """Where this node is bound."""
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Receives until cancelled."""
        with closing(self._socket):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run_checks)
                task_status.started()
                while True:
                    try:
                        data, endpoint = await self._socket.recvfrom(DATAGRAM_MAX + 1)
                    except OSError:
                        continue  # an ICMP error about an earlier datagram of ours
                    try:
                        await self._received(data, endpoint[:2])
                    except Malformed as error:
                        log.debug("datagram from %s dropped: %s", endpoint[:2], error)

    # -- serving

    async def _received(self, data: bytes, endpoint: Endpoint) -> None:
        if not self._rates.admits(endpoint[0]):
            return
        body = datagram.open_datagram_untrusted(data)
        message = body.message
        if not isinstance(message, datagram.Question):
            due = self._due.get(body.id)
            if due is not None:
                due.deliver(body, endpoint)
            return
        if not self._serves:
            return
        token = self._tokens.given_to(endpoint)
        if isinstance(message, datagram.DhtPing) or body.token != token:
            await self._send(endpoint, body.id, datagram.DhtPong(token))
            return
        await self._send(endpoint, body.id, self._response(message, endpoint))
        sender = node_id(body.sender)
        if body.serves and not self._table.knows(sender):
            self._check_later(Contact(sender, *endpoint))

    def _response(
        self,
        message: datagram.FindNode | datagram.FindValue | datagram.StoreRecord,
        asker: Endpoint,
    ) -> datagram.Response:
        if isinstance(message, datagram.StoreRecord):
            sender = self._neighbourhoods.sender(asker)
            self.records.keep(message.key, message.record, sender)
            return datagram.Stored()
        if isinstance(message, datagram.FindValue):
            kept = self.records.newest(message.key)
            if kept is not None:
                return datagram.RecordIs(kept[1])
        target = message.key if isinstance(message, datagram.FindValue) else message.target
        return datagram.ContactsAre(tuple(self._table.nearest(target, datagram.CONTACTS_MAX)))

    # -- asking

    async def _send(
        self,
        endpoint: Endpoint,
        question_id: bytes,
        message: datagram.Question | datagram.Response,
        token: bytes = b"",
    ) -> None:
        sender = self._key.verify_key.encode()
        body = Body(datagram.VERSION, sender, self._serves, question_id, token, message)
        with suppress(OSError):  # unreachable now; the asker's timeout tells
            await self._socket.sendto(datagram.encode_datagram(self._key, body), endpoint)

    async def _ask(self, endpoint: Endpoint, question: datagram.Question) -> Body | None:
        """The response, or None. Gets a token first when the other side wants one."""
        body = await self._ask_once(endpoint, question)
        if body is not None and isinstance(body.message, datagram.DhtPong):
            self._tokens.receive(endpoint, body.message.token)
            if not isinstance(question, datagram.DhtPing):
                body = await self._ask_once(endpoint, question)
        if body is not None and body.serves:
            self._meet(Contact(node_id(body.sender), *endpoint))
        return body

    async def _ask_once(self, endpoint: Endpoint, question: datagram.Question) -> Body | None:
        question_id = os.urandom(16)
        due = self._due[question_id] = _Due(endpoint)
        try:
            for seconds in TIMEOUTS:
                token = self._tokens.received_from(endpoint)
                await self._send(endpoint, question_id, question, token)
                body = await due.wait(seconds)
                if body is not None:
                    return body
            return None
        finally:
            del self._due[question_id]

    def _meet(self, contact: Contact) -> None:
        """Takes a node that answered as a contact, where there is room for one of its network."""
        if self._acceptable(contact.endpoint) and (
            self._table.knows(contact.id)
            or not self._neighbourhoods.crowd(self._table.hosts()).is_full(contact.host)
        ):
            self._table.add(contact)

    def _acceptable(self, endpoint: Endpoint) -> bool:
        """Whether an address may be a contact: over UDP it is one of IPv4."""
        return ":" not in endpoint[0] and acceptable(*endpoint, self.allow_private)

    def _check_later(self, contact: Contact) -> None:
        with suppress(trio.WouldBlock):
            self._to_check.send_nowait(contact)

    async def _run_checks(self) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(CHECKERS):
                nursery.start_soon(self._check_all)

    async def _check_all(self) -> None:
        async for contact in self._checks.clone():
            await self._check(contact)

    async def _check(self, contact: Contact) -> None:
        """Pings; a contact that does not answer leaves the table."""
        body = await self._ask(contact.endpoint, datagram.DhtPing())
        if body is None or node_id(body.sender) != contact.id:
            self._table.remove(contact)

    async def _ask_for_nearest(self, contact: Contact, target: bytes) -> Heard | None:
        """Who is there, and whom it names near `target`; None, and it leaves, without an answer."""
        body = await self._ask(contact.endpoint, datagram.FindNode(target))
        if body is None or not isinstance(body.message, datagram.ContactsAre):
            self._table.remove(contact)
            return None
        who = Contact(node_id(body.sender), *contact.endpoint)
        if who != contact:
            self._table.remove(contact)
        named = body.message.contacts
        return Heard(who, [c for c in named if c.id != self.id and self._acceptable(c.endpoint)])

    # -- look-ups

    async def nearest(self, target: bytes) -> list[Contact]:
        """The nodes nearest to an id that answer, found by asking on and on."""
        start = self._table.nearest(target, K)

        async def ask(contact: Contact) -> Heard | None:
            return await self._ask_for_nearest(contact, target)

        return await walk(target, start, ask, self._neighbourhoods, LOOKUP_DEADLINE)

    async def bootstrap(self, endpoints: Iterable[Endpoint]) -> int:
        """Joins through any of these addresses; how many contacts there are then."""
        async with trio.open_nursery() as nursery:
            for endpoint in endpoints:
                nursery.start_soon(self._ask, endpoint, datagram.DhtPing())
        await self.nearest(self.id)
        return len(self.contacts())

    def contacts(self) -> list[Endpoint]:
        """Addresses worth remembering for the next start."""
        return [contact.endpoint for contact in self._table]

    async def store(self, key: bytes, record: bytes) -> int:
        """Puts a record at the nodes nearest to `key`; how many took it."""
        stored = 0

        async def one(contact: Contact) -> None:
            nonlocal stored
            body = await self._ask(contact.endpoint, datagram.StoreRecord(key, record))
            if body is not None and node_id(body.sender) == contact.id:
                stored += isinstance(body.message, datagram.Stored)

        nearest = await self.nearest(key)
        async with trio.open_nursery() as nursery:
            for contact in nearest:
                nursery.start_soon(one, contact)
        if self._serves:
            self.records.keep(key, record)
        return stored

    async def republish(self) -> None:
        """Stores kept records again, unchanged: those who kept them before may be gone."""
        for key, record in self.records.sample(REPUBLISH_MAX):
            await self.store(key, record)

    async def find(self, key: bytes, subject: Contact | None = None) -> bytes | None:
        """The newest genuine record at `key` that anybody shows, or None.

        Who a node record is about has its newest: `subject`, where it is known, is asked first and
        alone. A contact with that id is asked in any case: look-ups leave it out.
        """
        best = self.records.newest(key)

        async def one(contact: Contact) -> None:
            nonlocal best
            body = await self._ask(contact.endpoint, datagram.FindValue(key))
            if body is None or not isinstance(body.message, datagram.RecordIs):
                return
            try:
                seq = datagram.record_seq_untrusted(key, body.message.record)
            except Malformed as error:
                log.info("%s:%s shows a false record: %s", *contact.endpoint, error)
                return
            if best is None or seq > best[0]:
                best = (seq, body.message.record)

        if subject is not None:
            await one(subject)
            if best is not None:
                return best[1]
        asked = {contact.id: contact for contact in await self.nearest(key)}
        asked |= {contact.id: contact for contact in self._table if contact.id == key}
        async with trio.open_nursery() as nursery:
            for contact in asked.values():
                nursery.start_soon(one, contact)
        return None if best is None else best[1]


class _Due:
    """The response to one question, due from the endpoint that was asked and no other."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint, self._came = endpoint, trio.Event()
        self._body: Body | None = None

    def deliver(self, body: Body, endpoint: Endpoint) -> None:
        """Takes a response that came from `endpoint`; from anywhere else it is ignored."""
        if endpoint == self._endpoint:
            self._body = body
            self._came.set()

    async def wait(self, seconds: float) -> Body | None:
        """The response, or None when these seconds passed without it."""
        with trio.move_on_after(seconds):
            await self._came.wait()
        return self._body
