"""A DHT of many nodes in one process, some of them Sybils: what a look-up is worth among them.

Real nodes (`net/dht/node.py`) over datagrams in memory and a virtual clock. Of the nodes a share
are Sybils of one attacker, with ids as they come (ids are hashes of keys), three to each /24
network. One third of them drop every question but pings. One third lie: they name made-up ids at
addresses where nobody is, at their own, at those of honest nodes and of other Sybils, honest ids at
wrong addresses, and each other; they show forged and outdated records, and say that they stored
what they did not. One third flood besides: with genuine records of their own, junk, and answers
that nobody asked for.

As a script: `python tests/sybils.py [NODES] [LOOK-UPS] [SHARE]...` prints the table of
docs/testing.md. There nodes have met before, and the datagrams' signatures are left out, which
nobody forges here: both would take most of the time. Those of records are not.
"""

import heapq
import itertools
import os
import random
import sys
import time
from collections import Counter

import trio
import trio.testing
from nacl.signing import SigningKey

from bitdustfs.core.codec import Decoder, encode
from bitdustfs.core.keys import node_id
from bitdustfs.net.dht import datagram
from bitdustfs.net.dht.bounds import distance
from bitdustfs.net.dht.datagram import Contact
from bitdustfs.net.dht.node import Dht

LOSS = 0.01  #: share of datagrams that get lost
DELAY = (0.01, 0.15)  #: seconds that one takes
FLOOD_EVERY = 0.5  #: seconds between two datagrams of one flooding Sybil
CLIENTS = 20  #: askers that are no nodes: mounts and commands; fewer in a small world
JOINING = 25  #: nodes that join at once
KNOWN_NEAR, KNOWN_FAR = 20, 130  #: of those that are there already, whom each has met
SEED = 1
#: whom liars name: made-up ids where nobody is, at their own address, at those of honest nodes, at
#: those of other Sybils; honest ids where nobody is; other Sybils
LIES = ["nobody", "own", "others", "disguised", "displaced", "each other"]


class Network:
    """Datagrams in memory."""

    def __init__(self, rng):
        self.rng, self.there = rng, {}
        self._under_way, self._numbers, self._sooner = [], itertools.count(), trio.Event()

    def socket(self, host, port=4000):
        """What a node is given for a socket."""
        return lambda: MemorySocket(self, (host, port))

    def send(self, data, source, target):
        if self.rng.random() < LOSS:
            return
        at = trio.current_time() + self.rng.uniform(*DELAY)
        heapq.heappush(self._under_way, (at, next(self._numbers), data, source, target))
        if self._under_way[0][0] == at:
            self._sooner.set()

    async def run(self):
        while True:
            self._sooner = trio.Event()
            if self._under_way and self._under_way[0][0] <= trio.current_time():
                _, _, data, source, target = heapq.heappop(self._under_way)
                if target in self.there:
                    self.there[target].receive(data, source)
                continue
            at = self._under_way[0][0] if self._under_way else float("inf")
            with trio.move_on_at(at):
                await self._sooner.wait()


class MemorySocket:
    def __init__(self, network, endpoint):
        self._network, self._endpoint, self.count = network, endpoint, 0
        self._put, self._get = trio.open_memory_channel(10_000)
        network.there[endpoint] = self

    def receive(self, data, source):
        self.count += 1
        self._put.send_nowait((data, source))

    async def bind(self, address):
        """It is bound from the beginning."""

    def getsockname(self):
        return self._endpoint

    async def sendto(self, data, address):
        self.count += 1
        self._network.send(data, self._endpoint, address)
        return len(data)

    async def recvfrom(self, size):
        return await self._get.receive()

    def close(self):
        self._network.there.pop(self._endpoint, None)


class Sybil(Dht):
    """One of the attacker's nodes; `world` has all of them."""

    def __init__(self, key, world, host):
        super().__init__(key, True, False, world.network.socket(host))
        self._world, self.manner = world, world.rng.choice(["drops", "lies", "floods"])
        self._old = {}

    async def _received(self, data, endpoint):
        if self.manner != "drops":
            return await super()._received(data, endpoint)
        body = datagram.open_datagram_untrusted(data)
        if not isinstance(body.message, datagram.Question) or isinstance(
            body.message, datagram.DhtPing
        ):
            return await super()._received(data, endpoint)

    def _response(self, message, asker):
        if isinstance(message, datagram.StoreRecord):
            self._old.setdefault(message.key, message.record)
            return datagram.Stored()
        target = message.key if isinstance(message, datagram.FindValue) else message.target
        if isinstance(message, datagram.FindValue) and self._world.rng.random() < 0.7:
            return datagram.RecordIs(self._record(target))
        return datagram.ContactsAre(tuple(self._named(target)))

    def _record(self, key):
        """The first that was stored here, or one that nobody signed."""
        if key in self._old and self._world.rng.random() < 0.5:
            return self._old[key]
        return datagram.sign_node_record(self._key, 1 << 50, ("6.6.6.6:4000",), 1 << 50)

    def _named(self, target):
        rng, host = self._world.rng, self.endpoint[0]
        near = [target[:8] + rng.randbytes(12) for _ in range(16)]
        honest = rng.sample(self._world.honest, 16)
        match rng.choice(LIES):
            case "nobody":
                return [Contact(one, stray_host(rng), 4000) for one in near]
            case "own":
                return [Contact(one, host, rng.randrange(1024, 60_000)) for one in near]
            case "others":
                pairs = zip(near, honest, strict=True)
                return [Contact(one, *other.endpoint) for one, other in pairs]
            case "disguised":
                fellows = rng.sample(self._world.sybils, min(16, len(self._world.sybils)))
                return [Contact(i, *f.endpoint) for i, f in zip(near, fellows, strict=False)]
            case "displaced":
                nearest = sorted(self._world.honest, key=lambda n: distance(n.id, target))[:16]
                return [Contact(node.id, stray_host(rng), 4000) for node in nearest]
        fellows = sorted(self._world.sybils, key=lambda n: distance(n.id, target))[:16]
        return [Contact(node.id, *node.endpoint) for node in fellows]

    async def flood(self):
        rng = self._world.rng
        while True:
            await trio.sleep(FLOOD_EVERY)
            victim = rng.choice(self._world.honest).endpoint
            key = SigningKey(rng.randbytes(32))
            record = datagram.sign_node_record(key, 1, ("6.6.6.6:4000",), 1 << 50)
            store = datagram.StoreRecord(node_id(key.verify_key.encode()), record)
            await self._send(victim, os.urandom(16), rng.choice([
                store, store, datagram.DhtPing(), datagram.Stored(),
                datagram.FindNode(rng.randbytes(20)),
            ]), self._tokens.received_from(victim))  # fmt: skip
            if rng.random() < 0.2:
                self._world.network.send(rng.randbytes(500), self.endpoint, victim)


def stray_host(rng):
    """An address of the whole world, where most often nobody is."""
    return f"{rng.randrange(11, 99)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}"


class World:
    """All nodes; `share` of them are Sybils."""

    def __init__(self, count, share, seed):
        self.rng = random.Random(seed)
        self.network = Network(self.rng)
        self.sybils, self.honest, self.clients = [], [], []
        for number in range(int(count * share)):
            host = f"4.{number // 3 // 256}.{number // 3 % 256}.{1 + number % 3}"
            self.sybils.append(Sybil(self._key(), self, host))
        while len(self.honest) < count - len(self.sybils):
            self.honest.append(self._node(serves=True))
        self.clients = [self._node(serves=False) for _ in range(max(2, min(CLIENTS, count // 30)))]

    def _key(self):
        return SigningKey(self.rng.randbytes(32))

    def _node(self, serves):
        return Dht(self._key(), serves, False, self.network.socket(stray_host(self.rng)))

    async def begin(self, nursery, met):
        """Everybody is there; `met`: as if they had joined long ago, which saves the time."""
        nursery.start_soon(self.network.run)
        await (self._meet(nursery) if met else self._join(nursery))
        for node in self.clients:
            await nursery.start(node.run)
            await node.bootstrap([door.endpoint for door in self.rng.sample(self.honest, 3)])
        for node in self.sybils:
            if node.manner == "floods":
                nursery.start_soon(node.flood)

    async def _meet(self, nursery):
        """Each knows the nodes nearest to it and some others."""
        nodes = [*self.honest, *self.sybils]
        for node in nodes:
            await nursery.start(node.run)
            near = heapq.nsmallest(KNOWN_NEAR, nodes, key=lambda n: distance(n.id, node.id))
            far = self.rng.sample(nodes, min(KNOWN_FAR, len(nodes) // 3))
            for other in {*near, *far} - {node}:
                node._meet(Contact(other.id, *other.endpoint))

    async def _join(self, nursery):
        """In random order, through those who are there already."""
        nodes = [*self.honest, *self.sybils]
        self.rng.shuffle(nodes)
        nodes = [self.honest[0], *(node for node in nodes if node is not self.honest[0])]
        for at in range(0, len(nodes), JOINING):
            async with trio.open_nursery() as joining:
                for node in nodes[at : at + JOINING]:
                    await nursery.start(node.run)
                    known = [n for n in nodes[: max(1, at)] if n is not node]
                    doors = self.rng.sample(known, min(3, len(known)))
                    joining.start_soon(node.bootstrap, [door.endpoint for door in doors])


class Tally:
    """What came of the look-ups of one world."""

    def __init__(self):
        self.counts, self.messages, self.seconds = Counter(), 0, 0.0

    @property
    def right(self):
        """Share of the look-ups that gave the newest record."""
        return self.counts["right"] / self.counts.total()

    @property
    def false(self):
        """Records that were accepted although nobody signed them for that key."""
        return self.counts["false"]


async def look_up(world, count, each=5):
    """`count` look-ups of records, of which there was another version before."""
    tally, records = Tally(), {}

    async def store(client, number):
        for _ in range(number):
            key = SigningKey(world.rng.randbytes(32))
            place = node_id(key.verify_key.encode())
            records[place] = [
                datagram.sign_node_record(key, seq, ("7.7.7.7:4000",), seq) for seq in (1, 2)
            ]
            for record in records[place]:
                await client.store(place, record)

    async def ask(client, places):
        for place in places:
            began, before = trio.current_time(), client._socket.count
            found = await client.find(place)
            tally.seconds += trio.current_time() - began
            tally.messages += client._socket.count - before
            old, new = records[place]
            what = {None: "nothing", old: "outdated", new: "right"}
            tally.counts[what.get(found, "false")] += 1

    async with trio.open_nursery() as nursery:
        for client in world.clients:
            nursery.start_soon(store, client, -(-count // each // len(world.clients)))
    jobs = [place for place in records for _ in range(each)][:count]
    async with trio.open_nursery() as nursery:
        for number, client in enumerate(world.clients):
            nursery.start_soon(ask, client, jobs[number :: len(world.clients)])
    return tally


async def live(nodes, share, lookups, seed=1, met=False):
    """A world, its look-ups, and what came of them."""
    world = World(nodes, share, seed)
    async with trio.open_nursery() as nursery:
        await world.begin(nursery, met)
        tally = await look_up(world, lookups)
        nursery.cancel_scope.cancel()
    return tally


def without_signatures():
    """What of `datagram` is to be replaced by what: datagrams are taken as their sender's own."""
    bodies = Decoder(datagram.Body, "datagram", datagram.DATAGRAM_MAX)
    return {
        "encode_datagram": lambda key, body: encode(body),
        "open_datagram_untrusted": bodies.decode_untrusted,
        "peek_datagram_untrusted": bodies.decode_untrusted,
    }


def main(nodes=1000, lookups=500, *shares):
    for name, unsigned in without_signatures().items():
        setattr(datagram, name, unsigned)
    print("| Sybils | right | outdated | nothing | false | messages | seconds |")
    print("|---|---|---|---|---|---|---|")
    for share in shares or (0, 10, 20, 30):
        began = time.process_time()
        clock = trio.testing.MockClock(autojump_threshold=0)
        tally = trio.run(live, nodes, share / 100, lookups, SEED, True, clock=clock)
        total, counts = tally.counts.total(), tally.counts
        print(
            f"| {share} % | {tally.right:.1%} | {counts['outdated'] / total:.1%} "
            f"| {counts['nothing'] / total:.1%} | {tally.false} "
            f"| {tally.messages / total:.0f} | {tally.seconds / total:.1f} |",
            flush=True,
        )
        print(f"{share} %: {time.process_time() - began:.0f} s of processor", file=sys.stderr)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
