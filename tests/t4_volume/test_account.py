"""What a mount says of itself in every state of the vault, held against what is true.

Each state is made with suppliers in memory. Then everything that speaks is asked: what a mount
warns of, health and state of each file, and the commands `status`, `verify`, `sync`, `snapshot
create`, `rebuild` and `unmount`, by what they print and by their exit codes. What is true is found
out by other means: a machine that never saw the vault mounts it and reads, with as many suppliers
as the mount could be left with.
"""

import itertools
import os
import random
import re
import shutil
import time
from contextlib import suppress

import msgspec
import pytest
import trio
from scenario import QUIET, forget_leaves, read_file, write_file
from spoken import speaker, spoken
from vault_states import STATES, State, healthy_sessions, small, writing

from bitdustfs import failpoints
from bitdustfs.blocks import courier, deferral
from bitdustfs.cache.rows import CLOSED
from bitdustfs.cli.exit_codes import CODES, Exit
from bitdustfs.errors import BitdustError, Unavailable, UsageError
from bitdustfs.mount import ending, outcomes, syncing
from bitdustfs.mount.commands import Rebuild, Turn, Verify
from bitdustfs.mount.statements import VerifyOutcome
from bitdustfs.rebuild import watch
from bitdustfs.supplier.shelfrows import fragment_key
from bitdustfs.system.judging import judged
from bitdustfs.vault.vaults import WritableVault


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch):
    """What is waited for in vain is not waited for long."""
    monkeypatch.setattr(deferral, "SOON", 0.3)
    monkeypatch.setattr(courier, "WAIT_DEADLINE", 4.0)
    monkeypatch.setattr(ending, "LAST_ATTEMPT", 1.0)
    monkeypatch.setattr(ending, "LAST_COPIES", 1.0)
    monkeypatch.setattr(syncing, "SLOW", 1.0)
    monkeypatch.setattr(watch, "GLANCE_FRESH", -1.0)
    yield
    failpoints.plan = None


# -- what is true


class Judge:
    """A machine that never saw the vault. It reads what the suppliers have, from those left."""

    def __init__(self, state, tmp_path):
        self.state, self.root, self.number = state, tmp_path / "judge", itertools.count()
        self.snapshots = set()  # that this machine made

    async def sees(self, lost=(), confirmed=True, of=""):
        """The names that it reads as this machine accepted them, with `lost` positions gone; `of` a
        snapshot, where one is named.
        """
        net = self.state.net
        sessions = healthy_sessions(net)
        family = getattr(self.state, "family", None) or net.family
        for position in lost:
            sessions[family.members[position].node].break_()
        home = self.root / str(next(self.number))
        plan, failpoints.plan = failpoints.plan, None  # the judge's disk works
        try:
            return await self._sees(home, sessions, family, confirmed, of)
        finally:
            failpoints.plan = plan
            shutil.rmtree(home, ignore_errors=True)

    async def sees_all(self):
        """Whether it reads all that this machine accepted, and all snapshots."""
        shown = [await self.sees(of=name) for name in ("", *self.snapshots)]
        return all(names == set(self.state.files) for names in shown)

    async def _sees(self, home, sessions, family, confirmed, of):
        net, seen = self.state.net, set()
        with suppress(Unavailable):
            async with net.mount(
                home, machine=b"j" * 16, read_only=True, sessions=sessions, family=family
            ) as vault:
                seat = vault.known.family.seat  # which this machine cannot ask
                if confirmed and not seat and not vault.known.confirmed:
                    return seen
                try:
                    shown = await vault.as_of(of) if of else vault
                except UsageError:  # there is no such snapshot
                    return seen
                for name, content in self.state.files.items():
                    with suppress(BitdustError, AssertionError):
                        if await read_file(shown, name) == content:
                            seen.add(name)
        return seen


# -- what is said


async def nobody_hears(progress):
    """Nobody watches."""


async def own_word(vault, name, attribute):
    inode = (await vault.volume.lookup(1, name)).inode
    return (await vault.xattrs.get(inode, b"user.bitdust." + attribute)).decode()


async def words(state, attribute):
    return {name: await own_word(state.vault, name, attribute) for name in state.files}


async def can_read_without_this_machines_copy(state, name):
    """Whether the suppliers that answer give the content."""
    forget_leaves(state.vault, state.home)
    files = state.vault.reader._files
    real, files.read = files.read, lambda *place: None
    try:
        return await read_file(state.vault, name) == state.files[name]
    except BitdustError:
        return False
    finally:
        files.read = real


@pytest.mark.deadline(90)
@pytest.mark.parametrize("name", STATES)
async def test_what_is_said_is_true(name, tmp_path):
    async with STATES[name](tmp_path) as state:
        await hold_against_the_truth(state, tmp_path)


async def hold_against_the_truth(state, tmp_path):
    judge = Judge(state, tmp_path)
    await state.vault.watch.round()  # as it does every 10 seconds
    async with spoken(state, tmp_path) as mount:
        await hold_words(state, judge)
        await hold_status(state, judge, mount)
        await hold_mount(state, judge)
        await hold_verify(state, judge, mount)
        await hold_turn(state, mount)
        await hold_sync(state, judge, mount)
        await hold_snapshot(state, judge, mount)
        await hold_rebuild(state, judge, mount)
        await hold_end(state, judge, mount)


async def hold_words(state, judge):
    """user.bitdust.state and user.bitdust.health of each file."""
    published = await judge.sees()
    in_state, in_health = await words(state, b"state"), await words(state, b"health")
    for name in state.files:
        if state.adrift:  # which of it is in the other history, nobody knows here
            assert in_state[name] == "local"
        else:
            assert (in_state[name] == "published") == (name in published)
        match in_health[name]:
            case "unreadable":
                assert not await can_read_without_this_machines_copy(state, name)
            case "local":
                kept_elsewhere = name in published and len(state.away) <= state.net_spare
                assert state.adrift or not kept_elsewhere
            case "thin":
                assert state.vault.state.blocks.thin()
            case "unknown":
                assert not isinstance(state.vault, WritableVault)
            case number:
                await hold_margin(state, judge, {name}, int(number))


async def hold_margin(state, judge, names, margin):
    """So many more may go, and this machine: what is published can still be read."""
    there = [p for p in range(state.net_size) if p not in state.away]
    picks = list(itertools.combinations(there, margin))
    for more in random.Random(1).sample(picks, min(3, len(picks))):
        assert names <= await judge.sees({*state.away, *more}, confirmed=False), more


async def hold_status(state, judge, mount):
    """Numbers, the states of suppliers, and each sentence of safety."""
    status, published = await mount.describer.status(), await judge.sees()
    everything = set(state.files) == published
    away = {line.position for line in status.suppliers if line.state != "online"}
    assert away == state.away
    assert all(line.heard is not None for line in status.suppliers if line.state == "online")
    assert status.state == {
        True: "read-only", False: "published" if everything else "local",
    }[state.vault.read_only]  # fmt: skip
    text = " | ".join(status.safety)
    assert ("not published" in text or "not part of the history" in text) == (not everything), text
    all_said = f"{status.message} | {text}"
    owed = "kept on this machine" in all_said or "in memory only" in all_said
    assert owed == (not everything), all_said
    there = state.net_size - len(state.away)
    assert ("no supplier answers" in text) == (there == 0)
    assert ("are needed: not everything can be read" in text) == (0 < there < state.net.k)
    assert "is lost" not in text
    if "you can lose" in text:
        assert status.may_lose > 0
        await hold_margin(state, judge, published, status.may_lose)
        assert everything or "without losing anything that is published" in text
    hold_verdict(status, everything)
    await hold_check(state, mount, everything)
    if status.local_blocks:
        assert "only on this machine" in text and "losing anything right" not in text
    if not everything and isinstance(state.vault, WritableVault) is False:
        assert status.unpublished or "not part of the history" in text


def hold_verdict(status, everything):
    """The first line: `safe` and `published` only where a stranger finds all, else NOT safe."""
    assert status.verdict.startswith(("safe: ", "published") if everything else "NOT safe")
    if status.verdict.startswith("safe"):
        assert status.may_lose > 0 and not status.thin_blocks
    assert ("NOT readable" in status.verdict) <= (status.may_lose < 0 or not everything)


async def hold_check(state, mount, everything):
    """`status` begins with the verdict; `--check` ends with 0 only where nobody has to do
    anything.
    """
    code, said, _ = await mount.run("status")
    assert code == Exit.DONE
    assert said.startswith(("safe: ", "published") if everything else "NOT safe")
    code, said, _ = await mount.run("status", "--check")
    if code == Exit.DONE:
        assert len(state.away) <= state.net_spare
        assert everything or not state.vault.read_only
    unread = len(state.away) > state.net_spare
    if unread or (state.vault.read_only and not everything):
        assert code == Exit.FAULTS


async def hold_mount(state, judge):
    """What a command that mounts warns of."""
    account = await state.vault.account()
    warned, begun_without = account.on_mount(), account.offline or account.waits
    everything = await judge.sees_all()
    unasked = state.vault.read_only and not (state.asked and everything)
    assert bool(warned) == bool(unasked or begun_without)
    assert bool(begun_without) <= (len(state.away) > state.net_spare or state.net_size == 5)
    if state.vault.read_only and not everything:
        assert "not published" in warned or "not part of the history" in warned


async def hold_verify(state, judge, mount):
    """Sentences and exit code; without new work, for which the disk may be full."""
    code, said, _ = await mount.run("verify", "--sample", "20%", "--json")
    outcome = msgspec.json.decode(said, type=VerifyOutcome)
    unseen = " ".join(outcome.unseen)
    for position in state.away:
        assert state.net.suppliers[position].node.hex()[:16] in unseen
    assert bool(outcome.unseen) == bool(state.away)
    assert bool(outcome.faults) == bool(state.faults) and state.faults in " ".join(outcome.faults)
    assert code == (Exit.FAULTS if state.faults else Exit.UNSEEN if state.away else Exit.DONE)
    assert ("not everything could be" in outcome.verdict) == bool(state.away)
    everything = await judge.sees_all()
    if not outcome.faults and not outcome.unseen:
        assert ("only on this machine" in outcome.verdict) == (not everything)


async def hold_turn(state, mount):
    """`mount -o remount,rw`: only a mount that may write is turned, and why not is said."""
    refused = ""
    try:
        await mount.answer(Turn(read_only=False), nobody_hears)
    except BitdustError as error:
        refused = str(error)
    assert bool(refused) == state.vault.read_only
    assert not state.asked or "began with -o ro" in refused


async def hold_sync(state, judge, mount):
    """It says that all is published, and ends with 0, exactly where a stranger finds all."""
    code, done, why = await mount.run("sync")
    everything = await judge.sees_all()
    assert code == (Exit.DONE if everything else Exit.FAILED)
    assert bool(done) == everything and bool(why) == (not everything)
    if everything:
        assert "published" in done and "kept on this machine" not in done, done
        if state.vault.read_only:
            assert "read-only" in done
        assert ("thinly" in done) == bool(state.vault.state.blocks.thin())
    else:
        assert "not published" in why or "not part of the history" in why
        assert "(" in why  # the reason


async def hold_snapshot(state, judge, mount):
    """0 where a stranger finds the snapshot with all in it, 3 where this machine alone has it; else
    there is none.
    """
    code, done, why = await mount.run("snapshot create", "then")
    there = set(state.files) == await judge.sees(of="then")
    here = await state.vault.catalogue.find(b"then") is not None
    judge.snapshots |= {"then"} if here else set()
    assert code == (Exit.DONE if there else Exit.FAULTS if here else Exit.FAILED), (done, why)
    assert bool(why) == (not here) and bool(done) == here
    assert ("is made and published" in done) == there
    assert ("on this machine only" in done) == (here and not there)
    hold_verdict(await mount.describer.status(), await judge.sees_all())


async def hold_rebuild(state, judge, mount):
    """0 only where each supplier has what it should have; 3 where something is missing."""
    code, done, why = await mount.run("rebuild")
    assert (code == Exit.FAILED) == (state.vault.read_only or state.alone), (done, why)
    if code == Exit.FAILED:
        assert ("are needed to publish" if state.alone else "read-only") in why and not done
        return
    assert code == (Exit.FAULTS if lacking(state) else Exit.DONE), done
    assert bool(lacking(state)) == ("lack" in done), done
    if found := re.search(r"you can lose (\d+)", done):
        await hold_margin(state, judge, await judge.sees(), int(found[1]))


def lacking(state):
    """Fragments of closed blocks that the position's own supplier does not have."""
    rows = state.vault.state.blocks.snapshot()
    return [
        (block, position) for block, row in rows.items() if row.state == CLOSED
        for position, service in enumerate(state.net.services[: row.n])
        if service.shelf.fragment(state.net.key.vault_id, fragment_key(block, position)) is None
    ]  # fmt: skip


async def hold_end(state, judge, mount):
    """`unmount`: what cannot be kept is not thrown away; what is said is true afterwards."""
    code, done, why = await mount.run("unmount")
    kept = mount.taken.is_set()
    everything = await judge.sees_all()
    assert code == (Exit.DONE if everything else Exit.FAILED), (done, why)
    if not kept:
        assert "stays mounted" in why and "in memory only" in why
        await hold_end_by_force(state, mount)
        return
    verdict, *said = done.splitlines()
    assert verdict.startswith(("safe: ", "published") if everything else "NOT safe: ")
    if everything:
        [said] = said
        assert "is unmounted and " in said and "kept on this machine" not in said
        assert "published" in said
        assert ("thinly" in said) == bool(state.vault.state.blocks.thin())
    else:
        assert not said and "is unmounted, but " in why and "kept on this machine" in why
        assert "as soon as" not in why and "when they are back" not in why
        if not (state.adrift or "only, and is not published by itself" in why):
            assert "by the next mount" in why  # nobody is left who would do it sooner


async def hold_end_by_force(state, mount):
    """As by SIGTERM: what this machine's disk does not take is lost, and is said to be."""
    ended = await mount.settling.settle()
    assert "lost" in ended.message and ended.verdict.startswith("NOT safe: ")


async def test_what_is_being_sealed_or_committed_is_not_published_yet(tmp_path, monkeypatch):
    async with writing(tmp_path, work=("write",)) as state:
        vault, done = state.vault, trio.Event()
        seal, append = vault.writer.append, vault.state.append

        async def slowly(*what):
            await trio.sleep(0.1)
            return await seal(*what)

        def later(*what):
            time.sleep(0.2)
            return append(*what)

        monkeypatch.setattr(vault.writer, "append", slowly)
        monkeypatch.setattr(vault.state, "append", later)

        async def commit():
            await vault.committer.commit(sync=True)
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(commit)
            while not done.is_set():
                assert not (await vault.account()).published
                await trio.sleep(0.01)
        account = await vault.account()
        assert not account.unkept and account.unpublished and not account.published


async def test_what_suppliers_lost_is_called_lost_and_nobody_away(tmp_path):
    """All answer, and four of seven have nothing any more of what they acknowledged."""
    net = await small()
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"file", os.urandom(3_000_000))
        await vault.publish()
        await vault.courier.try_all()
    for service in net.services[:4]:
        service.shelf.kept.clear()
    async with net.mount(tmp_path / "two", machine=b"n" * 16, **QUIET) as vault:
        await vault.watch.round()
        state = State(net, tmp_path / "two", vault, {b"file": b""})
        describer, said, _ = speaker(state)
        checked = await said.answer(Verify(sample=0.2), nobody_hears)
        assert "3 fragments were found, 4 are needed" in " ".join(checked.faults)
        rebuilt = await said.answer(Rebuild(), nobody_hears)
        assert rebuilt.lost == 1 and rebuilt.waiting == 0
        told = " | ".join(outcomes.rebuilt(rebuilt))
        assert "1 blocks are lost" in told and rebuilt.incomplete == 0 and "come back" not in told
        status = await describer.status()
        assert all(line.state == "online" for line in status.suppliers)
        text = " | ".join((status.verdict, *status.safety, rebuilt.safety))
        assert "1 block is lost" in text and "away" not in text and "answer" not in text
        assert status.verdict.startswith("published, but NOT") and CODES[judged(status)] == 3
        assert await own_word(vault, b"file", b"health") == "unreadable"


async def test_what_lies_whole_at_those_who_answer_is_read_while_too_few_do(tmp_path):
    """Two slices of four answer, and one fragment that is none: a machine without a copy reads
    some of the files.
    """
    net = await small()
    files = {b"%d" % number: os.urandom(200_000) for number in range(12)}
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        for name, content in files.items():
            await write_file(vault, name, content)
        await vault.publish()
        await vault.courier.try_all()
    away = (1, 2, 5, 6)
    async with net.mount(tmp_path / "two", machine=b"n" * 16, **QUIET) as vault:
        for name in files:
            await vault.volume.lookup(1, name)
        for position in away:
            net.suppliers[position].break_()
        await vault.watch.round()
        state = State(net, tmp_path / "two", vault, files, away)
        status, _, _ = speaker(state)
        said = " | ".join((await status.status()).safety)
        read = [name for name in files if await can_read_without_this_machines_copy(state, name)]
        assert 0 < len(read) < len(files)
        assert "not everything can be read right now" in said and "only what" not in said
