"""A supplier behind a router: its port is mapped, proven by others, announced, and taken back."""

import ipaddress
import math
from itertools import pairwise

import pytest
import trio

from bitdustfs.net.dht import datagram
from bitdustfs.net.routers.gateway import Gateway
from bitdustfs.net.routers.packets import TCP, UDP
from bitdustfs.net.routers.router import LIFETIME, OpenPort, Router, RouterRefuses, Silent
from bitdustfs.supplier.mapping import (
    END_DEADLINE,
    LOOK_EVERY,
    REFUSED_AGAIN,
    RETRY_LEAST,
    PortMapping,
)
from bitdustfs.supplier.outside import Doors, NothingKnown
from bitdustfs.supplier.proofs import PROVEN_AGAIN, Proofs
from bitdustfs.supplier.reach import reach_of

LISTEN, ADDRESS = "0.0.0.0:4000", "9.9.9.9:4000"
HOUR = 3600.0


def gateway(own="192.168.7.2", router="192.168.7.1"):
    return Gateway(ipaddress.IPv4Address(router), ipaddress.IPv4Address(own))


class Told(Router):
    """A router that maps what it is asked, and can forget and refuse."""

    name = "PCP"

    def __init__(self, host="9.9.9.9", lifetime=HOUR):
        self.host, self.lifetime = host, lifetime
        self.mapped, self.times, self.asked = set(), [], []
        self.forgot, self.silent, self.refuses = False, False, ""

    async def map(self, protocol, internal, external):
        self.asked.append(trio.current_time())
        if self.silent:
            raise Silent("does not answer by PCP")
        if self.refuses:
            raise RouterRefuses(self.refuses)
        self.mapped.add(protocol)
        self.times.append(trio.current_time())
        return OpenPort(self.host, external, self.lifetime)

    async def unmap(self, protocol, internal, external):
        self.mapped.discard(protocol)

    async def remembers(self):
        if self.silent:
            raise Silent("does not answer by PCP")
        forgot, self.forgot = self.forgot, False
        return not forgot


class World:
    """Who dials back: `answers` to each, or nobody."""

    def __init__(self, *answers, udp=None):
        self.answers, self.udp, self.asked = answers, udp, 0

    def contacts(self):
        return [(f"8.8.{n}.1", 4000) for n in range(len(self.answers))]

    async def ask(self, contact, question):
        self.asked += 1
        answer = self.answers[int(contact[0].split(".")[2])]
        if answer is None:
            return None
        host, tcp = answer
        udp = tcp if self.udp is None else self.udp
        return datagram.Body(
            1, bytes(32), True, bytes(16), b"", datagram.DialledBack(host, tcp, udp)
        )


YES, NO, ELSEWHERE = ("9.9.9.9", True), ("9.9.9.9", False), ("7.7.7.7", True)


class Here:
    """A supplier's mapping, and what it knows of the outside."""

    def __init__(self, world, router=None, behind=None, listen=LISTEN, hairpin=True):
        self.router, self.behind = router or Told(), behind or gateway()
        self.mapping = PortMapping(listen, self.first, lambda: self.behind)
        self.doors, self.hairpin = Doors(Proofs(world), self.mapping, self.meets_itself), hairpin

    async def meets_itself(self, address):
        return self.hairpin

    async def first(self, _, *asked):
        return self.router, await self.router.map(*asked)

    def reach(self, announced=("192.168.7.2:4000",)):
        return reach_of(announced, LISTEN, (), self.doors, lambda networks: None)


@pytest.fixture
def run(nursery):
    def start(here):
        nursery.start_soon(here.doors.run, lambda: ("192.168.7.2:4000",))
        return here

    return start


async def test_a_mapped_address_is_announced_once_another_came_in(run, autojump_clock):
    here = run(Here(World(YES, NO, None)))
    assert here.doors.mapped() == ()
    await trio.sleep(1)
    assert here.router.mapped == {TCP, UDP}
    assert here.doors.mapped() == (ADDRESS,)
    assert here.reach()[:2] == ("mapped", True)


@pytest.mark.parametrize(
    ("answers", "seen", "said"),
    [
        ((NO, NO), False, f"others dialled {ADDRESS} in vain"),
        ((NO,), None, "or by more of them"),
        ((None,), None, f"nobody of another network could be asked to try {ADDRESS}"),
        ((), None, f"nobody of another network could be asked to try {ADDRESS}"),
        ((ELSEWHERE, ELSEWHERE), None, "others see this node at 7.7.7.7 instead"),
    ],
)
async def test_a_mapped_address_that_nobody_came_in_by_is_not(
    run, autojump_clock, answers, seen, said
):
    here = run(Here(World(*answers)))
    await trio.sleep(50)
    assert here.router.mapped == {TCP, UDP} and here.doors.mapped() == ()
    reach = here.reach()
    assert (reach.way, reach.seen) == ("", seen)
    assert said in reach.said and "--through" in reach.said


async def test_who_does_not_get_in_is_named(run, autojump_clock):
    """UDP is forwarded and TCP not, and a router that leads nobody back."""
    tcp, inside = run(Here(World(NO, NO, udp=True))), run(Here(World(YES), hairpin=False))
    await trio.sleep(50)
    assert tcp.reach().seen is False and "by TCP (by UDP they get in)" in tcp.reach().said
    assert inside.reach().way == "mapped" and "no hairpin" in inside.reach().said


async def test_tcp_that_is_forwarded_without_udp_is_named(run, autojump_clock):
    here = run(Here(World(YES, YES, udp=False)))
    await trio.sleep(5)
    assert here.doors.closed([ADDRESS]) == ""  # it may be a bad moment
    await trio.sleep(20)
    assert here.reach().way == "mapped" and "hairpin" not in here.reach().said
    assert "not by UDP" in here.doors.closed([ADDRESS]) and here.doors.closed([]) == ""


@pytest.mark.parametrize("host", ["100.64.0.5", "192.168.1.2", "10.0.0.1", "127.0.0.1"])
async def test_an_address_of_another_router_s_network_is_not(run, autojump_clock, host):
    world = World((host, True))
    here = run(Here(world, Told(host)))
    await trio.sleep(1)
    assert here.doors.mapped() == () and world.asked == 0
    assert here.reach().seen is False and "another router" in here.reach().said


async def test_the_router_has_its_port_back_at_the_end(autojump_clock):
    here = Here(World(YES))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.doors.run, tuple)
        await trio.sleep(1)
        assert here.router.mapped == {TCP, UDP}
        nursery.cancel_scope.cancel()
    assert here.router.mapped == set()


@pytest.mark.deadline(100_000)
@pytest.mark.parametrize(
    ("lifetime", "after"), [(HOUR, HOUR / 2), (60, 30), (math.inf, LIFETIME / 2)]
)
async def test_a_mapping_is_renewed_at_half_of_its_lifetime(run, autojump_clock, lifetime, after):
    here = run(Here(World(YES), Told(lifetime=lifetime)))
    await trio.sleep(2.6 * after)
    renewed = here.router.times[::2]  # TCP; UDP each time behind it
    gaps = [two - one for one, two in pairwise(renewed)]
    assert gaps and all(after <= gap <= after * 5 / 4 + 5 for gap in gaps)


@pytest.mark.deadline(10_000)
async def test_a_router_that_forgot_is_asked_again_within_a_minute(run, autojump_clock):
    here = run(Here(World(YES)))
    await trio.sleep(1)
    here.router.forgot = True
    here.router.mapped.clear()
    await trio.sleep(60)
    assert here.router.mapped == {TCP, UDP}


@pytest.mark.deadline(10_000)
@pytest.mark.parametrize("fault", ["silent", "refuses"])
async def test_a_mapping_that_is_not_renewed_stands_until_its_end(run, autojump_clock, fault):
    """It is asked for again at half of what is left each time, as the RFCs say."""
    here = run(Here(World(YES)))
    await trio.sleep(1)
    setattr(here.router, fault, "maps no port: it is full")
    await trio.sleep(HOUR - 10)
    assert here.doors.mapped() == (ADDRESS,) and here.reach().way == "mapped"
    assert "not renewed" in here.reach().said
    asked = here.router.asked[2:]
    assert 4 <= len(asked) < 40 and asked[0] >= HOUR / 2
    assert all(later - earlier >= RETRY_LEAST for earlier, later in pairwise(asked))
    await trio.sleep(20)
    assert here.doors.mapped() == () and here.reach().way == ""
    setattr(here.router, fault, "")
    await trio.sleep(REFUSED_AGAIN + 5)
    assert here.doors.mapped() == (ADDRESS,)


@pytest.mark.deadline(10_000)
async def test_a_router_that_misses_a_question_keeps_the_mapping(run, autojump_clock):
    here = run(Here(World(YES)))
    await trio.sleep(1)
    here.router.silent = True
    await trio.sleep(3 * LOOK_EVERY)
    assert here.doors.mapped() == (ADDRESS,) and len(here.router.asked) == 2


async def test_a_router_that_says_nothing_at_the_end_is_not_waited_for(autojump_clock):
    here, asked = Here(World(YES)), []

    async def unmap(protocol, internal, external):
        asked.append(protocol)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(here.doors.run, tuple)
        await trio.sleep(1)
        here.router.unmap = unmap
        ended = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - ended <= END_DEADLINE
    assert sorted(asked) == [TCP, UDP]


@pytest.mark.deadline(10_000)
async def test_a_router_that_refuses_is_named_and_asked_again_later(run, autojump_clock):
    router = Told()
    router.refuses = "maps no port: port mapping is switched off in it"
    here = run(Here(World(YES), router))
    await trio.sleep(1)
    assert here.reach().seen is False and "switched off" in here.reach().said
    router.refuses = ""
    await trio.sleep(REFUSED_AGAIN + 5)
    assert here.doors.mapped() == (ADDRESS,)


@pytest.mark.deadline(10_000)
async def test_a_port_that_is_mapped_for_no_time_is_refused(run, autojump_clock):
    here = run(Here(World(YES), Told(lifetime=0)))
    await trio.sleep(HOUR)
    assert here.doors.mapped() == () and "no time" in here.reach().said
    assert len(here.router.asked) <= 3 + HOUR / REFUSED_AGAIN
    here.router.lifetime = HOUR
    await trio.sleep(REFUSED_AGAIN + 5)
    assert here.doors.mapped() == (ADDRESS,)


@pytest.mark.deadline(10_000)
async def test_a_short_lifetime_is_renewed_no_sooner_than_the_rfc_allows(run, autojump_clock):
    here = run(Here(World(YES), Told(lifetime=1)))
    await trio.sleep(HOUR / 10)
    of_tcp = here.router.times[::2]
    assert len(of_tcp) > 3
    assert all(later - earlier >= RETRY_LEAST for earlier, later in pairwise(of_tcp))


@pytest.mark.deadline(10_000)
async def test_that_a_router_forgot_is_said_once(run, autojump_clock, caplog):
    caplog.set_level("INFO")
    here = run(Here(World(YES)))
    await trio.sleep(1)

    async def remembers():
        return False

    here.router.remembers = remembers
    await trio.sleep(10 * LOOK_EVERY)
    assert sum("has forgotten" in record.message for record in caplog.records) == 1


@pytest.mark.deadline(10_000)
async def test_in_another_network_the_old_mapping_counts_no_more(run, autojump_clock):
    here = run(Here(World(YES)))
    await trio.sleep(1)
    here.behind = gateway("8.8.8.8", "8.8.8.1")  # no router's network
    await trio.sleep(60)
    assert here.doors.mapped() == () and here.reach().said.startswith("not reachable")


@pytest.mark.parametrize("listen", ["127.0.0.1:4000", "192.168.9.9:4000", "[2606:4700::1]:4000"])
async def test_a_supplier_that_does_not_listen_where_the_router_leads_maps_nothing(
    run, autojump_clock, listen
):
    here = run(Here(World(YES), listen=listen))
    await trio.sleep(1)
    assert here.router.times == []


SELDOM = [10, 20, 40, 80, 160, 320, 640, 900]


async def pauses_of(proofs, count):
    """Seconds until an address is dialled again, each time; before that it is not."""
    pauses = []
    for _ in range(count):
        await proofs.look([ADDRESS, ADDRESS])
        asked, pause = proofs._dht.asked, proofs.of(ADDRESS).again - trio.current_time()
        await trio.sleep(pause - 1)
        await proofs.look([ADDRESS])
        assert proofs._dht.asked == asked
        await trio.sleep(1)
        pauses.append(round(pause))
    return pauses


@pytest.mark.deadline(100_000)
@pytest.mark.parametrize(
    ("answers", "pauses"),
    [
        ((YES,), [900, 900]),
        ((NO, NO), [15, 60, 120, 240, 480, 900]),
        ((None,), SELDOM),
        ((NO,), SELDOM),
        ((ELSEWHERE, ELSEWHERE), SELDOM),
    ],
)
async def test_an_address_is_dialled_again_ever_more_seldom(autojump_clock, answers, pauses):
    assert await pauses_of(Proofs(World(*answers)), len(pauses)) == pauses


@pytest.mark.deadline(10_000)
async def test_who_was_reached_before_is_so_while_nobody_answers(autojump_clock):
    world = World(YES)
    proofs = Proofs(world)
    await proofs.look([ADDRESS])
    world.answers = (None,)
    await trio.sleep(PROVEN_AGAIN + 1)
    await proofs.look([ADDRESS])
    assert proofs.of(ADDRESS).tcp.there is True


@pytest.mark.deadline(10_000)
@pytest.mark.parametrize(
    ("later", "hidden"),
    [
        ([(NO,)] * 5, False),  # of one network, however often
        ([(NO, NO), (NO, YES)], False),
        ([(NO, NO), (None,), (YES,), (NO, NO)], False),
        ([(NO, NO), (NO, NO)], True),
        ([(NO, NO), (None,), (NO, NO, None)], True),
    ],
)
async def test_an_address_is_hidden_by_noes_of_two_networks_twice(autojump_clock, later, hidden):
    """Whoever is asked may lie, and a router may have a bad moment."""
    world = World(YES)
    proofs = Proofs(world)
    await proofs.look([ADDRESS])
    for answers in later:
        world.answers = answers
        await trio.sleep(PROVEN_AGAIN + 1)
        await proofs.look([ADDRESS])
    assert (proofs.of(ADDRESS).tcp.there is False) is hidden


@pytest.mark.deadline(10_000)
async def test_who_cannot_make_sure_of_a_no_is_not_asked_all_the_time(autojump_clock):
    world = World(NO, NO)
    proofs = Proofs(world)
    await proofs.look([ADDRESS])
    world.answers = (NO, None)
    await trio.sleep(proofs.of(ADDRESS).again - trio.current_time())
    assert await pauses_of(proofs, 3) == [20, 40, 80]


@pytest.mark.deadline(10_000)
async def test_many_of_one_network_count_as_one(autojump_clock):
    world = World(NO, NO, NO, NO)
    world.contacts = lambda: [(f"8.8.{n}.1", 4000) if n == 0 else (f"8.8.1.{n}", 4000)
                              for n in range(4)]  # fmt: skip
    world.answers = (None, NO)
    proofs = Proofs(world)
    for _ in range(4):
        await proofs.look([ADDRESS])
        await trio.sleep(PROVEN_AGAIN + 1)
    assert proofs.of(ADDRESS).tcp.there is None


def test_a_supplier_behind_relays_says_through_which():
    relay = f"relay:{'ab' * 32}@9.9.9.9:4000"
    reach = reach_of([relay], LISTEN, ["9.9.9.9:4000"], NothingKnown(), lambda networks: None)
    assert reach[:2] == ("relayed", True)
    reach = reach_of([], LISTEN, ["9.9.9.9:4000"], NothingKnown(), lambda networks: None)
    assert reach[:2] == ("", False) and "no relay" in reach.said
