"""Snapshots that are made by themselves, on a wall clock of the test's own, and that go again."""

import os
from datetime import UTC, datetime

import pytest
import trio
from machine import Net
from scenario import QUIET, checkpoint, read_file, unlink, write_file
from test_snapshots import then
from test_space import settle

from bitdustfs.blocks import space as space_module
from bitdustfs.blocks.space import Space, Yield
from bitdustfs.core import placement
from bitdustfs.core.schedule import DAY, HOUR, USUAL, Made, Schedule, auto_name, kept_by_rows
from bitdustfs.core.schedule import schedule_words as words_of
from bitdustfs.errors import NoSpace
from bitdustfs.family.replace import set_policy
from bitdustfs.mount.snapshotting import list_snapshots
from bitdustfs.units import MIB
from bitdustfs.vault import compact, scheduling
from bitdustfs.vault.scheduling import Scheduling

START = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())


class Clock:
    """Says what the test says."""

    def __init__(self, now=START):
        self.now = now

    def __call__(self):
        return self.now * 1_000_000_000


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(scheduling, "APART", 0.0)  # a year is over in seconds
    return Clock()


@pytest.fixture
async def small(monkeypatch):
    """A vault of 24 MiB: as much as its suppliers have, but for 4 MiB."""
    monkeypatch.setattr(placement, "SLOP_MIN", 4 * MIB)
    made = Net(space=7 * MIB)
    await made.create()
    return made


async def begin(vault, key, clock, schedule=USUAL):
    """The schedule is set; from here on the test looks, by this."""
    await set_policy(vault, key, words_of(schedule))
    return Scheduling(vault, vault.thinning, clock)


async def names(vault):
    return [kept.name.decode() for kept in await vault.catalogue.kept()]


async def test_a_year_of_hours_leaves_the_rows_of_the_hours_in_which_something_changed(
    net, tmp_path, clock
):
    content, made = {}, []
    changed = [*range(0, 8_740, 1_000), *range(8_740, 8_760, 5)]
    rows = Schedule(hourly=2, daily=3, weekly=4, monthly=5)
    async with net.mount(tmp_path / "one", make_root=True, wall=clock, **QUIET) as vault:
        schedule = await begin(vault, net.key, clock, rows)
        await vault.publish(snapshot=b"auto-by-hand")
        for hour in sorted({*changed, *(hour + 1 for hour in changed)}):
            clock.now = START + HOUR * hour + hour % 60  # nobody looks in the very second
            if hour in changed:
                content[auto_name(clock.now)] = b"%d" % hour
                await write_file(vault, b"file", b"%6d" % hour)
                made.append(Made(len(made), clock.now))
            await schedule.look()
        wanted = [auto_name(m.time) for m in sorted(kept_by_rows(made, rows, clock.now))]
        assert await names(vault) == ["auto-by-hand", *wanted]
        assert 4 < len(wanted) < len(made) == len(changed)
        for name in wanted[:2] + wanted[-2:]:
            [(_, found)] = (await then(vault, name.encode())).items()
            assert found.strip() == content[name]
        listed = await list_snapshots(vault)
        assert [line.scheduled for line in listed.snapshots] == [False] + [True] * len(wanted)
        await vault.publish()
    async with net.mount(tmp_path / "two", machine=b"n" * 16, wall=clock, **QUIET) as vault:
        assert vault.known.family.policy.schedule == rows
        assert await names(vault) == ["auto-by-hand", *wanted]


async def test_an_unchanged_vault_gets_none_whatever_housekeeping_does(
    net, tmp_path, clock, monkeypatch
):
    monkeypatch.setattr(compact, "SMALL_MANY", 4)
    async with net.mount(tmp_path / "one", make_root=True, wall=clock, **QUIET) as vault:
        schedule = await begin(vault, net.key, clock)
        clock.now += HOUR
        await schedule.look()
        assert await names(vault) == [], "an empty vault"
        for number in range(8):  # small blocks are merged, and leaves rewritten
            await write_file(vault, b"%d" % number, os.urandom(5_000))
            await vault.publish()
        await unlink(vault, b"7")
        clock.now += HOUR
        await schedule.look()
        [first] = await names(vault)
        generation = vault.committer.generation
        await settle(vault, 4)
        await checkpoint(vault)
        assert vault.committer.generation > generation, "housekeeping has changed something"
        for _ in range(3):
            clock.now += HOUR
            await schedule.look()
        assert await names(vault) == [first]
        await write_file(vault, b"8", b"other")
        await schedule.look()
        assert await names(vault) == [first], "the hour was looked at already"
        clock.now += HOUR
        await schedule.look()
        assert await names(vault) == [first, auto_name(clock.now)]


async def test_a_mount_first_keeps_what_was_there_before_its_hour(net, tmp_path, clock):
    """By whatever machine, and under another name where somebody has given that one."""
    async with net.mount(tmp_path / "one", make_root=True, wall=clock, **QUIET) as vault:
        await begin(vault, net.key, clock)
        await write_file(vault, b"file", b"before")
        await vault.publish(snapshot=b"auto-2026-01-01T00:00Z")
    async with net.mount(tmp_path / "two", machine=b"n" * 16, wall=clock, **QUIET) as vault:
        schedule = Scheduling(vault, vault.thinning, clock)
        schedule._hour = clock.now // HOUR - 1  # of the root that the other machine left
        await schedule.look()
        await write_file(vault, b"file", b"after")
        await schedule.look()
        hand, taken = await names(vault)
        assert taken == f"{hand}-2"
        assert await then(vault, taken.encode()) == {b"file": b"before"}


async def test_no_schedule_makes_none_and_one_that_suppliers_do_not_get_is_kept_here(
    net, tmp_path, clock
):
    async with net.mount(tmp_path / "one", make_root=True, wall=clock, **QUIET) as vault:
        await write_file(vault, b"file", b"x")
        clock.now += HOUR
        await Scheduling(vault, vault.thinning, clock).look()
        assert await names(vault) == [], "of a vault of before"
        schedule = await begin(vault, net.key, clock)
        for supplier in net.suppliers[:5]:
            supplier.break_()
        clock.now += HOUR
        async with trio.open_nursery() as nursery:
            nursery.start_soon(schedule.look)
            while not await vault.catalogue.any():
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()  # as when its patience is over
        [made] = await names(vault)
        for supplier in net.suppliers[:5]:
            supplier.heal()
        for hours in (0, 1):
            clock.now += HOUR * hours
            await schedule.look()
            assert await names(vault) == [made], "nothing changed since"
        await vault.publish()
    async with net.mount(tmp_path / "two", machine=b"n" * 16, wall=clock, **QUIET) as vault:
        assert await then(vault, made.encode()) == {b"file": b"x"}


async def test_two_that_thin_at_once_and_one_who_deletes_are_in_nobodys_way(net, tmp_path, clock):
    async with net.mount(tmp_path / "one", make_root=True, wall=clock, **QUIET) as vault:
        schedule = await begin(vault, net.key, clock)
        for number in range(6):
            await write_file(vault, b"file", b"%d" % number)
            clock.now += HOUR
            await schedule.look()
        first, *others = await names(vault)
        await set_policy(vault, net.key, words_of(Schedule(hourly=1)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(vault.thinning.by_rows)
            nursery.start_soon(vault.thinning.by_rows)
            nursery.start_soon(vault.catalogue.drop, first.encode())
        assert await names(vault) == others[-1:]
        assert sorted(t.name for t in vault.thinning.told) == others[:-1], "each once"


async def test_a_clock_that_leaps_deletes_nothing_and_makes_no_flood(net, tmp_path, clock):
    async with net.mount(tmp_path / "one", make_root=True, wall=clock, **QUIET) as vault:
        schedule = await begin(vault, net.key, clock, Schedule(hourly=3))

        async def pass_hours(*leaps):
            for leap in leaps:
                clock.now += leap
                await write_file(vault, b"file", b"%d" % clock.now)
                await schedule.look()
            return await names(vault)

        true = await pass_hours(HOUR, HOUR, HOUR)
        assert len(true) == 3
        assert await pass_hours(-2 * HOUR, 60, HOUR, 60) == true, "it has been there before"
        ahead = (await pass_hours(3650 * DAY))[-1]
        assert await pass_hours(60, 60) == [*true[1:], ahead], "as one hour more does, and no more"
        later = await pass_hours(2 * HOUR - 3650 * DAY)
        assert later[:3] == [*true[1:], ahead] and len(later) == 4, "that one is in no row now"


async def test_by_the_share_the_oldest_scheduled_go_first_and_none_by_hand(small, tmp_path, clock):
    async with small.mount(tmp_path / "one", make_root=True, wall=clock, **QUIET) as vault:
        schedule = await begin(vault, small.key, clock)
        share = vault.thinning.share
        for hour in range(5):
            await write_file(vault, b"file", os.urandom(13 * MIB // 10))
            if hour == 1:
                await vault.publish(snapshot=b"by hand")
            clock.now += HOUR
            await schedule.look()
            await unlink(vault, b"file")
            await settle(vault, 2)
            await schedule.look()
            assert vault.held.taken() <= share
        last = [auto_name(START + hour * HOUR) for hour in (4, 5)]
        assert await names(vault) == ["by hand", *last]
        listed = await list_snapshots(vault)
        assert {line.why for line in listed.thinned} == set(), "long ago, by this clock"
        assert {gone.why for gone in vault.thinning.told} == {"share"}
        await set_policy(vault, small.key, {"snapshot-share": 0})
        await schedule.look()
        assert (await names(vault))[0] == "by hand"
        assert vault.held.yields() == (0, 0) and vault.held.bytes() > 0
    async with small.mount(tmp_path / "one", wall=clock, **QUIET) as vault:
        assert vault.thinning.told[-1].why == "share"


@pytest.mark.parametrize(
    ("by_hand", "fuller", "size"),
    [(False, 0, 14 * MIB), (False, 8 * MIB, 10 * MIB), (True, 0, 14 * MIB)],
)
async def test_no_writer_is_refused_for_scheduled_snapshots(
    small, tmp_path, clock, by_hand, fuller, size, monkeypatch
):
    """By the quota, and by what suppliers have left, where dead blocks must be deleted first."""
    placeable = Space.placeable
    monkeypatch.setattr(Space, "placeable", lambda space: placeable(space) - fuller)
    async with small.mount(tmp_path / "one", make_root=True, wall=clock, **QUIET) as vault:
        schedule = await begin(vault, small.key, clock, Schedule(hourly=9, share=100))
        for hour in range(3):
            await write_file(vault, b"file", os.urandom(4 * MIB))
            clock.now += HOUR
            await schedule.look()
            if by_hand:
                await vault.publish(snapshot=b"%d" % hour)
            await unlink(vault, b"file")
        await settle(vault, 2)
        totals = await vault.volume.totals()
        _, available = vault.space.free(totals.live, 0)
        assert available > size or by_hand, "df counts what would be given up"
        made, new = await names(vault), os.urandom(2 * MIB)

        async def write():
            for number in range(size // len(new)):
                await write_file(vault, b"new %d" % number, new)
                await vault.publish()  # so that suppliers have less by it

        if by_hand:
            with pytest.raises(NoSpace):
                await write()
            assert {"0", "1", "2"} < set(await names(vault)), "the last scheduled keeps nothing"
            return
        await write()
        assert await read_file(vault, b"new 1") == new
        left = await names(vault)
        assert left == made[len(made) - len(left) :] and 0 < len(left) < 3, "the oldest, no more"
        assert {gone.why for gone in vault.thinning.told} == {"writers"}
        await settle(vault, 1)
        for name in left:
            assert await then(vault, name.encode())


async def test_none_goes_for_a_writer_whom_that_gives_nothing(small, tmp_path, clock, monkeypatch):
    """Suppliers have no room left, and what is held is the usual waste of blocks in use."""
    async with small.mount(tmp_path / "one", make_root=True, wall=clock, **QUIET) as vault:
        schedule = await begin(vault, small.key, clock, Schedule(hourly=9, share=100))
        for number in range(6):
            await write_file(vault, b"%d" % number, os.urandom(MIB))
        clock.now += HOUR
        await schedule.look()
        for number in range(2):
            await unlink(vault, b"%d" % number)
        await settle(vault, 2)
        made, yields = await names(vault), vault.held.yields()
        assert yields.quota > MIB and yields.placeable == 0
        monkeypatch.setattr(Space, "placeable", lambda space: space.reserve // 2)
        totals = await vault.volume.totals()
        assert vault.space.free(totals.live, 0)[1] == 0, "df says so"
        with pytest.raises(NoSpace):
            await write_file(vault, b"new", os.urandom(MIB))
        assert await names(vault) == made and vault.thinning.told == []


async def test_who_waited_in_vain_speaks_for_those_who_write_next(net, tmp_path, monkeypatch):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        space = Space(vault.circle, vault.space._table, vault.space._disk)  # nobody gives back
        space.hold(0, Yield(MIB, MIB))
        monkeypatch.setattr(Space, "placeable", lambda space: space.reserve // 2)
        monkeypatch.setattr(space_module, "GIVE_UP_DEADLINE", 1.0)
        began = trio.current_time()
        for _ in range(20):
            with pytest.raises(NoSpace):
                await space.admit(0, 0, MIB)
        assert 1 <= trio.current_time() - began < 5, "one of them waited"
