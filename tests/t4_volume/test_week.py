"""A week of two friends and you, by a clock of its own: computers that are off at night.

All runs that a mount does by itself, and what friends and reserves do for each other. The reserves
are on all the time, so there is always somebody who could be hired, or stand in.
"""

import math
import os

import pytest
import trio
from machine import Net
from scenario import read_file, write_file
from trio.testing import MockClock

from bitdustfs.blocks import flow
from bitdustfs.family import staffing
from bitdustfs.family.replace import set_bench
from bitdustfs.family.staffing import Staffing
from bitdustfs.rebuild import rebuilder
from bitdustfs.rebuild import watch as watching
from bitdustfs.rebuild.allowance import Allowance
from bitdustfs.rebuild.reputation import Reputation
from bitdustfs.supplier import guard as guarding
from bitdustfs.supplier.guard import Guard
from bitdustfs.supplier.memory import MemorySupplier
from bitdustfs.vault import reclaim, vaults

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
BEGAN = 1_764_547_200.0  #: midnight before the week, Unix seconds
SOON = 3 * MINUTE  #: until what was written is published: 30 s, and a minute for who is off
ALWAYS = [(0, 24)] * 8

#: from when to when a friend's computer is on, each day of the week and the day after it
ANNA = [(7, 23), (7, 19.5), (7, 23), (8, 22), (8, 24), (9, 24), (10, 19.5), (7, 23)]
BERT = [(17, 24), None, (19.5, 24), (12, 24), (19.2, 23), (19.5, 24), (12, 23), (17, 24)]
GONE = [BERT[0], *[None] * 7]  # for good


class Computer(MemorySupplier):
    """A supplier of somebody who is on at hours, as one who comes by a role sees it."""

    def __init__(self, service, hours, *role):
        super().__init__(service, *role)
        self.hours, self._ran, self._on_since = hours, 0.0, None

    def is_on(self):
        day, second = divmod(trio.current_time(), DAY)
        hours = self.hours[int(day)]
        return hours is not None and hours[0] * HOUR <= second < hours[1] * HOUR

    async def call(self, request, payload=b""):
        self._broken = not self.is_on()
        return await super().call(request, payload)

    def clock(self):
        """How long it was on: CLOCK_MONOTONIC stands still while a machine sleeps."""
        return self._ran + (0 if self._on_since is None else trio.current_time() - self._on_since)

    async def _wait(self, on):
        while self.is_on() != on:  # noqa: ASYNC110 -- the hour says so
            await trio.sleep(MINUTE)

    async def live(self, guard):
        """It looks after the vaults that it keeps, while it is on."""
        while True:
            await self._wait(True)
            self._on_since = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(guard.run)
                await self._wait(False)
                nursery.cancel_scope.cancel()
            self._ran, self._on_since = self.clock(), None


class Town:
    """The computers of two friends and two reserves, and a vault that the friends keep."""

    def __init__(self, clock, *rhythms):
        self.net, self.rhythms, self.files = Net(1, 2), rhythms, {}
        self._clock = clock

    async def lay(self, nursery, home):
        """On the first evening, with both friends there."""
        net = self.net
        await net.create()
        bench = [await net.spare() for _ in range(2)]
        services = [*net.services, *(spare.service for spare in net.spares)]
        self.computers = {}
        for service, hours in zip(services, [*self.rhythms, ALWAYS, ALWAYS], strict=True):
            made = Computer(service, hours, net.key.vault_id)
            service._clock = service.kinship._clock = made.clock
            service.kinship._wall = self._clock.wall
            self.computers[made.node] = made
            nursery.start_soon(made.live, Guard(service, self.way_of(made)))
        async with self.mount(home, make_root=True) as vault:
            await set_bench(vault, net.key, bench)
            await self.write(vault)

    def way_of(self, own):
        """How one of them gets at another one."""

        def connect(vault, member):
            other = self.computers[member.node]
            return Computer(other.service, other.hours, vault, "member", own.node)

        return connect

    def mount(self, home, **options):
        return self.net.mount(home, sessions=self.computers, publish_tick=20.0, **options)

    async def write(self, vault):
        """A photo; published soon where any friend is on, and else kept here, visibly."""
        name, content = b"photo %d" % len(self.files), os.urandom(100_000)
        self.files[name] = content
        inode = await write_file(vault, name, content)
        await trio.sleep(SOON)
        anybody = any(self.computers[m.node].is_on() for m in vault.known.family.members)
        said = await vault.xattrs._own[b"user.bitdust.state"](inode)
        account = await vault.account()
        assert (said, bool(account.stuck)) == (("published", False) if anybody else ("local", True))

    async def evening(self, home):
        """The owner is there from seven to eight, and writes twice."""
        async with self.mount(home) as vault, trio.open_nursery() as nursery:
            nursery.start_soon(Staffing(self.net.key, vault).run)
            await trio.sleep(10 * MINUTE)
            await self.write(vault)
            await until(19.75)
            await self.write(vault)
            await until(20)
            seen = vault.known.family, (await vault.rebuilder.look()).replace
            nursery.cancel_scope.cancel()
        return seen

    async def is_all_there(self, vault):
        for name, content in self.files.items():
            assert await read_file(vault, name) == content


class Threads:
    """Time stands still while a thread works: else it would race ahead."""

    def __init__(self, clock, run_sync):
        self._clock, self._run_sync, self._busy = clock, run_sync, 0

    async def run_sync(self, *words, **options):
        self._busy += 1
        self._clock.autojump_threshold = math.inf
        try:
            return await self._run_sync(*words, **options)
        finally:
            self._busy -= 1
            if not self._busy:
                self._clock.autojump_threshold = 0


async def until(hour):
    """The next time that it is so late."""
    await trio.sleep((hour * HOUR - trio.current_time()) % DAY)


@pytest.fixture
def only_long(long):
    if not long:
        pytest.skip("only with --long: t0_core/test_plan.py decides the same")


@pytest.fixture
def clock(monkeypatch):
    """Hours pass in milliseconds, for all that tell the time."""
    made = MockClock(autojump_threshold=0)
    monkeypatch.setattr(trio.to_thread, "run_sync", Threads(made, trio.to_thread.run_sync).run_sync)
    made.wall = lambda: BEGAN + made.current_time()
    told = (made.wall, made.current_time)
    monkeypatch.setattr(watching.Watch.__init__, "__defaults__", told)
    for kind in (Reputation, Allowance):
        monkeypatch.setattr(kind.__init__, "__defaults__", (made.wall,))
    for module, name in (  # there are ten thousand minutes
        (guarding, "VAULTS_EVERY"), (watching, "PING_EVERY"), (staffing, "LOOK_EVERY"),
        (rebuilder, "TICK"), (reclaim, "TICK"), (flow, "TICK"), (vaults, "EVICT_EVERY"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, MINUTE)
    return made


@pytest.mark.deadline(9 * DAY)
async def test_promise_9_in_a_week_nobody_is_replaced_who_is_only_off(
    clock, nursery, tmp_path, long
):
    """One is off for a day and a half, one evening both are; at the end each of the two has all."""
    town = Town(clock, ANNA, BERT)
    await until(18.5)
    await town.lay(nursery, tmp_path / "own")
    for _ in range(7 if long else 3):
        await until(19)
        family, replace = await town.evening(tmp_path / "own")
        assert [m.node for m in family.everybody] == list(town.computers) and replace is None
    for spare in town.net.spares:
        assert spare.service.shelf.vault(town.net.key.vault_id).standing < 0
    for number, hour in enumerate((9, 23.5)):  # only Anna is there, only Bert
        await until(hour)
        home = tmp_path / f"another {number}"
        async with town.mount(home, machine=bytes([number]) * 16, read_only=True) as vault:
            members = vault.known.family.members
            assert [town.computers[m.node].is_on() for m in members] == [not number, bool(number)]
            await town.is_all_there(vault)
    nursery.cancel_scope.cancel()


@pytest.mark.deadline(9 * DAY)
async def test_promise_9_a_friend_who_does_not_come_back_is_replaced(
    only_long, clock, nursery, tmp_path
):
    """Two evenings without him are not enough; on the third one more copy has to be made."""
    town = Town(clock, ANNA, GONE)
    await until(18.5)
    await town.lay(nursery, tmp_path / "own")
    seen = []
    for _ in range(4):
        await until(19)
        seen.append((await town.evening(tmp_path / "own"))[1])
    assert seen == [None, None, None, 1]
    nursery.cancel_scope.cancel()
