"""A relay: nodes of this supplier's circle that cannot be dialled are reached through it.

A node on standby keeps a connection here. Whoever wants it names its key; the node is called, comes
on a connection of its own, and from then on bytes are passed on. What they say is TLS with pinned
keys, end to end: the relay sees who speaks with whom, and how much.

Only nodes of its circle (relaycircle.py) are on standby here, so nobody else is reached through it.
"""

import os
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import trio

from bitdustfs.errors import Malformed, ProtocolViolation
from bitdustfs.net import wire
from bitdustfs.net.line import OwnLine
from bitdustfs.net.rates import Rates
from bitdustfs.net.tls import TlsStream
from bitdustfs.supplier.caps import USUAL, CallRates, PassingRates, RelayCaps
from bitdustfs.supplier.connections import Places, Slot
from bitdustfs.supplier.relaycircle import WhoseName
from bitdustfs.supplier.shares import (
    MARK,
    RELAYED,
    Portion,
    ShareRates,
    counted,
    gives_way,
    mark_of,
    weight,
)
from bitdustfs.units import KIB

RELAYED_HOST = RELAYED  #: where whoever comes through a relay seems to be
LINES_MAX = 64  #: nodes on standby
CALLS_MAX = 32  #: calls that wait to be sent to one node
COME_DEADLINE = 4.0  #: seconds that a node that was called is waited for
#: times a second that nodes of one network ask to be on standby, and at once; and one node
STANDBY_RATE, STANDBY_BURST = 2.0, 64.0
AGAIN_RATE, AGAIN_BURST = 0.2, 8.0
LOOK_EVERY = 10.0  #: seconds between looks whether a node that pings is of the circle still
LINE_SILENCE = 60.0  #: seconds without a word after which a node is not on standby any more
CIRCUIT_IDLE = 600.0  #: seconds without a byte after which a circuit ends
LATELY = 2.0  #: seconds for which a circuit counts as one that something is passed on
PIECE = 32 * KIB  #: bytes that a circuit holds in each direction, at most
PIECE_DEADLINE = 30.0  #: seconds in which the other side has to take a piece, on an unbounded line
SEEN_DEADLINE = 30.0  #: seconds that a node keeps the connection on which it was told where it is

RelayRequest = wire.Standby | wire.Through | wire.Facing | wire.Meeting | wire.Whence


class Visitor(NamedTuple):
    """Who came: the key that its TLS proved, its connection, and where from (HOST:PORT)."""

    key: bytes
    stream: TlsStream
    decoder: wire.FrameDecoder
    place: Slot
    places: Places
    line: OwnLine
    at: str = ""

    async def say(self, message: wire.Reply | wire.Called | wire.SeenAt) -> None:
        await self.send(wire.encode_frame(0, message))

    async def send(self, data: bytes) -> None:
        """A word or a piece. Where the line is slow by this node's own wish, it may take longer.

        Raises ProtocolViolation where the visitor does not take it.
        """
        with trio.move_on_after(PIECE_DEADLINE + self.line.up.own_delay(len(data))) as sending:
            await self.stream.send_all(data)
        if sending.cancelled_caught:
            raise ProtocolViolation("it does not take what it is sent")


class _OnStandby:
    """A node on standby, in the name of a vault or in its own."""

    def __init__(self, name: Portion, is_near: bool) -> None:
        self.name, self.is_near = name, is_near
        self.scope = trio.CancelScope()
        self.say, self.due = trio.open_memory_channel[wire.Reply | wire.Called](CALLS_MAX)


@dataclass(eq=False)
class _Passage:
    """From somebody of `network` to a node on standby for `share`. `caller`: see `Facing`."""

    node: bytes
    network: str
    heard: float
    share: Portion
    name: bytes = field(default_factory=lambda: os.urandom(32))
    caller: str = ""
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    came: trio.Event = field(default_factory=trio.Event)
    over: trio.Event = field(default_factory=trio.Event)
    other: Visitor | None = None

    def join(self, other: Visitor) -> None:
        """The node has come."""
        self.other = other
        self.came.set()

    def hear(self) -> None:
        """Something was passed on just now."""
        self.heard = trio.current_time()


async def _end_when_idle(circuit: _Passage) -> None:
    while True:
        idle = trio.current_time() - circuit.heard
        if idle >= CIRCUIT_IDLE:
            circuit.scope.cancel()
        await trio.sleep(max(0.0, CIRCUIT_IDLE - idle))


class Relay:
    """The nodes on standby at one supplier, and the circuits to them."""

    def __init__(self, circle: WhoseName, caps: RelayCaps = USUAL, secret: bytes = b"") -> None:
        """`secret`: by which it tells callers apart for nodes (shares.py); without it a new one."""
        self._circle, self._secret = circle, secret or os.urandom(32)
        self.passed = 0  #: bytes that were passed on since it began
        self._asked = ShareRates(STANDBY_RATE, STANDBY_BURST)
        self._asked_again = Rates(AGAIN_RATE, AGAIN_BURST)
        self.change(caps)
        self._lines: dict[bytes, _OnStandby] = {}
        self._circuits: set[_Passage] = set()
        self._awaited: dict[bytes, _Passage] = {}
        self._looks = trio.CapacityLimiter(1)  # strangers hold no thread that customers need

    def change(self, caps: RelayCaps) -> None:
        """Other caps from now on. Circuits that are there stay."""
        self.caps = caps
        self._calls, self._passing = CallRates(caps), PassingRates(caps)

    def counts(self) -> tuple[int, int]:
        """How many nodes are on standby, and how many circuits there are."""
        return len(self._lines), len(self._circuits)

    async def answer(self, request: RelayRequest, who: Visitor) -> None:
        """Until the visitor's connection may be closed. Raises ProtocolViolation, Malformed."""
        if request.version != wire.VERSION:
            raise ProtocolViolation("a node of another version")
        match request:
            case wire.Standby():
                await self._stand_by(who)
            case wire.Through(node=node):
                await self._connect(node, who)
            case wire.Facing(node=node):
                await self._connect(node, who, caller=who.at)
            case wire.Meeting(circuit=name):
                await self._meet(name, who)
            case wire.Whence(circuit=name):
                await self._tell(name, who)

    # -- a node on standby

    async def _admits(self, node: bytes) -> Portion:
        """In whose name a node is on standby."""
        return await trio.to_thread.run_sync(self._circle, node, limiter=self._looks)

    async def _stand_by(self, who: Visitor) -> None:
        if not (self._asked_again.admits(who.key) and self._asked.admits(who.place.share)):
            await who.say(wire.Fault("busy", "that was asked for too often"))
            return
        name = await self._admits(who.key)
        if not name:
            await who.say(wire.Fault("unauthorised", "this relay serves its circle only"))
            return
        before = self._lines.pop(who.key, None)
        if before is not None:
            before.scope.cancel()
        line = _OnStandby(name, is_near=name == (who.key,))
        if not self._make_room(line):
            await who.say(wire.Fault("busy", "too many nodes are on standby here"))
            return
        self._lines[who.key] = line
        who.places.promote(who.place, (*name, who.key))
        try:
            with line.scope:
                line.say.send_nowait(wire.Done())
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._speak, line, who)
                    await self._listen(line, who)
                    nursery.cancel_scope.cancel()
        finally:
            if self._lines.get(who.key) is line:
                del self._lines[who.key]

    def _make_room(self, line: _OnStandby) -> bool:
        """Whether there is a place for one more. Where all are taken, the vault with the most
        nodes gives one to friends, and to vaults that will have fewer.

        Who has a contract here may name as many nodes as he likes, and they may all be his.
        """
        if len(self._lines) < LINES_MAX:
            return True
        others = {node: other for node, other in self._lines.items() if not other.is_near}
        counts = counted(other.name for other in others.values())
        leaver = max(others, key=lambda node: weight(others[node].name, counts), default=None)
        if leaver is None:
            return False
        if not line.is_near and not gives_way(others[leaver].name, line.name, counts):
            return False
        self._lines.pop(leaver).scope.cancel()
        return True

    async def _speak(self, line: _OnStandby, who: Visitor) -> None:
        async for message in line.due:
            await who.say(message)

    async def _listen(self, line: _OnStandby, who: Visitor) -> None:
        """Pings, until the node goes, falls silent, or is not of the circle any more."""
        looked = trio.current_time()
        while True:
            if trio.current_time() - looked >= LOOK_EVERY:
                if not await self._admits(who.key):
                    return
                looked = trio.current_time()
            with trio.move_on_after(LINE_SILENCE) as waiting:
                while (frame := who.decoder.next_untrusted()) is None:
                    if who.decoder.asked is not None:
                        raise Malformed("a payload on standby")
                    data = await who.stream.receive_some(PIECE)
                    if not data:
                        return
                    who.decoder.feed(data)
            if waiting.cancelled_caught:
                raise ProtocolViolation("nothing was heard of a node on standby")
            if frame is None or not isinstance(frame.message, wire.Ping):
                raise ProtocolViolation("something else than a ping on standby")
            who.place.hear()
            try:
                line.say.send_nowait(wire.Done())
            except trio.WouldBlock:
                raise ProtocolViolation("it pings, and does not take the answers") from None

    # -- a circuit

    async def _connect(self, node: bytes, who: Visitor, caller: str = "") -> None:
        line = self._lines.get(node)
        if line is None:
            await who.say(wire.Fault("unreachable", "that node is not on standby here"))
            return
        network = who.place.network
        if not self._calls.admits(network, line.name):
            await who.say(wire.Fault("busy", "that node was called too often"))
            return
        self._make_way(node)
        name = mark_of(self._secret, node, network) + os.urandom(32 - MARK)
        circuit = _Passage(node, network, trio.current_time(), line.name, name, caller)
        self._circuits.add(circuit)
        self._awaited[circuit.name] = circuit
        try:
            with circuit.scope:
                await self._call(line, circuit, who)
        finally:
            self._awaited.pop(circuit.name, None)
            self._circuits.discard(circuit)
            circuit.over.set()

    async def _call(self, line: _OnStandby, circuit: _Passage, who: Visitor) -> None:
        try:
            line.say.send_nowait(wire.Called(circuit.name))
        except trio.WouldBlock:
            await who.say(wire.Fault("busy", "too many want to speak with that node"))
            return
        with trio.move_on_after(COME_DEADLINE):
            await circuit.came.wait()
        if circuit.other is None:
            await who.say(wire.Fault("unreachable", "that node did not come"))
            return
        await who.say(wire.Done())
        async with trio.open_nursery() as pumps:
            pumps.start_soon(self._pass_on, circuit, who, circuit.other, pumps)
            pumps.start_soon(self._pass_on, circuit, circuit.other, who, pumps)
            pumps.start_soon(_end_when_idle, circuit)

    async def _meet(self, name: bytes, who: Visitor) -> None:
        circuit = self._awaited.get(name)
        if circuit is None or circuit.node != who.key:
            raise ProtocolViolation("nobody waits for this node there")
        del self._awaited[name]
        who.places.promote(who.place, (*circuit.share, who.key))
        circuit.join(who)
        await circuit.over.wait()

    async def _tell(self, name: bytes, who: Visitor) -> None:
        """A node that was called is told where its caller comes from, if that one has said Facing.

        Its connection stays until the circuit is over: its router keeps the port as long.
        """
        circuit = next((c for c in self._circuits if c.name == name and c.node == who.key), None)
        if circuit is None or not circuit.caller:
            await who.say(wire.Fault("unreachable", "nobody is to be dialled by that circuit"))
            return
        who.places.promote(who.place, (*circuit.share, who.key))
        await who.say(wire.SeenAt(who.at, circuit.caller))
        with trio.move_on_after(SEEN_DEADLINE):
            await circuit.over.wait()

    async def _pass_on(
        self, circuit: _Passage, source: Visitor, sink: Visitor, pumps: trio.Nursery
    ) -> None:
        """One piece after the other: the next is taken once the other side took the last."""
        while data := await source.stream.receive_some(PIECE):
            circuit.hear()
            source.place.hear()
            size, lately = len(data), trio.current_time() - LATELY
            others = {(c.share[0], c.network) for c in self._circuits if c.heard > lately}
            own = circuit.share[0], circuit.network
            await trio.sleep(self._passing.spend(*own, {own, *others}, size))
            await sink.send(data)
            self.passed += size
        pumps.cancel_scope.cancel()

    def _make_way(self, node: bytes) -> None:
        """Where there are too many, the one goes that was silent for longest among those of the
        network with the most.
        """
        to_node = [circuit for circuit in self._circuits if circuit.node == node]
        if len(to_node) >= self.caps.circuits_of_node:
            crowd = to_node
        elif len(self._circuits) >= self.caps.circuits:
            crowd = [*self._circuits]
        else:
            return
        counts = Counter(circuit.network for circuit in crowd)
        most = max(counts.values())
        leaver = min((c for c in crowd if counts[c.network] == most), key=lambda c: c.heard)
        self._circuits.discard(leaver)
        leaver.scope.cancel()


async def answer_at(relay: Relay | None, request: RelayRequest, who: Visitor) -> None:
    """As `Relay.answer`; also where there is none."""
    if relay is None:
        await who.say(wire.Fault("unreachable", "this node is no relay"))
    else:
        await relay.answer(request, who)
