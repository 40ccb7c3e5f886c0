"""What the tests over a vault in one process share."""

import random
import stat

from machine import CALLER

from bitdustfs.core.items import ROOT_INODE
from bitdustfs.units import MIB

#: nothing goes on by itself
QUIET = {"publish_every": 1e9, "publish_tick": 1e9, "reclaims": False}


async def write_file(vault, name, content, folder=ROOT_INODE, offset=0):
    found = await vault.volume.lookup(folder, name)
    if found is None:
        found = await vault.volume.create(folder, name, stat.S_IFREG | 0o644, CALLER)
    for at in range(0, len(content), 100_000):
        await vault.content.write(found.inode, offset + at, content[at : at + 100_000])
    return found.inode


async def read_file(vault, name, folder=ROOT_INODE):
    found = await vault.volume.lookup(folder, name)
    assert found is not None, name
    size = found.attributes.size
    parts = [await vault.content.read(found.inode, at, 300_000) for at in range(0, size, 300_000)]
    return b"".join(parts)


def photos(count=3, size=3 * MIB):
    return {f"photo {i}.jpg".encode(): random.Random(i).randbytes(size + i) for i in range(count)}


async def unlink(vault, name):
    found = await vault.volume.lookup(ROOT_INODE, name)
    await vault.volume.unlink(ROOT_INODE, name)
    await vault.volume.forget(found.inode, vault.volume._lookups.held(found.inode))


async def checkpoint(vault):
    generation = await vault.committer.commit(sync=True, freeze=True)
    await vault.publisher._checkpoint(generation)
    await vault.publish()
    await vault.courier.try_all()


def forget_leaves(vault, home):
    """As after `ls -R` with a small cache: nodes and extents are to be fetched again."""
    vault.volume.tree._nodes.clear()
    vault.reader._plain.clear()
    vault.reader._plain_size = 0
    vault.reader._files._fetched_sizes.clear()
    for file in home.rglob("fetched/*"):
        file.unlink()
