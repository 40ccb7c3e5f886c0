"""A vault grows and shrinks while it is mounted: contracts first, then the family, or after it."""

import errno
import os

import pytest
import trio
import trio.testing
from machine import Net
from scenario import QUIET, read_file, write_file

from bitdustfs.core.placement import promise_each
from bitdustfs.errors import NoSpace, Unavailable, UsageError
from bitdustfs.family.replace import set_bench
from bitdustfs.family.resize import resize
from bitdustfs.family.staffing import Staffing
from bitdustfs.units import GIB, MIB

SMALL, LARGE = 256 * MIB, GIB  #: a supplier's contract; what it donates


@pytest.fixture
async def small():
    """A vault of 1 GiB less the reserve on suppliers that have four times as much."""
    net = Net(space=LARGE)
    net.space = SMALL
    await net.create()
    return net


def promised(net):
    return [s.service.shelf.vault(net.key.vault_id).space for s in net.suppliers]


async def test_a_vault_grows_and_takes_what_it_refused(small, tmp_path):
    async with small.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        before = vault.space.capacity
        with pytest.raises(NoSpace) as caught:
            await vault.space.admit(0, 0, before + MIB)
        assert caught.value.errno == errno.ENOSPC
        grown = await resize(vault, small.key, 3 * GIB, vault.circle.session)
        assert grown >= 3 * GIB and grown == vault.space.capacity
        await vault.space.admit(0, 0, before + MIB)
        assert set(promised(small)) == {promise_each(3 * GIB, 4)}
        await write_file(vault, b"file", b"x" * MIB)
        await vault.publish()
    async with small.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        assert vault.space.capacity == grown
        assert await read_file(vault, b"file") == b"x" * MIB


async def test_one_that_does_not_promise_more_leaves_all_as_it_was_and_is_named(small, tmp_path):
    async with small.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        small.services[3].housekeeping._space = 2 * SMALL
        epoch = vault.known.family.epoch
        with pytest.raises(Unavailable, match=r"1 of 7 .*512.0 MiB to give.*keeps its size"):
            await resize(vault, small.key, 3 * GIB, vault.circle.session)
        assert vault.known.family.epoch == epoch and set(promised(small)) == {SMALL}


async def test_a_reserve_that_does_not_promise_more_leaves_the_bench(small, tmp_path):
    async with small.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        bench = [await small.spare(), await small.spare()]
        await set_bench(vault, small.key, bench)
        small.spares[0].break_()
        for spare in small.spares:
            spare.service.housekeeping._space = LARGE
        await resize(vault, small.key, 3 * GIB, vault.circle.session)
        [kept] = vault.known.family.bench
        assert kept.node == bench[1].node and kept.space == promise_each(3 * GIB, 4)


async def test_a_vault_shrinks_no_further_than_what_it_keeps(small, tmp_path):
    async with small.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        content = os.urandom(60 * MIB)
        await write_file(vault, b"file", content)
        await vault.publish()
        await vault.courier.try_all()
        for size, said in ((59 * MIB, "files have 60.0 MiB"), (MIB, "16.0 MiB at least")):
            with pytest.raises(UsageError, match=said):
                await resize(vault, small.key, size, lambda member: pytest.fail("asked"))
        away = small.suppliers[2]
        away.break_()
        shrunk = await resize(vault, small.key, 200 * MIB, vault.circle.session)
        each = promise_each(200 * MIB, 4)
        assert shrunk >= 200 * MIB and {m.space for m in vault.known.family.members} == {each}
        assert promised(small) == [each, each, SMALL, *[each] * 4]
        away.heal()
        await Staffing(small.key, vault)._renew()
        assert set(promised(small)) == {each}
    async with small.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        assert await read_file(vault, b"file") == content


async def test_promise_4_nothing_is_accepted_that_would_not_fit_a_vault_that_shrinks(
    small, tmp_path
):
    async with small.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"file", os.urandom(MIB))
        usual, refused = vault.publish, []

        async def publish(**options):
            with pytest.raises(NoSpace):
                await vault.space.admit(MIB, 0, 100 * MIB)
            refused.append(True)
            raise Unavailable("not now")

        vault.publish = publish
        with pytest.raises(Unavailable, match="not now"):
            await resize(vault, small.key, 50 * MIB, vault.circle.session)
        vault.publish = usual
        assert refused
        await vault.space.admit(MIB, 0, 100 * MIB)  # it has its size of before


async def test_a_renewal_does_not_take_back_what_was_promised_for_a_larger_vault(small, tmp_path):
    async with small.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        staffing, usual = Staffing(small.key, vault), vault.publish

        async def publish(**options):
            nursery.start_soon(staffing._renew)
            await trio.testing.wait_all_tasks_blocked(0.05)
            await usual(**options)

        vault.publish = publish
        async with trio.open_nursery() as nursery:
            await staffing.resize(3 * GIB)
        assert set(promised(small)) == {promise_each(3 * GIB, 4)}
