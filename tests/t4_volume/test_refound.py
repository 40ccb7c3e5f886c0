"""After a refounding.

What the history that was left had, and what it had deleted, is not lost silently.
"""

import pytest
from kin import Kin
from machine import Net
from scenario import photos, read_file, write_file

from bitdustfs.core.items import ROOT_INODE
from bitdustfs.core.quorum import Known
from bitdustfs.core.records import open_family_untrusted, open_root_untrusted
from bitdustfs.errors import Unavailable, UsageError
from bitdustfs.family.refound import refound
from bitdustfs.family.replace import set_bench

CONTENT = photos(1)[b"photo 0.jpg"]


async def parted(home):
    """Machine one published, cut off with four of seven, more than the rest knows.

    Then those four burn.

    It had written NEW, and deleted OLD, also at the suppliers. Returns (net, connect).
    """
    net = Net(k=2)
    await net.create()
    kin = Kin(net)
    async with net.mount(home / "one", make_root=True) as vault:
        await set_bench(vault, net.key, await kin.bench())
        await write_file(vault, b"old", CONTENT)
        await vault.publish()
        await vault.courier.try_all()
        for reserve in vault.known.family.bench:
            await vault.circle.session(reserve).accept(
                vault.state_root(), vault.known.raw_family, vault.pen.claim
            )
    sessions = net.sessions()
    reserves = [sessions[service.node.verify_key.encode()] for service in kin.reserves]
    for supplier in [*net.suppliers[4:], *reserves]:
        supplier.break_()
    async with net.mount(home / "one", take_over=True) as vault:
        await write_file(vault, b"new", CONTENT[::-1])
        await vault.volume.unlink(ROOT_INODE, b"old")
        await vault.volume._purger.purge_orphans()
        await vault.publish()
        await vault.auditor.recent(0)
        for _ in range(4):
            await vault.reclaimer.step()
            await vault.publish()
        assert vault.state.blocks.any_dead
    for supplier in [*net.suppliers[4:], *reserves]:
        supplier.heal()
    for supplier in net.suppliers[:4]:
        supplier.break_()
    for position, reserve in enumerate(kin.reserves[:4]):
        reserve.stand(net.key.vault_id, position)
    net.services = net.services[4:] + kin.reserves
    return net, lambda member: sessions[member.node]


async def test_another_machine_refounds_and_the_first_keeps_its_work_and_deletes_nothing(tmp_path):
    net, connect = await parted(tmp_path)
    family = await refound(net.key, net.family, connect)
    async with net.mount(tmp_path / "one", family=family) as vault:
        assert vault.read_only and "older than one that this machine had published" in vault.message
        assert await read_file(vault, b"new") == CONTENT[::-1]
    async with net.mount(tmp_path / "two", machine=b"q" * 16, family=family) as vault:
        assert await read_file(vault, b"old") == CONTENT
        await write_file(vault, b"more", CONTENT)
        await vault.publish()
    async with net.mount(tmp_path / "one", family=family) as vault:
        assert vault.read_only  # also when the new history has come further than the old one had
        assert await read_file(vault, b"new") == CONTENT[::-1]


async def test_the_machine_that_knows_most_refounds_and_nothing_of_it_is_lost(tmp_path):
    net, connect = await parted(tmp_path)
    async with net.mount(tmp_path / "one") as vault:
        assert vault.pen.waits  # nothing is published
        row = vault.state.published()
    root = open_root_untrusted(row.root, net.key.vault_id)
    known = Known(root, row.root, open_family_untrusted(row.family, net.key.vault_id), row.family)
    family = await refound(net.key, net.family, connect, known)
    assert family.policy.refoundings[-1].seq == root.seq
    async with net.mount(tmp_path / "one", family=family) as vault:
        assert not vault.read_only
        assert vault.pen.ballot.machine == b"m" * 16  # refounding made no copy of it
        assert await read_file(vault, b"new") == CONTENT[::-1]
        assert await vault.volume.lookup(ROOT_INODE, b"old") is None
        await vault.courier.try_all()
        await vault.publish()
    async with net.mount(tmp_path / "two", machine=b"q" * 16, family=family) as vault:
        assert await read_file(vault, b"new") == CONTENT[::-1]
    with pytest.raises(UsageError, match="mount the vault as usual"):
        await refound(net.key, family, connect)


async def test_half_of_four_gone_for_good_are_replaced_by_new_suppliers(tmp_path):
    net = Net(k=2, n=4)
    await net.create()
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await write_file(vault, b"old", CONTENT)
        await vault.publish()
        await vault.courier.try_all()
    for supplier in net.suppliers[2:]:
        supplier.break_()
    new = [await net.spare()]
    sessions = net.sessions()

    async def engage(family, position):
        assert position in (2, 3)
        return new.pop() if new else None

    def connect(member):
        return sessions[member.node]

    with pytest.raises(Unavailable, match=r"2 of 4 positions.*--with"):
        await refound(net.key, net.family, connect)
    family = await refound(net.key, net.family, connect, engage=engage)
    async with net.mount(tmp_path / "two", machine=b"q" * 16, family=family) as vault:
        assert not vault.read_only
        assert await read_file(vault, b"old") == CONTENT
        await write_file(vault, b"new", CONTENT)
        await vault.publish()
