"""A node of the DHT: signed questions and responses over UDP, on trio.

Whom to ask is Kademlia's (`kad`), what a datagram says is `datagram`'s, what strangers may make us
keep is `bounds`'. Three rules are this module's own. Whoever did not prove, by a token, to be at
its address is sent that token alone. A contact enters the table only after it answered a question
of ours. Who answered is who signed the answer, whoever was asked for.
"""

import logging
import os
from collections.abc import Callable, Iterable
from contextlib import closing

import trio
from nacl.signing import SigningKey

from bitdustfs.core.keys import node_id
from bitdustfs.errors import Malformed, Unreachable
from bitdustfs.net.addresses import acceptable
from bitdustfs.net.ask import ask_all
from bitdustfs.net.dht import datagram
from bitdustfs.net.dht.bounds import DatagramRates, KeptRecords, Neighbourhoods, Tokens, distance
from bitdustfs.net.dht.checks import Checks
from bitdustfs.net.dht.datagram import NO_TOKEN, Body, Contact, Endpoint
from bitdustfs.net.dht.dialback import ANSWERED_IN, DialBacks, NoDialBacks
from bitdustfs.net.dht.due import Due
from bitdustfs.net.dht.tables import Tables, family_of
from bitdustfs.net.dht.udp import DatagramSocket, UdpSocket
from bitdustfs.net.dht.walk import SLOW, Heard, walk
from bitdustfs.units import DATAGRAM_MAX

log = logging.getLogger(__name__)

#: seconds for one response; after the first the question is sent once more: datagrams get lost
TIMEOUTS = (0.7, 1.3)
LOOKUP_DEADLINE = 10.0  #: seconds for a whole look-up
REPUBLISH_MAX = 200  #: kept records that are stored again in one go
ASKED_FOR_SIGHT = 8  #: contacts that are asked where they see this node


class Dht:
    """One node. `serves=False`: asks only (a mount, a command), and nobody keeps it as a contact.

    `allow_private`: loopback and private addresses are contacts too (swarms, home networks).
    `dial_backs`: dials those who ask for it; else such questions are not answered.
    """

    def __init__(
        self,
        key: SigningKey,
        serves: bool,
        allow_private: bool,
        make_socket: Callable[[], DatagramSocket] = UdpSocket,
        dial_backs: DialBacks | None = None,
    ) -> None:
        self._key, self._serves, self.allow_private = key, serves, allow_private
        self.id = node_id(key.verify_key.encode())
        self.records = KeptRecords(self.id)
        self._neighbourhoods = Neighbourhoods(allow_private)
        self._rates, self._tokens = DatagramRates(self._neighbourhoods), Tokens()
        self._socket = make_socket()
        self._dial_backs = dial_backs or NoDialBacks()
        self._due: dict[bytes, Due] = {}
        self._checks = Checks(self._check)
        self._tables = Tables(self.id, self._checks.later)

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
                nursery.start_soon(self._checks.run)
                nursery.start_soon(self._dial_backs.run, self._send)
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
        """A signature costs most: it is looked at where something depends on it, and not before."""
        body = datagram.peek_datagram_untrusted(data)
        if not isinstance(body.message, datagram.Question):
            due = self._due.get(body.id)
            if due is not None and due.expects(endpoint):
                due.deliver(datagram.open_datagram_untrusted(data))
            return
        if not self._serves:
            return
        if body.token == (token := self._tokens.given_to(endpoint)):
            if self._rates.admits(endpoint[0]):
                await self._answer(datagram.open_datagram_untrusted(data), endpoint)
        elif self._rates.answers_claim(endpoint[0], datagram.is_shorter_than_pong(body, token)):
            await self._send(endpoint, body.id, datagram.DhtPong(token))

    async def _answer(self, body: Body, endpoint: Endpoint) -> None:
        """Who asks is at that address."""
        message = body.message
        if isinstance(message, datagram.DhtPing):
            await self._send(endpoint, body.id, datagram.DhtPong(self._tokens.given_to(endpoint)))
            return
        if isinstance(message, datagram.DialBack):
            seen_elsewhere = self._dial_backs.ask(body, endpoint, message)
            if seen_elsewhere is not None:
                await self._send(endpoint, body.id, seen_elsewhere)
        elif isinstance(message, datagram.FindNode | datagram.FindValue | datagram.StoreRecord):
            await self._send(endpoint, body.id, self._response(message, endpoint))
        asker = Contact(node_id(body.sender), *endpoint)
        if body.serves and not self._tables.has(asker):  # also one that moved
            self._checks.later(asker)

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
        return datagram.ContactsAre(tuple(self._tables.to_name(target, asker)))

    # -- asking

    async def _send(
        self,
        endpoint: Endpoint,
        question_id: bytes,
        message: datagram.Question | datagram.Response,
        token: bytes = b"",
    ) -> bool:
        """Whether it left."""
        sender = self._key.verify_key.encode()
        body = Body(datagram.VERSION, sender, self._serves, question_id, token, message)
        try:
            await self._socket.sendto(datagram.encode_datagram(self._key, body), endpoint)
        except OSError:  # unreachable now
            return False
        return True

    async def ask(self, endpoint: Endpoint, question: datagram.Question) -> Body | None:
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
        due = self._due[question_id] = Due(endpoint)
        timeouts = (ANSWERED_IN,) if isinstance(question, datagram.DialBack) else TIMEOUTS
        try:
            for seconds in timeouts:
                token = self._tokens.received_from(endpoint)
                if not (token or self._rates.writes_to(endpoint[0])):
                    return None
                if not await self._send(endpoint, question_id, question, token or NO_TOKEN):
                    return None
                body = await due.wait(seconds)
                if body is not None:
                    return body
            return None
        finally:
            del self._due[question_id]

    def _meet(self, contact: Contact) -> None:
        """Takes a node that answered as a contact, where there is room for one of its network.

        Itself it meets where another one was before.
        """
        if contact.id == self.id or not self._acceptable(contact.endpoint):
            return
        crowd = self._neighbourhoods.crowd(self._tables.hosts())
        if self._tables.knows(contact) or not crowd.is_full(contact.host):
            self._tables.add(contact)

    def _acceptable(self, endpoint: Endpoint) -> bool:
        """Whether an address may be a contact."""
        return acceptable(*endpoint, self.allow_private)

    async def _check(self, contact: Contact) -> None:
        """Pings; a contact that does not answer leaves the table."""
        body = await self.ask(contact.endpoint, datagram.DhtPing())
        if body is None or node_id(body.sender) != contact.id:
            self._tables.remove(contact)

    async def _ask_for_nearest(self, contact: Contact, target: bytes) -> Heard | None:
        """Who is there, and whom it names near `target`; None, and it leaves, without an answer."""
        body = await self.ask(contact.endpoint, datagram.FindNode(target))
        if body is None or not isinstance(body.message, datagram.ContactsAre):
            self._tables.remove(contact)
            return None
        who = Contact(node_id(body.sender), *contact.endpoint)
        if who != contact:
            self._tables.remove(contact)
        named = body.message.contacts
        others = [c for c in named if c.id != self.id and self._acceptable(c.endpoint)]
        for other in self._tables.of_the_other_family(contact, others):
            self._checks.later(other)
        return Heard(who, [c for c in others if family_of(c.host) == family_of(contact.host)])

    # -- look-ups

    async def nearest(self, target: bytes) -> list[Contact]:
        """The nodes nearest to an id that answer, found by asking on and on.

        Over each version of IP there is a network of its own (BEP 32), and both are asked. Where a
        node is in both, it is in the result at one address.
        """
        found: dict[bytes, Contact] = {}

        async def ask(contact: Contact) -> Heard | None:
            return await self._ask_for_nearest(contact, target)

        async def over(start: list[Contact]) -> None:
            near = await walk(target, start, ask, self._neighbourhoods, LOOKUP_DEADLINE)
            found.update((contact.id, contact) for contact in near)

        async with trio.open_nursery() as nursery:
            for start in self._tables.starts(target):
                nursery.start_soon(over, start)
        return sorted(found.values(), key=lambda contact: distance(contact.id, target))

    async def bootstrap(self, endpoints: Iterable[Endpoint]) -> int:
        """Joins through any of these addresses; how many contacts there are then.

        Once somebody answered, those who are silent are not waited for.
        """

        async def ping(endpoint: Endpoint) -> None:
            if await self.ask(endpoint, datagram.DhtPing()) is None:
                raise Unreachable("no answer")

        await ask_all(endpoints, ping, enough=bool, grace=SLOW)
        await self.nearest(self.id)
        return len(self.contacts())

    async def seen_at(self, witnesses: int) -> list[str]:
        """The hosts at which so many others, of different networks, see this node.

        Whoever has it as a contact names it, with the endpoint that it answered from, among those
        near an id next to its own. While it has few contacts it looks whether the others named are
        there: who joined by one that knew nobody yet would be left with that one.
        """
        few = len(self.contacts()) < ASKED_FOR_SIGHT
        beside = self.id[:-1] + bytes([self.id[-1] ^ 1])
        said: dict[str, set[str]] = {}

        async def ask(contact: Contact) -> None:
            body = await self.ask(contact.endpoint, datagram.FindNode(beside))
            if body is None or not isinstance(body.message, datagram.ContactsAre):
                return
            for named in body.message.contacts:
                if not self._acceptable(named.endpoint):
                    continue
                if named.id == self.id:
                    who = self._neighbourhoods.sender(contact.endpoint)
                    said.setdefault(named.host, set()).add(who)
                elif few and not self._tables.has(named):
                    self._checks.later(named)

        async with trio.open_nursery() as nursery:
            for contact in self._tables.nearest(self.id, ASKED_FOR_SIGHT):
                nursery.start_soon(ask, contact)
        return sorted(host for host, who in said.items() if len(who) >= witnesses)

    def contacts(self) -> list[Endpoint]:
        """Addresses worth remembering for the next start."""
        return [contact.endpoint for contact in self._tables]

    async def store(self, key: bytes, record: bytes) -> int:
        """Puts a record at the nodes nearest to `key`; how many took it."""
        stored = 0

        async def one(contact: Contact) -> None:
            nonlocal stored
            body = await self.ask(contact.endpoint, datagram.StoreRecord(key, record))
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
            body = await self.ask(contact.endpoint, datagram.FindValue(key))
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
        asked |= {contact.id: contact for contact in self._tables if contact.id == key}
        async with trio.open_nursery() as nursery:
            for contact in asked.values():
                nursery.start_soon(one, contact)
        return None if best is None else best[1]
