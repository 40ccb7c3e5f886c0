"""Whoever runs a supplier sees how it is and for whom it keeps what, and decides over contracts."""

import logging
import os
from dataclasses import replace
from types import SimpleNamespace

import pytest
import trio
from family import KEY, claim_of, contracted, make_block
from nacl.signing import SigningKey

from bitdustfs.cli.cmd_supplier import offering_of
from bitdustfs.cli.main import make_parser
from bitdustfs.core.bandwidth import parse_bandwidth
from bitdustfs.core.keys import VaultKey
from bitdustfs.errors import LocalError, Refused, UsageError
from bitdustfs.net import wire
from bitdustfs.net.addresses import network_of
from bitdustfs.net.control import Completed
from bitdustfs.net.line import OwnLine
from bitdustfs.supplier import desk
from bitdustfs.supplier.admission import Admission
from bitdustfs.supplier.caps import RelayCaps
from bitdustfs.supplier.desk import Desk
from bitdustfs.supplier.memory import MemorySupplier
from bitdustfs.supplier.offering import (
    Offering,
    command_words,
    donate,
    last_offering,
    remember,
    with_donated,
)
from bitdustfs.supplier.orders import (
    AskCustomers,
    AskSelf,
    Donate,
    Leave,
    Pause,
    RelaySelf,
    Resume,
)
from bitdustfs.supplier.outside import NothingKnown
from bitdustfs.supplier.relay import Relay
from bitdustfs.supplier.reload import SupplierReload
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.session import Session
from bitdustfs.supplier.shelf import MemoryShelf
from bitdustfs.units import GIB, MIB

OTHER = VaultKey(b"o" * 32)


class ByTcpAlone(NothingKnown):
    """What others found out about UDP."""

    def __init__(self):
        self.said = ""

    def closed(self, announced):
        return self.said


class Place:
    """A supplier, its desk, and a customer that has a contract and a fragment there."""

    def __init__(self, folder):
        self.service = SupplierService(SigningKey(os.urandom(32)), MemoryShelf(), GIB)
        self.depending, self.nodes = [], 3
        self.addresses = ("192.0.2.1:4000",)
        self.offering = Offering(
            folder, GIB, "0.0.0.0:4000", (), ("192.0.2.9:4000",), 0.0, ("invited",)
        )
        self.folder, self.scope, self.line = folder, trio.CancelScope(), OwnLine()
        self.relay = Relay(lambda node: (node,))
        self.outside = ByTcpAlone()
        self.desk = self.another()

    def another(self):
        """The desk of the next start."""
        guard = SimpleNamespace(depending=lambda: list(self.depending))
        return Desk(
            self.service, guard, lambda: self.addresses, self.outside, self.offering,
            lambda: self.nodes, self.scope, self.line, self.relay,
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
    assert said.startswith("nobody of the network answers at 192.0.2.9:4000 by UDP: nobody finds")
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


async def test_what_it_uses_of_its_line_changes_while_it_runs(place):
    told = await place.ask(Donate(bandwidth="up:1M@8-23"))
    assert (told.space, told.bandwidth) == (GIB, "up:1M@8-23")
    assert place.line.bandwidth == parse_bandwidth("up:1M@8-23")
    with pytest.raises(UsageError, match="for example"):
        await place.ask(Donate(bandwidth="fast"))
    assert with_donated(place.offering).bandwidth == place.line.bandwidth  # of the next start
    said = replace(place.offering, bandwidth=parse_bandwidth("2M"))
    assert with_donated(said).bandwidth == said.bandwidth  # unless its words changed since
    (place.folder / "bandwidth").write_text('["up:1M"]')
    with pytest.raises(LocalError, match="delete it, and say --bandwidth"):
        with_donated(place.offering)


async def test_what_it_passes_on_as_a_relay_changes_while_it_runs(place):
    told = await place.ask(Donate(relay_rate=MIB))
    assert told.relay == RelaySelf(rate=MIB, circuits_max=128, circuits=0, nodes=0, passed=0)
    told = await place.ask(Donate(relay_circuits=8))
    assert place.relay.caps == RelayCaps(MIB, 8) == (told.relay.rate, told.relay.circuits_max)
    for wrong in (Donate(relay_rate=1), Donate(relay_circuits=3), Donate(relay_circuits=129)):
        with pytest.raises(UsageError):
            await place.ask(wrong)
    assert with_donated(place.offering).caps == place.relay.caps  # of the next start
    said = replace(place.offering, caps=RelayCaps(2 * MIB))
    assert with_donated(said).caps == said.caps  # unless its words changed since
    (place.folder / "relaying").write_text("[[1, 2]]")
    with pytest.raises(LocalError, match="delete it, and say --relay-rate"):
        with_donated(place.offering)


async def test_caps_of_a_relay_in_the_file_are_heeded_live(place, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path))
    caplog.set_level(logging.INFO)
    offering = replace(place.offering, said=("space", "listen"))
    reload = SupplierReload(
        place.service,
        offering,
        lambda space: space,
        lambda _: Admission(True),
        place.line,
        place.relay,
    )
    (tmp_path / "config.toml").write_text('[supplier]\nrelay_rate = "2M"\nrelay_circuits = 4\n')
    reload.reread()
    assert place.relay.caps == RelayCaps(2 * MIB, 4)
    assert "relay_rate, relay_circuits" in caplog.text


async def test_what_is_no_relay_is_given_no_caps_and_says_so(place):
    place.relay = None
    place.desk = place.another()
    assert (await place.ask(AskSelf())).relay is None
    with pytest.raises(UsageError, match="no relay"):
        await place.ask(Donate(relay_rate=MIB))


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


def test_what_was_set_outlives_a_restart_until_the_words_change(tmp_path):
    said = Offering(tmp_path, GIB, "0.0.0.0:4000", ("192.0.2.1:4000",), (), 60.0, ("anyone",))
    assert with_donated(said) == said
    donate(said, 7 * GIB)
    assert with_donated(said).space == 7 * GIB
    assert with_donated(replace(said, space=2 * GIB)).space == 2 * GIB
    (tmp_path / "donated").write_text("[1")
    with pytest.raises(LocalError, match="donated cannot be read"):
        with_donated(said)


def test_what_a_supplier_was_started_with_starts_it_again(tmp_path):
    assert last_offering(tmp_path) is None
    said = Offering(
        tmp_path / "my shelf", GIB, "0.0.0.0:4000", ("9.9.9.9:4000",), ("192.0.2.9:4000",),
        86400.0, ("00112233445566778899", "invited"),
    )  # fmt: skip
    said.folder.mkdir()
    remember(said)
    assert last_offering(said.folder) == said
    args = make_parser({"supplier"}).parse_args(command_words(said))
    assert offering_of(args) == said


def test_a_supplier_that_asks_no_router_and_does_not_call_begins_so_again(tmp_path):
    words = ["supplier", "run", "--dir", str(tmp_path), "--space", "1G", "--listen", "0.0.0.0:4000"]
    parser = make_parser({"supplier"})
    usual = offering_of(parser.parse_args(words))
    assert usual.port_mapping and usual.lan
    words += ["--no-port-mapping", "--no-lan", "--relay-rate", "1M", "--relay-circuits", "16"]
    quiet = offering_of(parser.parse_args(words))
    assert not quiet.port_mapping and not quiet.lan and quiet.caps == RelayCaps(MIB, 16)
    remember(quiet)
    assert last_offering(tmp_path) == quiet
    assert offering_of(parser.parse_args(command_words(quiet))) == quiet


async def test_whether_it_is_reached_from_outside_is_what_was_seen(place):
    place.addresses = ("9.9.9.9:4000",)
    told = await place.ask(AskSelf())
    assert told.reachable is None and "port 4000 are let in" in told.reached
    place.addresses = ("192.168.1.5:4000",)
    told = await place.ask(AskSelf())
    assert told.reachable is False and "--announce" in told.reached
    place.addresses = ("9.9.9.9:4000",)
    customer = Session(KEY.vault_id, "owner", network=network_of("9.9.9.1"))
    place.service.handle(customer, wire.Ping(), b"")
    assert (await place.ask(AskSelf())).reachable is None  # through the own router
    place.service.handle(customer._replace(network=network_of("8.8.8.8")), wire.Ping(), b"")
    told = await place.ask(AskSelf())
    assert told.reachable is True and "0 min ago" in told.reached


@pytest.mark.deadline(1000)
async def test_that_it_is_not_reached_and_why_is_in_its_log_once(
    place, nursery, autojump_clock, monkeypatch, caplog
):
    monkeypatch.setattr(desk, "ALONE_AFTER", 0.0)
    caplog.set_level("INFO", "bitdustfs.supplier.desk")
    place.addresses, place.nodes = ("192.168.1.5:4000",), 0
    nursery.start_soon(place.another().log_changes)
    await trio.sleep(10 * desk.LOGGED_EVERY)
    said = [(record.levelname, record.message) for record in caplog.records]
    assert [level for level, _ in said] == ["WARNING", "WARNING"]
    assert "not reachable from outside" in said[0][1] and "answers at 192.0.2.9" in said[1][1]
    place.addresses, place.nodes = ("9.9.9.9:4000",), 3
    customer = Session(KEY.vault_id, "owner", network=network_of("8.8.8.8"))
    place.service.handle(customer, wire.Ping(), b"")
    await trio.sleep(10 * desk.LOGGED_EVERY)
    [last] = caplog.records[2:]
    assert last.levelname == "INFO" and "reachable from outside: somebody" in last.message
    place.outside.said = "others come in by TCP, and not by UDP"
    await trio.sleep(10 * desk.LOGGED_EVERY)
    [last] = caplog.records[3:]
    assert last.levelname == "WARNING" and last.message == place.outside.said
    nursery.cancel_scope.cancel()  # the clock runs ahead while a thread answers
    assert (await place.ask(AskSelf())).warnings == [place.outside.said]
