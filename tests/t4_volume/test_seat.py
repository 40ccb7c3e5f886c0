"""The owner's seat: with an even number of suppliers the machine that writes votes too."""

import os
import shutil
import subprocess

import pytest
from machine import Net
from scenario import QUIET, read_file, write_file

from bitdustfs import failpoints
from bitdustfs.blocks import deferral
from bitdustfs.core.records import Ballot, claim_ballot
from bitdustfs.core.sealing import Suite
from bitdustfs.errors import LeaseHeld, Superseded, Unavailable, Unreachable, UsageError
from bitdustfs.family.own_root import own_state
from bitdustfs.family.refound import refound
from bitdustfs.family.replace import replace_member
from bitdustfs.units import MIB

STEPS = (
    *failpoints.SEAT_STEPS, "root-propose", "root-proposed", "root-accepted", "family-settle",
    "claimed",
)  # fmt: skip


@pytest.fixture(autouse=True)
def a_minute(monkeypatch):
    monkeypatch.setattr(deferral, "SOON", 2.0)


async def circle_of(k, n):
    net = Net(k, n)
    await net.create()
    return net


def off(net, *positions):
    for position, supplier in enumerate(net.suppliers):
        if position in positions:
            supplier.break_()
        else:
            supplier.heal()


def family_of(vault):
    return vault.known.family


async def silent(*what):
    """Nobody watches."""


async def publish(vault, name, content):
    await write_file(vault, name, content)
    await vault.publish()


@pytest.mark.parametrize(("code", "away"), [((1, 2), (1,)), ((2, 4), (0, 3)), ((3, 6), (0, 2, 5))])
async def test_promise_9_with_the_seat_half_of_the_suppliers_are_enough(tmp_path, code, away):
    net = await circle_of(*code)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await publish(vault, b"first", b"1" * MIB)
        seat = family_of(vault).seat
        assert seat and not family_of(vault).former
        off(net, *away)
        await publish(vault, b"second", b"2" * MIB)
        assert vault.too_few() == ""
    async with net.mount(tmp_path / "one", **QUIET) as vault:  # and it mounts so
        assert not vault.read_only and family_of(vault).seat == seat
        await publish(vault, b"third", b"3" * MIB)
    everybody_else = set(range(code[1])) - {*away}
    off(net, *everybody_else)
    async with net.mount(tmp_path / "one", **QUIET) as vault:  # whoever the half is
        assert not vault.read_only
        assert await read_file(vault, b"third") == b"3" * MIB
        await write_file(vault, b"fourth", b"4" * MIB)
        await vault.committer.commit(sync=True)
    off(net)
    async with net.mount(tmp_path / "two", machine=b"n" * 16, **QUIET) as vault:
        for name, byte in ((b"first", b"1"), (b"second", b"2"), (b"third", b"3")):
            assert await read_file(vault, name) == byte * MIB


async def test_promise_10_who_has_no_seat_needs_as_many_as_without_any(tmp_path):
    net = await circle_of(1, 2)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await publish(vault, b"first", b"1" * MIB)
        first = family_of(vault).seat
    off(net, 1)
    async with net.mount(tmp_path / "two", machine=b"n" * 16, **QUIET) as vault:
        assert vault.read_only
        assert "only 1 of 2 suppliers answered and 2 are needed" in vault.message
        assert await read_file(vault, b"first") == b"1" * MIB
    off(net)
    async with net.mount(tmp_path / "two", machine=b"n" * 16, **QUIET) as vault:
        await publish(vault, b"second", b"2" * MIB)
        assert family_of(vault).seat not in (b"", first)
        off(net, 0)
        await publish(vault, b"third", b"3" * MIB)
    async with net.mount(tmp_path / "one", **QUIET) as vault:  # its seat counts no more
        assert vault.read_only and "2 are needed" in vault.message
    off(net)
    async with net.mount(tmp_path / "one", take_over=True, **QUIET) as vault:
        assert await read_file(vault, b"third") == b"3" * MIB
        await publish(vault, b"fourth", b"4" * MIB)


async def test_promise_10_two_machines_at_once_never_both_write(tmp_path):
    net = await circle_of(1, 2)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as one:
        await publish(one, b"first", b"1" * MIB)
        with pytest.raises(LeaseHeld):
            async with net.mount(tmp_path / "two", machine=b"n" * 16, **QUIET):
                pass
        options = {**QUIET, "take_over": True}
        async with net.mount(tmp_path / "two", machine=b"n" * 16, **options) as two:
            await publish(two, b"second", b"2" * MIB)
            await write_file(one, b"late", b"0" * MIB)
            with pytest.raises(Superseded):
                await one.publish()


def put_back(copy, home, how):
    """Where the state is that came out of a backup."""
    if how == "copied":
        return copy
    if how == "by rsync":  # which leaves alone what looks the same
        subprocess.run(["rsync", "-a", "--delete", f"{copy}/", home], check=True)
    elif how == "the database alone":
        for file in copy.rglob("*.mdb"):
            shutil.copy2(file, home / file.relative_to(copy))
    else:
        shutil.rmtree(home)
        shutil.copytree(copy, home)
    return home


@pytest.mark.parametrize("how", ["copied", "moved back", "by rsync", "the database alone"])
async def test_promise_10_a_copy_of_the_state_has_no_seat(tmp_path, how):
    """It may be older than what the seat has voted for since."""
    if how == "by rsync" and shutil.which("rsync") is None:
        pytest.skip("this machine has no rsync")
    net = await circle_of(1, 2)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await publish(vault, b"first", b"1" * MIB)
    shutil.copytree(tmp_path / "one", tmp_path / "copy")
    off(net, 1)
    async with net.mount(tmp_path / "one", **QUIET) as vault:
        await publish(vault, b"second", b"2" * MIB)
    home = put_back(tmp_path / "copy", tmp_path / "one", how)
    off(net, 0)  # who holds the second one is away, who is there does not know of it
    async with net.mount(home, **QUIET) as vault:
        assert vault.read_only and "2 are needed" in vault.message
    off(net)
    async with net.mount(home, **QUIET) as vault:
        assert await read_file(vault, b"second") == b"2" * MIB
        await publish(vault, b"third", b"3" * MIB)


async def test_promise_2_a_seat_tells_nothing_that_a_failed_sync_left_unsure(tmp_path, monkeypatch):
    net = await circle_of(1, 2)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await publish(vault, b"first", b"1" * MIB)
        seat = vault.publisher._seats[family_of(vault).seat]
        claim = claim_ballot(net.key.signing, Ballot(99, b"m" * 16))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(failpoints, "plan", failpoints.FaultPlan("state-sync=eio@1"))
            with pytest.raises(Unreachable):
                await seat.prepare(claim, False)
        assert vault.state._database._unsure
        assert (await seat.prepare(claim, False)).claim == claim
        assert not vault.state._database._unsure


async def test_refounding_is_not_for_who_has_the_seat_and_half_of_the_suppliers(tmp_path):
    net = await circle_of(1, 2)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await publish(vault, b"first", b"1" * MIB)
    off(net, 1)
    sessions = net.sessions()
    with (
        own_state(net.key, tmp_path / "one", b"m" * 16, Suite.AEGIS256) as (own, seats),
        pytest.raises(UsageError, match="mount the vault as usual"),
    ):
        await refound(net.key, net.family, lambda m: sessions[m.node], own, seats=seats)


async def test_promise_9_with_two_friends_a_dead_one_is_replaced(tmp_path):
    net = await circle_of(1, 2)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await publish(vault, b"first", os.urandom(MIB))
        off(net, 1)
        await replace_member(vault, net.key, 1, await net.spare(), silent)
        await publish(vault, b"second", b"2" * MIB)
        await vault.courier.try_all()
        members = [member.node for member in family_of(vault).members]
        assert members == [net.suppliers[0].node, net.spares[0].node]
    net.services = [net.spares[0].service]
    net.suppliers[0].break_()
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        assert await read_file(vault, b"second") == b"2" * MIB


async def test_promise_2_the_seat_and_an_own_supplier_are_no_quorum(tmp_path):
    """A root that only this machine holds would not outlive it."""
    net = await circle_of(1, 2)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await publish(vault, b"first", b"1" * MIB)
        assert family_of(vault).seat
    own = net.suppliers[0].node
    is_own = {"is_own": lambda member: member.node == own}
    async with net.mount(tmp_path / "one", **is_own, **QUIET) as vault:
        assert vault.publisher.wants_seat
        await vault.publish()
        assert not family_of(vault).seat and not vault.publisher.wants_seat
        assert vault.too_few() == ""
    off(net, 1)
    async with net.mount(tmp_path / "one", **is_own, **QUIET) as vault:
        await write_file(vault, b"second", b"2" * MIB)
        with pytest.raises(Unavailable, match="are needed to publish"):
            await vault.publish()


async def test_an_odd_number_of_suppliers_needs_no_seat(tmp_path):
    net = await circle_of(2, 3)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await publish(vault, b"first", b"1" * MIB)
        assert not family_of(vault).seat and family_of(vault).epoch == 0


class Stopped(BaseException):
    """The machine stops here."""


class StopAt:
    """In place of a plan of faults: stops at the n-th visit of a step, and from then on."""

    def __init__(self, step, visit):
        self.step, self.left, self.stopped = step, visit, False

    def visit(self, name):
        self.left -= name == self.step
        if self.left <= 0:
            self.stopped = True
            raise Stopped(name)


@pytest.mark.parametrize("step", STEPS)
async def test_promise_3_a_stop_at_any_step_of_taking_the_seat_loses_nothing(tmp_path, step):
    net = await circle_of(1, 2)
    async with net.mount(tmp_path / "zero", machine=b"z" * 16, make_root=True, **QUIET) as vault:
        await publish(vault, b"before", b"b" * MIB)
    stopped, visits, sure = True, 0, b""
    while stopped:  # each time another machine takes the vault over, and stops a little later
        visits += 1
        machine = {"machine": bytes([visits]) * 16, "take_over": True, **QUIET}
        home = tmp_path / str(visits)
        off(net)
        with pytest.MonkeyPatch.context() as patch:
            plan = StopAt(step, visits)
            patch.setattr(failpoints, "plan", plan)
            try:
                async with net.mount(home, **machine) as vault:
                    for away in ((), (0,)):
                        off(net, *away)
                        content = b"%d%d" % (visits, len(away)) * 10_000
                        await publish(vault, b"file", content)
                        sure = content
            except BaseExceptionGroup as group:
                assert group.split(Stopped)[1] is None
            except Stopped:
                pass
        off(net)
        stopped = plan.stopped
        for there in (home, tmp_path / f"{visits} else"):
            async with net.mount(there, **machine) as vault:
                assert not vault.read_only
                assert await read_file(vault, b"before") == b"b" * MIB
                if sure:
                    found = await read_file(vault, b"file")
                    assert found == sure or (stopped and len(found) == len(sure))
                await vault.publish()
                assert family_of(vault).seat
    assert visits > 1
