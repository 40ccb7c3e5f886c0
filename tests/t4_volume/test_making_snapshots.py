"""Making snapshots and dropping them: names, failures, thousands, and programs of before."""

import os
from functools import partial

import msgspec
import pytest
import trio
from scenario import QUIET, write_file
from test_snapshots import then
from test_space import stored

from bitdustfs.cache.rows import Published
from bitdustfs.core import records
from bitdustfs.core.codec import U63, Decoder, Hash, encode
from bitdustfs.core.records import JournalRef, Place, open_root_untrusted
from bitdustfs.core.roots import open_root_content_untrusted
from bitdustfs.errors import FsError, LocalError, Malformed, UsageError
from bitdustfs.fs.past import PAST
from bitdustfs.mount.commands import MakeSnapshot
from bitdustfs.mount.snapshotting import Snapshotting, list_snapshots
from bitdustfs.mount.syncing import Syncing
from bitdustfs.units import KIB, MIB


class OlderContent(records.Record, frozen=True):
    """RootContent as programs knew it before there were snapshots."""

    index: Place | None
    journal: tuple[JournalRef, ...]
    name_key: Hash
    generation: U63
    stored: U63


async def test_a_checkpoint_that_is_cut_short_is_none_and_the_next_snapshot_is_made(
    net, tmp_path, monkeypatch
):
    """By this machine's disk, where room is made, and where nothing changed and that is synced."""

    def fail(*_):
        raise LocalError("a bad sector")

    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        for place, what in ((vault.reclaimer, "drop"), (vault.state, "sync")):
            await write_file(vault, b"file", os.urandom(1000))
            await vault.committer.commit(sync=False)
            with monkeypatch.context() as patch:
                patch.setattr(place, what, fail)
                with pytest.raises(LocalError):
                    await vault.publish(snapshot=b"then")
            assert vault.volume.tree.frozen is None
        await vault.publish(snapshot=b"then")
        assert [kept.name for kept in await vault.catalogue.kept()] == [b"then"]


async def test_of_two_who_ask_for_one_name_one_is_told_that_it_is_taken(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"file", b"first")
        makes, made, refused = Snapshotting(vault, Syncing(vault)), [], []

        async def say(_):
            pass

        async def make():
            try:
                made.append(await makes.make(MakeSnapshot(name="then", patience=5.0), say))
            except UsageError as error:
                refused.append(str(error))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(make)
            nursery.start_soon(make)
        assert [one.left for one in made] == [""]
        assert len(refused) == 1 and "there is a snapshot then already" in refused[0]


async def test_a_name_is_taken_once_and_a_deleted_snapshot_is_stale(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"file", b"x" * 1000)
        await vault.publish(snapshot=b"one")
        with pytest.raises(UsageError, match="one already"):
            await vault.publish(snapshot=b"one")
        root = await vault.past.lookup(PAST, b"one")
        await vault.catalogue.drop(b"one")
        assert await vault.past.lookup(PAST, b"one") is None
        with pytest.raises(FsError, match="Stale"):
            await vault.past.readdir(root.inode, 0, 10)
        await vault.publish(snapshot=b"one")
        assert (await vault.past.lookup(PAST, b"one")).inode != root.inode


async def test_a_snapshot_that_suppliers_did_not_get_is_kept_here_and_published_later(
    net, tmp_path
):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"file", b"x" * 1000)
        await vault.publish()
        for supplier in net.suppliers[:5]:
            supplier.break_()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(vault.publish, snapshot=b"one"))
            while not await vault.catalogue.any():
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
    for supplier in net.suppliers:
        supplier.heal()
    async with net.mount(tmp_path / "one", **QUIET) as vault:
        assert await then(vault, b"one") == {b"file": b"x" * 1000}
        await vault.publish()
    async with net.mount(tmp_path / "two", machine=b"n" * 16, **QUIET) as vault:
        assert await then(vault, b"one") == {b"file": b"x" * 1000}


async def test_a_vault_with_snapshots_cannot_be_opened_by_a_program_that_does_not_know_them(
    net, tmp_path, monkeypatch
):
    async def sealed(vault):
        await vault.publish()
        raw = open_root_untrusted(vault.state_root(), net.key.vault_id)
        return open_root_content_untrusted(net.key, raw)

    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"file", b"x" * 1000)
        assert (await sealed(vault)).stored == 0
        await vault.publish(snapshot=b"one")
        await write_file(vault, b"file", b"y" * 1000)
        content = await sealed(vault)
        assert content.stored == -1
        with pytest.raises(msgspec.ValidationError):  # as an older program decodes it
            msgspec.msgpack.decode(encode(content), type=OlderContent)
        monkeypatch.setattr(records, "KNOWN_SEALED", 0)
        with pytest.raises(Malformed, match="newer format"):
            await sealed(vault)
        monkeypatch.undo()
        await vault.catalogue.drop(b"one")
        assert msgspec.msgpack.decode(encode(await sealed(vault)), type=OlderContent).stored == 0


async def test_making_one_of_thousands_takes_no_more_than_making_the_first(
    net, tmp_path, monkeypatch
):
    """Counted, not timed: bytes that are written, and leaves that are looked at."""
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"file", b"x" * 100)
        await vault.publish(snapshot=b"first")
        [first] = await vault.catalogue.kept()
        for number in range(5000):
            name = b"snapshot %d" % number
            await vault.catalogue.make(name, (number, 0), 2, 1, first.item.index)
        await vault.publish(snapshot=b"before")
        before = stored(net)
        await vault.publish(snapshot=b"last")
        assert stored(net) - before < 200 * KIB
        assert len(await vault.catalogue.kept()) == 5003
        listed = await list_snapshots(vault)
        assert len(listed.snapshots) == 5003
    async with net.mount(tmp_path / "two", machine=b"n" * 16, **QUIET) as vault:
        read = vault.reader.read_extent
        reads = []

        async def counted(place, kind):
            reads.append(place)
            return await read(place, kind)

        monkeypatch.setattr(vault.reader, "read_extent", counted)
        assert (await vault.past.lookup(PAST, b"snapshot 4999")) is not None
        names, after = [], 0
        while page := await vault.past.readdir(PAST, after, 64):
            names += [name for _, name, _ in page]
            after = page[-1].cookie
        assert len(set(names)) == 5005 and len(reads) < 50
        assert await then(vault, b"last") == {b"file": b"x" * 100}


async def test_a_program_that_does_not_know_snapshots_cannot_read_its_own_root_either(
    net, tmp_path
):
    decode = Decoder(Published, "published row", MIB).decode_untrusted

    def row(vault):
        with vault.state._database.read("meta") as txn:
            return bytes(txn.get(b"published"))

    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await vault.publish()
        decode(row(vault))
        await vault.publish(snapshot=b"then")
        with pytest.raises(Malformed):
            decode(row(vault))
    async with net.mount(tmp_path / "one", **QUIET) as vault:
        with pytest.raises(Malformed):
            decode(row(vault))
        assert vault.publisher.published.guarded
