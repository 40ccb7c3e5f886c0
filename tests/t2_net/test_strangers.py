"""What strangers cost a supplier: memory, connections, dials, lines, space. Customers go on."""

import logging
import os
import sys
from collections import Counter
from contextlib import suppress
from functools import partial

import pytest
import trio
from customers import FOREVER, OTHER, family_naming, put, service_of
from family import (
    KEY,
    VaultKey,
    claim_of,
    contracted,
    credentials,
    root_of,
    serving,
)
from nacl.signing import SigningKey

from bitdustfs.cache.folder import OwnedFolder
from bitdustfs.core.keys import sign
from bitdustfs.errors import Unreachable
from bitdustfs.net import loglines, peer, wire
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.net.tls import TlsStream, make_context
from bitdustfs.net.whereabouts import AddressBook, Located
from bitdustfs.supplier import (
    buffers,
    connections,
    dials,
    diskshelf,
    server,
    talk,
)
from bitdustfs.supplier import guard as guards
from bitdustfs.supplier.buffers import Buffers
from bitdustfs.supplier.diskshelf import DiskShelf
from bitdustfs.supplier.guard import Guard
from bitdustfs.supplier.kin import NotAsked
from bitdustfs.supplier.kindials import kin_connector
from bitdustfs.supplier.memory import MemorySupplier
from bitdustfs.supplier.shelfrows import VaultRow
from bitdustfs.supplier.watched import Watched
from bitdustfs.units import KIB, MIB

pytestmark = pytest.mark.deadline(30)


async def dialled(address, source="127.0.0.2"):
    """TLS from a loopback address of the stranger's own."""
    host, _, port = address.rpartition(":")
    transport = await trio.open_tcp_stream(host, int(port), local_address=source)
    seed = os.urandom(32)
    stream = TlsStream(transport, make_context(seed, server_side=False), server_side=False)
    return stream, seed, await stream.handshake()


async def session(address, key, source="127.0.0.2"):
    """A stream with an open session of a vault's owner."""
    stream, seed, node = await dialled(address, source)
    decoder = wire.FrameDecoder(from_server=True)
    while (frame := decoder.next_untrusted()) is None:
        decoder.feed(await stream.receive_some())
    own = SigningKey(seed).verify_key.encode()
    body = wire.session_body("owner", key.vault_id, node, own, frame.message.nonce)
    opening = wire.Open(wire.VERSION, "owner", key.vault_id, sign(key.signing, "session", body))
    await stream.send_all(wire.encode_frame(0, opening))
    await stream.receive_some()
    return stream


async def ended(stream):
    """Returns when the supplier has closed the connection."""
    with suppress(trio.BrokenResourceError):
        while await stream.receive_some():
            pass


async def customer(address, nursery, key=KEY, size=100_000, space=64 * MIB):
    """The session of a vault that keeps a fragment there."""
    peer = PeerSupplier(b"", (address,), credentials(key), nursery)
    await contracted(peer, space, key)
    await put(peer, 0, size, key)
    return peer


# -- memory


@pytest.mark.parametrize(
    "first",
    [
        wire.encode_frame(0, wire.Put(bytes(16), 0, b"c", b"", b""), 16 * MIB),
        wire.PREFIX.pack(server.OPENING_HEAD_MAX + 1, 0, 0),
    ],
    ids=["payload", "head"],
)
async def test_nothing_is_taken_in_before_there_is_a_session(first, monkeypatch):
    monkeypatch.setattr(server, "OPENING_DEADLINE", 1000.0)  # it is not that which ends it
    async with serving(service_of()) as address:
        stream, _, _ = await dialled(address)
        await stream.send_all(first)
        with trio.fail_after(20):
            await ended(stream)


async def test_who_announces_a_put_and_sends_none_has_no_memory_that_others_need(monkeypatch):
    monkeypatch.setattr(server, "INCOMING_MAX", 33 * MIB)
    monkeypatch.setattr(buffers, "PATIENCE", 0.2)
    async with serving(service_of()) as address, trio.open_nursery() as nursery:
        hoarder = await customer(address, nursery, OTHER, space=40 * MIB)
        mine = await customer(address, nursery)
        streams = []
        for _ in range(4):
            stream = await session(address, OTHER)
            head = wire.Put(os.urandom(16), 0, claim_of(OTHER), b"", b"")
            await stream.send_all(wire.encode_frame(1, head, 8 * MIB))
            streams.append(stream)
        await trio.sleep(0.3)
        for number in range(1, 4):
            await put(mine, number, 12 * MIB)
        for stream in streams[:1]:
            await ended(stream)
        await hoarder.aclose()
        await mine.aclose()
        nursery.cancel_scope.cancel()


async def test_who_takes_no_answers_has_no_memory_that_others_need(monkeypatch):
    monkeypatch.setattr(server, "OUTGOING_MAX", 8 * MIB)
    monkeypatch.setattr(buffers, "PATIENCE", 0.2)
    async with serving(service_of()) as address, trio.open_nursery() as nursery:
        mine = await customer(address, nursery, size=4 * MIB)
        hoarders = [OTHER, VaultKey(b"p" * 32)]  # who have a half of the room each
        for key in hoarders:
            await (await customer(address, nursery, key, size=4 * MIB)).aclose()
        streams = [await session(address, key) for key in hoarders * 2]
        for stream in streams:
            for number in range(17):
                read = wire.Read(bytes(16), 0, 0, 4 * MIB)
                await stream.send_all(wire.encode_frame(number, read))
        await trio.sleep(0.3)
        for _ in range(3):
            assert len(await mine.read(bytes(16), 0, 0, 4 * MIB)) == 4 * MIB
        await mine.aclose()
        nursery.cancel_scope.cancel()


@pytest.mark.deadline(1000)
async def test_a_pool_is_shared_and_only_who_is_late_is_ended(autojump_clock):
    pool, gone = Buffers(64 * MIB), []
    slow = pool.hold((b"a",), lambda: gone.append("slow"))
    busy = pool.hold((b"b",), lambda: gone.append("busy"))
    other = pool.hold((b"c",), lambda: gone.append("other"))
    assert slow.take(32 * MIB) and not slow.take(1)  # half of it is one customer's
    assert busy.take(32 * MIB) and not other.take(1)
    slow.wait_begins()
    await trio.sleep(buffers.PATIENCE + 1)  # one is waited for; the other's are worked on here
    assert other.take(32 * MIB) and gone == ["slow"]
    other.wait_begins()
    for _ in range(30):  # as fast as it has to be
        await trio.sleep(1)
        other.wait_ends(buffers.SLOWEST)
        other.wait_begins()
    assert not slow.take(1) and gone == ["slow"]
    strangers = Buffers(128 * MIB)
    assert strangers.hold(buffers.STRANGERS, gone.clear).take(32 * MIB)
    assert not strangers.hold(buffers.STRANGERS, gone.clear).take(1)


@pytest.mark.deadline(1000)
async def test_of_those_who_are_late_no_more_are_ended_than_it_takes(autojump_clock):
    """Uplinks of homes are slower than 1 Mbit/s: they are ended where there is need, not else."""
    pool, gone = Buffers(64 * MIB), []
    holds = [pool.hold((bytes([n // 2]),), lambda n=n: gone.append(n)) for n in range(16)]
    assert all(hold.take(4 * MIB) for hold in holds[:15])
    greedy = pool.hold((bytes([0]),), lambda: gone.append("greedy"))
    assert greedy.take(4 * MIB)
    for hold in (*holds[:15], greedy):
        hold.wait_begins()
    await trio.sleep(buffers.PATIENCE + 1)
    assert pool.hold((b"new",), gone.clear).take(4 * MIB)
    assert len(gone) == 1 and gone[0] in (0, 1, "greedy"), "of who has the most"


def test_whole_rows_are_held_within_a_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(diskshelf, "WHOLE_MAX", 100 * KIB)
    folder = OwnedFolder(tmp_path / "shelf", "shelf", {"id": "test"})
    shelf = DiskShelf(folder)
    vaults = [bytes([number]) * 32 for number in range(20)]
    for vault in vaults:
        shelf.set_vault(vault, VaultRow(4 * MIB, FOREVER, root=vault * 500, family=vault * 100))
    assert shelf._weight <= 100 * KIB and len(shelf._whole) < 10
    for vault in vaults:
        row = shelf.vault(vault)
        assert (row.root, row.family) == (vault * 500, vault * 100)
    assert shelf._weight <= 100 * KIB
    assert max(len(row.root) + len(row.family) for _, row in shelf.all_rows()) <= 32
    shelf.close()
    folder.close()


# -- connections


async def test_idle_sessions_of_strangers_shut_nobody_out(monkeypatch):
    monkeypatch.setattr(connections, "STRANGERS_MAX", 8)
    async with serving(service_of()) as address, trio.open_nursery() as nursery:
        mine = await customer(address, nursery)
        await mine.ping()  # on the connection that it opened before it kept anything
        kept = mine._connections[False]
        streams = [
            await session(address, VaultKey(os.urandom(32)), f"127.0.0.{number + 2}")
            for number in range(24)
        ]
        await mine.ping()
        assert mine._connections[False] is kept  # a customer's place is none of theirs
        newcomer = PeerSupplier(b"", (address,), credentials(OTHER), nursery)
        await newcomer.ping()
        await ended(streams[0])  # the one that was silent for longest
        await newcomer.aclose()
        await mine.aclose()
        nursery.cancel_scope.cancel()


async def test_who_has_most_places_makes_way(autojump_clock, monkeypatch):
    monkeypatch.setattr(connections, "STRANGERS_MAX", 4)
    kept = connections.Places()
    one, many = kept.enter("8.8.8.8", trio.CancelScope()), []
    for _ in range(3):
        await trio.sleep(1)
        many.append(kept.enter("9.9.9.9", trio.CancelScope()))
    await trio.sleep(1)
    many[0].hear()
    kept.enter("7.7.7.7", trio.CancelScope())
    assert [place.scope.cancel_called for place in many] == [False, True, False]
    assert not one.scope.cancel_called and len(kept) == 4
    kept.promote(one, (b"vault",))
    kept.enter("6.6.6.6", trio.CancelScope())
    assert not any(place.scope.cancel_called for place in (one, many[0], many[2]))


async def test_many_small_vaults_of_one_network_throw_out_nobody_else(nursery, monkeypatch):
    """A mount has two connections; of each of those vaults there is one."""
    monkeypatch.setattr(connections, "CUSTOMERS_MAX", 8)
    service = service_of()

    async def comes(key, network):
        service.housekeeping.promise(key.vault_id, 4 * MIB, FOREVER, network=network)
        supplier = MemorySupplier(service, key.vault_id)
        await supplier.prepare(claim_of(key), False)
        await put(supplier, 0, 100, key)

    await comes(KEY, "8.8.8.0/24")
    many = [VaultKey(os.urandom(32)) for _ in range(24)]
    for key in many:
        await comes(key, "9.9.9.0/24")
    async with serving(service) as address:
        mine = PeerSupplier(b"", (address,), credentials(), nursery)
        await mine.ping()
        await put(mine, 1, 300_000)
        before = dict(mine._connections)
        assert len(before) == 2
        streams = [await session(address, key, "127.0.0.9") for key in many]
        await ended(streams[0])
        await mine.ping()
        await put(mine, 2, 300_000)
        assert mine._connections == before, "it had to come again"
        await mine.aclose()


async def test_one_network_opens_only_so_many_connections_a_second(autojump_clock):
    kept = connections.Places()
    let_in = [kept.enter(f"9.9.9.{n % 250}", trio.CancelScope()) for n in range(500)]
    assert len([place for place in let_in if place]) == connections.NEW_BURST
    assert kept.enter("9.9.8.1", trio.CancelScope())
    await trio.sleep(1)
    again = [kept.enter("9.9.9.1", trio.CancelScope()) for _ in range(100)]
    assert len([place for place in again if place]) == connections.NEW_RATE


# -- dials


@pytest.mark.parametrize("reserve", [False, True])
async def test_a_strangers_family_makes_a_supplier_dial_only_so_often(
    reserve, nursery, monkeypatch
):
    """What the family names, and what the records of those nodes name."""
    service, asked = service_of(), []

    async def meet(address, node, context, bulk, line):
        asked.append(address)
        raise Unreachable("nobody is there")

    async def find(node):
        return Located(1, tuple(f"9.9.9.9:{9000 + n}" for n in range(4)))

    monkeypatch.setattr(peer, "meet", meet)
    for number in range(4):
        key = VaultKey(bytes([number]) * 32)
        supplier = MemorySupplier(service, key.vault_id)
        await contracted(supplier, 4 * MIB, key)
        await put(supplier, 1, 100, key)
        addresses = [f"9.9.9.{number}:{port}" for port in range(5000, 5318)]
        family = family_naming(key, service.kinship.own, addresses, reserve)
        await supplier.accept(root_of(family, key=key), family, claim_of(key))
    budget = dials.Dials()
    book = AddressBook(find, nursery)
    guard = Guard(service, kin_connector(service.node, nursery, True, book, budget), budget)
    began = trio.current_time()
    for _ in range(2 if reserve else 3):
        for vault, _ in service.shelf.all_rows():
            await guard.round(vault)
    passed = trio.current_time() - began
    assert 0 < len(asked) <= dials.UNPROVEN_BURST_ALL + passed * dials.UNPROVEN_RATE_ALL
    of_one = max(Counter(address.split(":")[0] for address in asked).values())
    assert of_one <= dials.UNPROVEN_BURST + passed * dials.UNPROVEN_RATE
    seen = guard._rounds[vault]
    assert seen.unasked  # and they are not held to be away
    nursery.cancel_scope.cancel()


@pytest.mark.deadline(1000)
async def test_a_member_dials_nobody_for_a_vault_that_keeps_nothing_here(autojump_clock):
    service = service_of()
    supplier = MemorySupplier(service, KEY.vault_id)
    await contracted(supplier, 4 * MIB)
    family = family_naming(KEY, service.kinship.own, ["9.9.9.9:5000"])
    await supplier.accept(root_of(family), family, claim_of())

    dialled_for = []

    def connect(vault, member):
        dialled_for.append(vault)
        return NotAsked(member.node)

    with trio.move_on_after(60):
        await Guard(service, connect).run()
    assert not dialled_for


async def test_families_are_watched_within_a_bound_and_whoever_keeps_most_is(monkeypatch):
    """Families of strangers, as large as they may be, take no memory without end."""
    monkeypatch.setattr(guards, "Watched", partial(Watched, 100 * KIB))
    service, families = service_of(), {}
    own = service.kinship.own
    for number in range(12):
        key = VaultKey(bytes([number]) * 32)
        supplier = MemorySupplier(service, key.vault_id)
        await contracted(supplier, 4 * MIB, key)
        small = number == 3  # a customer that comes among many strangers
        ports = range(5000, 5003 if small else 5318)
        await put(supplier, 1, 100, key)
        family = family_naming(key, own, [f"9.9.9.9:{port}" for port in ports])
        await supplier.accept(root_of(family, key=key), family, claim_of(key))
        families[key.vault_id] = family
    customer_vault = VaultKey(bytes([3]) * 32).vault_id
    budget = dials.Dials()

    def connect(vault, member):
        budget.note(vault, member.node, asked=False)  # as where all is spent
        return NotAsked(member.node)

    guard = Guard(service, connect, budget)
    for _ in range(3):
        for vault, _ in service.shelf.all_rows():
            await guard.round(vault)
    assert sum(len(families[vault]) for vault in guard._rounds) <= 100 * KIB
    assert customer_vault in guard._rounds and len(guard._rounds) > 2
    assert service.kinship._away.keys() == guard._rounds.keys()
    service.leave()  # who leaves has to know whether anybody depends on it
    for vault, _ in service.shelf.all_rows():
        await guard.round(vault)
    assert guard._rounds.keys() == families.keys()


def test_who_keeps_nothing_yet_is_watched_among_large_families():
    every = Watched(MIB)
    reserves = [bytes([number]) * 32 for number in range(100)]
    for vault in reserves:
        assert not every.take(vault, 800, 0)
    for number in range(1000, 2000):
        left_out = every.take(number.to_bytes(32, "big"), 128 * KIB, 4 * KIB)
        assert not set(left_out) & set(reserves)
    assert all(vault in every for vault in reserves) and len(every) < 110
    for number in range(1000, 1010):  # strangers leave: there is room again
        every.drop(number.to_bytes(32, "big"))
    before = len(every)
    assert not every.take(b"n" * 32, 200, 4 * KIB) and len(every) == before + 1


async def test_who_is_not_asked_is_not_held_to_be_away():
    now = 1000.0
    service = service_of(clock=lambda: now)
    own = service.kinship.own
    family = wire_family = family_naming(KEY, own, ["9.9.9.9:5000", "9.9.9.9:5001"])
    supplier = MemorySupplier(service, KEY.vault_id)
    await contracted(supplier, 4 * MIB)
    await supplier.accept(root_of(wire_family), family, claim_of())
    kin = service.kinship
    opened = kin.family(KEY.vault_id, service.shelf.vault(KEY.vault_id))
    _, silent, unasked = (member.node for member in opened.members)
    for _ in range(20):
        kin.observe(KEY.vault_id, opened, [], [unasked])
        now += 1
    assert kin.absent(KEY.vault_id, opened, silent)
    assert not kin.absent(KEY.vault_id, opened, unasked)


# -- the log


def test_lines_of_one_place_are_few_and_say_how_many_there_were(caplog):
    now = 0.0
    few = loglines.FewLines(lambda: now)
    caplog.handler.addFilter(few)
    try:
        log = logging.getLogger("bitdustfs.net.dht.node")
        for number in range(10_000):
            log.warning("datagram %d dropped", number)
            if number == 9_990:
                now += loglines.EVERY
        logging.getLogger("bitdustfs.vault.publish").warning("something else")
    finally:
        caplog.handler.removeFilter(few)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == loglines.AT_ONCE + 2
    assert said[-2] == "datagram 9991 dropped (and 9971 more like it)"


def test_the_same_line_is_said_once_an_hour(caplog):
    """A supplier that was away for a day made 1 MB of them."""
    now = 0.0
    few = loglines.FewLines(lambda: now)
    caplog.handler.addFilter(few)
    try:
        with caplog.at_level(logging.INFO):
            for second in range(0, 86400, 10):
                now = float(second)
                logging.getLogger("bitdustfs.blocks.fetch").info("supplier %s is away", "ab")
                logging.getLogger("bitdustfs.blocks.fetch").info("supplier %s is away", "cd")
            for number in range(2 * loglines.TEXTS_MAX):
                logging.getLogger("bitdustfs.vault.publish").info("other line %d", number)
    finally:
        caplog.handler.removeFilter(few)
    said = [r.getMessage() for r in caplog.records if "away" in r.getMessage()]
    assert len(said) == 48 and said[-1] == "supplier cd is away (and 359 more like it)"
    assert len(few._texts) == loglines.TEXTS_MAX


def test_a_line_that_was_left_out_for_its_place_is_said_when_there_is_room():
    """It was never said: the hour in which it is not repeated has not begun."""
    now = 0.0
    few = loglines.FewLines(lambda: now)

    def is_said(text):
        return few.filter(
            logging.LogRecord("bitdustfs.net.peer", logging.WARNING, "peer.py", 1, text, None, None)
        )

    assert all(is_said(f"stranger {number}") for number in range(loglines.AT_ONCE))
    assert not is_said("a supplier lies")
    now = loglines.EVERY
    assert is_said("a supplier lies") and not is_said("a supplier lies")
    now += loglines.EVERY
    assert not is_said("a supplier lies")  # what is repeated takes nobody's room
    assert is_said("another one lies")


def fails_at_once():
    raise ValueError("one")


def fails_otherwise():
    raise ValueError("one")


def fails_in_a_group():
    raise ExceptionGroup("several", [KeyError("one")])


def test_another_traceback_is_said_although_the_text_is_the_same():
    few, said = loglines.FewLines(lambda: 0.0), []
    for fails in (fails_at_once, fails_otherwise, fails_in_a_group) * 2:
        try:
            fails()
        except Exception:
            record = logging.LogRecord(
                "bitdustfs.mount.process", logging.ERROR, "process.py", 1, "a bug",
                None, sys.exc_info(),
            )  # fmt: skip
            said.append(few.filter(record))
    assert said == [True] * 3 + [False] * 3


@pytest.mark.parametrize("ends", ["before the handshake", "idle"])
async def test_who_merely_goes_or_is_idle_is_no_warning(ends, monkeypatch, caplog):
    monkeypatch.setattr(talk, "IDLE_STRANGER", 0.2)
    with caplog.at_level(logging.INFO):
        async with serving(service_of()) as address:
            if ends == "idle":
                with trio.fail_after(20):
                    await ended(await session(address, KEY))
            else:
                host, _, port = address.rpartition(":")
                await (await trio.open_tcp_stream(host, int(port))).aclose()
                with trio.fail_after(20):  # it is noticed before the next one is served
                    await session(address, OTHER)
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == []
    if ends == "before the handshake":
        assert any("gone: BrokenResourceError" in r.getMessage() for r in caplog.records)
