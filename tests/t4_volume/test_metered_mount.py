"""A mount on a metered connection: nothing goes by itself, and what somebody waits for does."""

import os

import trio
from scenario import read_file, write_file

from bitdustfs.net.metered import Metered
from bitdustfs.units import MIB

BRISK = {"publish_every": 0.05, "publish_tick": 0.02}


async def test_what_is_new_waits_until_somebody_wants_it_or_the_connection_is_another(
    net, tmp_path, nursery
):
    metered = [True]

    async def ask():
        return metered[0]

    link = Metered(True, ask)
    nursery.start_soon(link.run)
    content = os.urandom(MIB)
    async with net.mount(tmp_path / "one", make_root=True, metered=link, **BRISK) as vault:
        await vault.publish()
        await vault.courier.try_all()
        before = vault.published_seq()
        sent = [supplier.calls.count("Put") for supplier in net.suppliers]
        await write_file(vault, b"first", content)
        await vault.committer.commit(sync=True)
        await trio.sleep(1)
        assert vault.published_seq() == before
        assert [supplier.calls.count("Put") for supplier in net.suppliers] == sent
        account = await vault.account()
        assert account.judged == "pending" and "metered" in account.verdict()
        await vault.publish()  # somebody waits
        assert vault.published_seq() > before and (await vault.account()).published
        await write_file(vault, b"second", content)
        await vault.committer.commit(sync=True)
        metered[0] = False
        link.heed(True)  # it is asked again
        with trio.fail_after(20):
            while not (await vault.account()).published:  # noqa: ASYNC110 -- by itself
                await trio.sleep(0.02)
        assert await read_file(vault, b"second") == content
