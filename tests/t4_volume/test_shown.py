"""What programs are shown of files: what they take of the room, links, inode numbers."""

import os
import random
import stat

import msgspec
import pytest
from golden import load
from machine import CALLER
from scenario import QUIET, checkpoint, forget_leaves, unlink, write_file

from bitdustfs.core.items import (
    COUNTERS_KEY,
    EXTENT,
    ROOT_INODE,
    SMALL_NUMBERS,
    decode_counters,
    decode_extent,
    decode_inode,
    encode_item,
    inode_key,
    kind_range,
    tail_u64,
)
from bitdustfs.fs.volume import LINK_MAX
from bitdustfs.units import EXTENT_MAX, GIB, KIB, MIB

FILE, FOLDER = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755


async def stored(vault, inode):
    found = await vault.volume.getattr(inode)
    return found.stored, found.settled


async def in_the_tree(vault, inode):
    """Bytes of all extents that are no holes, one by one."""

    def count(tx):
        made = decode_inode(tx.get(inode_key(inode)))
        items = [decode_extent(value) for _, value in tx.scan(*kind_range(inode, EXTENT))]
        assert made.holes == sum(e.length for e in items if e.place is None)
        return made.size - made.holes

    return await vault.volume.tree.run(count)


async def test_a_file_takes_what_was_written_to_it_and_not_its_size(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        found = await vault.volume.create(ROOT_INODE, b"image", FILE, CALLER)
        inode = found.inode
        assert await stored(vault, inode) == (0, True)
        await vault.content.truncate(inode, 6 * GIB)
        await vault.committer.commit(sync=False)
        assert await stored(vault, inode) == (0, True)
        await vault.content.write(inode, 5 * GIB, b"x" * MIB)
        assert await stored(vault, inode) == (MIB, False)
        await vault.committer.commit(sync=False)
        assert await stored(vault, inode) == (MIB, True)
        await vault.content.write(inode, 5 * GIB + MIB // 2, b"y" * MIB)
        assert (await stored(vault, inode))[0] >= 3 * MIB // 2
        await vault.committer.commit(sync=False)
        assert await stored(vault, inode) == (3 * MIB // 2, True)
        await vault.content.truncate(inode, 5 * GIB + 100)
        assert await stored(vault, inode) == (100, True)
        assert (await vault.volume.totals()).live == 100
    async with net.mount(tmp_path / "one", **QUIET) as vault:
        assert await stored(vault, inode) == (100, True)


@pytest.mark.parametrize("seed", range(4))
async def test_what_a_file_takes_is_exact_after_each_commit(net, tmp_path, seed):
    rng = random.Random(seed)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        inode = (await vault.volume.create(ROOT_INODE, b"file", FILE, CALLER)).inode
        written = bytearray()  # 1 for each byte that was written
        for _ in range(60):
            if rng.random() < 0.3:
                size = rng.choice([0, 100, 600, rng.randrange(3 * EXTENT_MAX)])
                await vault.content.truncate(inode, size)
                written = written[:size].ljust(size, b"\0")
            else:
                offset = rng.choice([0, rng.randrange(600), rng.randrange(3 * EXTENT_MAX)])
                length = rng.choice([1, 200, rng.randrange(1, EXTENT_MAX)])
                written = written.ljust(offset + length, b"\0")
                written[offset : offset + length] = b"\1" * length
                await vault.content.write(inode, offset, b"d" * length)
            now, settled = await stored(vault, inode)
            assert written.count(1) <= now <= len(written) or len(written) <= 512
            if settled or rng.random() < 0.5:
                await vault.committer.commit(sync=False)
                now, settled = await stored(vault, inode)
                assert settled and now == await in_the_tree(vault, inode)
                assert now >= written.count(1)
                assert now - written.count(1) <= 512  # the holes of a file in its inode item


async def test_a_file_is_never_shown_without_data_while_it_has_some(net, tmp_path):
    """tar -S takes a file of no blocks for one hole, and does not read it."""
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        for size in (1, 512, 513, 5000, EXTENT_MAX + 1):
            inode = await write_file(vault, b"%d" % size, b"x" * size)
            assert (await stored(vault, inode))[0] == size
            await vault.committer.commit(sync=False)
            assert await stored(vault, inode) == (size, True)
        link = await vault.volume.create(
            ROOT_INODE, b"link", stat.S_IFLNK | 0o777, CALLER, target=b"target"
        )
        assert await stored(vault, link.inode) == (6, True)


async def test_looking_at_files_reads_none_of_their_extents(net, tmp_path):
    home = tmp_path / "one"
    async with net.mount(home, make_root=True, **QUIET) as vault:
        for number in range(3):
            inode = await write_file(vault, b"%d" % number, os.urandom(MIB))
        await checkpoint(vault)
        forget_leaves(vault, home)
        asked, scan = [], vault.volume.tree.base_items

        def watched(low, high, reverse, pinned):
            asked.append(low)
            return scan(low, high, reverse, pinned)

        vault.volume.tree.base_items = watched
        listed = await vault.volume.readdir(ROOT_INODE, 2, 10)
        assert [entry.found.stored for entry in listed] == [MIB] * 3
        assert (await vault.volume.getattr(inode)).stored == MIB
        assert not [low for low in asked if low[8] == EXTENT]


async def test_files_of_a_vault_of_version_1_count_by_their_size_until_they_are_rewritten(tmp_path):
    net = load()
    async with net.mount(tmp_path / "m", take_over=True, **QUIET) as vault:
        holes = await vault.volume.lookup(ROOT_INODE, b"holes")
        assert (holes.stored, holes.settled) == (GIB, True)
        await vault.content.truncate(holes.inode, 2 * GIB)
        assert await stored(vault, holes.inode) == (GIB, True)
        await vault.content.truncate(holes.inode, 0)
        await vault.content.truncate(holes.inode, GIB)
        await vault.content.write(holes.inode, MIB, b"x" * KIB)
        await vault.committer.commit(sync=False)
        assert await stored(vault, holes.inode) == (KIB, True)


async def test_what_an_older_program_rewrites_counts_by_its_size(net, tmp_path):
    """It drops the count that it cannot keep right."""
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        inode = await write_file(vault, b"file", b"x" * 5000, offset=MIB)
        await vault.committer.commit(sync=False)
        assert await stored(vault, inode) == (5000, True)

        def rewrite(tx):
            made = decode_inode(tx.get(inode_key(inode)))
            fields = msgspec.structs.astuple(made)
            tx.put(inode_key(inode), msgspec.msgpack.encode(fields[:15]))

        await vault.volume.tree.run(rewrite)
        assert await stored(vault, inode) == (MIB + 5000, True)


async def test_a_folder_takes_any_number_of_folders_and_shows_one_link_then(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        volume = vault.volume
        many = (await volume.create(ROOT_INODE, b"many", FOLDER, CALLER)).inode

        def fill(tx):
            folder = decode_inode(tx.get(inode_key(many)))
            folder.nlink = LINK_MAX - 2
            tx.put(inode_key(many), encode_item(folder))

        await volume.tree.run(fill)
        shown = []
        for number in range(4):
            await volume.create(many, b"%d" % number, FOLDER, CALLER)
            shown.append((await volume.getattr(many)).attributes.nlink)
        assert shown == [LINK_MAX - 1, 1, 1, 1]
        await volume.create(ROOT_INODE, b"other", FOLDER, CALLER)
        await volume.rename(ROOT_INODE, b"other", many, b"other", 0, CALLER)
        assert (await volume.lookup(ROOT_INODE, b"many")).attributes.nlink == 1
        for number in range(4):
            await volume.rmdir(many, b"%d" % number)
        assert (await volume.getattr(many)).attributes.nlink == LINK_MAX - 1
        file = (await volume.create(ROOT_INODE, b"file", FILE, CALLER)).inode
        assert (await volume.getattr(file)).attributes.nlink == 1


async def test_inode_numbers_of_a_thousand_folders_fit_32_bits(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        for number in range(1000):
            made = await vault.volume.create(ROOT_INODE, b"%d" % number, FOLDER, CALLER)
            inside = await vault.volume.create(made.inode, b"file", FILE, CALLER)
            assert max(made.inode, inside.inode) < SMALL_NUMBERS


async def test_a_vault_of_version_1_goes_on_with_small_numbers_that_nobody_had(tmp_path):
    net = load()
    async with net.mount(tmp_path / "m", take_over=True, **QUIET) as vault:
        counters = decode_counters(await vault.volume.tree.run(lambda tx: tx.get(COUNTERS_KEY)))
        before = counters.next_group
        taken = {tail_u64(key) for key in await keys_of_inodes(vault)}
        folder = (await vault.volume.create(ROOT_INODE, b"new", FOLDER, CALLER)).inode
        for number in range(300):
            made = await vault.volume.create(folder, b"%d" % number, FILE, CALLER)
            assert made.inode not in taken and made.inode < SMALL_NUMBERS
        counters = decode_counters(await vault.volume.tree.run(lambda tx: tx.get(COUNTERS_KEY)))
        assert before < 10 and counters.next_group >= 256


async def keys_of_inodes(vault):
    """The numbers in use, as keys."""

    def scan(tx):
        items = tx.scan(b"", b"\xff" * 9)
        return [key[:8] for key, _ in items if len(key) == 9 and key[8] == 1]

    return await vault.volume.tree.run(scan)


async def test_a_number_is_not_used_again_after_its_file_is_gone(net, tmp_path):
    seen = set()
    for home in ("one", "one", "two"):
        options = {"machine": home.encode() * 8, "make_root": not seen, "take_over": True}
        options["machine"] = options["machine"][:16]
        async with net.mount(tmp_path / home, **options, **QUIET) as vault:
            for number in range(40):
                inode = await write_file(vault, b"%d" % number, b"x")
                assert inode not in seen
                seen.add(inode)
                await unlink(vault, b"%d" % number)
            await vault.publish()
