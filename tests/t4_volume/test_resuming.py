"""Uploads go on where they were: what was acknowledged is not sent again. One holds up nobody."""

import pytest
import trio
from machine import PowerCut
from scenario import QUIET, photos, read_file, write_file

from bitdustfs.blocks import laggards
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
        with trio.fail_after(20):
            await vault.courier.try_all()  # as at the end of a mount
