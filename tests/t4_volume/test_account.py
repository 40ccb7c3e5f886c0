"""What a mount says of itself in every state of the vault, held against what is true.

Each state is made with suppliers in memory. Then everything that speaks is asked: what a mount
warns of, status, health and state of each file, verify, sync, and the end. What is true is found
out by other means: a machine that never saw the vault mounts it and reads, with as many suppliers
as the mount could be left with.
"""

import itertools
import random
import shutil
import time
from contextlib import asynccontextmanager, suppress

import pytest
import trio
from machine import Net, PowerCut
from scenario import QUIET, forget_leaves, read_file, write_file
from test_refound import parted

from bitdustfs import failpoints
from bitdustfs.blocks import courier, deferral
from bitdustfs.cli.cmd_verify import exit_code
from bitdustfs.errors import BitdustError, Refused, Unavailable
from bitdustfs.family.refound import refound
from bitdustfs.family.staffing import Staffing
from bitdustfs.mount import answers, ending
from bitdustfs.mount.answers import MountAnswers, WritableMountAnswers
from bitdustfs.mount.commands import Keep, Sync, Verify
from bitdustfs.mount.ending import ReadSettling, Settling
from bitdustfs.mount.status import Describer, WritableDescriber
from bitdustfs.net import wire
from bitdustfs.rebuild import watch
from bitdustfs.supplier.memory import MemorySupplier
from bitdustfs.units import MIB
from bitdustfs.vault.vaults import WritableVault

OLD, NEW = b"old" * 100_000, b"new" * 100_000


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch):
    """What is waited for in vain is not waited for long."""
    monkeypatch.setattr(deferral, "SOON", 0.3)
    monkeypatch.setattr(courier, "WAIT_DEADLINE", 4.0)
    monkeypatch.setattr(ending, "LAST_ATTEMPT", 1.0)
    monkeypatch.setattr(ending, "LAST_COPIES", 1.0)
    monkeypatch.setattr(answers, "SLOW", 1.0)
    monkeypatch.setattr(watch, "GLANCE_FRESH", -1.0)
    yield
    failpoints.plan = None


class State:
    """One state of a vault: a mount in it, and how it came there.

    `files`: what this machine accepted, by name; `away`: positions that do not answer.
    """

    def __init__(self, net, home, vault, files, away=(), asked=False):
        self.net, self.home, self.vault = net, home, vault
        self.files, self.away, self.asked = files, set(away), asked
        self.adrift = False  # whether the suppliers show another history
        self.faults = ""  # what verify has to find

    @property
    def net_size(self):
        return self.vault.circle.family.group.n

    @property
    def net_spare(self):
        """How many may be away so that everything can be read."""
        return self.net_size - self.vault.circle.family.group.k


async def small(k=4, n=7, **more):
    net = Net(k, n, **more)
    await net.create()
    return net


async def with_old(net, vault):
    await write_file(vault, b"old", OLD)
    await vault.publish()
    await vault.courier.try_all()


@asynccontextmanager
async def writing(tmp_path, k=4, n=7, away=(), work=(), published=True, **settings):
    """A mount that writes: what is old is published, then `away` go, then `work` is done."""
    net = await small(k, n)
    files = {b"old": OLD}
    async with net.mount(tmp_path / "one", make_root=True, **QUIET, **settings) as vault:
        await with_old(net, vault)
        for position in away:
            net.suppliers[position].break_()
        if "write" in work:
            await write_file(vault, b"new", NEW)
            files[b"new"] = NEW
        if "small" in work:
            await write_file(vault, b"new", b"inline")
            files[b"new"] = b"inline"
        if "commit" in work:
            await vault.committer.commit(sync=True)
        if "publish" in work:
            await vault.publish()
        yield State(net, tmp_path / "one", vault, files, away)


async def left_unpublished(net, home):
    """This machine published what is old, accepted what is new, and its power went."""
    with pytest.RaisesGroup(pytest.RaisesExc(PowerCut)):
        async with net.mount(home, make_root=True, **QUIET) as vault:
            await with_old(net, vault)
            await write_file(vault, b"new", NEW)
            await vault.committer.commit(sync=True)
            raise PowerCut from None
    return {b"old": OLD, b"new": NEW}


@asynccontextmanager
async def looking(tmp_path, k=2, n=5, away=(), unpublished=True, read_only=False):
    """A mount that is read-only: too few answer, or it was asked for."""
    net = await small(k, n)
    files = {b"old": OLD}
    if unpublished:
        files = await left_unpublished(net, tmp_path / "one")
    else:
        async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
            await with_old(net, vault)
    for position in away:
        net.suppliers[position].break_()
    async with net.mount(tmp_path / "one", read_only=read_only, take_over=True) as vault:
        assert vault.read_only
        yield State(net, tmp_path / "one", vault, files, away, asked=read_only)


@asynccontextmanager
async def stranger_looks(tmp_path):
    """Another machine looks, as it was asked to."""
    net = await small()
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await with_old(net, vault)
    async with net.mount(tmp_path / "two", machine=b"n" * 16, read_only=True) as vault:
        yield State(net, tmp_path / "two", vault, {b"old": OLD}, asked=True)


@asynccontextmanager
async def another_published_since(tmp_path):
    """This machine holds work that it had not published, and another one went on."""
    net = await small()
    files = await left_unpublished(net, tmp_path / "one")
    async with net.mount(tmp_path / "two", machine=b"n" * 16, take_over=True) as vault:
        await write_file(vault, b"theirs", b"theirs")
        await vault.publish()
    async with net.mount(tmp_path / "one", take_over=True) as vault:
        assert "holds work that it had not published" in vault.message
        yield State(net, tmp_path / "one", vault, files)


@asynccontextmanager
async def suppliers_hide_the_newest(tmp_path):
    """This machine published, and the suppliers show what was before that."""
    net = await small()
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await with_old(net, vault)
        before = [service.shelf.rows[net.key.vault_id] for service in net.services]
        await write_file(vault, b"new", NEW)
        await vault.publish()
        await vault.courier.try_all()
    for service, row in zip(net.services, before, strict=True):
        service.shelf.rows[net.key.vault_id] = row
    async with net.mount(tmp_path / "one", take_over=True) as vault:
        assert "hide the newer one" in vault.message
        state = State(net, tmp_path / "one", vault, {b"old": OLD, b"new": NEW})
        state.adrift = True
        yield state


@asynccontextmanager
async def left_behind_by_a_new_family(tmp_path):
    """A family was founded over a root older than this machine's published one."""
    net, connect = await parted(tmp_path)
    family = await refound(net.key, net.family, connect)
    async with net.mount(tmp_path / "one", family=family) as vault:
        assert "older than one that this machine had published" in vault.message
        inode = (await vault.volume.lookup(1, b"new")).inode
        content = await vault.content.read(inode, 0, 10 * MIB)
        state = State(net, tmp_path / "one", vault, {b"new": content})
        state.family, state.adrift = family, True
        state.faults = "no supplier that answers knows this block"
        yield state


@asynccontextmanager
async def taken_over(tmp_path, unpublished, noticed):
    """Another machine took the vault over while this one is mounted."""
    async with writing(tmp_path, work=("write", "commit") if unpublished else ()) as state:
        net = state.net
        healthy = healthy_sessions(net)
        async with net.mount(
            tmp_path / "two", machine=b"n" * 16, take_over=True, sessions=healthy
        ) as thief:
            await write_file(thief, b"theirs", b"theirs")
            await thief.publish()
            if noticed:
                await state.vault.lease.renew()
                assert state.vault.read_only
            yield state


@asynccontextmanager
async def behind_a_witness(tmp_path):
    """The network remembers a newer root than the suppliers showed."""
    async with writing(tmp_path, work=("write", "commit")) as state:
        ballot, seq = state.vault.known.root.order
        state.vault.heed_witness(ballot, seq + 100)
        assert state.vault.read_only
        yield state


@asynccontextmanager
async def disk_full(tmp_path):
    """This machine's disk takes nothing, and something is in memory."""
    async with writing(tmp_path, work=("write",)) as state:
        failpoints.plan = failpoints.FaultPlan(
            ";".join(f"{point}=enospc@1+" for point in failpoints.MOUNT_WRITES)
        )
        try:
            yield state
        finally:
            failpoints.plan = None


@asynccontextmanager
async def over_quota(tmp_path):
    """The suppliers answer, and have no room."""
    async with writing(tmp_path) as state:
        for supplier in state.net.suppliers:

            async def full(request, payload=b"", call=supplier.call):
                if isinstance(request, wire.Put):
                    raise Refused("quota", "the contract is used up")
                return await call(request, payload)

            supplier.call = full
        await write_file(state.vault, b"new", NEW)
        await state.vault.committer.commit(sync=True)
        state.files[b"new"] = NEW
        yield state


STATES = {
    "all there": writing,
    "all there, new work in memory": lambda p: writing(p, work=("write",)),
    "all there, new work on this disk": lambda p: writing(p, work=("write", "commit")),
    "all there, a small file in memory": lambda p: writing(p, work=("small",)),
    "k there": lambda p: writing(p, away=(0, 1, 2)),
    "k there, new work": lambda p: writing(p, away=(0, 1, 2), work=("write", "commit")),
    "k there, thin": lambda p: writing(p, 2, 3, (1,), work=("write", "publish")),
    "fewer than k there": lambda p: writing(p, away=(0, 1, 2, 3)),
    "fewer than k there, new work": lambda p: writing(p, away=range(4), work=("write", "commit")),
    "half of four there, new work": lambda p: writing(p, 2, 4, (0, 3), ("write", "commit")),
    "one of four there, new work": lambda p: writing(p, 2, 4, (0, 2, 3), ("write", "commit")),
    "nobody there": lambda p: writing(p, away=range(7)),
    "nobody there, new work": lambda p: writing(p, away=range(7), work=("write", "commit")),
    "nobody there, a small file": lambda p: writing(p, away=range(7), work=("small", "commit")),
    "too few to write, unpublished work": lambda p: looking(p, away=(0, 1, 2)),
    "too few to write": lambda p: looking(p, away=(0, 1, 2), unpublished=False),
    "too few to read": lambda p: looking(p, away=(0, 1, 2, 3)),
    "asked to look, unpublished work": lambda p: looking(p, read_only=True),
    "asked to look": lambda p: looking(p, read_only=True, unpublished=False),
    "asked to look, half away": lambda p: looking(p, read_only=True, away=(1, 2)),
    "a stranger looks": stranger_looks,
    "another published since": another_published_since,
    "the newest is hidden": suppliers_hide_the_newest,
    "left behind by a new family": left_behind_by_a_new_family,
    "taken over": lambda p: taken_over(p, unpublished=False, noticed=True),
    "taken over, unpublished work": lambda p: taken_over(p, unpublished=True, noticed=True),
    "taken over, not noticed": lambda p: taken_over(p, unpublished=False, noticed=False),
    "taken over, unnoticed, work": lambda p: taken_over(p, unpublished=True, noticed=False),
    "behind a witness": behind_a_witness,
    "disk full": disk_full,
    "over quota": over_quota,
}


# -- what is true


def healthy_sessions(net):
    """Other sessions with the same suppliers: who goes for the mount is there for the judge."""
    services = [*net.services, *(s.service for s in net.spares)]
    return {s.node: s for s in (MemorySupplier(x, net.key.vault_id) for x in services)}


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
        return describer, said, Settling(vault, staffing)
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
    await hold_verify(state, said)
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
    there = state.net_size - len(state.away)
    assert ("no supplier answers" in text) == (there == 0)
    assert ("are needed: only what this machine keeps" in text) == (0 < there < state.net.k)
    if "you can lose" in text:
        assert status.may_lose > 0
        await hold_margin(state, judge, published, status.may_lose)
        assert everything or "without losing anything that is published" in text
    if status.local_blocks:
        assert "only on this machine" in text and "losing anything right" not in text
    if not everything and isinstance(state.vault, WritableVault) is False:
        assert status.unpublished or "not part of the history" in text


async def hold_mount(state, judge):
    """What a command that mounts warns of."""
    warned = (await state.vault.account()).on_mount()
    everything = set(state.files) == await judge.sees()
    assert bool(warned) == (state.vault.read_only and not (state.asked and everything))
    if state.vault.read_only and not everything:
        assert "not published" in warned or "not part of the history" in warned


async def hold_verify(state, said):
    """Sentences and exit code; without new work, for which the disk may be full."""
    outcome = await said.answer(Verify(sample=0.2), nobody_hears)
    unseen = " ".join(outcome.unseen)
    for position in state.away:
        assert state.net.suppliers[position].node.hex()[:16] in unseen
    assert bool(outcome.unseen) == bool(state.away)
    assert bool(outcome.faults) == bool(state.faults) and state.faults in " ".join(outcome.faults)
    assert exit_code(outcome) == (3 if state.faults else 4 if state.away else 0)
    assert ("not everything could be" in outcome.verdict) == bool(state.away)


async def hold_sync(state, judge, said):
    """It says that all is published exactly where a stranger finds all."""
    try:
        done = (await said.answer(Sync(patience=0.4), nobody_hears)).said
    except BitdustError as error:
        done, why = "", str(error)
    everything = set(state.files) == await judge.sees()
    if done:
        assert everything, done
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
    if not ended.message:
        assert ended.said.startswith("and ")
        assert ("published" in ended.said) and ("thinly" in ended.said) == bool(
            state.vault.state.blocks.thin()
        )
    elif kept:
        assert "kept on this machine" in ended.message


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
