"""A snapshot stays right whatever is done after it, and its space comes back once it is deleted."""

import contextlib
import os
import random
import stat
from functools import partial

import pytest
import trio
from scenario import QUIET, checkpoint, read_file, unlink, write_file
from test_space import settle, stored

from bitdustfs.cache.rows import CLOSED
from bitdustfs.core.sealing import Kind
from bitdustfs.errors import LocalError
from bitdustfs.fs.past import PAST, is_past
from bitdustfs.units import KIB, MIB
from bitdustfs.vault import compact, publish
from bitdustfs.vault.compact import thin_blocks
from bitdustfs.vault.held import Held
from bitdustfs.vault.verify import verify


async def nobody(what, done, total):
    """Whom nobody has to tell how far verify is."""


async def then(vault, name):
    """Path -> content of all that a snapshot shows."""
    found = {}

    async def walk(folder, path):
        after = 0
        while page := await vault.past.readdir(folder, after, 50):
            for after, entry, seen in page:  # noqa: B007
                assert is_past(seen.inode)
                if entry in (b".", b".."):
                    continue
                if stat.S_ISDIR(seen.attributes.mode):
                    await walk(seen.inode, path + entry + b"/")
                else:
                    size = seen.attributes.size
                    parts = [
                        await vault.past.read(seen.inode, at, MIB) for at in range(0, size, MIB)
                    ]
                    found[path + entry] = b"".join(parts)

    root = await vault.past.lookup(PAST, name)
    assert root is not None, name
    await walk(root.inode, b"")
    return found


class Model:
    """A folder of files that changes at random, and what is in it."""

    def __init__(self, seed):
        self.rng, self.files = random.Random(seed), {}

    async def change(self, vault, count=40):
        """Some files come, grow, are written over in part, and go."""
        for _ in range(count):
            name = b"file %d" % self.rng.randrange(60)
            content = self.files.get(name)
            choice = self.rng.random()
            if content is None or choice < 0.3:
                size = self.rng.choice((0, 100, 500, 3_000, 200 * KIB, 900 * KIB))
                if content is not None:
                    await unlink(vault, name)
                content = self.rng.randbytes(size)
                await write_file(vault, name, content)
            elif choice < 0.5:
                await unlink(vault, name)
                content = None
            else:
                at = self.rng.randrange(len(content) + 1)
                data = self.rng.randbytes(self.rng.choice((1, 5_000, 150 * KIB)))
                await write_file(vault, name, data, offset=at)
                content = content[:at] + data + content[at + len(data) :]
            if content is None:
                del self.files[name]
            else:
                self.files[name] = content


async def test_every_version_of_a_changing_folder_is_right_and_space_comes_back(net, tmp_path):
    model, versions = Model(1), {}
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        for number in range(10):
            await model.change(vault)
            name = b"version %d" % number
            versions[name] = dict(model.files)
            await vault.publish(snapshot=name)
            await model.change(vault, 10)  # after it, and before what follows is reclaimed
            await settle(vault, 2)
        for name in list(model.files):
            await unlink(vault, name)
        model.files.clear()
        await settle(vault, 6)
        for name, files in versions.items():
            assert await then(vault, name) == files
        full = stored(net)
        assert vault.space.held > 0.5 * full
    async with net.mount(tmp_path / "two", machine=b"n" * 16, **QUIET) as vault:
        await settle(vault, 3)
        for name, files in versions.items():
            assert await then(vault, name) == files, name
        for name in list(versions)[::2]:
            await vault.catalogue.drop(name)
            await settle(vault, 2)
        left = list(versions)[1::2]
        for name in left:
            assert await then(vault, name) == versions[name], name
        for name in left:
            await vault.catalogue.drop(name)
        await settle(vault, 6)
        assert vault.space.held == 0
        assert stored(net) < 0.1 * full


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_whatever_is_made_dropped_and_reclaimed_in_between_all_kept_are_right(
    net, tmp_path, seed, monkeypatch
):
    """A history at random, with small cuts: checkpoints often, two machines in turns."""
    monkeypatch.setattr(publish, "JOURNAL_REFS_MAX", 4)
    monkeypatch.setattr(compact, "SLACK", 0)
    model, kept, number = Model(seed), {}, 0
    rng = random.Random(seed)
    for mounted in range(6):
        home, machine = (("one", b"m"), ("two", b"n"))[mounted % 2]
        async with net.mount(
            tmp_path / home, machine=machine * 16, make_root=not mounted, **QUIET
        ) as vault:
            for name, files in kept.items():
                assert await then(vault, name) == files, name
            for _ in range(12):
                match rng.randrange(6):
                    case 0 | 1:
                        await model.change(vault, 8)
                    case 2:
                        number += 1
                        name = b"%d" % number
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(vault.reclaimer.step)
                            nursery.start_soon(partial(vault.publish, snapshot=name))
                        kept[name] = dict(model.files)
                    case 3 if kept:
                        name = rng.choice(list(kept))
                        del kept[name]
                        await vault.catalogue.drop(name)
                    case 4:
                        await vault.publish()
                    case _:
                        await settle(vault, 1)
            await settle(vault, 2)
            await vault.publish()
            report = await verify(vault, False, 0.2, nobody)
            assert not report.faults and not report.unseen and report.snapshots == len(kept)


async def test_a_snapshot_right_after_a_checkpoint_takes_its_index(net, tmp_path):
    """Two checkpoints of one generation would not be told apart."""
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"file", b"x" * 1000)
        await checkpoint(vault)
        await vault.reclaimer.step()
        index = vault.state.checkpoint().index
        await vault.publish(snapshot=b"one")
        [kept] = await vault.catalogue.kept()
        assert kept.item.index == index == vault.volume.tree.base
        await settle(vault, 3)
        assert not (await verify(vault, False, 1.0, nobody)).faults
        assert await then(vault, b"one") == {b"file": b"x" * 1000}


async def test_a_snapshot_shows_what_was_there_before_its_call_and_nothing_later(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        inode = await write_file(vault, b"file", b"before" * 1000)
        await vault.publish(snapshot=b"one")
        await vault.content.truncate(inode, 3)
        await write_file(vault, b"other", b"x")
        assert await then(vault, b"one") == {b"file": b"before" * 1000}
        assert await read_file(vault, b"file") == b"bef"


async def test_thin_blocks_that_a_snapshot_needs_stay_and_others_are_emptied(net, tmp_path):
    rng = random.Random(3)
    content = rng.randbytes(20 * MIB)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        inode = await write_file(vault, b"file", content)
        await settle(vault, 1)
        await vault.publish(snapshot=b"whole")
        changed = bytearray(content)
        for at in range(0, len(content) - 128 * KIB, 160 * KIB):
            data = rng.randbytes(128 * KIB)
            changed[at : at + len(data)] = data
            await vault.content.write(inode, at, data)
        await settle(vault, 6)
        assert await then(vault, b"whole") == {b"file": content}
        assert await read_file(vault, b"file") == changed
        assert stored(net) < 1.95 * len(content)  # not copied beside what is kept
        await vault.catalogue.drop(b"whole")
        await settle(vault, 12)
        assert stored(net) < 1.6 * len(content)
        assert await read_file(vault, b"file") == changed


async def test_what_a_snapshot_keeps_does_not_have_other_blocks_emptied(net, tmp_path):
    rng = random.Random(8)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        inode = await write_file(vault, b"old", rng.randbytes(20 * MIB))
        await vault.publish(snapshot=b"one")
        for at in range(0, 19 * MIB, 160 * KIB):
            await vault.content.write(inode, at, rng.randbytes(128 * KIB))
        new = await write_file(vault, b"new", rng.randbytes(10 * MIB))
        await settle(vault, 2)
        await vault.content.write(new, MIB, rng.randbytes(KIB))  # a little waste beside it
        await vault.publish()
        await vault.reclaimer.step(compact=False)
        emptied = vault.reclaimer._compactor
        assert not list(thin_blocks(emptied._uses, emptied._table, vault.held.may_hold))
        await vault.catalogue.drop(b"one")
        await vault.reclaimer.step(compact=False)
        assert list(thin_blocks(emptied._uses, emptied._table, vault.held.may_hold))


@pytest.mark.parametrize("checkpointed", [False, True])
async def test_what_dies_while_a_snapshot_is_made_is_kept_for_it(net, tmp_path, checkpointed):
    """Between the checkpoint of a snapshot and its item, programs and reclaiming go on."""
    content = random.Random(4).randbytes(3 * MIB)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"file", content)
        await settle(vault, 1)
        if checkpointed:  # then the snapshot writes none, and reclaiming knows what roots need
            await write_file(vault, b"other", b"x")
            await checkpoint(vault)
            await vault.reclaimer.step()
        [block] = [f for f in (tmp_path / "one").rglob("blocks/*") if f.stat().st_size > MIB]
        publisher = vault.publisher
        mark = publisher._mark

        async def meanwhile(*words):
            await unlink(vault, b"file")
            await vault.reclaimer.step()
            return await mark(*words)

        publisher._mark = meanwhile
        await vault.publish(snapshot=b"one")
        await settle(vault, 4)
        assert block.exists(), "it was condemned"
        assert (await then(vault, b"one"))[b"file"] == content
    async with net.mount(tmp_path / "two", machine=b"n" * 16, **QUIET) as vault:
        assert (await then(vault, b"one"))[b"file"] == content


async def test_a_look_into_snapshots_that_fails_proves_nothing(net, tmp_path, monkeypatch):
    """By a bad sector of this machine, which ends the step: the next one goes on."""
    content, failed, look = os.urandom(900 * KIB), set(), Held.look

    async def fail_once(held, block, entries):
        if block not in failed and any(entry.kind == Kind.DATA for entry in entries):
            failed.add(block)
            raise LocalError("a bad sector")
        return await look(held, block, entries)

    monkeypatch.setattr(Held, "look", fail_once)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"file", content)
        await vault.publish(snapshot=b"then")
        await unlink(vault, b"file")
        for _ in range(4):
            await vault.publish()
            with contextlib.suppress(LocalError):
                await vault.reclaimer.step()
        rows = [vault.state.blocks.get(block) for block in failed]
        assert rows and all(row is not None and row.state == CLOSED for row in rows)
        assert await then(vault, b"then") == {b"file": content}


async def test_verify_finds_what_a_snapshot_alone_needs_and_is_damaged(net, tmp_path):
    content = random.Random(6).randbytes(MIB)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"file", content)
        await vault.publish(snapshot=b"one")
        await unlink(vault, b"file")
        await settle(vault, 3)
        report = await verify(vault, False, 1.0, nobody)
        assert not report.faults and not report.unseen and report.snapshots == 1
        [file] = [f for f in (tmp_path / "one").rglob("blocks/*") if f.stat().st_size > MIB]
        file.write_bytes(bytes(file.stat().st_size))
        report = await verify(vault, True, 1.0, nobody)
        assert "is damaged" in report.faults[0]
