"""How fragments come in: into one buffer, written from there, and synced with others."""

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import trio
import trio.testing
from customers import put, service_of
from family import KEY, contracted, credentials, serving

from bitdustfs import failpoints
from bitdustfs.cache.folder import OwnedFolder
from bitdustfs.errors import Refused
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.net.tls import TlsStream, make_context
from bitdustfs.supplier import diskshelf, fragmentfile, spares
from bitdustfs.supplier.diskshelf import DiskShelf
from bitdustfs.supplier.shelfrows import FILE_PREFIX, VaultRow, fragment_key
from bitdustfs.supplier.spares import PAGE, Spares, spare_of
from bitdustfs.supplier.together import Together
from bitdustfs.units import GIB, KIB, MIB

pytestmark = pytest.mark.deadline(30)
ONE, TWO = KEY.vault_id, b"\xff" * 32
HEADER, CHUNKS = b"header", bytes(64)
FRONT = FILE_PREFIX + len(HEADER) + len(CHUNKS)


@pytest.fixture
def shelf(tmp_path):
    folder = OwnedFolder(tmp_path / "shelf", "shelf", {"id": "test"})
    made = DiskShelf(folder)
    for vault in (ONE, TWO):
        made.set_vault(vault, VaultRow(GIB, 2_000_000_000))
    yield made
    made.close()
    folder.close()


def key_of(number):
    return fragment_key(number.to_bytes(16, "big"), 0)


def received(content):
    """A payload as the server has it."""
    view = Spares().take(FRONT + len(content)).lay_out(FRONT, len(content))
    view[:] = content
    return view


# -- TLS


async def test_bytes_go_straight_into_the_readers_buffer():
    ours, theirs = trio.testing.memory_stream_pair()
    client = TlsStream(ours, make_context(b"c" * 32, server_side=False), server_side=False)
    server = TlsStream(theirs, make_context(b"s" * 32, server_side=True), server_side=True)
    content = os.urandom(100_000)
    buffer, got = bytearray(len(content) + 10), 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.handshake)
        await client.handshake()
        await client.send_all(content)
        await client.aclose()
        while length := await server.receive_into(memoryview(buffer)[got : got + 33_333]):
            got += length
            assert buffer[:got] == content[:got]
    assert got == len(content)


# -- buffers


def test_a_buffer_is_used_again_and_few_are_kept():
    pool = Spares()
    first = pool.take(MIB)
    pool.give_back(first)
    assert pool.take(MIB // 2) is not first  # it would waste too much
    assert pool.take(MIB - 1) is first
    assert pool.take(MIB) is not first
    for _ in range(2 * spares.KEPT_MAX // MIB):
        pool.give_back(spares.Spare(-1, MIB))
    again = [pool.take(MIB) for _ in range(spares.KEPT_MAX // MIB)]
    assert len({id(spare) for spare in again}) == len(again)
    assert pool._kept == []


async def test_a_fragment_is_written_from_the_buffer_that_it_came_into(
    tmp_path, nursery, monkeypatch
):
    """And the next one comes into the same."""
    folder = OwnedFolder(tmp_path / "shelf", "shelf", {"id": "test"})
    shelf, seen = DiskShelf(folder), []
    store = shelf.store

    def noting(vault, key, header, chunks, payload, header_hash):
        seen.append(spare_of(payload, FILE_PREFIX + len(header) + len(chunks)))
        store(vault, key, header, chunks, payload, header_hash)

    monkeypatch.setattr(shelf, "store", noting)
    async with serving(service_of(shelf=shelf)) as address:
        peer = PeerSupplier(b"", (address,), credentials(), nursery)
        await contracted(peer)
        for number in range(3):
            await put(peer, number, 300 * KIB)
        await put(peer, 3, 10 * KIB)
        await peer.aclose()
    assert seen[0] is not None and seen[0] is seen[1] is seen[2]
    assert seen[3] is None
    shelf.close()
    folder.close()


@pytest.mark.parametrize("length", [1, PAGE - FRONT, PAGE, 3 * PAGE + 17])
@pytest.mark.parametrize("takes", ["direct", "not opened", "not written"])
def test_the_file_is_the_same_whatever_the_file_system_takes(shelf, length, takes, monkeypatch):
    content, opened = os.urandom(length), []
    open_file, write = os.open, os.write

    def opening(path, flags, mode=0o777):
        opened.append(flags & os.O_DIRECT)
        if takes == "not opened" and flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no direct writes here")
        return open_file(path, flags, mode)

    def writing(fd, data):
        if takes == "not written" and opened[-1]:
            raise OSError(errno.EINVAL, "no direct writes here")
        return write(fd, data)

    monkeypatch.setattr(fragmentfile.os, "open", opening)
    monkeypatch.setattr(fragmentfile.os, "write", writing)
    for number in range(2):
        shelf.store(ONE, key_of(number), HEADER, CHUNKS, received(content), b"h")
    monkeypatch.undo()
    files = sorted((shelf._files / ONE.hex()).iterdir())
    front = diskshelf.FILE_PREFIX.pack(len(HEADER), len(CHUNKS)) + HEADER + CHUNKS
    assert [file.read_bytes() for file in files] == [front + content] * 2
    assert shelf.read(ONE, key_of(1), 0, length) == content
    assert shelf.head(ONE, key_of(1)) == (HEADER, CHUNKS)
    tried = sum(map(bool, opened))
    assert tried == (2 if takes == "direct" else 1)  # it is not asked again


# -- together


def together(number, work):
    """Does numbers 0..`number` at once, 0 first: the turns, and what each call raised."""
    turns, first, errors = [], threading.Event(), [None] * number

    def turn(pieces):
        turns.append(sorted(piece.what for piece in pieces))
        if pieces[0].what == 0:
            first.set()
            while len(group._waiting) < number - 1:
                pass  # until all others wait
        work(pieces)

    group = Together(turn)

    def do(what):
        try:
            group.do(what)
        except OSError as error:
            errors[what] = str(error)

    with ThreadPoolExecutor(number) as pool:
        pool.submit(do, 0)
        assert first.wait(10)
        for what in range(1, number):
            pool.submit(do, what)
    return turns, errors


def test_those_who_wait_have_one_turn_together():
    assert together(5, lambda pieces: None) == ([[0], [1, 2, 3, 4]], [None] * 5)


def test_an_error_of_one_is_its_own_and_an_error_of_the_turn_is_everybodys():
    def one_fails(pieces):
        for piece in pieces:
            if piece.what == 2:
                piece.fail(OSError("two"))

    assert together(4, one_fails)[1] == [None, None, "two", None]

    def all_fail(pieces):
        if len(pieces) > 1:
            raise OSError("all")

    assert together(4, all_fail)[1] == [None, "all", "all", "all"]


def at_once(shelf, count, vaults=(ONE,)):
    """Stores fragments at once, of which the first has a turn of its own; which were refused."""
    index_all, refused = shelf._arrivals._work, []

    def held(pieces):
        while len(pieces) == 1 and len(shelf._arrivals._waiting) < count - 1:
            pass  # until all others wait
        index_all(pieces)

    shelf._arrivals = Together(held)

    def store(number):
        vault = vaults[number % len(vaults)]
        try:
            shelf.store(vault, key_of(number), HEADER, CHUNKS, b"payload", b"h")
        except Refused:
            refused.append(number)

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(store, range(count)))
    return refused


def test_fragments_that_come_at_once_share_folder_and_transaction(shelf, monkeypatch):
    synced = []
    monkeypatch.setattr(diskshelf, "fsync_folder", synced.append)
    assert at_once(shelf, 6) == []
    assert len(synced) == 2  # of the first one, and of the other five
    assert [key for key, _ in shelf.keys(ONE, b"", 10)] == [key_of(number) for number in range(6)]
    assert shelf.vault(ONE).fragments == 6 and shelf.used_total() == 6 * PAGE


def test_fragments_of_several_vaults_come_at_once(shelf):
    assert at_once(shelf, 6, (ONE, TWO)) == []
    assert (shelf.vault(ONE).fragments, shelf.vault(TWO).fragments) == (3, 3)


@pytest.mark.parametrize("point, refused", [("shelf-rename", 1), ("shelf-index", 5)])
def test_what_fails_is_acknowledged_to_nobody(shelf, monkeypatch, point, refused):
    """A name that cannot be given is one fragment's, a transaction is all of theirs."""
    monkeypatch.setattr(failpoints, "plan", failpoints.FaultPlan(f"{point}=eio@2"))
    assert len(at_once(shelf, 6)) == refused
    monkeypatch.undo()
    assert shelf.vault(ONE).fragments == len(shelf.keys(ONE, b"", 10)) == 6 - refused
    assert not list(shelf._arriving.iterdir())


def test_reading_a_fragment_writes_nothing_to_the_disk(shelf, monkeypatch):
    """Else each audit of one that was not read for a day would."""
    shelf.store(ONE, key_of(1), HEADER, CHUNKS, b"payload", b"h")
    [file] = (shelf._files / ONE.hex()).iterdir()
    os.utime(file, (1000, 2000))
    assert shelf.read(ONE, key_of(1), 0, 7) == b"payload"
    assert shelf.head(ONE, key_of(1)) == (HEADER, CHUNKS)
    assert file.stat().st_atime == 1000
    open_file = os.open

    def not_the_owner(path, flags, mode=0o777):
        if flags & os.O_NOATIME:
            raise PermissionError
        return open_file(path, flags, mode)

    monkeypatch.setattr(diskshelf.os, "open", not_the_owner)
    assert shelf.read(ONE, key_of(1), 0, 7) == b"payload"
