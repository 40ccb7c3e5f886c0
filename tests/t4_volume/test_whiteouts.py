"""A rename that leaves a whiteout, as overlayfs asks for: renameat2(2), RENAME_WHITEOUT."""

import errno
import stat

import pytest
from machine import CALLER
from scenario import write_file

from bitdustfs.core.items import ROOT_INODE
from bitdustfs.errors import FsError
from bitdustfs.fs.names import RENAME_NOREPLACE, RENAME_WHITEOUT, Caller
from bitdustfs.vault.verify import verify

FILE, FOLDER = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755
ROOTS_OWN = Caller(0, 0)


async def silent(what, done, total):
    """Nobody watches."""


async def kinds(volume, folder):
    """What lies in a folder: type, device and owner by name."""
    found = {}
    for entry in await volume.readdir(folder, 2, 100):
        made = entry.found.attributes
        found[entry.name] = stat.S_IFMT(made.mode), made.rdev, (made.uid, made.gid)
    return found


WHITEOUT = stat.S_IFCHR, 0, (0, 0)
PLAIN = stat.S_IFREG, 0, CALLER[:2]


async def test_a_rename_leaves_a_whiteout_for_a_file_and_for_a_folder(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        volume = vault.volume
        inode = await write_file(vault, b"file", b"content")
        await volume.create(ROOT_INODE, b"folder", FOLDER, CALLER)
        target = (await volume.create(ROOT_INODE, b"target", FOLDER, CALLER)).inode
        before = (await volume.totals()).inodes
        for name in (b"file", b"folder"):
            await volume.rename(ROOT_INODE, name, target, name, RENAME_WHITEOUT, ROOTS_OWN)
        assert (await volume.totals()).inodes == before + 2
        left = await kinds(volume, ROOT_INODE)
        assert left.pop(b"target")[0] == stat.S_IFDIR
        assert left == {b"file": WHITEOUT, b"folder": WHITEOUT}
        assert (await volume.lookup(target, b"file")).inode == inode
        assert await vault.content.read(inode, 0, 100) == b"content"
        await vault.committer.commit(sync=True)
        assert (await verify(vault, True, 1.0, silent)).faults == []


async def test_what_is_replaced_goes_and_the_whiteout_belongs_to_the_folders_group(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        volume = vault.volume
        shared = (await volume.create(ROOT_INODE, b"shared", FOLDER | stat.S_ISGID, CALLER)).inode
        await write_file(vault, b"a", b"new", shared)
        await write_file(vault, b"b", b"old", shared)
        await volume.rename(shared, b"a", shared, b"b", RENAME_WHITEOUT, ROOTS_OWN)
        group = CALLER.gid
        assert await kinds(volume, shared) == {b"a": (*WHITEOUT[:2], (0, group)), b"b": PLAIN}
        found = await volume.lookup(shared, b"b")
        assert await vault.content.read(found.inode, 0, 100) == b"new"
        await volume.unlink(shared, b"a")
        await volume.rename(shared, b"b", shared, b"a", 0, CALLER)
        assert list(await kinds(volume, shared)) == [b"a"]


async def test_a_whiteout_is_left_only_where_the_rename_is_done(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        volume = vault.volume
        await write_file(vault, b"a", b"1")
        inode = await write_file(vault, b"b", b"2")
        await volume.link(inode, ROOT_INODE, b"c")
        before = await kinds(volume, ROOT_INODE)
        with pytest.raises(FsError) as refused:
            flags = RENAME_WHITEOUT | RENAME_NOREPLACE
            await volume.rename(ROOT_INODE, b"a", ROOT_INODE, b"b", flags, CALLER)
        assert refused.value.errno == errno.EEXIST
        await volume.rename(ROOT_INODE, b"b", ROOT_INODE, b"c", RENAME_WHITEOUT, CALLER)
        assert await kinds(volume, ROOT_INODE) == before
        with pytest.raises(FsError) as refused:
            await volume.rename(ROOT_INODE, b"a", ROOT_INODE, b"d", 1 << 3, CALLER)
        assert refused.value.errno == errno.EINVAL
