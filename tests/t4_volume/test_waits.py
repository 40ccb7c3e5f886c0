"""Suppliers that hang: who was found silent is not waited for again, as long as others are enough.

In virtual time where no thread is needed. Else whatever must not be waited for would take an hour,
and the test ends by its deadline.
"""

import os

import pytest
import trio
from machine import Net
from msgspec.structs import replace
from scenario import QUIET, read_file, write_file
from test_account import nobody_hears, speaker
from vault_states import State

from bitdustfs.blocks import courier, health
from bitdustfs.blocks.circle import Circle
from bitdustfs.core.records import Ballot, claim_ballot
from bitdustfs.errors import Unavailable
from bitdustfs.family import find, staffing
from bitdustfs.family.find import Ways
from bitdustfs.family.replace import set_bench
from bitdustfs.mount import ending
from bitdustfs.mount.commands import Sync
from bitdustfs.net import register as registering
from bitdustfs.net.register import RootRegister
from bitdustfs.rebuild import watch as watching
from bitdustfs.rebuild.reputation import Reputation
from bitdustfs.rebuild.watch import Watch, find_stand_ins
from bitdustfs.supplier import memory
from bitdustfs.vault import assemble

HUNG = 1, 4
HOUR = 3600.0


def hang(net, positions=HUNG):
    for position in positions:
        net.suppliers[position].hang_()


async def seconds(what, *args):
    """How long it takes, by the clock of the test; and what it returns."""
    began = trio.current_time()
    done = await what(*args)
    return trio.current_time() - began, done


# -- the register


def registered(net, heard_since=lambda node, time: False):
    sessions = net.sessions()
    register = RootRegister(
        net.key.vault_id, lambda m: sessions[m.node], net.family, heard_since=heard_since
    )
    ballot = Ballot(7, b"m" * 16)
    return register, claim_ballot(net.key.signing, ballot)


async def test_a_voter_that_is_silent_is_waited_for_once(autojump_clock):
    net = Net()
    await net.create()
    register, claim = registered(net)
    hang(net)
    took, view = await seconds(register.read)
    assert took == registering.GRACE and view.answers == 5
    took, view = await seconds(register.prepare, claim, False)
    assert took == 0 and view.answers == 5
    assert (await seconds(register.renew, claim))[0] == 0
    assert (await seconds(register.release, claim))[0] == 0
    took, view = await seconds(register.read)  # every answer counts there (promise 8)
    assert took == registering.GRACE


async def test_a_voter_that_falls_silent_or_is_slow_is_waited_for(autojump_clock):
    net = Net()
    await net.create()
    register, claim = registered(net)
    hang(net)
    await register.read()
    net.suppliers[2].slow_(registering.GRACE / 2)
    took, view = await seconds(register.prepare, claim, False)
    assert took == registering.GRACE / 2 and view.answers == 5
    net.suppliers[2].hang_()
    assert (await seconds(register.renew, claim))[0] == registering.GRACE
    assert (await seconds(register.renew, claim))[0] == 0


async def test_a_voter_that_is_back_counts_again_although_it_is_slow(autojump_clock):
    net = Net()
    await net.create()
    register, claim = registered(net)
    hang(net)
    await register.read()
    await register.prepare(claim, False)
    for position in HUNG:
        net.suppliers[position].heal()
        net.suppliers[position].slow_(registering.GRACE / 2)
    assert (await seconds(register.renew, claim))[0] == 0
    assert (await seconds(register.renew, claim, True))[0] == registering.GRACE / 2
    assert (await seconds(register.renew, claim))[0] == registering.GRACE / 2


async def test_promise_2_a_voter_that_answered_something_else_meanwhile_is_told_the_root(
    autojump_clock,
):
    """It may have acknowledged what the root names, so it counts."""
    net = Net()
    await net.create()
    heard = {}
    register, claim = registered(net, lambda node, time: heard.get(node, -1.0) > time)
    hang(net)
    await register.read()
    await trio.sleep(1)
    back = net.suppliers[HUNG[0]]
    back.heal()
    back.slow_(registering.GRACE / 2)
    heard[back.node] = trio.current_time()
    await trio.sleep(1)
    assert (await seconds(register.renew, claim))[0] == registering.GRACE / 2
    await trio.sleep(1)
    back.hang_()  # it is silent anew, and was not heard since
    assert (await seconds(register.renew, claim))[0] == registering.GRACE
    assert (await seconds(register.renew, claim))[0] == 0


async def test_where_they_are_needed_silent_voters_are_waited_for(autojump_clock):
    net = Net()
    await net.create()
    register, claim = registered(net)
    hang(net)
    await register.read()
    for position in (0, 2, 3):
        net.suppliers[position].slow_(3.0)
    took, view = await seconds(register.prepare, claim, False)
    assert took == 3.0 and view.majority


# -- before the mount, and beside it


class Peer:
    """A supplier by its address: the number of its position."""

    net = None

    def __init__(self, node, addresses, credentials, nursery):
        self._at = addresses[0]
        self._supplier = self.net.suppliers[int(self._at)]
        self.node, self.current = self._supplier.node, self._supplier.current

    def reached_at(self):
        return self._at

    async def aclose(self):
        pass


@pytest.mark.parametrize(("silent", "waits"), [(HUNG, 0.0), ((1, 2, 3, 4), find.GRACE)])
async def test_who_is_silent_is_not_waited_for_by_who_looks_for_the_family(
    monkeypatch, autojump_clock, nursery, silent, waits
):
    net = Net()
    await net.create()
    monkeypatch.setattr(Peer, "net", net)
    monkeypatch.setattr(find, "PeerSupplier", Peer)
    hang(net, silent)
    ways = Ways(net.key, [str(number) for number in range(7)], nursery)
    took, known = await seconds(ways.find_family)
    assert took == waits and known.family == net.family


async def test_a_glance_for_so_many_is_over_once_they_are_there(autojump_clock):
    net = Net()
    await net.create()
    circle = Circle(net.family, lambda member: net.sessions()[member.node])
    watch = Watch(circle, Reputation(lambda: None, lambda raw: None))
    hang(net)
    assert (await seconds(watch.glance, 5))[0] == 0 and circle.online() == 5
    assert (await seconds(watch.glance, 6))[0] == watching.GLANCE_DEADLINE
    assert (await seconds(watch.glance, 5))[0] == 0
    await trio.sleep(watching.GLANCE_AGAIN + 1)
    assert (await seconds(watch.glance))[0] == watching.GLANCE_DEADLINE


@pytest.mark.parametrize(("there", "waits"), [(4, 1.0), (3, 5.0)])
async def test_reserves_that_hang_are_waited_for_where_members_are_too_few_to_read(
    autojump_clock, there, waits
):
    net = Net()
    await net.create()
    family = replace(net.family, bench=(await net.spare(), await net.spare()))
    circle = Circle(family, lambda member: net.sessions()[member.node])
    for supplier in net.suppliers[there:]:
        supplier.break_()
    await Watch(circle, Reputation(lambda: None, lambda raw: None)).glance()
    net.spares[0].hang_()
    assert (await seconds(find_stand_ins, circle))[0] == waits
    assert net.spares[1].calls.count("Kin") == 1


async def test_promise_6_a_root_that_nobody_there_has_makes_a_mount_patient_with_reserves(
    net, tmp_path, monkeypatch
):
    """k members answer, and lack what the root names: a slow reserve stands in for who has it."""
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"file", b"x" * 100)
        await vault.publish()
    net.suppliers[0].break_()  # so not everybody answers
    settles, patient = assemble.settle, []

    async def settle(*arguments):
        if True not in patient:
            raise Unavailable("2 of 4 fragments were found")
        await settles(*arguments)

    async def find(circle, patient_=False, **words):
        patient.append(words.get("patient", patient_))

    monkeypatch.setattr(assemble, "settle", settle)
    monkeypatch.setattr(assemble, "find_stand_ins", find)
    async with net.mount(tmp_path / "two", machine=b"n" * 16, **QUIET) as vault:
        assert patient == [False, True]
        assert await read_file(vault, b"file") == b"x" * 100


async def test_promise_4_one_that_refuses_at_once_does_not_keep_others_from_telling_their_space(
    net, tmp_path
):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        for supplier in net.suppliers:
            supplier.break_()
        await vault.watch.round()  # as after a night: all count as away
        for supplier in net.suppliers[1:]:
            supplier.heal()
            supplier.slow_(0.1)
        await vault.space.refresh()
        assert net.suppliers[0].node in vault.space._untold
        assert len(vault.space._untold) <= net.k - 1


# -- from the first word of `sync` to the next mount


@pytest.fixture
def for_hours(monkeypatch):
    """What must not be waited for would take an hour."""
    for module, name, seconds in (
        (watching, "PING_DEADLINE", 0.3), (health, "SILENCE", 0.2), (registering, "GRACE", 0.3),
        (watching, "GLANCE_DEADLINE", HOUR), (courier, "PROBE_DEADLINE", HOUR),
        (ending, "LAST_COPIES", HOUR), (ending, "LAST_RECLAIM", HOUR),
        (staffing, "LAST_TEACHING", HOUR), (memory, "DEADLINE", HOUR),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, seconds)


@pytest.mark.deadline(20)
async def test_publishing_ending_and_mounting_do_not_wait_for_who_is_known_to_hang(
    net, tmp_path, for_hours
):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"before", os.urandom(100_000))
        await vault.publish()
        await vault.courier.try_all()
        await set_bench(vault, net.key, [await net.spare(), await net.spare()])
        hang(net)
        net.spares[0].hang_()
        await vault.watch.round()
        assert vault.circle.online() == 5
        await end_after_writing(net, tmp_path, vault)
    async with net.mount(tmp_path / "one", **QUIET) as vault:  # heard of nobody who hangs as yet
        await end_after_writing(net, tmp_path, vault)
        assert net.spares[1].calls.count("Accept") == 2


async def end_after_writing(net, tmp_path, vault):
    state = State(net, tmp_path / "one", vault, {})
    _, said, settling = speaker(state)
    for _ in range(2):
        await write_file(vault, b"new", os.urandom(100_000))
        assert (await said.answer(Sync(), nobody_hears)).published
        assert (await said.answer(Sync(), nobody_hears)).published
    await write_file(vault, b"newer", os.urandom(100_000))
    ended = await settling.settle()
    assert ended.verdict.startswith("safe: ") and not ended.message
