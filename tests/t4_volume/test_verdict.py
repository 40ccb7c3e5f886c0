"""Is my data safe now? One line, with bytes, a rate and a time, for all and for each supplier."""

import os
from dataclasses import replace

import pytest
import trio
from family import claim_of, contracted, make_block, supplier_of
from scenario import QUIET, write_file
from test_account import speaker
from vault_states import State, small

from bitdustfs.blocks import flow
from bitdustfs.mount.syncing import Upload
from bitdustfs.units import GIB, KIB, MIB, within
from bitdustfs.vault.account import Account

SAFE = Account(
    writes=True, why="", unpublished=0, unkept=False, diverged=False, adrift=False, waiting=0,
    thin=0, k=2, n=4, online=4, served=4, silence=0.0, margin=2, audited=True, stuck="", complete=4,
)  # fmt: skip
NEW = replace(SAFE, unpublished=3, waiting=4, here=60 * MIB, to_send=120 * MIB)
AWAY = "1 of 4 suppliers answer and 2 are needed"


#: how the verdict begins, by the word for programs
HEADS = {
    "safe": "safe:", "thin": "published:", "unreadable": "published, but NOT readable",
    "pending": "NOT safe yet:", "unsafe": "NOT safe:",
}  # fmt: skip


@pytest.mark.parametrize(
    ("account", "said"),
    [
        (SAFE, "safe: everything is on 4 of 4 suppliers, 2 may be lost"),
        (
            replace(SAFE, complete=3, margin=1),
            "safe: everything is on 3 of 4 suppliers, 1 may be lost",
        ),
        (
            replace(SAFE, online=3, served=3, margin=1),
            "safe: everything is on 4 of 4 suppliers (3 of 4 answer), 1 more may be lost",
        ),
        (replace(SAFE, margin=0), "published: you cannot lose one more supplier right now"),
        (replace(SAFE, thin=2), "published: you can lose 2 more"),
        (replace(SAFE, complete=2, margin=1), "safe: everything is on 2 of 4 suppliers, 1 may"),
        (replace(SAFE, complete=0, margin=1), "published: you can lose 1 more supplier and this"),
        (replace(SAFE, audited=False), "published: you can lose 2 more suppliers and this"),
        (replace(SAFE, served=1, margin=-1), "published, but NOT readable right now: 1 of 4"),
        (replace(SAFE, served=0), "published, but NOT readable right now: no supplier answers"),
        (
            replace(NEW, rate=512.0 * KIB),
            "NOT safe yet: 60.0 MiB only here; at this rate (512.0 KiB/s) in 4 min",
        ),
        (NEW, "NOT safe yet: 60.0 MiB only here; nothing is sent just now"),
        (
            replace(SAFE, unpublished=1),
            "NOT safe yet: changes of 1 file or folder only here; it is due to be published",
        ),
        (replace(NEW, stuck=AWAY), f"NOT safe: 60.0 MiB only here; {AWAY}"),
        (
            replace(NEW, writes=False, why="another machine took it"),
            "NOT safe: 60.0 MiB only here; read-only: another machine took it",
        ),
        (
            replace(SAFE, writes=False, why="two histories", adrift=True),
            "NOT safe: what this machine has is not part of the history that the suppliers show; "
            "read-only: two histories",
        ),
    ],
)  # fmt: skip
def test_one_line_says_whether_data_is_safe(account, said):
    assert account.verdict().startswith(said) and said.startswith(HEADS[account.judged])
    assert account.verdict(ended=True).startswith("NOT safe:") == (not account.published)
    assert "rate" not in account.verdict(ended=True)


def test_times_are_said_as_people_say_them():
    said = [within(seconds) for seconds in (0.2, 53, 240, 7 * 3600, 5 * 86400)]
    assert said == ["in 1 s", "in 53 s", "in 4 min", "in 7 h", "in 5 days"]


async def test_what_is_left_its_rate_and_its_time_are_of_each_supplier(tmp_path, monkeypatch):
    """One supplier takes nothing for a while; the others get it."""
    monkeypatch.setattr(flow, "TICK", 0.05)
    net = await small(2, 4)
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        describer, *_ = speaker(State(net, tmp_path / "one", vault, {}))
        for supplier in net.suppliers:
            supplier.break_()
        await write_file(vault, b"new", os.urandom(8 * MIB))
        await vault.committer.commit(sync=True)
        await vault.watch.round()
        told = await describer.status()
        assert told.only_here > 8 * MIB and told.verdict.startswith("NOT safe: 8.")
        for supplier in net.suppliers[:3]:
            supplier.heal()
        await vault.watch.round()
        upload = Upload(vault)
        await vault.publish()
        await vault.courier.try_all()
        at = upload.progress()
        assert at.unit == "B" and at.done == at.total
        told = await describer.status()
        first, *_, last = told.suppliers
        assert told.complete == 3 and told.only_here == 0 and told.verdict.startswith("safe: ")
        assert first.owed == 0 and first.rate > 0 and last.rate == 0
        assert last.owed > 4 * MIB  # a half of each block
        assert told.rate == pytest.approx(sum(line.rate for line in told.suppliers), rel=0.5)


async def test_a_put_is_counted_while_it_is_under_way(tmp_path):
    """A fragment on a slow line moves the bar before it is acknowledged."""
    header, fragments = make_block(os.urandom(14 * MIB), k=1, n=1)
    async with supplier_of("peer", tmp_path, GIB) as supplier:
        await contracted(supplier)
        seen = {supplier.sent}
        async with trio.open_nursery() as nursery:

            async def look():
                while True:
                    seen.add(supplier.sent)
                    await trio.lowlevel.checkpoint()

            nursery.start_soon(look)
            fragment = fragments[0]
            await supplier.put(b"b" * 16, 0, claim_of(), header, fragment.chunks, fragment.payload)
            nursery.cancel_scope.cancel()
        assert len(seen) > 4 and max(seen) == len(fragment.payload)
