"""A mount that nobody uses asks for nothing that cannot have changed, and writes nothing."""

import os

import trio
from machine import Net
from scenario import write_file
from test_register import until

from bitdustfs.family import hire
from bitdustfs.units import MIB
from bitdustfs.vault import vaults


async def test_what_is_used_is_asked_for_when_it_can_have_changed(net, tmp_path, monkeypatch):
    monkeypatch.setattr(vaults, "USAGE_EVERY", 0.02)
    async with net.mount(tmp_path / "one", make_root=True) as vault:

        def asked():
            return [supplier.calls.count("Usage") for supplier in net.suppliers]

        await vault.publish()
        await vault.courier.try_all()
        await until(lambda: not vault.space.stale)
        before = asked()
        await trio.sleep(0.2)
        assert asked() == before
        await write_file(vault, b"file", os.urandom(MIB))
        await vault.publish()
        await until(lambda: min(asked()) > min(before))
        net.suppliers[2].break_()
        await vault.space.refresh()
        assert vault.space.stale  # until it has told
        net.suppliers[2].heal()
        await until(lambda: not vault.space.stale)


async def test_reserves_are_not_looked_for_where_members_answer(monkeypatch):
    net, dialled = Net(), []
    await net.create()
    members = net.family.members

    async def offers(known, space):
        return [*members[0].addresses, "127.0.0.1:7777"]

    async def engage(candidates, *rest):
        dialled.extend(candidates)
        return []

    monkeypatch.setattr(hire, "_offers", offers)
    monkeypatch.setattr(hire, "_engage", engage)
    await hire.line_up(net.family, 1, None, [], (), members[:1])
    assert dialled == ["127.0.0.1:7777"]
    await hire.line_up(net.family, 1, None, [])
    assert dialled[1:] == [members[0].addresses[0], "127.0.0.1:7777"]
