"""A take-over that died fences some suppliers: the machine that writes claims again, above it."""

import pytest
import trio
from machine import Net
from scenario import QUIET, read_file, write_file

from bitdustfs.cache.state import State
from bitdustfs.core.records import Ballot, claim_ballot
from bitdustfs.errors import DiskFull, Superseded, Unavailable, Unreachable
from bitdustfs.family.refound import refound
from bitdustfs.net import wire
from bitdustfs.net.supplier import Supplier
from bitdustfs.units import MIB
from bitdustfs.vault import lease, vaults


@pytest.fixture
def soon(monkeypatch):
    """Seconds until a claim that came to nothing is in the way, and is dealt with."""
    monkeypatch.setattr(lease, "IN_THE_WAY", 1.0)
    for module in (lease, vaults):
        monkeypatch.setattr(module, "RENEW_EVERY", 0.3)
    return 3.0


async def fenced_at(net, vault, *positions):
    """A take-over that died: these suppliers promised another machine's claim."""
    ballot = Ballot(vault.pen.ballot.generation + 1, b"n" * 16)
    claim = claim_ballot(net.key.signing, ballot)
    for position in positions:
        await net.suppliers[position].prepare(claim, True)
    return ballot


async def test_promise_9_a_take_over_that_died_keeps_no_supplier_from_this_machine(
    net, tmp_path, soon
):
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await write_file(vault, b"before", b"b" * MIB)
        await vault.publish()
        rival = await fenced_at(net, vault, 1, 4)
        await write_file(vault, b"during", b"d" * MIB)
        await vault.publish()
        assert {1, 4} <= {p for row in vault.state.blocks.snapshot().values() for p in row.owed}
        await trio.sleep(soon)
        assert vault.pen.ballot > rival and not vault.read_only
        await write_file(vault, b"after", b"a" * MIB)
        await vault.publish()
        await vault.courier.try_all()
        assert not any(row.owed for row in vault.state.blocks.snapshot().values())
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        for name, byte in ((b"before", b"b"), (b"during", b"d"), (b"after", b"a")):
            assert await read_file(vault, name) == byte * MIB


async def test_promise_10_nothing_is_claimed_again_over_a_machine_that_took_over(
    net, tmp_path, soon
):
    async with net.mount(tmp_path / "one", make_root=True) as one:
        await write_file(one, b"before", b"b" * MIB)
        await one.publish()
        await fenced_at(net, one, 1, 4)
        await trio.sleep(soon / 6)
        async with net.mount(tmp_path / "two", machine=b"o" * 16, take_over=True) as two:
            await write_file(two, b"two", b"2" * MIB)
            await two.publish()
            await trio.sleep(soon)
            assert one.read_only and "took this vault over" in one.message
            assert not two.read_only
            await write_file(two, b"more", b"2" * MIB)
            await two.publish()


@pytest.mark.parametrize("what", ["answers are lost", "the disk refuses"])
async def test_promise_9_claiming_again_goes_on_until_it_succeeds(
    net, tmp_path, soon, monkeypatch, what
):
    """Those who promised the claim that came to nothing refuse the one before."""
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await write_file(vault, b"before", b"b" * MIB)
        await vault.publish()
        rival = await fenced_at(net, vault, 1, 4)
        if what == "answers are lost":
            for supplier in net.suppliers[:4]:
                lose_an_answer(supplier)
        else:
            refuse_once(monkeypatch)
        await trio.sleep(2 * soon)
        assert vault.pen.ballot > rival
        await write_file(vault, b"after", b"a" * MIB)
        await vault.publish()
        await vault.courier.try_all()
        assert not any(row.owed for row in vault.state.blocks.snapshot().values())
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        assert await read_file(vault, b"after") == b"a" * MIB


def lose_an_answer(supplier):
    """The supplier promises the next claim, and nobody hears of it."""
    call = supplier.call

    async def answer(request, payload=b""):
        given = await call(request, payload)
        if isinstance(request, wire.Prepare):
            supplier.call = call
            raise Unreachable("the answer is lost")
        return given

    supplier.call = answer


def refuse_once(monkeypatch):
    """This machine's disk is full when the next root is to be kept, and then no more."""
    real, left = State.set_proposed, [1]

    def once(state, row):
        if left:
            left.clear()
            raise DiskFull("full")
        real(state, row)

    monkeypatch.setattr(State, "set_proposed", once)


async def test_promise_10_nothing_is_claimed_again_over_a_refounded_family(tmp_path, soon):
    """Four new suppliers and three of the seven make a family; the machine that writes is there."""
    net = Net(2, 7)
    await net.create()
    new = [await net.spare() for _ in range(4)]
    seen = {s.node: s for s in [*net.suppliers[4:], *net.spares]}  # by who refounds
    seen |= {s.node: Gone(s.node) for s in net.suppliers[:4]}
    async with net.mount(tmp_path / "a", make_root=True) as vault:
        await write_file(vault, b"before", b"b" * MIB)
        await vault.publish()
        await vault.courier.try_all()

        async def engage(family, position):
            return new.pop(0) if new else None

        family = await refound(net.key, net.family, lambda m: seen[m.node], None, engage)
        await trio.sleep(soon)
        assert vault.pen.ballot.lineage == 0
        options = {"family": family, "take_over": True, "sessions": seen, **QUIET}
        async with net.mount(tmp_path / "c", machine=b"c" * 16, **options) as other:
            assert not other.read_only and other.known.family.epoch == family.epoch
            await write_file(other, b"of C", b"c" * MIB)
            await other.publish()
        await vault.publisher.claim_again(vault.pen.ballot)  # among those who know of no refounding
        assert vault.pen.ballot.lineage == 0
    options = {"family": family, "take_over": True, **QUIET}
    async with net.mount(tmp_path / "d", machine=b"d" * 16, **options) as vault:
        assert await read_file(vault, b"of C") == b"c" * MIB


class Gone(Supplier):
    """Nobody is there."""

    def __init__(self, node):
        self.node = node

    async def call(self, request, payload=b""):
        raise Unreachable("nobody is there")


async def test_a_root_does_not_wait_for_suppliers_that_a_dead_claim_fences(tmp_path, soon):
    net = Net(6, 10)
    await net.create()
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        await write_file(vault, b"before", b"b" * MIB)
        await vault.publish()
        rival = await fenced_at(net, vault, 0, 1, 2, 3, 4)
        await write_file(vault, b"during", b"d" * MIB)
        with trio.fail_after(20), pytest.raises(Unavailable, match="claims the vault again"):
            await vault.publish()
        await trio.sleep(2 * soon)
        assert vault.pen.ballot > rival
        with trio.fail_after(20):
            await vault.publish()


async def test_promise_10_who_claims_again_and_finds_another_root_writes_no_more(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as one:
        await write_file(one, b"before", b"b" * MIB)
        await one.publish()
        async with net.mount(tmp_path / "two", machine=b"o" * 16, take_over=True, **QUIET) as two:
            await write_file(two, b"two", b"2" * MIB)
            await two.publish()
            above = two.pen.ballot
        with pytest.raises(Superseded, match="another machine published"):
            await one.publisher.claim_again(above)
    async with net.mount(tmp_path / "three", machine=b"p" * 16) as three:
        assert await read_file(three, b"two") == b"2" * MIB
