"""Whoever runs a supplier sees how it is and for whom it keeps what, and decides over contracts."""

import os
from types import SimpleNamespace

import pytest
import trio
from family import KEY, claim_of, contracted, make_block
from nacl.signing import SigningKey

from bitdustfs.core.keys import VaultKey
from bitdustfs.errors import Refused, UsageError
from bitdustfs.net.control import Completed
from bitdustfs.supplier import desk
from bitdustfs.supplier.desk import Desk
from bitdustfs.supplier.memory import MemorySupplier
from bitdustfs.supplier.orders import AskCustomers, AskSelf, Donate, Leave, Pause, Resume
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.shelf import MemoryShelf
from bitdustfs.units import GIB, MIB

OTHER = VaultKey(b"o" * 32)


class Place:
    """A supplier, its desk, and a customer that has a contract and a fragment there."""

    def __init__(self, folder):
        self.service = SupplierService(SigningKey(os.urandom(32)), MemoryShelf(), GIB)
        self.depending, self.nodes = [], 3
        self.folder, self.scope = folder, trio.CancelScope()
        self.desk = self.another()

    def another(self):
        """The desk of the next start."""
        guard = SimpleNamespace(depending=lambda: list(self.depending))
        return Desk(
            self.service, guard, lambda: "192.0.2.1:4000", ("192.0.2.9:4000",), self.folder,
            lambda: self.nodes, self.scope,
        )  # fmt: skip

    def customer(self, key=KEY):
        return MemorySupplier(self.service, key.vault_id)

    async def ask(self, command):
        async def say(progress):
            self.heard.append(progress)

        self.heard = []
        return await self.desk.answer(command, say)


@pytest.fixture
async def place(tmp_path):
    made = Place(tmp_path)
    customer = made.customer()
    await contracted(customer, 100 * MIB)
    header, [fragment, *_] = make_block(os.urandom(MIB), k=1, n=1)
    await customer.put(b"b" * 16, 0, claim_of(), header, fragment.chunks, fragment.payload)
    await customer.read(b"b" * 16, 0, 0, 1000)
    return made


async def test_space_traffic_and_customers_are_told(place):
    told = await place.ask(AskSelf())
    assert (told.state, told.customers, told.fragments) == ("serving", 1, 1)
    assert told.promised == 100 * MIB and MIB < told.used < 2 * MIB
    assert told.received == MIB and told.served == 1000 and told.asked < 60
    assert told.network == 3 and told.warnings == []
    place.depending = [KEY.vault_id]
    [line] = (await place.ask(AskCustomers())).customers
    assert line.vault == KEY.vault_id.hex() and line.promised == 100 * MIB
    assert line.depends and line.owner_here and not line.invited and line.fragments == 1


async def test_what_is_wrong_is_warned_of(place, monkeypatch):
    monkeypatch.setattr(desk, "ALONE_AFTER", 0.0)
    place.nodes = 0
    [said] = (await place.ask(AskSelf())).warnings
    assert said == "nobody of the network answers at 192.0.2.9:4000: nobody finds it"
    monkeypatch.setattr(desk.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10 * MIB))
    said, _ = (await place.ask(AskSelf())).warnings
    assert said == "the disk has 10.0 MiB left: new fragments are refused soon"


async def test_a_pause_makes_no_new_contracts_and_outlives_the_process(place):
    assert (await place.ask(Pause())).state == "paused"
    with pytest.raises(Refused, match="no new contracts for now"):
        await contracted(place.customer(OTHER), 50 * MIB, OTHER)
    await contracted(place.customer(), 100 * MIB)  # one that is there is renewed
    assert len(await place.customer().read(b"b" * 16, 0, 0, 10)) == 10
    place.service.housekeeping.pause(False)  # as of a process that starts
    place.desk = place.another()
    assert (await place.ask(AskSelf())).state == "paused"
    assert (await place.ask(Resume())).state == "serving"
    await contracted(place.customer(OTHER), 50 * MIB, OTHER)


async def test_what_is_donated_changes_while_it_runs(place):
    assert (await place.ask(Donate(space=120 * MIB))).space == 120 * MIB
    with pytest.raises(Refused, match=r"50.0 MiB asked for, 20.0 MiB to give"):
        await contracted(place.customer(OTHER), 50 * MIB, OTHER)
    with pytest.raises(UsageError, match="there is room for"):
        await place.ask(Donate(space=2**60))


async def test_leaving_says_what_it_waits_for(place, monkeypatch):
    monkeypatch.setattr(desk, "LEAVE_TICK", 0.01)
    place.depending = [KEY.vault_id, OTHER.vault_id]
    heard = []

    async def say(progress):
        heard.append(progress)
        if len(heard) == 3:  # others have taken over
            place.depending = []

    assert await place.desk.answer(Leave(), say) == Completed()
    assert {progress.what for progress in heard} == {
        f"waiting for vault {KEY.vault_id.hex()[:16]} (and 1 more vaults): its owner is there, and "
        "fills somebody else"
    }
    assert (await place.ask(AskSelf())).state == "leaving"
