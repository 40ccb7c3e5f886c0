"""What a mount says of itself in every state of the vault, held against what is true.

Each state is made with suppliers in memory. Then everything that speaks is asked: what a mount
warns of, status, health and state of each file, verify, sync, and the end. What is true is found
out by other means: a machine that never saw the vault mounts it and reads, with as many suppliers
as the mount could be left with.
"""

import itertools
import os
import random
import shutil
import time
from contextlib import suppress

import pytest
import trio
from scenario import QUIET, forget_leaves, read_file, write_file
from vault_states import STATES, State, healthy_sessions, small, writing

from bitdustfs import failpoints
from bitdustfs.blocks import courier, deferral
from bitdustfs.cli.cmd_verify import exit_code
from bitdustfs.cli.exit_codes import CODES, Exit
from bitdustfs.errors import BitdustError, Unavailable
from bitdustfs.family.staffing import Staffing
from bitdustfs.mount import ending, outcomes, syncing
from bitdustfs.mount.answers import MountAnswers, WritableMountAnswers
from bitdustfs.mount.commands import Keep, Rebuild, Sync, Turn, Verify
from bitdustfs.mount.ending import HurriedEnd, ReadSettling, Settling
from bitdustfs.mount.status import Describer, WritableDescriber
from bitdustfs.rebuild import watch
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

    async def sees(self, lost=(), confirmed=True):
        """The names that it reads as this machine accepted them, with `lost` positions gone."""
        net = self.state.net
        sessions = healthy_sessions(net)
        family = getattr(self.state, "family", None) or net.family
        for position in lost:
            sessions[family.members[position].node].break_()
        home = self.root / str(next(self.number))
        plan, failpoints.plan = failpoints.plan, None  # the judge's disk works
        try:
            return await self._sees(home, sessions, family, confirmed)
        finally:
            failpoints.plan = plan
            shutil.rmtree(home, ignore_errors=True)

    async def _sees(self, home, sessions, family, confirmed):
        net, seen = self.state.net, set()
        with suppress(Unavailable):
            async with net.mount(
                home, machine=b"j" * 16, read_only=True, sessions=sessions, family=family
            ) as vault:
                seat = vault.known.family.seat  # which this machine cannot ask
                if confirmed and not seat and not vault.known.confirmed:
                    return seen
                for name, content in self.state.files.items():
                    with suppress(BitdustError, AssertionError):
                        if await read_file(vault, name) == content:
                            seen.add(name)
        return seen


# -- what is said


async def nobody_hears(progress):
    """Nobody watches."""


def speaker(state):
    """Status, answers and end of the mount in this state."""
    net, vault = state.net, state.vault
    if isinstance(vault, WritableVault):
        staffing = Staffing(net.key, vault)
        describer = WritableDescriber(net.key, vault, staffing)
        said = WritableMountAnswers(vault, describer, staffing, None, None)
        return describer, said, Settling(vault, staffing, HurriedEnd())
    describer = Describer(net.key, vault)
    return describer, MountAnswers(vault, describer, None, None), ReadSettling(vault)


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
    describer, said, settling = speaker(state)
    await hold_words(state, judge)
    await hold_status(state, judge, describer)
    await hold_mount(state, judge)
    await hold_verify(state, judge, said)
    await hold_turn(state, said)
    await hold_sync(state, judge, said)
    await hold_end(state, judge, said, settling)


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


async def hold_status(state, judge, describer):
    """Numbers, the states of suppliers, and each sentence of safety."""
    status, published = await describer.status(), await judge.sees()
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
    hold_check(state, status, everything)
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


def hold_check(state, status, everything):
    """The exit code of `status --check`: 0 only where nobody has to do anything."""
    code = CODES[judged(status)]
    if code == Exit.DONE:
        assert len(state.away) <= state.net_spare
        assert everything or not state.vault.read_only
    unread = len(state.away) > state.net_spare
    if unread or (state.vault.read_only and not everything):
        assert code == Exit.FAULTS


async def hold_mount(state, judge):
    """What a command that mounts warns of."""
    warned = (await state.vault.account()).on_mount()
    everything = set(state.files) == await judge.sees()
    assert bool(warned) == (state.vault.read_only and not (state.asked and everything))
    if state.vault.read_only and not everything:
        assert "not published" in warned or "not part of the history" in warned


async def hold_verify(state, judge, said):
    """Sentences and exit code; without new work, for which the disk may be full."""
    outcome = await said.answer(Verify(sample=0.2), nobody_hears)
    unseen = " ".join(outcome.unseen)
    for position in state.away:
        assert state.net.suppliers[position].node.hex()[:16] in unseen
    assert bool(outcome.unseen) == bool(state.away)
    assert bool(outcome.faults) == bool(state.faults) and state.faults in " ".join(outcome.faults)
    assert exit_code(outcome) == (3 if state.faults else 4 if state.away else 0)
    assert ("not everything could be" in outcome.verdict) == bool(state.away)
    everything = set(state.files) == await judge.sees()
    if not outcome.faults and not outcome.unseen:
        assert ("only on this machine" in outcome.verdict) == (not everything)


async def hold_turn(state, said):
    """`mount -o remount,rw`: only a mount that may write is turned, and why not is said."""
    refused = ""
    try:
        await said.answer(Turn(read_only=False), nobody_hears)
    except BitdustError as error:
        refused = str(error)
    assert bool(refused) == state.vault.read_only
    assert not state.asked or "began with -o ro" in refused


async def hold_sync(state, judge, said):
    """It says that all is published exactly where a stranger finds all."""
    try:
        done = (await said.answer(Sync(patience=0.4), nobody_hears)).said
    except BitdustError as error:
        done, why = "", str(error)
    everything = set(state.files) == await judge.sees()
    if done:
        assert everything and "kept on this machine" not in done, done
        if state.vault.read_only:
            assert "read-only" in done
        assert ("thinly" in done) == bool(state.vault.state.blocks.thin())
    else:
        assert not everything
        assert "not published" in why or "not part of the history" in why
        assert "(" in why  # the reason


async def hold_end(state, judge, said, settling):
    """`unmount`: what cannot be kept is not thrown away; what is said is true afterwards."""
    kept = True
    try:
        await said.answer(Keep(), nobody_hears)
    except BitdustError:
        kept = False
    ended = await settling.settle()
    everything = set(state.files) == await judge.sees()
    assert bool(ended.message) == (not everything)
    assert ("lost" in ended.message) == (not kept)
    assert ended.verdict.startswith(("safe: ", "published") if everything else "NOT safe: ")
    if not ended.message:
        assert ended.said.startswith("and ") and "kept on this machine" not in ended.said
        assert ("published" in ended.said) and ("thinly" in ended.said) == bool(
            state.vault.state.blocks.thin()
        )
    elif kept:
        assert "kept on this machine" in ended.message
        assert "as soon as" not in ended.message and "when they are back" not in ended.message
        if not (state.adrift or "only, and is not published by itself" in ended.message):
            assert "by the next mount" in ended.message  # nobody is left who would do it sooner


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
        assert "1 blocks are lost" in " | ".join(outcomes.rebuilt(rebuilt))
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
