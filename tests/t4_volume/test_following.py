"""A vault that is looked at while another machine writes it: each look is at one root."""

import random
import stat
from contextlib import asynccontextmanager, contextmanager

import trio
from machine import CALLER
from scenario import QUIET, checkpoint, read_file, unlink, write_file

from bitdustfs.core.items import ROOT_INODE
from bitdustfs.vault.following import FollowingVault

SOON = 3.0  #: seconds within which a new root is shown


class Kernel:
    """Keeps what it was shown until it is told that it is outdated, as the real one does."""

    def __init__(self):
        self.told = []
        self.away = False

    @contextmanager
    def looking_away(self):
        self.away = True
        try:
            yield
        finally:
            self.away = False

    def tell(self, what):
        self.told.append(what)


@asynccontextmanager
async def following(net, home, machine=b"f" * 16, **more):
    """A follower and its kernel."""
    async with (
        net.mount(home, machine=machine, read_only=True, **more) as vault,
        trio.open_nursery() as nursery,
    ):
        assert isinstance(vault, FollowingVault)
        kernel = Kernel()
        nursery.start_soon(vault.follow, kernel)
        yield vault, kernel
        nursery.cancel_scope.cancel()


async def shown(vault, seq):
    """Once a root of that number is shown."""
    with trio.fail_after(SOON):
        while vault.following().seq < seq:
            await trio.sleep(0.01)


async def tree_of(vault, folder=ROOT_INODE, path=b""):
    """All that a vault shows: path -> content, or None for a folder."""
    found, cookie = {}, 0
    while page := await vault.volume.readdir(folder, cookie, 50):
        for entry in page:
            cookie = entry.cookie
            if entry.name in (b".", b".."):
                continue
            at = path + b"/" + entry.name
            if stat.S_ISDIR(entry.found.attributes.mode):
                found[at] = None
                found |= await tree_of(vault, entry.found.inode, at)
            else:
                size = entry.found.attributes.size
                found[at] = await vault.content.read(entry.found.inode, 0, max(1, size))
    return found


async def test_a_follower_shows_each_root_and_nothing_in_between(net, tmp_path):
    rng = random.Random(3)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as writer:
        await writer.publish()
        async with following(net, tmp_path / "two") as (follower, _):
            for round_ in range(12):
                for _ in range(6):
                    name = b"file %d" % rng.randrange(12)
                    there = await writer.volume.lookup(ROOT_INODE, name)
                    act = rng.random()
                    if there is None or act < 0.4:
                        await write_file(writer, name, rng.randbytes(rng.choice([10, 600, 200_000])))
                    elif act < 0.6:
                        await unlink(writer, name)
                    elif act < 0.8:
                        await writer.content.truncate(there.inode, rng.randrange(100_000))
                    else:
                        other = b"file %d" % rng.randrange(12)
                        await writer.volume.rename(
                            ROOT_INODE, name, ROOT_INODE, other, 0, CALLER
                        )
                before = follower.following().seq
                if round_ % 4 == 3:
                    await checkpoint(writer)
                else:
                    await writer.publish()
                assert writer.published_seq() > before
                await shown(follower, writer.published_seq())
                assert await tree_of(follower) == await tree_of(writer)
                assert follower.published_seq() == writer.published_seq()
    async with net.mount(tmp_path / "two", machine=b"f" * 16, **QUIET) as again:
        assert await tree_of(again) == await tree_of(follower)
