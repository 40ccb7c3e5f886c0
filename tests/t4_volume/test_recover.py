"""When all roots are lost: the tree from its index, or from data blocks alone."""

import os
import stat

import msgspec
import pytest
from machine import CALLER
from scenario import photos, read_file, write_file

from bitdustfs.core.block import (
    ENTRY_MAX,
    HINT_MAX,
    ExtentEntry,
    InodeHint,
    decode_directory_untrusted,
    directory_size,
    encode_directory,
)
from bitdustfs.core.codec import encode
from bitdustfs.core.items import ROOT_INODE
from bitdustfs.core.records import RootContent, open_header_untrusted
from bitdustfs.core.sealing import Suite
from bitdustfs.errors import Unavailable, UsageError
from bitdustfs.fs.past import PAST
from bitdustfs.net import wire
from bitdustfs.net.supplier import Supplier
from bitdustfs.supplier.shelf import VaultRow
from bitdustfs.units import BLOCK_EXTENTS_MAX, KIB, META_EXTENT_MAX, MIB
from bitdustfs.vault import keepers
from bitdustfs.vault.recover import build_tree, find_index, look, new_root
from bitdustfs.vault.verify import verify


async def silent(what, done, total):
    """Nobody watches."""


def lose_roots(net):
    for service in net.services:
        rows = service.shelf.rows
        row = rows[net.key.vault_id]
        rows[net.key.vault_id] = VaultRow(row.space, row.until, row.used, row.fragments)


def lose_metadata(net):
    for service in net.services:
        kept = service.shelf.kept
        for name, (header, *_) in list(kept.items()):
            if open_header_untrusted(header, net.key.vault_id).k != net.k:
                del kept[name]


async def recover(net, folder):
    found = await look(net.key, net.suppliers, False, lambda text: None)
    content = await find_index(net.key, found)
    suite = Suite.AEGIS256
    if content is not None:
        await new_root(net.key, suite, found, content)
        return None, found
    await new_root(net.key, suite, found, RootContent(None, (), net.key.name_key, 0, 0))
    options = {
        "take_over": True,
        "reclaims": False,
        "sessions": found.suppliers,
        "family": found.family,
    }
    async with net.mount(folder, machine=b"r" * 16, **options) as vault:
        outcome = await build_tree(vault, found)
        await vault.publish()
    return outcome, found


@pytest.mark.parametrize("checkpoints", [0, 1, 2])
async def test_lost_roots_alone_lose_nothing(net, tmp_path, checkpoints):
    files = {**photos(), b"small": b"inline", b"empty": b""}
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        for number in range(checkpoints + 1):
            for name, content in files.items():
                await write_file(vault, b"%d %s" % (number, name), content)
            if number < checkpoints:
                generation = await vault.committer.commit(sync=True, freeze=True)
                await vault.publisher._checkpoint(generation)
            await vault.publish()
            await vault.volume.unlink(ROOT_INODE, b"%d small" % number)
            await vault.publish()
        await vault.courier.try_all()
    with pytest.raises(UsageError, match="still know a root"):
        await recover(net, tmp_path / "two")
    family = net.family
    lose_roots(net)
    with pytest.raises(Unavailable):
        async with net.mount(tmp_path / "three", machine=b"n" * 16, family=family):
            pass
    for supplier in net.suppliers[:3]:
        supplier.break_()
    outcome, found = await recover(net, tmp_path / "two")
    assert outcome is None
    options = {"take_over": True, "sessions": found.suppliers, "family": found.family}
    async with net.mount(tmp_path / "three", machine=b"n" * 16, **options) as vault:
        for number in range(checkpoints + 1):
            assert await vault.volume.lookup(ROOT_INODE, b"%d small" % number) is None
            for name, content in files.items():
                if name != b"small":
                    assert await read_file(vault, b"%d %s" % (number, name)) == content
        assert (await verify(vault, True, 0.0, silent)).faults == []


async def test_lost_roots_lose_no_snapshot(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await write_file(vault, b"small", b"then")
        await vault.publish(snapshot=b"one")
        await write_file(vault, b"small", b"now!")
        await vault.publish()
        await vault.courier.try_all()
    lose_roots(net)
    outcome, found = await recover(net, tmp_path / "two")
    assert outcome is None
    options = {"take_over": True, "sessions": found.suppliers, "family": found.family}
    async with net.mount(tmp_path / "three", machine=b"n" * 16, **options) as vault:
        assert await read_file(vault, b"small") == b"now!"
        root = await vault.past.lookup(PAST, b"one")
        then = await vault.past.lookup(root.inode, b"small")
        assert await vault.past.read(then.inode, 0, 10) == b"then"


class Boundless(Supplier):
    """A supplier whose list has no end, who claims every position and whatever was promised."""

    def __init__(self, supplier):
        self._supplier, self.node, self.heads, self.pages = supplier, supplier.node, 0, 0

    async def call(self, request, payload=b""):
        match request:
            case wire.Current():
                return wire.CurrentIs(b"", b"a root", b"that nobody signed"), b""
            case wire.Usage():
                return wire.UsageIs(2**62, 0, 0, 0, 0), b""
            case wire.List():
                return await self._list(request.after, request.limit), b""
            case wire.Head() | wire.Read():
                self.heads += isinstance(request, wire.Head)
                request = msgspec.structs.replace(request, position=6)
        return await self._supplier.call(request, payload)

    async def _list(self, after, limit):
        self.pages += 1
        made = max(int.from_bytes(after[:16], "big"), 1 << 120)
        keys = [((made + i + 1).to_bytes(16, "big") + bytes([i % 7]), 1) for i in range(limit)]
        if not after:
            real = await self._supplier.list(b"", 100)
            every = {key[:16] + bytes([p]) for key, _ in real.fragments for p in range(7)}
            keys = sorted([(key, 1) for key in every] + keys[:7])
        return wire.Listed(tuple(keys), True)


async def test_promise_9_a_list_without_end_ends_and_claims_no_position(net, tmp_path, monkeypatch):
    monkeypatch.setattr(keepers, "LISTED_MAX", 20_000)
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        for name, content in photos(3, 3 * MIB).items():
            await write_file(vault, name, content)
        await vault.publish()
        await vault.courier.try_all()
    honest = [member.node for member in net.family.members]
    lose_roots(net)
    liar = Boundless(net.suppliers[6])
    said = []
    found = await look(net.key, [liar, *net.suppliers[:6]], False, said.append)
    assert liar.pages < 30 and liar.heads < 2 * keepers.MISSES_MAX
    assert any("more than anybody reads" in text for text in said)
    assert {m.node for m in found.family.members} == set(honest), "the liar has its own position"
    assert [m.node for m in found.family.members[:6]] == honest[:6]
    assert {m.space for m in found.family.members} == {net.space}
    assert not found.unreadable


async def test_lost_roots_and_tree_give_files_back_by_their_paths(net, tmp_path):
    files = {**photos(), b"rewritten": os.urandom(2 * MIB)}
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        mode = stat.S_IFDIR | 0o755
        album = await vault.volume.create(ROOT_INODE, b"album", mode, CALLER)
        summer = await vault.volume.create(album.inode, b"summer", mode, CALLER)
        await write_file(vault, b"rewritten", os.urandom(3 * MIB), summer.inode)
        await vault.publish()
        for name, content in files.items():
            inode = await write_file(vault, name, content, summer.inode)
            await vault.content.truncate(inode, len(content))
        await vault.volume.rename(summer.inode, b"photo 0.jpg", ROOT_INODE, b"best.jpg", 0, CALLER)
        inode = await write_file(vault, b"best.jpg", b"touched again", offset=1000)
        await vault.content._flusher.seal(full_only=False)
        await vault.publish()
        best = await read_file(vault, b"best.jpg")
        await vault.courier.try_all()
    lose_roots(net)
    lose_metadata(net)
    for supplier in net.suppliers[5:]:
        supplier.break_()
    outcome, found = await recover(net, tmp_path / "two")
    assert outcome is not None and outcome.files == len(files) and not outcome.unreadable
    for supplier in net.suppliers:
        supplier.heal()
    options = {"take_over": True, "sessions": found.suppliers, "family": found.family}
    async with net.mount(tmp_path / "three", machine=b"n" * 16, **options) as vault:
        album = await vault.volume.lookup(ROOT_INODE, b"album")
        summer = await vault.volume.lookup(album.inode, b"summer")
        for name in (b"photo 1.jpg", b"photo 2.jpg", b"rewritten"):
            assert await read_file(vault, name, summer.inode) == files[name]
        assert await read_file(vault, b"best.jpg") == best
        assert (await verify(vault, True, 0.0, silent)).faults == []
        await write_file(vault, b"new", b"and it goes on" * 1000)
        await vault.publish()


async def test_small_files_with_long_paths_are_found_again_by_their_paths(net, tmp_path):
    """More than 1 MiB of paths for the files of 14 MiB: a block is full when its directory is."""
    mode = stat.S_IFDIR | 0o755
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        folder = ROOT_INODE
        for depth in range(3):
            name = b"a folder of a long name %d" % depth + b"-" * 150
            folder = (await vault.volume.create(folder, name, mode, CALLER)).inode
        for number in range(2400):
            await write_file(vault, b"%04d" % number, b"%04d" % number * 150, folder)
        await vault.publish()
        await vault.courier.try_all()
    lose_roots(net)
    lose_metadata(net)
    outcome, found = await recover(net, tmp_path / "two")
    assert outcome is not None and (outcome.files, outcome.unnamed) == (2400, 0)
    options = {"take_over": True, "sessions": found.suppliers, "family": found.family}
    async with net.mount(tmp_path / "three", machine=b"n" * 16, **options) as vault:
        folder = ROOT_INODE
        for depth in range(3):
            name = b"a folder of a long name %d" % depth + b"-" * 150
            folder = (await vault.volume.lookup(folder, name)).inode
        assert await read_file(vault, b"2399", folder) == b"2399" * 150


async def test_a_path_is_remembered_when_the_kernel_forgot_it(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        inode = await write_file(vault, b"file", b"x" * 5000)
        await vault.committer.commit(sync=True)
        await vault.volume.forget(inode, vault.volume._lookups.held(inode))
        await vault.publish()
        await vault.content.write(inode, 5000, b"y" * 5000)  # as by a file that is open
        await vault.publish()
        await vault.courier.try_all()
    lose_roots(net)
    lose_metadata(net)
    outcome, _ = await recover(net, tmp_path / "two")
    assert outcome is not None and (outcome.files, outcome.unnamed) == (1, 0)


def entry_of(number):
    big = (1 << 63) - 1
    return ExtentEntry(number, 1, 1 << 31, 1 << 20, b"h" * 32, big - number, big, 1 << 20, big, big)


def hint_of(number, path):
    big = (1 << 63) - 1
    return InodeHint(big - number, path, 0xFFFF, big, big)


def test_a_directory_keeps_the_paths_that_fit_and_all_else():
    extents = [entry_of(number) for number in range(BLOCK_EXTENTS_MAX)]
    hints = [hint_of(number, b"p" * (number % 400)) for number in range(BLOCK_EXTENTS_MAX)]
    plain = encode_directory(extents, hints)
    assert len(plain) <= META_EXTENT_MAX
    directory = decode_directory_untrusted(plain)
    assert list(directory.extents) == extents and len(directory.inodes) == len(hints)
    named = {hint.inode for hint in directory.inodes if hint.path}
    assert META_EXTENT_MAX - len(plain) < 8 * KIB + 400 * BLOCK_EXTENTS_MAX // 100
    longest = max(len(hint.path) for hint in directory.inodes)
    assert all(hint.inode in named for hint in hints if 0 < len(hint.path) < longest)
    few = encode_directory(extents[:100], hints[:100])
    assert decode_directory_untrusted(few).inodes == tuple(
        sorted(hints[:100], key=lambda hint: len(hint.path))
    )


def test_the_sizes_of_a_directory_are_bounds():
    assert len(encode(entry_of(BLOCK_EXTENTS_MAX))) <= ENTRY_MAX
    assert len(encode(hint_of(0, b"p" * 70_000))) <= HINT_MAX + 70_000
    full = directory_size(BLOCK_EXTENTS_MAX, BLOCK_EXTENTS_MAX, 0)
    assert full <= META_EXTENT_MAX
