"""Every state that a vault can be in, made with suppliers in memory (test_account.py)."""

from contextlib import asynccontextmanager

import pytest
from machine import Net, PowerCut
from scenario import QUIET, write_file
from test_refound import parted

from bitdustfs import failpoints
from bitdustfs.errors import Refused
from bitdustfs.family.refound import refound
from bitdustfs.net import wire
from bitdustfs.supplier.memory import MemorySupplier
from bitdustfs.units import MIB

OLD, NEW = b"old" * 100_000, b"new" * 100_000


def healthy_sessions(net):
    """Other sessions with the same suppliers: who goes for the mount is there for the judge."""
    services = [*net.services, *(s.service for s in net.spares)]
    return {s.node: s for s in (MemorySupplier(x, net.key.vault_id) for x in services)}


class State:
    """One state of a vault: a mount in it, and how it came there.

    `files`: what this machine accepted, by name; `away`: positions that do not answer.
    """

    def __init__(self, net, home, vault, files, away=(), asked=False):
        self.net, self.home, self.vault = net, home, vault
        self.files, self.away, self.asked = files, set(away), asked
        self.adrift = False  # whether the suppliers show another history
        self.faults = ""  # what verify has to find
        self.alone = False  # whether it writes for itself, as too few answered at the mount

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
async def looking(tmp_path, k=2, n=5, away=(), unpublished=True):
    """A mount that is read-only, as it was asked to be."""
    net = await small(k, n)
    files = {b"old": OLD}
    if unpublished:
        files = await left_unpublished(net, tmp_path / "one")
    else:
        async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
            await with_old(net, vault)
    for position in away:
        net.suppliers[position].break_()
    async with net.mount(tmp_path / "one", read_only=True) as vault:
        yield State(net, tmp_path / "one", vault, files, away, asked=True)


@asynccontextmanager
async def alone(tmp_path, away):
    """Too few answer at the mount, on the machine that wrote last."""
    net = await small(2, 5)
    files = await left_unpublished(net, tmp_path / "one")
    for position in away:
        net.suppliers[position].break_()
    async with net.mount(tmp_path / "one", **QUIET) as vault:
        assert not vault.read_only and vault.pen.waits
        state = State(net, tmp_path / "one", vault, files, away)
        state.alone = True
        yield state


@asynccontextmanager
async def waiting(tmp_path, away):
    """The same, where another machine wrote last."""
    net = await small(2, 5)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await with_old(net, vault)
    async with net.mount(tmp_path / "two", machine=b"n" * 16, read_only=True):
        pass
    for position in away:
        net.suppliers[position].break_()
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        assert "another machine wrote this vault last" in vault.message
        yield State(net, tmp_path / "two", vault, {b"old": OLD}, away)


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
    "too few to write, unpublished work": lambda p: alone(p, away=(0, 1, 2)),
    "nobody from the beginning, unpublished work": lambda p: alone(p, away=range(5)),
    "too few to write": lambda p: waiting(p, away=(0, 1, 2)),
    "too few to read": lambda p: waiting(p, away=(0, 1, 2, 3)),
    "asked to look, unpublished work": looking,
    "asked to look": lambda p: looking(p, unpublished=False),
    "asked to look, half away": lambda p: looking(p, away=(1, 2)),
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
