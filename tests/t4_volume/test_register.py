"""The root register of a vault, with suppliers that lie, machines that stop, and copies of
machines.
"""

import os
import shutil

import msgspec
import pytest
import trio
from machine import Net
from scenario import QUIET, read_file, write_file
from test_fences import deaf, silent
from test_recover import lose_roots, recover
from test_refound import CONTENT, parted

from bitdustfs.core.items import ROOT_INODE
from bitdustfs.core.records import (
    Ballot,
    BlockDead,
    claim_ballot,
    open_family_untrusted,
    open_root_untrusted,
    seal_record,
)
from bitdustfs.errors import LeaseHeld, Refused, Unavailable
from bitdustfs.family.refound import refound
from bitdustfs.family.replace import replace_member
from bitdustfs.net import wire
from bitdustfs.net.register import RootRegister
from bitdustfs.vault import lease
from bitdustfs.vault.publish import Publisher

RENEW_EVERY = 0.2  #: seconds, here


@pytest.fixture
def renewing(monkeypatch):
    """The lease is renewed all the time."""
    monkeypatch.setattr(lease, "RENEW_EVERY", RENEW_EVERY)


async def until(true):
    """Returns once it is so."""
    for _ in range(100):
        if true():
            return
        await trio.sleep(RENEW_EVERY)
    raise AssertionError("it does not become so")


def answers(supplier, alter):
    """What the supplier shows of its register is altered, until what is returned is called."""
    call = supplier.call

    async def answer(request, payload=b""):
        reply, data = await call(request, payload)
        return (alter(reply) if isinstance(reply, wire.CurrentIs) else reply), data

    supplier.call = answer
    return lambda: setattr(supplier, "call", call)


async def names(vault):
    found = await vault.volume.readdir(ROOT_INODE, 0, 100)
    return {entry.name for entry in found} - {b".", b".."}


@pytest.mark.parametrize("kind", ["junk", "stranger"])
async def test_promise_9_a_ballot_that_nobody_signed_is_nobody_s(net, tmp_path, kind):
    """One voter says that it promised the last ballot there is: nothing could ever follow it."""
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await write_file(vault, b"file", b"hello" * 1000)
        await vault.publish()
    last = Ballot(2**63 - 2, bytes(16))
    claim = b"junk" if kind == "junk" else claim_ballot(Net().suppliers[0].service.node, last)
    honest = answers(net.suppliers[6], lambda reply: msgspec.structs.replace(reply, claim=claim))
    async with net.mount(tmp_path / "one") as vault:
        assert not vault.read_only and vault.pen.ballot.generation == 3
        await vault.publish()
    honest()
    net.suppliers[6].break_()
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        assert not vault.read_only and vault.pen.ballot.generation == 4
        assert await read_file(vault, b"file") == b"hello" * 1000


async def test_promise_10_a_change_cut_off_in_the_middle_and_a_partition_make_one_history(tmp_path):
    """Honest suppliers only: the root of the change reached three and the newcomer, and then they
    are parted from the other four.
    """
    net = Net(k=2)
    await net.create()
    with pytest.raises(ExceptionGroup):
        async with net.mount(tmp_path / "w", machine=b"w" * 16, make_root=True) as vault:
            await write_file(vault, b"base", b"base" * 1000)
            await vault.publish()
            await vault.courier.try_all()
            heal = [deaf(supplier) for supplier in net.suppliers[3:]]
            with pytest.raises(Unavailable):
                await replace_member(vault, net.key, 6, await net.spare(), silent)
            raise RuntimeError("this machine stops")
    for hear in heal:
        hear()
    sides = [*net.suppliers[:3], *net.spares], net.suppliers[3:]
    written, seen = [], {}
    for number, side in enumerate(sides):
        for supplier in (*net.suppliers, *net.spares):
            (supplier.heal if supplier in side else supplier.break_)()
        row = side[-1].service.shelf.vault(net.key.vault_id)
        family = open_family_untrusted(row.family, net.key.vault_id)
        machine = bytes([number]) * 16
        async with net.mount(
            tmp_path / f"{number}", machine=machine, family=family, take_over=True
        ) as vault:
            if not vault.read_only:
                await write_file(vault, b"from %d" % number, b"x" * 5000)
                await vault.publish()
                written.append(b"from %d" % number)
    assert written == [b"from 1"]  # the other side has no majority of those who voted before
    for supplier in (*net.suppliers, *net.spares):
        supplier.heal()
    for number in (0, 1, 2):
        machine = bytes([number]) * 16
        async with net.mount(tmp_path / f"{number}", machine=machine, take_over=True) as vault:
            seen[number] = await names(vault)
            assert not vault.read_only
    assert all(there == {b"base", b"from 1"} for there in seen.values())


async def test_promise_8_a_machine_whose_published_root_is_of_another_history_says_so(tmp_path):
    """A fork as version 1 made them: nothing that this machine published may go silently."""
    net = Net()
    await net.create()
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"base", b"base")
        await vault.publish()
    rows = [service.shelf.vault(net.key.vault_id) for service in net.services]
    async with net.mount(tmp_path / "one", **QUIET) as vault:
        await write_file(vault, b"mine", b"mine")
        await vault.publish()
    for service, row in zip(net.services, rows, strict=True):
        service.shelf.set_vault(net.key.vault_id, row)  # they never heard of it
    async with net.mount(tmp_path / "two", machine=b"n" * 16, **QUIET) as vault:
        for number in range(3):
            await write_file(vault, b"other %d" % number, b"other")
            await vault.publish()
    state = tmp_path / "one"
    async with net.mount(state, take_over=True) as vault:
        assert vault.read_only and "two histories" in vault.message
        assert await read_file(vault, b"mine") == b"mine"


async def test_promise_10_a_superseded_machine_deletes_nothing(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as old:
        await write_file(old, b"file", os.urandom(200_000))
        await old.publish()
        await old.courier.try_all()
        [block] = [b for b, row in old.state.blocks.snapshot().items() if not row.meta]
        root = open_root_untrusted(old.state_root(), net.key.vault_id)
        async with net.mount(tmp_path / "two", machine=b"n" * 16, take_over=True, **QUIET) as vault:
            row = old.state.blocks.get(block)
            await old.reclaimer._deletion.condemn(block, row, root)
            await old.reclaimer._deletion.tell()
            dead = BlockDead(net.key.vault_id, block, root.ballot, root.seq)
            record = seal_record(net.key.signing, "block-dead", dead)
            for supplier in net.suppliers:
                assert supplier.service.shelf.tombstone(net.key.vault_id, block) is None
                with pytest.raises(Refused, match="fenced"):
                    await supplier.kill(record, old.pen.claim)
            assert not any(old.watch.history(s.node).gone for s in net.suppliers)
            assert len(await read_file(vault, b"file")) == 200_000


async def test_promise_10_a_machine_that_runs_on_through_a_refounding_deletes_nothing(tmp_path):
    net, connect = await parted(tmp_path)
    family = await refound(net.key, net.family, connect)
    left = claim_ballot(net.key.signing, Ballot(1 << 40, b"m" * 16))  # of the history that is left
    dead = BlockDead(net.key.vault_id, b"b" * 16, Ballot(1, b"m" * 16), 1)
    record = seal_record(net.key.signing, "block-dead", dead)
    refusals = 0
    for member in family.members:
        try:
            await connect(member).kill(record, left)
        except Refused as refusal:
            refusals += refusal.code == "fenced"
        except Exception:  # it burnt
            continue
    assert refusals == 7


async def test_promise_9_a_voter_that_replays_its_root_from_before_a_refounding_stops_nobody(
    tmp_path,
):
    net, connect = await parted(tmp_path)
    alive = net.suppliers[4]
    old = await alive.current()
    family = await refound(net.key, net.family, connect)
    answers(alive, lambda reply: msgspec.structs.replace(reply, root=old.root, family=old.family))
    async with net.mount(tmp_path / "two", machine=b"q" * 16, family=family) as vault:
        assert not vault.read_only, vault.message
        assert await read_file(vault, b"old") == CONTENT
        await write_file(vault, b"more", CONTENT)
        await vault.publish()
    # also whoever begins with what that voter shows
    before = open_family_untrusted(old.family, net.key.vault_id)
    net.services = net.services[::-1]
    async with net.mount(tmp_path / "three", machine=b"t" * 16, family=before) as vault:
        assert vault.known.root.ballot.lineage == 1


async def test_promise_11_a_voter_that_shows_another_root_each_time_holds_nobody_up(net, tmp_path):
    before = net.family
    with pytest.raises(ExceptionGroup):
        async with net.mount(tmp_path / "w", machine=b"w" * 16, make_root=True) as vault:
            await write_file(vault, b"file", b"x" * 9000)
            await vault.publish()
            await vault.courier.try_all()
            was = await net.suppliers[0].current()
            new = await net.spare()
            heal = [deaf(supplier) for supplier in [*net.suppliers[1:], *net.spares]]
            with pytest.raises(Unavailable):
                await replace_member(vault, net.key, 6, new, silent)
            raise RuntimeError("this machine stops")
    for hear in heal:
        hear()
    turn = 0

    def alternate(reply):
        nonlocal turn
        turn += 1
        return (
            reply if turn % 2 else msgspec.structs.replace(reply, root=was.root, family=was.family)
        )

    answers(net.suppliers[0], alternate)
    for number in range(2):
        with trio.fail_after(60):
            async with net.mount(
                tmp_path / f"{number}", machine=b"n" * 16, family=before, take_over=True
            ) as vault:
                assert not vault.read_only
                await vault.publish()
    assert turn < 20


async def test_a_machine_that_is_there_is_not_claimed_against(net, tmp_path, renewing):
    """Who took over reached a quorum: the first machine loses the pen, and claims nothing again."""
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as first:
        await first.publish()
        async with net.mount(
            tmp_path / "two", machine=b"n" * 16, take_over=True, **QUIET
        ) as second:
            await until(lambda: first.read_only)
            assert "took this vault over" in first.message
            assert not second.read_only
            await write_file(second, b"file", b"x")
            await second.publish()


async def test_a_change_cut_off_between_its_two_roots_is_settled_by_the_next_mount(
    net, tmp_path, monkeypatch
):
    async def stops(publisher):
        if publisher._unsettled:
            raise Unavailable("this machine stops")

    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"file", b"x" * 5000)
        await vault.publish()
        await vault.courier.try_all()
        new = await net.spare()
        with monkeypatch.context() as patch:
            patch.setattr(Publisher, "_settle_family", stops)
            with pytest.raises(Unavailable, match="stops"):
                await replace_member(vault, net.key, 6, new, silent)
        family = open_family_untrusted(vault.state.published().family, net.key.vault_id)
        assert len(family.former) == 7
    async with net.mount(tmp_path / "two", machine=b"n" * 16, family=family) as vault:
        assert vault.publisher.due  # although nothing was written
        await vault.publish()
        assert not vault.publisher.due and not vault.known.family.former
        assert vault.known.family.members[6].node == new.node


# -- copies of a machine


async def test_promise_10_a_copy_of_a_machine_is_another_machine(net, tmp_path):
    async with net.mount(tmp_path / "a", make_root=True) as vault:
        await write_file(vault, b"file", b"base")
        await vault.publish()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    async with net.mount(tmp_path / "a") as vault:
        with pytest.raises(LeaseHeld):
            async with net.mount(tmp_path / "b"):
                pass
        await write_file(vault, b"a", b"A" * 400)
        await vault.publish()
        async with net.mount(tmp_path / "b", take_over=True) as copy:
            assert copy.pen.ballot.machine != vault.pen.ballot.machine
            assert await names(copy) == {b"file", b"a"}
            await vault.lease.renew()
            assert vault.read_only and "took this vault over" in vault.message
    for home in ("a", "b"):  # one after the other, neither is in the other's way
        async with net.mount(tmp_path / home) as vault:
            assert not vault.read_only
            await write_file(vault, b"again " + home.encode(), b"x")
            await vault.publish()


async def test_promise_10_two_copies_that_claim_in_the_same_instant_are_two(
    net, tmp_path, monkeypatch
):
    async with net.mount(tmp_path / "a", make_root=True) as vault:
        await vault.publish()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    prepare, there, both = RootRegister.prepare, [], trio.Event()

    async def together(register, claim, take_over):
        there.append(claim)
        if len(there) >= 2:
            both.set()
        await both.wait()  # both have read before either claims
        return await prepare(register, claim, take_over)

    monkeypatch.setattr(RootRegister, "prepare", together)
    mounted, refused = [], []

    async def one(home):
        try:
            async with net.mount(tmp_path / home) as vault:
                await write_file(vault, home.encode(), b"x")
                await vault.publish()
                mounted.append(home)
                await trio.sleep(1)
        except* LeaseHeld:
            refused.append(home)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one, "a")
        nursery.start_soon(one, "b")
    assert len(mounted) == len(refused) == 1


# -- recovering


async def test_a_recovered_vault_is_writable_although_idle_mounts_went_past_its_blocks(
    net, tmp_path
):
    content = os.urandom(300_000)
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await write_file(vault, b"file", content)
        await vault.publish()
        await vault.courier.try_all()
    for _ in range(3):
        async with net.mount(tmp_path / "one") as vault:  # looked at, nothing written
            seen = vault.known.root.order
    lose_roots(net)
    _, found = await recover(net, tmp_path / "two")
    options = {"take_over": True, "sessions": found.suppliers, "family": found.family}
    for home, machine in (("one", b"m" * 16), ("fresh", b"z" * 16)):
        async with net.mount(tmp_path / home, machine=machine, **options) as vault:
            vault.heed_witness(*seen)  # what the vault's DHT record still says
            assert not vault.read_only, vault.message
            assert await read_file(vault, b"file") == content


async def test_promise_9_a_voter_that_replays_its_root_from_before_a_recovery_stops_nobody(
    net, tmp_path
):
    """It hid its root from who recovered, and shows it to all that come after."""
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await write_file(vault, b"file", CONTENT)
        await vault.publish()
        await vault.courier.try_all()
    for _ in range(3):
        async with net.mount(tmp_path / "one"):  # the last ballot is above what blocks tell of
            pass
    old = await net.suppliers[4].current()
    lose_roots(net)
    _, found = await recover(net, tmp_path / "two")
    answers(net.suppliers[4], lambda reply: old)
    options = {"take_over": True, "sessions": found.suppliers}
    for number, family in enumerate(
        (found.family, open_family_untrusted(old.family, net.key.vault_id))
    ):
        for home in ("one", f"{number}"):
            async with net.mount(tmp_path / home, family=family, **options) as vault:
                assert not vault.read_only, vault.message
                assert vault.known.root.ballot.lineage == 1
                assert await read_file(vault, b"file") == CONTENT
                await write_file(vault, home.encode(), CONTENT)
                await vault.publish()
