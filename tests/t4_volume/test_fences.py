"""Who may write.

One supplier's word, an absent voter, or a change that half-happened take it from nobody.
"""

import os

import pytest
import trio
from scenario import photos, read_file, write_file

from bitdustfs.errors import Refused, Unavailable, Unreachable
from bitdustfs.family.replace import replace_member, set_policy
from bitdustfs.net import wire
from bitdustfs.net.register import RootRegister
from bitdustfs.units import MIB


async def silent(*what):
    """Nobody watches."""


def deaf(supplier, kind=wire.Accept):
    """Requests of a kind get lost on their way to the supplier, until what is returned is
    called.
    """
    call = supplier.call

    async def answer(request, payload=b""):
        if isinstance(request, kind):
            raise Unreachable("lost")
        return await call(request, payload)

    supplier.call = answer
    return lambda: setattr(supplier, "call", call)


async def test_promise_9_a_supplier_that_was_away_at_the_mount_stops_nobody_when_it_is_back(
    net, tmp_path
):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await vault.publish()
    net.suppliers[6].break_()
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        await write_file(vault, b"file", os.urandom(MIB))
        await vault.publish()
        net.suppliers[6].heal()  # it knows the older ballot only
        await vault.courier.try_all()
        await vault.register.renew(vault.pen.claim)
        assert not vault.read_only
        await vault.courier.try_all()
        assert not vault.state.blocks.owed()  # it has promised the new one, and took what it lacked


@pytest.mark.parametrize("kind", [wire.Renew, wire.Put, wire.Accept, wire.Prepare])
async def test_promise_9_one_supplier_that_says_fenced_fences_nobody(net, tmp_path, kind):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        liar = net.suppliers[6]
        call = liar.call

        async def lie(request, payload=b""):
            if isinstance(request, kind | wire.Prepare):
                raise Refused("fenced", "so it says")
            return await call(request, payload)

        liar.call = lie
        await write_file(vault, b"file", os.urandom(MIB))
        await vault.publish()
        await vault.courier.try_all()
        await vault.register.renew(vault.pen.claim)
        assert not vault.read_only
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        assert not vault.read_only


async def test_promise_9_a_voter_that_answers_junk_at_once_cuts_nobody_off(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await vault.publish()
    for supplier in net.suppliers[4:]:
        supplier.slow_(1.5)
    call = net.suppliers[0].call

    async def lie(request, payload=b""):
        if isinstance(request, wire.Current | wire.Prepare):
            return wire.CurrentIs(b"junk", b"junk", b"junk"), b""
        return await call(request, payload)

    net.suppliers[0].call = lie
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        assert not vault.read_only


async def test_a_family_change_that_two_voters_heard_of_and_nobody_else_binds_nobody(net, tmp_path):
    with pytest.raises(ExceptionGroup):
        async with net.mount(tmp_path / "one", make_root=True) as vault:
            await write_file(vault, b"file", os.urandom(MIB))
            await vault.publish()
            await vault.courier.try_all()
            heal = [deaf(supplier) for supplier in net.suppliers[2:]]
            with pytest.raises(Unavailable):
                await replace_member(vault, net.key, 6, await net.spare(), silent)
            raise RuntimeError("this machine stops")
    for hear in heal:
        hear()
    for supplier in net.suppliers[:2]:
        supplier.break_()
    row = net.services[6].shelf.vault(net.key.vault_id)
    family = net.services[6].kinship.family(net.key.vault_id, row)
    async with net.mount(
        tmp_path / "two", machine=b"n" * 16, family=family, take_over=True
    ) as vault:
        assert vault.known.family.epoch == 0
        await write_file(vault, b"more", b"without those two")
        await vault.publish()
        for supplier in net.suppliers[:2]:
            supplier.heal()
        for supplier in net.suppliers[4:6]:
            supplier.break_()
        await write_file(vault, b"most", b"with those two: they are needed now")
        await vault.publish()


async def test_a_family_that_changes_while_a_mount_claims_the_vault_is_followed(net, tmp_path):
    prepare = RootRegister.prepare
    ready, go, done = trio.Event(), trio.Event(), trio.Event()

    async def first_machine():
        async with net.mount(tmp_path / "one", machine=b"a" * 16, make_root=True) as vault:
            await write_file(vault, b"file", os.urandom(MIB))
            await vault.publish()
            await vault.courier.try_all()
            ready.set()
            await go.wait()
            await replace_member(vault, net.key, 6, await net.spare(), silent)
        done.set()

    async def late(register, *arguments):
        RootRegister.prepare = prepare
        go.set()
        await done.wait()
        return await prepare(register, *arguments)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first_machine)
        await ready.wait()
        RootRegister.prepare = late
        async with net.mount(tmp_path / "two", machine=b"c" * 16) as vault:
            assert vault.known.family.epoch == 2 and not vault.read_only
            assert vault.register._family == vault.known.family
            await write_file(vault, b"more", os.urandom(MIB))
            await vault.publish()


# -- a change that half-happens


async def test_promise_3_a_pending_replacement_is_finished_and_not_undone_by_the_next_change(
    net, tmp_path
):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await write_file(vault, b"file", os.urandom(MIB))
        await vault.publish()
        await vault.courier.try_all()
        net.suppliers[6].break_()  # for good
        new = await net.spare()
        heal = [deaf(supplier) for supplier in net.suppliers[1:]]
        with pytest.raises(Unavailable):
            await replace_member(vault, net.key, 6, new, silent)
        for hear in heal:
            hear()
        await set_policy(vault, net.key, {"patience": 1000})
        family = vault.known.family
        assert family.members[6].node == new.node and family.policy.patience == 1000
        assert family.epoch == 3 and not vault.ledger._newcomers
        await write_file(vault, b"more", os.urandom(MIB))
        await vault.publish()
        await vault.courier.try_all()
        assert not vault.state.blocks.owed()


async def test_promise_2_what_a_newcomer_acknowledged_counts_only_once_it_is_of_the_family(
    net, tmp_path
):
    content = photos(1, MIB)[b"photo 0.jpg"]
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await write_file(vault, b"file", os.urandom(MIB))
        await vault.publish()
        await vault.courier.try_all()
        before = {block for block, _ in vault.state.blocks.snapshot().items()}
        new = await net.spare()
        [spare], wanted = net.spares, True
        call = spare.call

        async def slow(request, payload=b""):
            if isinstance(request, wire.Put) and request.block in before:
                await trio.sleep(5)  # what was there takes its time
            return await call(request, payload)

        spare.call = slow
        for position in (4, 5, 6):
            net.suppliers[position].break_()

        async def owner():
            nonlocal wanted
            await trio.sleep(1)
            await write_file(vault, b"new", content)
            with trio.move_on_after(2) as waiting:
                await vault.publish()
            assert waiting.cancelled_caught  # four of seven: no root may name it
            net.suppliers[6].heal()
            wanted = False  # the old one is back: nothing is replaced
            await vault.publish()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(owner)
            with pytest.raises(Unavailable, match="is back"):
                await replace_member(vault, net.key, 6, new, silent, lambda: wanted)
    for supplier in net.suppliers[4:]:
        supplier.heal()
    net.suppliers[0].break_()  # this machine burns, and one supplier that acknowledged it is lost
    async with net.mount(tmp_path / "two", machine=b"n" * 16, take_over=True) as vault:
        assert await read_file(vault, b"new") == content


async def test_a_replacement_completes_although_only_the_newcomer_makes_enough(net, tmp_path):
    """Three of seven gone: what was written since needs the newcomer's word to be published at
    all.
    """
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await write_file(vault, b"file", os.urandom(MIB))
        await vault.publish()
        await vault.courier.try_all()
        for position in (4, 5, 6):
            net.suppliers[position].break_()
        await write_file(vault, b"new", os.urandom(MIB))
        await vault.committer.commit(sync=True)
        await replace_member(vault, net.key, 6, await net.spare(), silent)
        assert vault.known.family.epoch == 2
        await vault.publish()
        assert not vault.publisher.due
