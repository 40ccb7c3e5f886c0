"""A vault that is looked at while another machine writes it: each look is at one root."""

import errno
import random
import stat
from contextlib import asynccontextmanager, contextmanager

import pytest
import trio
from machine import CALLER, Net
from scenario import QUIET, checkpoint, unlink, write_file

from bitdustfs.blocks import deferral
from bitdustfs.core.families import next_family
from bitdustfs.core.items import ROOT_INODE
from bitdustfs.core.policy import Refounding, rewinding_words
from bitdustfs.core.records import Ballot, claim_ballot, open_root_untrusted
from bitdustfs.core.roots import open_root_content_untrusted, sign_root
from bitdustfs.core.sealing import Suite
from bitdustfs.errors import FsError, Refused, Unavailable
from bitdustfs.family.replace import replace_member
from bitdustfs.fuse.sides import Sides
from bitdustfs.net import wire
from bitdustfs.vault.following import FollowingVault

SOON = 3.0  #: seconds within which a new root is shown
NAMES = [b"file %d" % number for number in range(12)]


class Kernel:
    """Keeps what it was shown until it is told that it is outdated, as the real one does."""

    def __init__(self, vault):
        self.vault, self.keeps = vault, True
        self.names, self.inodes, self.contents = {}, {}, {}
        self.open = set()
        self.told = []

    @contextmanager
    def looking_away(self):
        self.keeps = False
        try:
            yield
        finally:
            self.keeps = True

    def opened(self):
        return self.open

    def listing(self):
        return ()

    async def forget(self, what):
        self.tell(what)
        self.told.pop()

    def tell(self, what):
        self.told.append(what)
        for old in what.names:
            self.names.pop((old.folder, old.name), None)
        for inode in (*what.attributes, *what.contents, *what.unlinked):
            self.inodes.pop(inode, None)
        for inode in what.contents:
            self.contents.pop(inode, None)

    async def look(self, folder=ROOT_INODE):
        """All names of a folder, through what is kept; what is new is kept, too."""
        for name in NAMES:
            if (folder, name) not in self.names:
                found = await self.vault.volume.lookup(folder, name)
                self.names[folder, name] = None if found is None else found.inode
            inode = self.names[folder, name]
            if inode is None:
                continue
            if inode not in self.inodes:
                self.inodes[inode] = (await self.vault.volume.getattr(inode)).attributes
            if inode not in self.contents:
                size = self.inodes[inode].size
                self.contents[inode] = await self.vault.content.read(inode, 0, max(1, size))
        shown = {name: self.names[folder, name] for name in NAMES}
        return {
            name: (self.contents[inode], self.inodes[inode])
            for name, inode in shown.items()
            if inode is not None
        }


@asynccontextmanager
async def following(net, home, machine=b"f" * 16, **more):
    """A follower and its kernel."""
    async with (
        net.mount(home, machine=machine, read_only=True, **more) as vault,
        trio.open_nursery() as nursery,
    ):
        assert isinstance(vault, FollowingVault)
        kernel = Kernel(vault)
        nursery.start_soon(vault.follow, kernel)
        yield vault, kernel
        nursery.cancel_scope.cancel()


async def shown(vault, seq):
    """Once a root of that number is shown."""
    await until(lambda: vault.following().seq >= seq)


async def until(happened):
    with trio.fail_after(SOON):
        while not happened():  # noqa: ASYNC110
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


async def change_something(writer, rng):
    name = rng.choice(NAMES)
    there = await writer.volume.lookup(ROOT_INODE, name)
    act = rng.random()
    if there is None or act < 0.4:
        await write_file(writer, name, rng.randbytes(rng.choice([10, 600, 200_000])))
    elif act < 0.6:
        await unlink(writer, name)
    elif act < 0.8:
        await writer.content.truncate(there.inode, rng.randrange(100_000))
    else:
        await writer.volume.rename(ROOT_INODE, name, ROOT_INODE, rng.choice(NAMES), 0, CALLER)


async def test_each_root_is_shown_and_the_kernel_keeps_nothing_outdated(net, tmp_path, long):
    rng = random.Random(3)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as writer:
        await writer.publish()
        async with following(net, tmp_path / "two") as (follower, kernel):
            for round_ in range(60 if long else 8):
                for _ in range(6):
                    await change_something(writer, rng)
                publish = checkpoint if round_ % 4 == 3 else type(writer).publish
                await publish(writer)
                await shown(follower, writer.published_seq())
                assert await tree_of(follower) == await tree_of(writer)
                kept = {at: inode for at, inode in kernel.names.items() if inode is not None}
                seen = await kernel.look()
                fresh = await Kernel(follower).look()
                assert seen == fresh, "the kernel keeps what is outdated"
                assert follower.published_seq() == writer.published_seq()
                assert kept or round_ == 0
            last = await tree_of(writer)
    async with net.mount(tmp_path / "two", machine=b"f" * 16, **QUIET) as again:
        assert await tree_of(again) == last, "what the follower kept of the last root"


async def test_only_what_changed_is_taken_back(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as writer:
        inodes = {name: await write_file(writer, name, name * 200) for name in NAMES[:6]}
        await checkpoint(writer)
        async with following(net, tmp_path / "two") as (follower, kernel):
            await kernel.look()
            for publish in (type(writer).publish, checkpoint):
                kernel.told.clear()
                await writer.content.write(inodes[NAMES[0]], 0, b"other")
                await unlink(writer, NAMES[1])
                inodes[NAMES[1]] = await write_file(writer, NAMES[1], b"made again")
                await publish(writer)
                await shown(follower, writer.published_seq())
                contents = {inode for what in kernel.told for inode in what.contents}
                names = {old.name for what in kernel.told for old in what.names}
                attributes = {inode for what in kernel.told for inode in what.attributes}
                assert contents - {inodes[NAMES[0]]} <= {
                    inode for what in kernel.told for inode in what.unlinked
                }
                assert inodes[NAMES[0]] in contents
                assert names == {NAMES[1]}
                assert not attributes & {inodes[name] for name in NAMES[2:6]}
                await kernel.look()


async def test_promise_8_what_one_voter_alone_has_is_not_shown(net, tmp_path, monkeypatch):
    def refuse(*words):
        raise Refused("busy", "not now")

    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as writer:
        await write_file(writer, NAMES[0], b"1" * 1000)
        await writer.publish()
        async with following(net, tmp_path / "two") as (follower, _):
            before = follower.following().seq
            with monkeypatch.context() as patched:
                for service in net.services[1:]:
                    patched.setattr(service.voter, "accept", refuse)
                await write_file(writer, NAMES[1], b"2" * 1000)
                with pytest.raises(Unavailable, match="1 of 7 suppliers took"):
                    await writer.publish()
                looked = net.suppliers[0].calls.count("Current")
                # it was heard of, and asked for twice
                await until(lambda: net.suppliers[0].calls.count("Current") >= looked + 2)
                assert follower.following().seq == before
                assert len(await tree_of(follower)) == 1
            await writer.publish()
            await shown(follower, writer.published_seq())
            assert len(await tree_of(follower)) == 2


async def test_promise_8_one_voter_that_denies_a_root_does_not_hide_it(net, tmp_path, monkeypatch):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as writer:
        await write_file(writer, NAMES[0], b"1" * 1000)
        await writer.publish()
        liar = net.services[0]
        row, handle = liar.shelf.vault(net.key.vault_id), liar.handle

        def deny(session, request, payload):
            if isinstance(request, wire.Await):
                return wire.Done(), b""
            if isinstance(request, wire.Current):
                return wire.CurrentIs(row.claim, row.root, row.family), b""
            return handle(session, request, payload)

        monkeypatch.setattr(liar, "handle", deny)
        async with following(net, tmp_path / "two") as (follower, _):
            await write_file(writer, NAMES[1], b"2" * 1000)
            await writer.publish()
            await shown(follower, writer.published_seq())
            assert len(await tree_of(follower)) == 2


async def test_who_has_a_file_open_reads_on_when_it_is_deleted(net, tmp_path):
    content = random.Random(4).randbytes(300_000)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as writer:
        inode = await write_file(writer, NAMES[0], content)
        await write_file(writer, NAMES[1], b"small")
        await writer.publish()
        async with following(net, tmp_path / "two") as (follower, kernel):
            small = (await follower.volume.lookup(ROOT_INODE, NAMES[1])).inode
            await kernel.look()
            kernel.open = {inode}
            sides = Sides(follower)
            for name in NAMES[:2]:
                await unlink(writer, name)
            await writer.publish()
            await shown(follower, writer.published_seq())
            assert await follower.volume.lookup(ROOT_INODE, NAMES[0]) is None
            assert await sides.read(inode, 0, 400_000) == content
            assert (await sides.volume(inode).getattr(inode)).attributes.nlink == 0
            await checkpoint(writer)
            await shown(follower, writer.published_seq())
            assert await sides.read(inode, 100_000, 400_000) == content[100_000:]
            for late in (sides.find(small), sides.read(small, 0, 10)):  # nobody had it open
                with pytest.raises(FsError) as caught:
                    await late
                assert caught.value.errno == errno.ESTALE
            await sides.find(inode)
            kernel.open = set()
            await write_file(writer, NAMES[2], b"another root")
            await writer.publish()
            await shown(follower, writer.published_seq())
            with pytest.raises(FsError):
                await sides.read(inode, 0, 10)


async def test_a_read_under_way_is_of_one_root(net, tmp_path):
    old, new = (random.Random(seed).randbytes(120_000) for seed in (1, 2))
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as writer:
        await write_file(writer, NAMES[0], old)
        await writer.publish()
        async with following(net, tmp_path / "two") as (follower, _):
            read, sides = [], Sides(follower)
            inode = (await follower.volume.lookup(ROOT_INODE, NAMES[0])).inode
            reading, turned = trio.Event(), trio.Event()
            pieces = follower.content._pieces

            async def slow_pieces(parts):
                reading.set()
                found = await pieces(parts)
                await turned.wait()
                return found

            follower.content._pieces = slow_pieces
            async with trio.open_nursery() as nursery:

                async def look():
                    read.append(await sides.read(inode, 0, 120_000))

                nursery.start_soon(look)
                await write_file(writer, NAMES[0], new)
                await reading.wait()
                await writer.publish()
                await shown(follower, writer.published_seq())
                turned.set()
            assert read == [new]


async def test_a_family_that_changes_is_followed(net, tmp_path):
    async def silent(*what):
        """Nobody watches."""

    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as writer:
        await write_file(writer, NAMES[0], b"1" * 100_000)
        await writer.publish()
        async with following(net, tmp_path / "two") as (follower, _):
            for position in (0, 3):
                net.suppliers[position].break_()
                await replace_member(writer, net.key, position, await net.spare(), silent)
                await write_file(writer, NAMES[1], b"%d" % position * 100_000)
                await writer.publish()
                await shown(follower, writer.published_seq())
                assert follower.known.family == writer.known.family
                assert await tree_of(follower) == await tree_of(writer)


async def test_two_friends_are_followed_while_one_of_them_is_off(tmp_path, monkeypatch):
    """The writer's seat cannot be asked: what half of the suppliers hold counts with it."""
    monkeypatch.setattr(deferral, "SOON", 1.0)
    net = Net(1, 2)
    await net.create()
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as writer:
        await write_file(writer, NAMES[0], b"1" * 1000)
        await writer.publish()
        async with following(net, tmp_path / "two") as (follower, _):
            net.suppliers[0].break_()
            await write_file(writer, NAMES[1], b"2" * 1000)
            await writer.publish()
            await shown(follower, writer.published_seq())
            assert await tree_of(follower) == await tree_of(writer)


async def test_snapshots_turn_up(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as writer:
        await write_file(writer, NAMES[0], b"then")
        await writer.publish()
        async with following(net, tmp_path / "two") as (follower, _):
            assert not await follower.catalogue.kept()
            await writer.publish(snapshot=b"friday")
            await shown(follower, writer.published_seq())
            assert [kept.name for kept in await follower.catalogue.kept()] == [b"friday"]
            await write_file(writer, NAMES[0], b"now!")
            await writer.publish()
            await shown(follower, writer.published_seq())
            then = await follower.as_of("friday")
            assert not isinstance(then, FollowingVault), "what was does not follow"
            assert list((await tree_of(then)).values()) == [b"then"]
            assert list((await tree_of(follower)).values()) == [b"now!"]


async def test_promise_10_a_machine_with_work_of_its_own_does_not_follow(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as writer:
        await writer.publish()
        await write_file(writer, NAMES[0], b"not published")
    async with net.mount(tmp_path / "one", read_only=True, **QUIET) as looking:
        assert not isinstance(looking, FollowingVault)
        assert list((await tree_of(looking)).values()) == [b"not published"]
    async with net.mount(tmp_path / "one", **QUIET) as writer:
        await writer.publish()
    async with following(net, tmp_path / "one", machine=b"m" * 16) as (follower, _):
        assert follower.following().seq == writer.published_seq()


async def test_an_empty_vault_is_followed_from_its_first_root(net, tmp_path):
    async with following(net, tmp_path / "two") as (follower, _):
        await follower.volume.make_root(CALLER)  # as a mount of an empty vault does, in memory
        assert await tree_of(follower) == {}
        async with net.mount(tmp_path / "one", make_root=True, **QUIET) as writer:
            await write_file(writer, NAMES[0], b"first")
            await writer.publish()
            await shown(follower, writer.published_seq())
            assert list((await tree_of(follower)).values()) == [b"first"]


async def test_promise_8_what_the_dht_bears_witness_of_is_missed_until_it_is_shown(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as writer:
        await writer.publish()
        async with following(net, tmp_path / "two") as (follower, _):
            ballot, seq = follower.known.root.order
            follower.heed_witness(ballot, seq)
            assert follower.message == ""
            follower.heed_witness(ballot, seq + 1)
            assert f"the network remembers root {seq + 1}" in follower.message
            await write_file(writer, NAMES[0], b"newer")
            await writer.publish()
            await shown(follower, seq + 1)
            assert follower.message == ""


async def test_a_follower_that_began_with_too_few_suppliers_follows_once_they_are_back(
    net, tmp_path
):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as writer:
        await writer.publish()
        await writer.courier.try_all()
        for supplier in net.suppliers[:4]:
            supplier.break_()
        async with following(net, tmp_path / "two") as (follower, _):
            assert "only 3 of 7 suppliers answered" in follower.message
            for supplier in net.suppliers:
                supplier.heal()
            await write_file(writer, NAMES[0], b"newer")
            await writer.publish()
            await shown(follower, writer.published_seq())
            assert follower.message == ""
            assert list((await tree_of(follower)).values()) == [b"newer"]


async def replace_history(net, left, old, content, family, lineage=0):
    """A root after `left`, by a third machine, that is made of an older one."""
    ballot = Ballot(left.ballot.generation + 1, b"z" * 16, lineage)
    claim = claim_ballot(net.key.signing, ballot)
    raw = sign_root(
        net.key, Suite.AEGIS256, ballot, left.seq + 1, old.uid, family, content, left.time
    )
    for supplier in net.suppliers:
        await supplier.prepare(claim, True)
        await supplier.accept(raw, family, claim)


@pytest.mark.parametrize("lineage", [0, 1], ids=["as it came", "rewound"])
async def test_a_history_that_another_one_replaced_is_followed_and_said(net, tmp_path, lineage):
    """Nothing of this machine's own was in it."""
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as writer:
        await write_file(writer, NAMES[0], b"first")
        await writer.publish()
        family = writer.state.published().family
        old = open_root_untrusted(writer.state_root(), net.key.vault_id)
        content = open_root_content_untrusted(net.key, old)
        async with following(net, tmp_path / "two") as (follower, _):
            for name in NAMES[1:3]:
                await write_file(writer, name, name)
                await writer.publish()
            await shown(follower, writer.published_seq())
            assert follower.troubles == []
            left = open_root_untrusted(writer.state_root(), net.key.vault_id)
            if lineage:
                words = rewinding_words(Refounding(lineage, 0, old.seq), 0)
                family = next_family(net.key, family, policy=words)
            await replace_history(net, left, old, content, family, lineage)
            await shown(follower, left.seq + 1)
            assert list((await tree_of(follower)).values()) == [b"first"]
            [said] = follower.troubles
            assert f"root {left.seq + 1}, which is shown now, does not stand on" in said


async def test_promise_10_a_history_without_what_this_machine_published_is_not_shown(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as writer:
        await writer.publish()
        old = open_root_untrusted(writer.state_root(), net.key.vault_id)
        await write_file(writer, NAMES[0], b"ours")
        await writer.publish()
        left = open_root_untrusted(writer.state_root(), net.key.vault_id)
        family = writer.state.published().family
    content = open_root_content_untrusted(net.key, old)
    async with following(net, tmp_path / "one", machine=b"m" * 16) as (follower, _):
        await replace_history(net, left, old, content, family)
        await until(lambda: "there are two histories" in follower.following().why)
        assert follower.following().seq == left.seq
        assert list((await tree_of(follower)).values()) == [b"ours"]
