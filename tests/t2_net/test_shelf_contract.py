"""One suite over every implementation of Shelf: memory and disk. What is counted is on disk."""

import logging
import os
import random
from contextlib import contextmanager
from pathlib import Path

import lmdb
import pytest
from family import BALLOT, KEY, claim_of, family_of, root_of
from nacl.signing import SigningKey
from sortedcontainers import SortedDict

from bitdustfs import failpoints
from bitdustfs.cache.folder import OwnedFolder
from bitdustfs.core.codec import encode
from bitdustfs.core.hashing import digest
from bitdustfs.core.records import BlockDead, seal_record
from bitdustfs.errors import Malformed, Refused
from bitdustfs.net import wire
from bitdustfs.supplier import diskshelf, disktrash, shelfrows, trash
from bitdustfs.supplier.diskshelf import DiskShelf
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.session import Session
from bitdustfs.supplier.shelf import MemoryShelf
from bitdustfs.supplier.shelfrows import (
    PAGE,
    ROW_MAX,
    TOMBSTONE_CHARGE,
    RingRow,
    VaultRow,
    fragment_key,
)
from bitdustfs.units import GIB

ONE, TWO = KEY.vault_id, b"\xff" * 32
ROW = VaultRow(GIB, 2_000_000_000)
EVERYTHING = 1 << 40


class Disk:
    """A folder with a shelf in it, which can be opened again."""

    def __init__(self, path):
        self.folder = OwnedFolder(path, "shelf", {"id": "test"})
        self.shelf = DiskShelf(self.folder)

    def reopened(self):
        self.shelf.close()
        self.shelf = DiskShelf(self.folder)
        return self.shelf

    def close(self):
        before = seen(self.shelf)
        assert seen(self.reopened()) == before  # memory held what the disk holds
        self.shelf.close()
        self.folder.close()


class Memory:
    """The same for a shelf that forgets nothing, for there is no process to end."""

    def __init__(self):
        self.shelf = MemoryShelf()

    def reopened(self):
        return self.shelf

    def close(self):
        pass


@pytest.fixture(params=["memory", "disk"])
def place(request, tmp_path):
    made = Memory() if request.param == "memory" else Disk(tmp_path / "shelf")
    yield made
    made.close()


@pytest.fixture
def shelf(place):
    place.shelf.set_vault(ONE, ROW)
    place.shelf.set_vault(TWO, ROW)
    return place.shelf


@pytest.fixture
def disk(tmp_path):
    made = Disk(tmp_path / "shelf")
    made.shelf.set_vault(ONE, ROW)
    made.shelf.set_vault(TWO, ROW)
    yield made
    made.close()


def block_id(number):
    return number.to_bytes(16, "big")


def keep(shelf, number, position=0, vault=ONE, size=10):
    """Stores a fragment of header + chunks + payload = 5 + 32 + `size` bytes; its key."""
    key = fragment_key(block_id(number), position)
    shelf.store(
        vault, key, b"head%d" % (number % 10), bytes(32), bytes([number % 256]) * size, b"h"
    )
    return key


def seen(shelf):
    """All that a shelf says of itself."""
    found = {"used": shelf.used_total(), "trash": shelf.trash.total, "rows": dict(shelf.all_rows())}
    found["due"] = shelf.trash.due(float("inf"), 0, EVERYTHING)
    found["retained"] = shelf.retained.due(float("inf"), 0, EVERYTHING)
    for vault in (ONE, TWO):
        found[vault] = (shelf.keys(vault, b"", EVERYTHING), shelf.trash.of(vault))
        past = [(entry, shelf.ring.get(vault, entry.number)) for entry in shelf.ring.of(vault)]
        found[vault, "past"] = past, shelf.retained.of(vault)
    return found


def refusal(code, call, *arguments):
    with pytest.raises(Refused) as caught:
        call(*arguments)
    assert caught.value.code == code


# -- fragments


def test_what_is_stored_is_read_and_counted(shelf):
    key = keep(shelf, 1, size=100)
    assert shelf.head(ONE, key) == (b"head1", bytes(32))
    assert shelf.read(ONE, key, 90, 10) == b"\x01" * 10
    row = shelf.fragment(ONE, key)
    assert (row.header, row.chunks, row.payload, row.header_hash) == (5, 32, 100, b"h")
    assert (shelf.vault(ONE).used, shelf.vault(ONE).fragments) == (PAGE, 1)
    assert shelf.used_total() == row.size == PAGE
    keep(shelf, 1, size=100)  # again
    assert (shelf.vault(ONE).used, shelf.vault(ONE).fragments) == (PAGE, 1)
    assert shelf.vault(TWO).used == 0


def test_what_is_not_there_is_refused(shelf):
    key = keep(shelf, 1)
    for vault, missing in ((ONE, fragment_key(block_id(2), 0)), (TWO, key)):
        refusal("not-found", shelf.head, vault, missing)
        refusal("not-found", shelf.read, vault, missing, 0, 1)
        assert shelf.fragment(vault, missing) is None
    for offset, length in ((0, 11), (10, 1), (-1, 2), (0, 0)):
        refusal("malformed", shelf.read, ONE, key, offset, length)
    assert shelf.vault(b"n" * 32) is None
    refusal("unknown-vault", keep, shelf, 1, 0, b"n" * 32)


def test_keys_come_in_order_and_in_pages(shelf):
    for number in random.Random(1).sample(range(20), 20):
        keep(shelf, number, position=number % 3 + 253)  # up to position 255
        keep(shelf, number, vault=TWO)
    everything = shelf.keys(ONE, b"", EVERYTHING)
    assert everything == sorted(everything) and len(everything) == 20
    assert {size for _, size in everything} == {PAGE}
    paged, after = [], b""
    while page := shelf.keys(ONE, after, 7):
        paged += page
        after = page[-1][0]
    assert paged == everything
    assert [key for key, _ in shelf.keys(ONE, block_id(18), 1)] == [block_id(18) + b"\xfd"]


def test_a_block_has_the_hash_of_its_first_header_at_any_position(shelf):
    keep(shelf, 1, position=255)
    assert shelf.header_hash(ONE, block_id(1)) == b"h"
    assert shelf.header_hash(ONE, block_id(2)) is None
    assert shelf.header_hash(TWO, block_id(1)) is None


def test_a_row_is_kept_but_for_its_use_which_the_shelf_counts(shelf):
    keep(shelf, 1)
    shelf.set_vault(ONE, VaultRow(5, 6, used=7, fragments=8, released=True))
    assert shelf.vault(ONE) == VaultRow(5, 6, used=PAGE, fragments=1, released=True)
    before = shelf.vault(ONE)
    refusal("malformed", shelf.set_vault, ONE, VaultRow(5, 6, root=bytes(ROW_MAX)))
    assert shelf.vault(ONE) == before


# -- the trash


def test_what_is_killed_can_be_read_and_is_in_nobodys_quota(shelf):
    keys = [keep(shelf, 1, position) for position in (0, 255)]
    other = keep(shelf, 2)
    shelf.kill(ONE, block_id(1), b"record", now=1000)
    assert [key for key, _ in shelf.keys(ONE, b"", EVERYTHING)] == [other]
    left = PAGE + TOMBSTONE_CHARGE
    assert (shelf.vault(ONE).used, shelf.vault(ONE).fragments) == (left, 1)
    assert shelf.used_total() == left
    assert (shelf.trash.total, shelf.trash.of(ONE), shelf.trash.of(TWO)) == (2 * PAGE, 2 * PAGE, 0)
    assert shelf.tombstone(ONE, block_id(1)) == b"record"
    assert shelf.tombstone(ONE, block_id(2)) is None and shelf.tombstone(TWO, block_id(1)) is None
    assert shelf.header_hash(ONE, block_id(1)) is None
    for key in keys:
        assert shelf.fragment(ONE, key) is None
        assert shelf.head(ONE, key) == (b"head1", bytes(32))
        assert shelf.read(ONE, key, 0, 10) == b"\x01" * 10
    shelf.kill(ONE, block_id(1), b"record", now=2000)  # again: nothing is younger by that
    assert [item.killed for item in shelf.trash.due(0, EVERYTHING, 10)] == [1000, 1000]


def test_the_oldest_of_the_trash_goes_first_as_far_as_asked(shelf):
    for number, (vault, now) in enumerate([(TWO, 30), (ONE, 10), (ONE, 20), (TWO, 10)]):
        keep(shelf, number, vault=vault)
        shelf.kill(vault, block_id(number), b"record", now)

    def due(*arguments):
        return [(item.killed, item.vault) for item in shelf.trash.due(*arguments)]

    assert due(9, 0, 10) == []
    assert due(10, 0, 10) == [(10, ONE), (10, TWO)] or due(10, 0, 10) == [(10, TWO), (10, ONE)]
    assert [killed for killed, _ in due(0, PAGE + 1, 10)] == [10, 10]  # two make that up
    assert [killed for killed, _ in due(20, 3 * PAGE + 1, 10)] == [10, 10, 20, 30]
    assert len(due(100, 0, 3)) == 3


def test_what_is_discarded_is_gone_and_frees_its_bytes_once(shelf):
    key, other = keep(shelf, 1), keep(shelf, 2, vault=TWO)
    shelf.kill(ONE, block_id(1), b"record", 1000)
    shelf.kill(TWO, block_id(2), b"record", 1001)
    items = shelf.trash.due(1001, 0, 10)
    assert shelf.discard(items[:1]) == PAGE
    assert shelf.discard(items) == PAGE  # somebody else took the first meanwhile
    assert shelf.discard([]) == 0
    assert (shelf.trash.total, shelf.trash.of(ONE), shelf.trash.due(9999, 1, 10)) == (0, 0, [])
    refusal("not-found", shelf.head, ONE, key)
    refusal("not-found", shelf.head, TWO, other)
    assert shelf.tombstone(ONE, block_id(1)) == b"record"  # for as long as the vault is known


def test_what_is_dropped_takes_the_way_past_the_trash(shelf):
    keys = [keep(shelf, number) for number in range(3)]
    shelf.drop(ONE, [*keys[:2], fragment_key(block_id(9), 0)])
    assert [key for key, _ in shelf.keys(ONE, b"", EVERYTHING)] == keys[2:]
    assert (shelf.vault(ONE).used, shelf.vault(ONE).fragments) == (PAGE, 1)
    assert shelf.trash.total == 0 and shelf.tombstone(ONE, block_id(0)) is None
    refusal("not-found", shelf.head, ONE, keys[0])
    keep(shelf, 0)  # it may come back
    assert shelf.vault(ONE).fragments == 2


def test_of_a_forgotten_vault_nothing_stays_and_of_others_everything(shelf):
    for vault in (ONE, TWO):
        keep(shelf, 1, vault=vault)
        keep(shelf, 2, vault=vault)
        shelf.kill(vault, block_id(1), b"record", 1000)
    shelf.forget(ONE)
    assert shelf.vault(ONE) is None and [vault for vault, _ in shelf.all_rows()] == [TWO]
    assert shelf.used_total() == PAGE + TOMBSTONE_CHARGE
    assert shelf.trash.total == shelf.trash.of(TWO) == PAGE
    assert shelf.trash.of(ONE) == 0 and shelf.tombstone(ONE, block_id(1)) is None
    for number in (1, 2):
        refusal("not-found", shelf.head, ONE, fragment_key(block_id(number), 0))
        shelf.head(TWO, fragment_key(block_id(number), 0))
    shelf.set_vault(ONE, ROW)
    assert shelf.vault(ONE).used == 0
    keep(shelf, 1)
    shelf.sweep()  # what was forgotten goes, and nothing that came back
    shelf.head(ONE, fragment_key(block_id(1), 0))
    shelf.head(TWO, fragment_key(block_id(2), 0))


def test_what_a_stop_left_of_a_forgotten_vault_is_swept_away(disk):
    keep(disk.shelf, 1)
    disk.shelf.forget(ONE)
    [left] = [*(disk.folder.path / "leaving").glob("*/*")]
    shelf = disk.reopened()
    shelf.set_vault(ONE, ROW)
    key = keep(shelf, 1)
    shelf.sweep()
    assert not left.exists() and not any((disk.folder.path / "leaving").iterdir())
    shelf.head(ONE, key)


def test_a_fragment_that_arrives_while_its_vault_is_forgotten_and_comes_back_is_refused(
    disk, monkeypatch
):
    """Its file went with the others; who acknowledged it would have nothing."""
    index = DiskShelf._index_those

    def late(shelf, arrived):
        shelf.forget(ONE)
        shelf.set_vault(ONE, ROW)
        index(shelf, arrived)

    monkeypatch.setattr(DiskShelf, "_index_those", late)
    refusal("unknown-vault", keep, disk.shelf, 1)
    assert disk.shelf.vault(ONE).fragments == 0


def test_everything_is_there_after_a_restart(place, shelf):
    for number in range(6):
        keep(shelf, number, vault=TWO if number % 2 else ONE)
    shelf.kill(ONE, block_id(0), b"record", 1000)
    shelf.kill(TWO, block_id(1), b"record", 999)
    shelf.drop(ONE, [fragment_key(block_id(2), 0)])
    before = seen(shelf)
    again = place.reopened()
    assert seen(again) == before
    assert [item.killed for item in again.trash.due(2000, 0, 10)] == [999, 1000]
    assert again.tombstone(ONE, block_id(0)) == b"record"
    assert again.read(ONE, fragment_key(block_id(0), 0), 0, 10) == bytes(10)


@pytest.mark.parametrize("seed", range(3))
def test_both_kinds_do_the_same_whatever_is_done(tmp_path, seed):
    chance, memory, disk = random.Random(seed), MemoryShelf(), Disk(tmp_path / "shelf")

    def both(verb, *arguments):
        answers = []
        for shelf in (memory, disk.shelf):
            try:
                answers.append(getattr(shelf, verb)(*arguments))
            except Refused as error:
                answers.append(error.code)
        assert answers[0] == answers[1], (verb, arguments)

    for now in range(150):
        vault, number = chance.choice([ONE, TWO]), chance.randrange(8)
        key = fragment_key(block_id(number), chance.randrange(3))
        match chance.randrange(16):
            case 0 | 1 | 2 | 3:
                if memory.tombstone(vault, block_id(number)) is None:
                    both("store", vault, key, b"head", bytes(32), bytes(number + 1), b"h")
            case 4:
                both("kill", vault, block_id(number), b"record", now)
            case 5:
                both("drop", vault, [key])
            case 6:
                both("discard", memory.trash.due(now - 40, chance.choice([0, 100]), 2))
            case 7:
                both("set_vault", vault, VaultRow(GIB, now))
            case 8:
                both("forget", vault) if chance.random() < 0.2 else both("read", vault, key, 0, 1)
            case 9:
                disk.reopened()
            case 10:
                both("kill", vault, block_id(number), b"record", now, now + 20)
            case 11:
                both("retire", vault, [key, fragment_key(block_id(number), 1)], now + 20)
            case 12:
                both("revive", vault, lambda record, key, n=number: key[15] >= n, b"", 3)
            case 13:
                both("release", memory.retained.due(now, 0, 3), now)
            case 14:
                family = b"family %d" % (number % 3)
                row = RingRow(now, now + 1, bool(number % 2), bytes(5000 * number), digest(family))
                both("keep_past", vault, row, family)
            case 15:
                both("drop_past", vault, [entry.number for entry in memory.ring.of(vault)[1::2]])
        assert seen(memory) == seen(disk.shelf)
    disk.close()


# -- how much work it is


class Counter:
    """How often each function of a module was called."""

    def __init__(self, monkeypatch, module, *names):
        self.calls = dict.fromkeys(names, 0)
        for name in names:
            monkeypatch.setattr(module, name, self._counting(name, getattr(module, name)))

    def _counting(self, name, function):
        def call(*arguments):
            self.calls[name] += 1
            return function(*arguments)

        return call


class Unwalked(SortedDict):
    """A table that nobody may go through from end to end."""

    def __iter__(self):
        raise AssertionError("all fragments are gone through")

    items = keys = values = __iter__


def test_deleting_in_bulk_looks_at_nothing_but_what_is_deleted(place, shelf, monkeypatch):
    """Each Kill is followed by tidying, and owners ask for Usage meanwhile."""
    many = 150
    now = 1_000_000.0
    service = SupplierService(
        SigningKey(bytes(32)), shelf, GIB, wall=lambda: now, trash_seconds=1000.0
    )
    owner = Session(ONE, "owner")
    family = family_of(service.kinship.own)
    claim = claim_of()
    service.voter.accept(ONE, root_of(family, seq=7), family, claim)
    for number in range(many):
        keep(shelf, number)
    if isinstance(shelf, MemoryShelf):
        shelf.kept = Unwalked(shelf.kept)
    entries = Counter(monkeypatch, trash if isinstance(shelf, MemoryShelf) else disktrash, "unpack")
    rows = Counter(
        monkeypatch, diskshelf, "decode_vault_row", "decode_fragment_row", "decode_trash_row"
    )
    for number in range(many):
        dead = BlockDead(KEY.vault_id, block_id(number), BALLOT, 1)
        kill = wire.Kill(seal_record(KEY.signing, "block-dead", dead), claim)
        assert service.handle(owner, kill, b"") == (wire.Done(), b"")
        usage, _ = service.handle(owner, wire.Usage(), b"")
        assert usage.trash == PAGE * (number + 1)
    assert entries.calls["unpack"] <= many  # the oldest, to see that nothing is due
    assert rows.calls["decode_fragment_row"] <= 2 * many
    assert rows.calls["decode_vault_row"] == rows.calls["decode_trash_row"] == 0
    now += 2000.0
    assert service.housekeeping.tidy() == PAGE * many
    assert service.housekeeping.offer() == 0  # as much is promised as there is
    assert entries.calls["unpack"] <= 2 * many
    assert rows.calls["decode_vault_row"] == rows.calls["decode_trash_row"] == 0
    if isinstance(shelf, MemoryShelf):
        shelf.kept = SortedDict()


def test_what_is_kept_again_while_its_old_copy_goes_stays(shelf):
    """A block that a rewinding lifted may be put again, between a look at the trash and the end of
    what was there.
    """
    keep(shelf, 3)
    shelf.kill(ONE, block_id(3), b"record", 1)
    items = shelf.trash.due(1, 0, 10)
    keep(shelf, 3)
    shelf.discard(items)
    assert shelf.read(ONE, fragment_key(block_id(3), 0), 0, 10) == b"\x03" * 10


def test_a_shelf_is_opened_without_a_look_at_its_fragments(disk, monkeypatch):
    for number in range(20):
        keep(disk.shelf, number)
    for number in range(15):
        disk.shelf.kill(ONE, block_id(number), b"record", number)
    rows = Counter(monkeypatch, diskshelf, "decode_vault_row", "decode_fragment_row")
    trashed = Counter(monkeypatch, disktrash, "decode_trash_row", "unpack")
    listed = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(Path(path).name) or scan(path))
    disk.reopened()
    assert list(rows.calls.values()) == [2, 0]
    assert list(trashed.calls.values()) == [0, 0]
    assert listed == ["arriving"]


def test_what_an_older_program_did_to_the_trash_is_found_once(disk, monkeypatch):
    """It knows no index beside the trash."""
    for number in range(6):
        keep(disk.shelf, number, vault=TWO if number % 2 else ONE)
    disk.shelf.kill(ONE, block_id(0), b"record", 1000)
    disk.shelf.kill(TWO, block_id(1), b"record", 999)
    before = seen(disk.shelf)
    index = disk.shelf._trash
    monkeypatch.setattr(disktrash, "ROWS_AT_ONCE", 1)
    with disk.shelf._env.begin(write=True) as txn:
        txn.drop(index._order)
        txn.drop(index._bytes)
    assert seen(disk.reopened()) == before  # a shelf of before there was such an index
    name = ONE + fragment_key(block_id(2), 0)
    row = shelfrows.TrashRow(disk.shelf.fragment(ONE, name[32:]), 5)
    write_raw(disk.shelf._trash, "rows", name, encode(row))
    trashed = Counter(monkeypatch, disktrash, "decode_trash_row")
    shelf = disk.reopened()
    assert [item.killed for item in shelf.trash.due(2000, 0, 10)] == [5, 999, 1000]
    assert (shelf.trash.of(ONE), shelf.trash.total) == (2 * PAGE, 3 * PAGE)
    disk.reopened()
    assert trashed.calls["decode_trash_row"] == 3


def test_what_was_arriving_when_the_process_ended_is_cleared_away(disk):
    folder = disk.folder.path
    keep(disk.shelf, 1)
    (folder / "arriving" / "12").write_bytes(b"half a fragm")
    disk.reopened()
    assert list((folder / "arriving").iterdir()) == []
    older = folder / "shelf" / ONE.hex() / f"{block_id(2).hex()}.0.new77"
    older.write_bytes(b"half a fragm")
    (folder / "arriving").rmdir()  # as on a shelf of an older program
    assert disk.reopened().read(ONE, fragment_key(block_id(1), 0), 0, 10) == b"\x01" * 10
    assert not older.exists()


# -- a disk that fails, and one that rots


def write_raw(tables, table, name, raw):
    with tables._env.begin(write=True) as txn:
        txn.put(name, raw, db=getattr(tables, table))


def test_a_damaged_row_is_named_and_stops_nobody_else(disk, caplog):
    keep(disk.shelf, 1, vault=TWO)
    keep(disk.shelf, 2, vault=TWO)
    disk.shelf.kill(TWO, block_id(1), b"record", 1000)
    sound = disk.shelf._env
    with sound.begin() as txn:
        row = txn.get(ONE, db=disk.shelf._rows)
    write_raw(disk.shelf, "_rows", ONE, b"nonsense")
    trash = disk.shelf._trash
    write_raw(trash, "rows", ONE + fragment_key(block_id(5), 0), b"nonsense")
    write_raw(trash, "rows", ONE + b"short", b"nonsense")
    with caplog.at_level(logging.ERROR):
        shelf = disk.reopened()
    assert ONE.hex()[:12] in caplog.text and block_id(5).hex() in caplog.text
    assert [vault for vault, _ in shelf.all_rows()] == [TWO]
    assert shelf.used_total() == PAGE + TOMBSTONE_CHARGE and shelf.trash.total == PAGE
    with pytest.raises(Malformed):
        shelf.vault(ONE)
    with pytest.raises(Malformed):
        shelf.set_vault(ONE, ROW)  # it is not taken for a new vault
    service = SupplierService(SigningKey(bytes(32)), shelf, 2 * GIB, trash_seconds=-1.0)
    assert service.housekeeping.offer() == GIB
    assert service.housekeeping.tidy() == PAGE and service.housekeeping.make_room() == 0
    answer, _ = service.handle(Session(TWO, "owner"), wire.Usage(), b"")
    assert answer.fragments == 1
    answer, _ = service.handle(Session(ONE, "owner"), wire.Usage(), b"")
    assert answer.code == "malformed"
    write_raw(disk.shelf, "_rows", ONE, row)
    disk.reopened()


@pytest.mark.parametrize(
    ("point", "verb", "arguments"),
    [
        ("shelf-register", "set_vault", (ONE, VaultRow(1, 1))),
        ("shelf-write", "store", (ONE, fragment_key(block_id(2), 0), b"", b"", b"x", b"h")),
        ("shelf-index", "store", (ONE, fragment_key(block_id(2), 0), b"", b"", b"x", b"h")),
        ("shelf-kill", "kill", (ONE, block_id(1), b"record", 1000)),
        ("shelf-kill", "kill", (ONE, block_id(1), b"record", 1000, 2000)),
        ("shelf-past", "keep_past", (ONE, RingRow(1, 2, False, b"root", bytes(32)), b"family")),
    ],
)
def test_a_full_disk_changes_nothing_that_is_counted(disk, monkeypatch, point, verb, arguments):
    keep(disk.shelf, 1)
    before = seen(disk.shelf)
    monkeypatch.setattr(failpoints, "plan", failpoints.FaultPlan(f"{point}=enospc@1"))
    refusal("no-space", getattr(disk.shelf, verb), *arguments)
    assert seen(disk.shelf) == before
    assert seen(disk.reopened()) == before
    getattr(disk.shelf, verb)(*arguments)  # there is room again
    assert seen(disk.shelf) != before


class Failing:
    """An LMDB environment whose next commit fails, and is on disk all the same or not."""

    def __init__(self, env, lands):
        self._env, self._lands = env, lands

    def __getattr__(self, name):
        return getattr(self._env, name)

    @contextmanager
    def begin(self, *arguments, write=False, **options):
        txn = self._env.begin(*arguments, write=write, **options)
        try:
            yield txn
        except BaseException:
            txn.abort()
            raise
        if write and not self._lands:
            txn.abort()
        else:
            txn.commit()
        if write:
            raise lmdb.DiskError("the disk is full")


@pytest.mark.parametrize("lands", [True, False])
def test_memory_follows_the_disk_after_a_commit_that_failed(disk, lands):
    shelf, env = disk.shelf, disk.shelf._env
    for number in range(4):
        keep(shelf, number)
    shelf.kill(ONE, block_id(0), b"record", 1000)
    before = seen(shelf)
    for verb, *arguments in (
        ("kill", ONE, block_id(1), b"record", 2000),
        ("discard", shelf.trash.due(1000, 0, 1)),
        ("drop", ONE, [fragment_key(block_id(2), 0)]),
        ("set_vault", TWO, VaultRow(5, 6)),
        ("store", ONE, fragment_key(block_id(7), 0), b"head", bytes(32), b"payload", b"h"),
        ("forget", TWO),
    ):
        shelf._env = Failing(env, lands)
        refusal("no-space", getattr(shelf, verb), *arguments)
        shelf._env = env
    assert (seen(shelf) == before) == (not lands)
    now = seen(shelf)
    assert seen(disk.reopened()) == now
