"""Routers that map ports: what is said to them byte by byte, and what is made of their answers."""

import ipaddress
import struct
from contextlib import asynccontextmanager

import pytest
import trio

from bitdustfs.errors import Malformed
from bitdustfs.net.routers import mapper, packets, pcp
from bitdustfs.net.routers.gateway import Gateway, read_routes
from bitdustfs.net.routers.packets import TCP, UDP, Says, SaysAddress, SaysMapped
from bitdustfs.net.routers.pcp import Epoch, NatPmpRouter, OtherVersion, PcpRouter
from bitdustfs.net.routers.router import LIFETIME, OpenPort, RouterRefuses, Silent

HERE = ipaddress.IPv4Address("127.0.0.1")
GATEWAY = Gateway(HERE, HERE)
SECRET = b"s" * 32
OUTSIDE = b"\0" * 10 + b"\xff\xff" + bytes([9, 9, 9, 9])
TABLE = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
tun0\t00000000\t0101A8C0\t0003\t0\t0\t50\t00000080\t0\t0\t0
wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\t0107A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth1\t00000000\t00000000\t0001\t0\t0\t0\t00000000\t0\t0\t0
eth0\t0007A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
eth0\t000
"""


def by_pcp(gateway, port, secret=SECRET):
    return PcpRouter(gateway, secret, port)


class Responder:
    """A router on loopback that answers by the layouts of the RFCs; `speaks`: natpmp, pcp."""

    def __init__(self, *speaks):
        self.speaks, self.epoch, self.refuses, self.gives = speaks, 1000, 0, 0
        self.mapped, self.nonces, self.heard, self.garbage = {}, {}, [], b""

    def answer(self, data):
        self.heard.append(data)
        version = {0: "natpmp", 2: "pcp"}[data[0]]
        if version not in self.speaks:
            wanted = 0 if "natpmp" in self.speaks else 2
            body = struct.pack("!HI", 1, self.epoch) if wanted == 0 else bytes([0, 1]) + bytes(20)
            return bytes([wanted, 128 | data[1]]) + body
        return self.by_natpmp(data) if version == "natpmp" else self.by_pcp(data)

    def by_natpmp(self, data):
        head = struct.pack("!BBHI", 0, 128 + data[1], self.refuses, self.epoch)
        if self.refuses:
            return head
        if data[1] == 0:
            assert len(data) == 2
            return head + bytes([9, 9, 9, 9])
        op, reserved, internal, external, lifetime = struct.unpack("!xBHHHI", data)
        assert reserved == 0
        return head + struct.pack("!H", internal) + self.keep({1: 17, 2: 6}[op], internal, external,
                                                              lifetime)  # fmt: skip

    def keep(self, protocol, internal, external, lifetime):
        external = self.gives or external
        if lifetime:
            self.mapped[protocol, internal] = external
        else:
            assert external == 0
            del self.mapped[protocol, internal]
        return struct.pack("!HI", external, lifetime)

    def by_pcp(self, data):
        _, op, reserved, lifetime, client = struct.unpack("!BBHI16s", data[:24])
        assert reserved == 0 and client == b"\0" * 10 + b"\xff\xff" + HERE.packed
        head = struct.pack("!BBBBII12x", 2, 128 + op, 0, self.refuses, lifetime, self.epoch)
        if op == 0 or self.refuses:
            return head + data[24:]
        nonce, protocol, internal, external, _ = struct.unpack("!12sB3xHH16s", data[24:])
        if self.nonces.setdefault((protocol, internal), nonce) != nonce:
            head = struct.pack("!BBBBII12x", 2, 129, 0, 2, 0, self.epoch)  # NOT_AUTHORIZED
            return head + data[24:]
        external = struct.unpack("!H", self.keep(protocol, internal, external, lifetime)[:2])[0]
        return head + struct.pack("!12sB3xHH16s", nonce, protocol, internal, external, OUTSIDE)

    async def run(self, line):
        while True:
            data, asker = await line.recvfrom(2000)
            if self.garbage:
                await line.sendto(self.garbage, asker)
            if (said := self.answer(data)) is not None:
                await line.sendto(said, asker)


@asynccontextmanager
async def responding(*speaks):
    """A responder, and its port."""
    made = Responder(*speaks)
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as line:
        await line.bind(("127.0.0.1", 0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(made.run, line)
            yield made, line.getsockname()[1]
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", [by_pcp, NatPmpRouter])
async def test_a_port_is_mapped_and_taken_back(kind):
    async with responding("pcp", "natpmp") as (there, port):
        router = kind(GATEWAY, port)
        for protocol in (TCP, UDP):
            assert await router.map(protocol, 4000, 4000) == OpenPort("9.9.9.9", 4000, LIFETIME)
        assert there.mapped == {(TCP, 4000): 4000, (UDP, 4000): 4000}
        await router.unmap(TCP, 4000, 4000)
        await router.unmap(UDP, 4000, 4000)
        assert there.mapped == {}


@pytest.mark.parametrize("kind", [by_pcp, NatPmpRouter])
async def test_another_port_than_the_one_asked_for_is_taken(kind):
    async with responding("pcp", "natpmp") as (there, port):
        there.gives = 41234
        assert (await kind(GATEWAY, port).map(TCP, 4000, 4000)).port == 41234


@pytest.mark.parametrize("kind", [by_pcp, NatPmpRouter])
async def test_a_router_that_began_anew_has_forgotten(kind):
    async with responding("pcp", "natpmp") as (there, port):
        router = kind(GATEWAY, port)
        await router.map(TCP, 4000, 4000)
        assert await router.remembers()
        there.epoch = 3
        assert not await router.remembers()
        assert await router.remembers()


@pytest.mark.parametrize("kind", [by_pcp, NatPmpRouter])
async def test_a_router_that_knows_not_what_it_is_asked_has_not_forgotten(kind):
    async with responding("pcp", "natpmp") as (there, port):
        router = kind(GATEWAY, port)
        await router.map(TCP, 4000, 4000)
        there.refuses = 4
        assert await router.remembers()
        there.epoch = 3
        assert not await router.remembers()


async def test_a_node_that_is_restarted_has_its_own_mapping_again():
    async with responding("pcp") as (there, port):
        await by_pcp(GATEWAY, port).map(TCP, 4000, 4000)
        with pytest.raises(RouterRefuses):
            await by_pcp(GATEWAY, port, b"x" * 32).map(TCP, 4000, 4000)
        again = by_pcp(GATEWAY, port)
        assert (await again.map(TCP, 4000, 4000)).port == 4000
        await again.unmap(TCP, 4000, 4000)
        assert there.mapped == {}


def test_nonces_are_others_in_another_network_and_for_another_port():
    elsewhere = Gateway(HERE, ipaddress.IPv4Address("127.0.0.2"))
    one, other = by_pcp(GATEWAY, 1), by_pcp(elsewhere, 1)
    every = [r._nonce(p, port) for r in (one, other) for p in (TCP, UDP) for port in (4000, 4001)]
    assert len(set(every)) == 8 and not any(SECRET[:4] in nonce for nonce in every)


async def test_a_router_without_an_address_outside_maps_nothing(monkeypatch):
    async with responding("natpmp") as (there, port):
        monkeypatch.setattr(there, "by_natpmp", lambda _: bytes([0, 128, 0, 0]) + bytes(8))
        with pytest.raises(RouterRefuses, match="no address of the provider"):
            await NatPmpRouter(GATEWAY, port).map(TCP, 4000, 4000)


@pytest.mark.parametrize(("kind", "speaks"), [(by_pcp, "natpmp"), (NatPmpRouter, "pcp")])
async def test_a_router_that_speaks_the_other_one_is_known_by_its_answer(kind, speaks, monkeypatch):
    monkeypatch.setattr(pcp, "TRIES", (0.2,) * 4)
    async with responding(speaks) as (_, port):
        with pytest.raises(OtherVersion if speaks == "natpmp" else RouterRefuses):
            await kind(GATEWAY, port).map(TCP, 4000, 4000)


@pytest.mark.parametrize("kind", [by_pcp, NatPmpRouter])
async def test_what_a_router_refuses_is_said_in_words(kind):
    async with responding("pcp", "natpmp") as (there, port):
        there.refuses = 2
        with pytest.raises(RouterRefuses, match="port mapping is switched off"):
            await kind(GATEWAY, port).map(TCP, 4000, 4000)


async def test_answers_that_are_none_are_passed_over():
    async with responding("pcp") as (there, port):
        there.garbage = b"\2\x81" + bytes(58)  # of PCP, and with another nonce
        assert (await by_pcp(GATEWAY, port).map(TCP, 4000, 4000)).host == "9.9.9.9"


async def test_a_router_where_nobody_listens_is_not_waited_for():
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as line:
        await line.bind(("127.0.0.1", 0))
        port = line.getsockname()[1]
    with pytest.raises(Silent, match="does not speak"), trio.fail_after(3):
        await by_pcp(GATEWAY, port).map(TCP, 4000, 4000)


async def test_a_silent_router_is_asked_four_times_and_given_up(monkeypatch):
    async with responding("pcp") as (there, port):
        monkeypatch.setattr(there, "answer", there.heard.append)
        monkeypatch.setattr(pcp, "TRIES", (0.01,) * 4)
        with pytest.raises(Silent, match="does not answer"):
            await NatPmpRouter(GATEWAY, port).map(TCP, 4000, 4000)
    assert there.heard == [packets.ask_natpmp_address()] * 4


async def test_the_second_way_is_tried_where_the_first_is_not_spoken(monkeypatch):
    async with responding("natpmp") as (_, port):
        monkeypatch.setattr(packets, "PORT", port)
        monkeypatch.setattr(mapper, "PcpRouter", lambda gateway, _: by_pcp(gateway, port))
        monkeypatch.setattr(mapper, "NatPmpRouter", lambda gateway: NatPmpRouter(gateway, port))
        router, mapped = await mapper.map_first(SECRET, GATEWAY, TCP, 4000, 4000)
    assert (router.name, mapped.host) == ("NAT-PMP", "9.9.9.9")


@pytest.mark.deadline(10_000)
async def test_the_clock_of_a_router_may_go_a_little_slower_than_ours(autojump_clock):
    epoch = Epoch()
    assert epoch.holds(100)
    await trio.sleep(3600)
    assert epoch.holds(100 + 3400)
    await trio.sleep(3600)
    assert not epoch.holds(100 + 3400 + 60)


def test_the_default_route_with_the_least_metric_leads_to_the_router():
    assert str(read_routes(TABLE)) == "192.168.7.1"
    assert read_routes(TABLE.replace("0003", "0001")) is None
    assert read_routes("") is None


def test_what_is_said_has_the_layout_of_the_rfcs():
    assert packets.ask_natpmp_map(TCP, 4000, 4001, 7200).hex() == "000200000fa00fa100001c20"
    asked = packets.ask_pcp_map(ipaddress.IPv4Address("192.168.7.2"), b"n" * 12, UDP, 4000, 0, 60)
    assert asked.hex() == (
        "02010000" "0000003c" "00000000000000000000ffffc0a80702"
        + b"n".hex() * 12 + "11000000" "0fa0" "0000" "00000000000000000000ffff00000000"
    )  # fmt: skip


def test_what_is_heard_is_read_by_the_layout_of_the_rfcs():
    said = packets.read_natpmp_untrusted(bytes.fromhex("00820000000000050fa00fa100001c20"))
    assert said == SaysMapped(5, TCP, 4000, 4001, 7200)
    said = packets.read_natpmp_untrusted(bytes.fromhex("008000000000000509090909"))
    assert said == SaysAddress(5, "9.9.9.9")
    said = packets.read_pcp_untrusted(bytes.fromhex("0080000100000005"))
    assert isinstance(said, Says) and said.other_version
    with pytest.raises(Malformed):
        packets.read_pcp_untrusted(bytes(1101))
