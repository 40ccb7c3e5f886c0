"""Hostile bytes on the wire: typed errors, bounded memory, and the server lives."""

import os
from contextlib import asynccontextmanager, suppress

import pytest
import trio
import trio.testing
from family import KEY, VaultKey, contracted, credentials, serving, supplier_of
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from bitdustfs.core import block, items, leaves, records
from bitdustfs.errors import Forged, Malformed, ProtocolViolation, Refused, Unreachable, WrongPeer
from bitdustfs.net import wire
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.net.supplier import Supplier
from bitdustfs.net.tls import TlsStream, make_context
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.shelf import MemoryShelf
from bitdustfs.units import FRAGMENT_MAX, FRAME_HEAD_MAX, GIB

pytestmark = pytest.mark.deadline(30)
PARSERS = [
    block.decode_directory_untrusted,
    leaves.decode_leaf_untrusted,
    leaves.decode_index_untrusted,
    records.decode_root_content_untrusted,
    items.decode_inode,
    items.decode_entry,
    items.decode_extent,
    items.decode_xattr,
    items.decode_counters,
    lambda data: records.open_root_untrusted(data, KEY.vault_id),
    lambda data: records.open_family_untrusted(data, KEY.vault_id),
    lambda data: records.open_header_untrusted(data, KEY.vault_id),
]
msgpack_like = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=70)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=16),
    max_leaves=40,
)  # fmt: skip


@pytest.mark.parametrize("parser", PARSERS)
@given(data=st.binary(max_size=200) | msgpack_like.map(items.encode))
def test_parsers_raise_malformed_or_return(parser, data):
    with suppress(Malformed):
        parser(data)


@given(st.binary(max_size=400) | msgpack_like.map(items.encode), st.booleans())
def test_frames_parse_or_raise_malformed(head, from_server):
    decoder = wire.FrameDecoder(from_server)
    decoder.feed(wire.PREFIX.pack(len(head), 0, 1) + head)
    with suppress(Malformed):
        decoder.next_untrusted()


@given(st.lists(st.integers(1, 50), min_size=1), st.binary(max_size=300), st.booleans())
def test_frames_survive_any_split(cuts, payload, straight):
    """`straight`: what can be written into the payload's buffer is, and the rest is fed."""
    message = wire.Put(b"b" * 16, 3, b"c" * 100, b"h", b"l" * 32)
    data = (wire.encode_frame(9, message, len(payload)) + payload) * 2
    decoder = wire.FrameDecoder(from_server=False)
    got, at = [], 0
    while at < len(data):
        cut = cuts[at % len(cuts)]
        vacant = decoder.vacant[:cut] if straight else b""
        if vacant:
            vacant[:] = data[at : at + len(vacant)]
            decoder.fill(len(vacant))
        else:
            decoder.feed(data[at : at + cut])
        at += len(vacant) or cut
        while (frame := decoder.next_untrusted()) or decoder.asked:
            if frame:
                got.append(frame)
            elif straight:
                decoder.admit(memoryview(bytearray(decoder.asked.length)))
            else:
                decoder.admit()
    assert got == [wire.Frame(9, message, payload)] * 2


@pytest.mark.parametrize(
    "prefix",
    [
        wire.PREFIX.pack(FRAME_HEAD_MAX + 1, 0, 1),
        wire.PREFIX.pack(10, FRAGMENT_MAX + 1, 1),
        wire.encode_frame(1, wire.Ping(), 1),
        wire.encode_frame(1, wire.Read(b"b" * 16, 0, 0, 1), 4096),
    ],
)
def test_a_frame_beyond_its_bound_is_refused_before_its_body(prefix):
    decoder = wire.FrameDecoder(from_server=False)
    decoder.feed(prefix)
    with pytest.raises(Malformed):
        decoder.next_untrusted()


async def raw_session(address, seed):
    host, _, port = address.rpartition(":")
    transport = await trio.open_tcp_stream(host, int(port))
    return TlsStream(transport, make_context(seed, server_side=False), server_side=False)


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", os.urandom(5000), b"\x16\x03\x01"])
async def test_garbage_instead_of_tls_leaves_the_server_alive(garbage):
    service = SupplierService(SigningKey(os.urandom(32)), MemoryShelf(), GIB)
    async with serving(service) as address, trio.open_nursery() as nursery:
        host, _, port = address.rpartition(":")
        stream = await trio.open_tcp_stream(host, int(port))
        await stream.send_all(garbage)
        await stream.send_eof()
        with suppress(trio.BrokenResourceError):
            while await stream.receive_some():
                pass
        peer = PeerSupplier(service.node.verify_key.encode(), (address,), credentials(), nursery)
        await peer.ping()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "frame",
    [
        b"\xff" * 64,
        wire.encode_frame(0, wire.Ping()),
        wire.encode_frame(0, wire.Open(1, "owner", KEY.vault_id, bytes(64))),
        wire.encode_frame(0, wire.Open(1, "reader", KEY.vault_id, bytes(64))),
        wire.encode_frame(0, wire.Open(1, "root", KEY.vault_id, bytes(64))),
        wire.encode_frame(0, wire.Open(1, "friend", KEY.vault_id, bytes(64))),
    ],
)
async def test_a_session_needs_the_vaults_signature(frame):
    service = SupplierService(SigningKey(os.urandom(32)), MemoryShelf(), GIB)
    async with serving(service) as address, trio.open_nursery() as nursery:
        stream = await raw_session(address, os.urandom(32))
        await stream.handshake()
        await stream.send_all(frame)
        decoder = wire.FrameDecoder(from_server=True)
        answers = []
        with suppress(trio.BrokenResourceError):
            while data := await stream.receive_some():
                decoder.feed(data)
                while got := decoder.next_untrusted():
                    answers.append(got.message)
        assert not any(isinstance(answer, wire.Done) for answer in answers)
        await stream.aclose()
        peer = PeerSupplier(service.node.verify_key.encode(), (address,), credentials(), nursery)
        await peer.ping()
        nursery.cancel_scope.cancel()


async def test_a_session_signed_with_another_vaults_key_is_refused():
    service = SupplierService(SigningKey(os.urandom(32)), MemoryShelf(), GIB)
    stranger = credentials(VaultKey(b"w" * 32))
    mine = credentials()
    posing = type(mine)(mine.vault, "owner", stranger.key, mine.tls_public, mine.context)
    async with serving(service) as address, trio.open_nursery() as nursery:
        node = service.node.verify_key.encode()
        with pytest.raises(Refused) as caught:
            await PeerSupplier(node, (address,), posing, nursery).ping()
        assert caught.value.code == "forged"


async def test_another_node_at_the_address_is_named():
    service = SupplierService(SigningKey(os.urandom(32)), MemoryShelf(), GIB)
    async with serving(service) as address, trio.open_nursery() as nursery:
        with pytest.raises(WrongPeer):
            await PeerSupplier(bytes(32), (address,), credentials(), nursery).ping()


async def test_a_supplier_is_found_at_its_second_address_when_another_node_is_at_the_first():
    """An address that its provider gave to somebody else since."""
    other = SupplierService(SigningKey(os.urandom(32)), MemoryShelf(), GIB)
    wanted = SupplierService(SigningKey(os.urandom(32)), MemoryShelf(), GIB)
    async with (
        serving(other) as first, serving(wanted) as second, trio.open_nursery() as nursery,
    ):  # fmt: skip
        node = wanted.node.verify_key.encode()
        peer = PeerSupplier(node, (first, second), credentials(), nursery)
        await peer.ping()
        await peer.aclose()
        nursery.cancel_scope.cancel()


async def test_promise_11_whoever_waits_to_send_is_told_when_the_connection_ends():
    """Twenty requests to a supplier that takes nothing any more, and then goes away."""
    node = SigningKey(os.urandom(32))
    context = make_context(node.encode(), server_side=True)
    service = SupplierService(node, MemoryShelf(), GIB)
    stopped = trio.Event()

    async def serve_the_opening_only(transport):
        stream = TlsStream(transport, context, server_side=True)
        await stream.handshake()
        nonce = os.urandom(32)
        await stream.send_all(wire.encode_frame(0, wire.Challenge(wire.VERSION, nonce)))
        await stream.receive_some()
        await stream.send_all(wire.encode_frame(0, wire.Done()))
        await stopped.wait()
        await transport.aclose()

    failed = []
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve_the_opening_only, 0)
        port = listeners[0].socket.getsockname()[1]
        public = service.node.verify_key.encode()
        peer = PeerSupplier(public, (f"127.0.0.1:{port}",), credentials(), nursery)

        async def put():
            with pytest.raises((Unreachable, ProtocolViolation)):
                await peer.call(
                    wire.Put(b"b" * 16, 0, b"c" * 100, b"h", b"c" * 32),
                    bytes(4 << 20),
                )
            failed.append(trio.current_time())

        async with trio.open_nursery() as calls:
            for _ in range(20):
                calls.start_soon(put)
            await trio.testing.wait_all_tasks_blocked(0.2)
            began = trio.current_time()
            stopped.set()
        assert len(failed) == 20 and failed[-1] - began < 5
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("reply", [b"\xff" * 64, wire.encode_frame(1, wire.Bytes()), b""])
async def test_a_lying_server_gives_the_client_a_typed_error(reply):
    node = SigningKey(os.urandom(32))
    context = make_context(node.encode(), server_side=True)

    async def lie(transport):
        stream = TlsStream(transport, context, server_side=True)
        with suppress(trio.BrokenResourceError, ProtocolViolation):
            await stream.handshake()
            await stream.send_all(reply)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, lie, 0)
        port = listeners[0].socket.getsockname()[1]
        address = (f"127.0.0.1:{port}",)
        peer = PeerSupplier(node.verify_key.encode(), address, credentials(), nursery)
        with pytest.raises((ProtocolViolation, Unreachable)):
            await peer.ping()
        nursery.cancel_scope.cancel()


class Beside(Supplier):
    """Answers each request with what answers another one."""

    node = b"n" * 32

    async def call(self, request, payload=b""):
        return wire.ContractIs(b"record"), b"x" * 10


async def test_promise_2_an_answer_of_another_kind_acknowledges_nothing():
    supplier = Beside()
    with pytest.raises(ProtocolViolation, match="was due"):
        await supplier.put(b"b" * 16, 0, b"c", b"h", b"l" * 32, b"payload")
    with pytest.raises(ProtocolViolation, match="was due"):
        await supplier.read(b"b" * 16, 0, 0, 10)


async def test_a_reader_reads_and_changes_nothing(tmp_path):
    async with supplier_of("memory", tmp_path) as owner:
        await contracted(owner)
        reader = type(owner)(owner.service, KEY.vault_id, "reader")
        assert (await reader.usage()).fragments == 0
        with pytest.raises(Refused) as caught:
            await reader.promise(1, 1)
        assert caught.value.code == "unauthorised"


def test_nothing_but_the_vaults_key_signs_its_records():
    stranger = VaultKey(b"w" * 32)
    claim = records.BallotClaim(KEY.vault_id, b"c" * 100)
    forged = records.seal_record(stranger.signing, "ballot", claim)
    with pytest.raises(Forged):
        records.ballot_records.open_untrusted(forged, KEY.vault_id)
    other_kind = records.seal_record(KEY.signing, "root", claim)
    with pytest.raises(Forged):
        records.ballot_records.open_untrusted(other_kind, KEY.vault_id)


async def test_a_peer_that_dies_while_we_send_is_a_broken_stream():
    ours, theirs = trio.testing.memory_stream_pair()
    client = TlsStream(ours, make_context(b"c" * 32, server_side=False), server_side=False)
    server = TlsStream(theirs, make_context(b"s" * 32, server_side=True), server_side=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.handshake)
        await client.handshake()
    await server.aclose()
    assert await client.receive_some() == b""  # the reader sees the end first
    with pytest.raises(trio.BrokenResourceError):
        await client.send_all(b"x" * 100_000)


# -- suppliers that send what nobody asked for


@asynccontextmanager
async def answering(script):
    """The address of a supplier that takes a session, and then does as `script(stream)` says."""
    node = SigningKey(os.urandom(32))
    context = make_context(node.encode(), True)

    async def serve(transport):
        stream = TlsStream(transport, context, True)
        with suppress(trio.BrokenResourceError, ProtocolViolation):
            await stream.handshake()
            await stream.send_all(wire.encode_frame(0, wire.Challenge(wire.VERSION, bytes(32))))
            await stream.receive_some()
            await stream.send_all(wire.encode_frame(0, wire.Done()))
            await script(stream)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("made_up", [2**60, 7, 1], ids=["never", "not yet", "again"])
async def test_answers_that_nobody_asked_for_end_the_connection(nursery, made_up):
    """One supplier could keep the mount's only thread busy with them for ever."""
    over = trio.Event()

    async def flood(stream):
        await stream.receive_some()
        await stream.send_all(wire.encode_frame(1, wire.Done()))
        with suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(wire.encode_frame(made_up, wire.Done()) * 10_000)
        over.set()

    async with answering(flood) as address:
        peer = PeerSupplier(b"", (address,), credentials(), nursery)
        await peer.ping()
        with trio.fail_after(5):
            await over.wait()


async def test_an_answer_that_comes_too_late_ends_nothing(nursery):
    async def late(stream):
        decoder = wire.FrameDecoder(from_server=False)
        waiting = []
        while data := await stream.receive_some():
            decoder.feed(data)
            while frame := decoder.next_untrusted():
                waiting.append(frame.id)
            if len(waiting) == 2:
                for number in waiting:
                    await stream.send_all(wire.encode_frame(number, wire.Done()))
                waiting.clear()

    async with answering(late) as address:
        peer = PeerSupplier(b"", (address,), credentials(), nursery)
        with trio.move_on_after(0.2):
            await peer.ping()
        first = peer._connections[False]
        await peer.ping()
        assert peer._connections[False] is first and first.failure is None


async def test_what_a_supplier_says_comes_clean_out_of_the_session(nursery):
    async def swear(stream):
        await stream.receive_some()
        fault = wire.Fault(
            "no-space\n", "\x1b[2J\x1b]0;owned\x07all is well\nbitdust: \u202eforged"
        )
        await stream.send_all(wire.encode_frame(1, fault))
        await stream.receive_some()

    async with answering(swear) as address:
        with pytest.raises(Refused) as refused:
            await PeerSupplier(b"", (address,), credentials(), nursery).ping()
        assert str(refused.value).isprintable()
        assert "all is well" in str(refused.value)


@pytest.mark.parametrize("moment", [-1, 2**40, 2**60])
def test_a_time_that_no_calendar_has_is_malformed(moment):
    visit = records.Visit(bytes(32), 0, 1, 0, moment)
    usage = wire.UsageIs(1, 1, 1, 1, moment)
    for message in (wire.VisitsAre((visit,)), usage):
        decoder = wire.FrameDecoder(from_server=True)
        decoder.feed(wire.encode_frame(1, message))
        with pytest.raises(Malformed):
            decoder.next_untrusted()
