"""Among whom a supplier's places, threads, memory and rates are shared out: nobody gains by many
vaults of one network, nor by what a relay makes of where he comes from.
"""

import pytest
import trio
from customers import FOREVER, service_of

from bitdustfs.errors import Refused
from bitdustfs.net.rates import DEBT_MAX, Rates
from bitdustfs.supplier import buffers, connections, dials, housekeeping, turns
from bitdustfs.supplier.buffers import Buffers
from bitdustfs.supplier.caps import BURST_SECONDS, CallRates, PassingRates, RelayCaps
from bitdustfs.supplier.connections import Places
from bitdustfs.supplier.dials import Dials
from bitdustfs.supplier.kindials import LookUpRates
from bitdustfs.supplier.shares import (
    ShareRates,
    counted,
    gives_way,
    mark_of,
    relayed_network,
    share_of_network,
    share_of_vault,
)
from bitdustfs.supplier.shelfrows import VaultRow
from bitdustfs.supplier.turns import Turns
from bitdustfs.units import MIB

NETWORK, ELSEWHERE = "9.9.9.0/24", "8.8.8.0/24"
RELAY = b"the key of a relay, 32 bytes of "
MANY = [(NETWORK, b"vault %d" % number) for number in range(500)]  #: one stranger's
ONE = (ELSEWHERE, b"another vault")


def from_a_relay(network, node=b"node", secret=b"secret", relay=RELAY):
    return relayed_network(relay, mark_of(secret, node, network) + bytes(24))


def test_who_came_as_anybody_from_one_network_has_one_share():
    row = VaultRow(1, 1, network=NETWORK)
    assert share_of_vault(b"v", row) == (NETWORK, b"v")
    assert share_of_vault(b"v", VaultRow(1, 1, network=NETWORK, invited=b"token")) == (b"v",)
    for of_before in (VaultRow(1, 1), None):
        assert share_of_vault(b"v", of_before) == (b"v",)
    assert share_of_vault(b"v", VaultRow(1, 1, network="relayed")) == ("relayed", b"v")


def test_a_relay_tells_networks_apart_and_no_more_of_them():
    here = from_a_relay(NETWORK)
    assert here == from_a_relay(NETWORK) and NETWORK[:5] not in here
    others = [
        from_a_relay(ELSEWHERE), from_a_relay(NETWORK, node=b"another"),
        from_a_relay(NETWORK, secret=b"another"), from_a_relay(NETWORK, relay=b"r" * 32),
    ]  # fmt: skip
    assert here not in others
    assert {share_of_network(network)[0] for network in (here, *others)} == {"relayed"}
    assert all(len(network) <= 64 for network in (here, *others)), "a row has room for no more"


def test_where_their_ways_part_who_has_more_gives_way():
    counts = counted([*MANY[:3], ONE])
    assert gives_way(MANY[0], ONE, counts) and not gives_way(ONE, MANY[0], counts)
    assert not gives_way(MANY[0], MANY[1], counts) and not gives_way(ONE, ONE, counts)
    assert gives_way((b"invited",), ONE, counted([(b"invited",)] * 3))


# -- what is shared out


async def test_of_many_vaults_of_one_network_one_gives_its_place(autojump_clock, monkeypatch):
    monkeypatch.setattr(connections, "CUSTOMERS_MAX", 12)
    kept = Places()

    async def come(host, share):
        await trio.sleep(1)
        place = kept.enter(host, trio.CancelScope())
        kept.promote(place, share)
        return place

    mine = [await come("8.8.8.8", ONE) for _ in range(2)]
    many = [await come("9.9.9.9", share) for share in MANY[:30]]
    assert not any(place.scope.cancel_called for place in mine)
    assert sum(not place.scope.cancel_called for place in many) == 10
    neighbour = await come("9.9.9.1", (NETWORK, b"a neighbour"))
    for share in MANY[30:40]:
        await come("9.9.9.9", share)
    assert neighbour.scope.cancel_called and len(kept) == 12, "it has a part of that share"


@pytest.mark.deadline(1000)
def test_who_asks_much_and_goes_leaves_no_long_wait_to_others():
    now = 0.0
    rates = Rates(1.0, 5.0, lambda: now)
    for _ in range(1000):
        rates.spend("all")
    assert rates.spend("all") == DEBT_MAX
    now += DEBT_MAX + 5.0
    assert rates.spend("all") == 0.0
    assert (
        rates.spend("more at once", 100.0) == 95.0 and rates.spend("more at once", 100.0) == 100.0
    )


async def test_many_vaults_of_one_network_have_no_more_threads_than_one(autojump_clock):
    """The others go on at once, however many wait."""
    shared = Turns()

    async def work(place):
        async with shared.turn(place) as limiter, limiter:
            await trio.sleep(10)

    def place_of(share):
        return connections.Slot("", share, trio.CancelScope(), 0.0, stranger=False)

    async with trio.open_nursery() as nursery:
        for share in MANY[:50]:
            for _ in range(4):
                nursery.start_soon(work, place_of(share))
        await trio.sleep(1)
        assert shared._workers.borrowed_tokens == turns.WORKERS_OF_ONE
        began = trio.current_time()
        await work(place_of(ONE))
        assert trio.current_time() - began == 10
        nursery.cancel_scope.cancel()
    assert not shared._of_shares


async def test_many_vaults_of_one_network_have_half_of_the_memory(autojump_clock):
    pool = Buffers(64 * MIB)
    taken = [pool.hold(share, lambda: None).take(4 * MIB) for share in MANY[:30]]
    assert taken.count(True) == 8
    assert pool.hold(ONE, lambda: None).take(32 * MIB)
    other = Buffers(64 * MIB)
    ended, first = [], other.hold(ONE, lambda: ended.append("one"))
    late = [other.hold(share, lambda: ended.append("of many")) for share in MANY[:8]]
    assert first.take(8 * MIB) and all(hold.take(4 * MIB) for hold in late)
    for hold in (first, *late):
        hold.wait_begins()
    await trio.sleep(buffers.PATIENCE + 1)
    assert other.hold((b"new",), lambda: None).take(30 * MIB)
    assert set(ended) == {"of many"}, "though none of them has more than the one"


def test_many_vaults_of_one_network_take_nobody_s_dials_and_look_ups():
    shares = dict(enumerate(MANY))
    shares[-1] = ONE

    def whose(vault):
        return shares[int(vault)]

    budget, rates = Dials(whose, lambda: 0.0), LookUpRates(whose, lambda: 0.0)
    asked = [f"9.9.9.9:{port}" for port in range(5000, 5100)]
    dialled = looked_up = 0
    for number in range(len(MANY)):
        dialled += len(budget.admitted(b"%d" % number, b"node", asked))
        looked_up += rates.admits(b"%d" % number)
    assert dialled == dials.UNPROVEN_BURST and looked_up == 8
    assert len(budget.admitted(b"-1", b"node", asked)) == dials.UNPROVEN_BURST
    assert rates.admits(b"-1")


async def test_of_those_who_come_through_a_relay_each_network_has_its_own_part(autojump_clock):
    """What the relay says adds nothing: all together are one network."""
    rates, one, other = ShareRates(1.0, 100.0), *map(from_a_relay, (NETWORK, ELSEWHERE))
    admitted = [rates.admits(share_of_network(one)) for _ in range(1000)]
    assert admitted.count(True) == 50
    assert [rates.admits(share_of_network(other)) for _ in range(50)] == [True] * 50
    made_up = (relayed_network(b"l" * 32, bytes([n]) * 32) for n in range(200))
    assert not any(rates.admits(share_of_network(network)) for network in made_up)
    assert rates.admits((NETWORK,))
    began = trio.current_time()
    await rates.spend(share_of_network(one))
    assert trio.current_time() - began == pytest.approx(2.0)


@pytest.mark.parametrize("space", [4 * MIB, 60 * MIB])
def test_one_network_has_so_many_contracts_and_of_those_behind_a_relay_none_has_all(
    space, monkeypatch
):
    monkeypatch.setattr(housekeeping, "NETWORK_VAULTS", 5)

    def made(service, networks):
        promised = 0
        for number, network in enumerate(networks):
            vault = network.encode()[-20:] + bytes([number])
            try:
                service.housekeeping.promise(vault, space, FOREVER, network=network)
            except Refused:
                continue
            promised += 1
        return promised

    one, other, third = map(from_a_relay, (NETWORK, ELSEWHERE, "7.7.7.0/24"))
    most = 5 if space == 4 * MIB else 4
    assert made(service_of(1024 * MIB), [NETWORK] * 30) == most
    service = service_of(1024 * MIB)
    assert made(service, [one] * 30) == most, "what it has who comes otherwise"
    assert made(service, [other] * 30) == most
    assert made(service, [third] * 30) == 0, "all together are like two networks"
    assert made(service, [ELSEWHERE] * 30) == most


def test_what_was_promised_is_renewed_from_anywhere_and_counts_where_it_did():
    """Else whoever moves into a crowded network loses what is kept of him."""
    given, until = service_of(64 * MIB, wall=lambda: 1e9).housekeeping, 1_000_001_000
    for network in (NETWORK, ELSEWHERE):
        given.promise(network.encode(), 16 * MIB, until, network=network)
    vault = NETWORK.encode()
    moved = given.promise(vault, 16 * MIB, until + 1, network=ELSEWHERE)
    assert (moved.until, moved.network) == (until + 1, NETWORK)
    with pytest.raises(Refused, match="has its share"):
        given.promise(vault, 17 * MIB, until, network=ELSEWHERE)
    with pytest.raises(Refused, match="has its share"):
        given.promise(b"another", 4 * MIB, until, network=NETWORK)
    assert given.promise(vault, 16 * MIB, until, network="7.7.7.0/24").network == "7.7.7.0/24"


@pytest.mark.deadline(1000)
async def test_who_calls_nodes_again_and_again_takes_no_one_elses_circuits(autojump_clock):
    caps = RelayCaps()
    calls, friend, other = CallRates(caps), (b"friend",), (b"another friend",)
    began = [calls.admits(NETWORK, friend) for _ in range(1000)]
    assert began.count(True) == caps.circuits / 2
    assert calls.admits(ELSEWHERE, friend)
    from_many = [calls.admits(f"9.9.{n}.0/24", friend) for n in range(1000)]
    assert from_many.count(True) < caps.circuits
    assert calls.admits(ELSEWHERE, other)
    await trio.sleep(60)
    again = [calls.admits(NETWORK, friend) for _ in range(1000)]
    assert 0 < again.count(True) <= caps.circuits / 2
    few = CallRates(RelayCaps(circuits=4))
    assert all(few.admits(NETWORK, friend) for _ in range(8)), "a mount that dials again"


@pytest.mark.deadline(1000)
@pytest.mark.parametrize("theirs", [(b"friend", NETWORK), (b"another friend", NETWORK)])
async def test_who_speaks_by_many_circuits_leaves_others_their_part(autojump_clock, theirs):
    """With one node, or with those of two friends, who leave nothing between them."""
    caps = RelayCaps()
    rates, mine, passed = PassingRates(caps), (b"mine", ELSEWHERE), {}
    if theirs[0] == b"friend":
        mine, speaking = (b"friend", ELSEWHERE), [theirs] * 31
        part = caps.rate_of_one / 2
    else:
        speaking, part = [(b"a friend", NETWORK), theirs] * 16, caps.rate / 3

    async def speak(who):
        while True:
            size = MIB
            await trio.sleep(rates.spend(*who, {*speaking, mine}, size) or 0.01)
            passed[who] = passed.get(who, 0) + size

    async with trio.open_nursery() as nursery:
        for who in (mine, *speaking):
            nursery.start_soon(speak, who)
        await trio.sleep(6 * BURST_SECONDS)
        passed.clear()
        await trio.sleep(30)
        nursery.cancel_scope.cancel()
    assert passed[mine] > 0.9 * 30 * part
    assert sum(passed.values()) <= 1.05 * 30 * (2 * part if mine[0] == theirs[0] else caps.rate)
