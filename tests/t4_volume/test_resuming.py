"""Uploads go on where they were: what was acknowledged is not sent again. One holds up nobody."""

import pytest
import trio
import trio.testing
from machine import PowerCut
from scenario import QUIET, photos, read_file, write_file

from bitdustfs.blocks import courier, laggards
from bitdustfs.errors import Refused, Unavailable
from bitdustfs.family.replace import replace_member
from bitdustfs.mount import syncing
from bitdustfs.net import wire


class Counting:
    """Puts that each supplier acknowledged and was sent, by (block, position); some never end."""

    def __init__(self, net):
        self.sent, self.acked, self.stuck = [], [], set()
        for number, supplier in enumerate(net.suppliers):
            self._count(number, supplier)

    def _count(self, number, supplier):
        call = supplier.call

        async def counted(request, payload=b""):
            if not isinstance(request, wire.Put):
                return await call(request, payload)
            key = request.block, request.position
            self.sent.append(key)
            if number in self.stuck:
                await trio.sleep_forever()
            answer = await call(request, payload)
            self.acked.append(key)
            return answer

        supplier.call = counted


async def until(true):
    with trio.fail_after(20):
        while not true():  # noqa: ASYNC110 -- what is looked at is in another task
            await trio.sleep(0.02)


@pytest.mark.parametrize("how", ["killed", "unmounted"])
async def test_after_an_end_amid_an_upload_only_what_nobody_acknowledged_is_sent(
    how, net, tmp_path
):
    files, counting = photos(2), Counting(net)
    try:
        async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
            await vault.publish()
            counting.stuck = {5, 6}
            for name, content in files.items():
                await write_file(vault, name, content)
            await vault.committer.commit(sync=True)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(vault.publish)  # five of seven will do
                blocks = vault.state.blocks
                await until(lambda: counting.sent)
                await until(lambda: not any(map(vault.ledger.is_waiting, blocks.owed())))
                await until(lambda: blocks.owed_positions == 2 * blocks.owed_count)
                if how == "killed":
                    raise PowerCut
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        assert group.split(PowerCut)[1] is None
    acked = set(counting.acked)
    counting.stuck, counting.sent = set(), []
    async with net.mount(tmp_path / "one", **QUIET) as vault:
        await vault.courier.try_all()
        assert not vault.state.blocks.owed()
        assert counting.sent and not acked.intersection(counting.sent)
        assert len(set(counting.sent)) == len(counting.sent)
        for name, content in files.items():
            assert await read_file(vault, name) == content


async def test_promise_9_one_to_whom_a_fragment_takes_hours_holds_up_nobody(
    net, tmp_path, monkeypatch
):
    """It is sent the one all the while; others get what is new, and a root names it."""
    monkeypatch.setattr(laggards, "LAG", 0.3)
    monkeypatch.setattr(laggards, "LOOK_EVERY", 0.1)
    counting = Counting(net)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await vault.publish()
        counting.stuck, counting.sent = {6}, []
        for name, content in photos(4, 300_000).items():
            await write_file(vault, name, content)
            with trio.fail_after(20):
                await vault.publish()
        await until(lambda: vault.state.blocks.owed_positions == vault.state.blocks.owed_count)
        slow = [key for key in counting.sent if key[1] == 6]
        assert len(vault.state.blocks.owed()) >= 4
        assert len(set(slow)) == len(slow) <= 2  # blocks at once: nothing of it began again
        monkeypatch.setattr(courier, "STILL", 0.3)
        with trio.fail_after(20):
            await vault.courier.try_all()  # as at the end of a mount


async def test_what_is_slow_and_moves_is_waited_for_where_all_is_tried(net, tmp_path, monkeypatch):
    """As by `rebuild`, and at the end of a mount; also what came after it to the same supplier."""
    monkeypatch.setattr(laggards, "LAG", 0.05)
    monkeypatch.setattr(laggards, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(courier, "STILL", 1.0)
    monkeypatch.setattr(courier, "STILL_LOOK", 0.02)
    slow = net.suppliers[6]
    call = slow.call

    async def slowly(request, payload=b""):
        if isinstance(request, wire.Put):
            for _ in range(4):
                await trio.sleep(0.2)
                slow._sent += 1000
        return await call(request, payload)

    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await vault.publish()
        slow.call = slowly
        for name, content in photos(3, 300_000).items():
            await write_file(vault, name, content)
            await vault.publish()
        assert vault.state.blocks.owed()
        await vault.courier.try_all()
        assert not vault.state.blocks.owed()


async def test_whoever_comes_in_the_place_of_a_slow_supplier_is_given_what_is_new(
    net, tmp_path, monkeypatch
):
    """What is on its way to the slow one for hours is no matter of the one after it."""
    monkeypatch.setattr(laggards, "LAG", 0.2)
    monkeypatch.setattr(laggards, "LOOK_EVERY", 0.1)

    async def silent(*what):
        pass

    counting = Counting(net)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await vault.publish()
        counting.stuck = {6}
        await write_file(vault, b"before", b"b" * 300_000)
        await vault.publish()
        await until(lambda: vault.courier.is_slow(6))
        await replace_member(vault, net.key, 6, await net.spare(), silent)
        await write_file(vault, b"after", b"a" * 300_000)
        await vault.publish()
        await until(lambda: not vault.state.blocks.owed())
        assert not vault.courier.is_slow(6)


def refusing_after_all_of_it(supplier):
    """It takes each fragment to its end, and refuses it."""
    call = supplier.call

    async def refuse(request, payload=b""):
        if not isinstance(request, wire.Put):
            return await call(request, payload)
        await trio.sleep(0.02)
        supplier._sent += len(payload)
        raise Refused("busy", "too much is on its way at once")

    supplier.call = refuse


@pytest.mark.parametrize("by", ["sync", "publish"])
async def test_promise_11_where_all_is_taken_and_refused_it_comes_to_an_end(
    by, net, tmp_path, monkeypatch
):
    """Bytes go out all the while, the same ones again and again."""
    monkeypatch.setattr(syncing, "SLOW", 2.0)
    monkeypatch.setattr(courier, "WAIT_DEADLINE", 2.0 if by == "publish" else 1000.0)
    for name in ("RETRY_FIRST", "RETRY_HURRY"):
        monkeypatch.setattr(courier, name, 0.05)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await vault.publish()
        for supplier in net.suppliers:
            refusing_after_all_of_it(supplier)
        for name, content in photos(2, 300_000).items():
            await write_file(vault, name, content)

        async def say(progress):
            pass

        with trio.fail_after(20), pytest.raises(Unavailable):
            if by == "sync":
                await syncing.Syncing(vault).run(1.0, say)
            else:
                await vault.publish()
        assert vault.flow.sent() > 2 * 7 * 2 * 75_000  # more than once


async def test_a_courier_that_may_not_write_any_more_ends(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await vault.publish()
        ended = trio.Event()

        async def run():
            await vault.courier.run()
            ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await trio.testing.wait_all_tasks_blocked(0.05)
            vault.pen.lose("another machine writes")
            with trio.fail_after(5):
                await ended.wait()


async def test_fragments_made_again_for_a_slow_supplier_are_made_once_and_heard_of(
    net, tmp_path, monkeypatch
):
    """On their way for hours, they are neither made nor sent again; then they are there."""
    monkeypatch.setattr(laggards, "LAG_REMADE", 0.2)
    monkeypatch.setattr(laggards, "LOOK_EVERY", 0.1)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        for name, content in photos(2, 300_000).items():
            await write_file(vault, name, content)
            await vault.publish()
        await vault.courier.try_all()
    victim, arrived, call = net.suppliers[2], trio.Event(), net.suppliers[2].call
    kept = victim.service.shelf.kept
    lost = len(kept)
    kept.clear()

    async def slowly(request, payload=b""):
        if isinstance(request, wire.Put):
            await arrived.wait()
        return await call(request, payload)

    victim.call = slowly
    asked = Counting(net)
    async with net.mount(tmp_path / "two", machine=b"n" * 16, **QUIET) as vault:
        for _ in range(3):
            assert await vault.rebuilder.step(0.0) == 0
        sent = [key for key in asked.sent if key[1] == 2]
        assert len(set(sent)) == len(sent) <= 2  # at once; whoever is slow is given nothing else
        assert len((await vault.rebuilder.look(1e9)).repairs) == lost
        arrived.set()
        await until(lambda: len(kept) == len(sent))
        assert len((await vault.rebuilder.look(1e9)).repairs) == lost - len(sent)
        await vault.rebuilder.step(1e9)
        assert len(kept) == lost and not (await vault.rebuilder.look(0.0)).repairs


async def test_promise_9_what_is_new_does_not_wait_behind_what_one_takes_in_vain(net, tmp_path):
    """One of seven is full, and owed much: a round over all of that takes its time."""
    tried, full = [], net.suppliers[6]

    async def in_vain(request, payload=b"", call=full.call):
        if not isinstance(request, wire.Put):
            return await call(request, payload)
        tried.append(request.block)
        await trio.sleep(0.1)
        raise Refused("no-space", "the disk is full")

    full.call = in_vain
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        for number in range(20):
            await write_file(vault, b"%d" % number, bytes([number]) * 5_000)
            await vault.publish()
        owed = set(vault.state.blocks.owed())
        assert len(owed) >= 20
        rounds, tried[:] = vault.courier.rounds, []
        vault.courier.kick()
        await until(lambda: tried and vault.courier.rounds > rounds)
        await until(lambda: tried[-1] in owed and len(tried) > 2)
        began = len(tried)
        await write_file(vault, b"new", b"n" * 5_000)
        await vault.publish()
        assert len(tried) - began < 12 < len(owed), "what is new came first"
