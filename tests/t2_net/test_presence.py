"""What a supplier says of where it is, and how soon, when its addresses change."""

import json
import os
import random
import shutil
import subprocess
import time

import pytest
import sybils
import trio
from nacl.signing import SigningKey
from sybils import Network

from bitdustfs.errors import UsageError
from bitdustfs.net.dht import datagram
from bitdustfs.net.dht.discover import node_record
from bitdustfs.net.dht.node import Dht
from bitdustfs.net.interfaces import interface_addresses
from bitdustfs.supplier.outside import NothingKnown
from bitdustfs.supplier.presence import (
    Contacts,
    OwnRecord,
    check_announced,
    check_listened,
    private_wanted,
)
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.shelf import MemoryShelf
from bitdustfs.units import GIB

MINUTE = 60.0


class Doorway(NothingKnown):
    """What is known of ways past a router."""

    def __init__(self):
        self.open, self.closed = (), ()

    def mapped(self):
        return self.open

    def in_vain(self, address):
        return address in self.closed


class Home:
    """A supplier in a network of others in memory; its interfaces' addresses can change."""

    def __init__(self, folder, nursery):
        self._nursery = nursery
        self.interfaces, self.network = ["8.8.8.8"], Network(random.Random(1))
        self.service = SupplierService(SigningKey(os.urandom(32)), MemoryShelf(), GIB)
        self.dht = self._node(self.service.node, "8.8.8.8")
        self.others = [self._node(SigningKey(os.urandom(32)), f"9.9.{n}.1") for n in range(7)]
        self._contacts = Contacts(folder / "contacts")
        self.friends, self.doors = [], Doorway()

    def _node(self, key, host):
        return Dht(key, True, False, make_socket=self.network.socket(host))

    async def begin(
        self, listen="0.0.0.0:4000", announced=(), bootstrap=("9.9.0.1:4000",), acquainted=True
    ):
        """`acquainted`: the others know each other already."""
        self._nursery.start_soon(self.network.run)
        for node in (self.dht, *self.others):
            await self._nursery.start(node.run)
        if acquainted:
            await self.acquaint()
        self.record = OwnRecord(
            self.service, self.dht, listen, announced, bootstrap, self._contacts,
            lambda: list(self.interfaces), lambda: list(self.friends), outside=self.doors,
        )  # fmt: skip
        self._nursery.start_soon(self.record.run)

    async def acquaint(self):
        for node in self.others[1:]:
            await node.bootstrap([self.others[0].endpoint])

    def appear_at(self, host):
        """What it sends comes from another address from now on, and what is sent there arrives."""
        socket = self.dht._socket
        self.network.there.pop(socket._endpoint, None)
        socket._endpoint = (host, 4000)
        self.network.there[socket._endpoint] = socket

    async def said(self):
        """What another node finds."""
        found = await node_record(self.others[-1], self.dht.id)
        return () if found is None else found.addresses


@pytest.fixture
def home(tmp_path, nursery, monkeypatch):
    monkeypatch.setattr(sybils, "LOSS", 0.0)
    return Home(tmp_path, nursery)


@pytest.mark.deadline(1000)
async def test_an_address_of_an_interface_that_changes_is_announced_within_a_minute(
    home, autojump_clock
):
    await home.begin()
    await trio.sleep(MINUTE)
    assert await home.said() == ("8.8.8.8:4000",)
    home.interfaces = ["8.8.4.4", "2606:4700::1"]  # it does not listen at the latter
    home.appear_at("8.8.4.4")
    await trio.sleep(MINUTE)
    assert await home.said() == ("8.8.4.4:4000",)


@pytest.mark.deadline(1000)
async def test_who_joined_by_one_that_knew_nobody_yet_gets_to_know_the_others(
    home, autojump_clock, monkeypatch
):
    """Behind a router: nobody gets in who was not spoken to before."""
    for other in home.others[1:]:
        monkeypatch.setattr(other, "_acceptable", lambda endpoint: endpoint[0] != "8.8.8.8")
    await home.begin(acquainted=False)
    await trio.sleep(5)
    assert home.dht.contacts() == [("9.9.0.1", 4000)]
    await home.acquaint()
    await trio.sleep(MINUTE)
    assert len(home.dht.contacts()) == len(home.others)


@pytest.mark.deadline(1000)
async def test_where_others_see_a_newcomer_is_known_soon_after_they_know_each_other(
    home, autojump_clock
):
    """Who joins at the same time knows few others at first: they are asked again soon."""
    await home.begin(acquainted=False)
    home.appear_at("7.7.7.7")
    await trio.sleep(5)
    await home.acquaint()
    await trio.sleep(10)
    assert "7.7.7.7:4000" in await home.said()


@pytest.mark.deadline(1000)
async def test_who_knows_nobody_is_found_by_the_network_of_a_friend_who_joins(home, autojump_clock):
    await home.begin(bootstrap=())
    await trio.sleep(MINUTE)
    assert await home.said() == ()
    home.friends = ["9.9.3.1:4000"]
    await trio.sleep(MINUTE)
    assert await home.said() == ("8.8.8.8:4000",)


@pytest.mark.deadline(1000)
async def test_listening_at_all_addresses_means_both_versions_of_ip(home, autojump_clock):
    home.interfaces = ["8.8.8.8", "2606:4700::1"]
    await home.begin(listen="[::]:4000")
    await trio.sleep(MINUTE)
    assert await home.said() == ("8.8.8.8:4000", "[2606:4700::1]:4000")


@pytest.mark.deadline(1000)
async def test_what_two_others_see_is_announced_beside(home, autojump_clock):
    """A router whose address changed: nothing on this machine knows it."""
    home.interfaces = ["192.168.1.5"]
    await home.begin(announced=("8.8.8.8:5000",))
    await trio.sleep(MINUTE)
    assert await home.said() == ("8.8.8.8:5000",)
    home.appear_at("8.8.4.4")
    await trio.sleep(MINUTE)
    assert await home.said() == ("8.8.8.8:5000", "8.8.4.4:5000")


@pytest.mark.deadline(1000)
async def test_where_the_router_leads_here_is_announced_first_and_marked(home, autojump_clock):
    """By another port than what others see: what they see is the same door."""
    home.interfaces = ["192.168.1.5"]
    await home.begin()
    await trio.sleep(MINUTE)
    assert await home.said() == ("8.8.8.8:4000", "192.168.1.5:4000")
    home.doors.open = ("8.8.8.8:41000",)
    await trio.sleep(MINUTE)
    found = await node_record(home.others[-1], home.dht.id)
    assert found.addresses == ("8.8.8.8:41000", "192.168.1.5:4000")
    assert found.mapped == ("8.8.8.8:41000",)
    home.doors.open = ()
    await trio.sleep(MINUTE)
    found = await node_record(home.others[-1], home.dht.id)
    assert (found.addresses[0], found.mapped) == ("8.8.8.8:4000", ())


@pytest.mark.deadline(1000)
async def test_where_others_dial_in_vain_is_not_announced_and_is_tried_on(home, autojump_clock):
    home.interfaces = ["192.168.1.5"]
    await home.begin()
    home.doors.closed = ("8.8.8.8:4000",)
    await trio.sleep(MINUTE)
    assert await home.said() == ("192.168.1.5:4000",)
    assert home.record.maybe() == ("192.168.1.5:4000", "8.8.8.8:4000")
    home.doors.closed = ()
    await trio.sleep(MINUTE)
    assert await home.said() == ("8.8.8.8:4000", "192.168.1.5:4000")


@pytest.mark.deadline(1000)
async def test_a_machine_whose_clock_was_ahead_is_found_where_it_is_now(home, autojump_clock):
    key, ahead = home.service.node, time.time_ns() // 1_000_000 + 10**9
    for other in home.others:
        record = datagram.sign_node_record(key, ahead, ("8.8.4.4:4000",), GIB)
        other.records.keep(home.dht.id, record)
    await home.begin()
    await trio.sleep(MINUTE)
    assert await home.said() == ("8.8.8.8:4000",)
    home.interfaces = ["8.8.4.4"]
    home.appear_at("8.8.4.4")
    await trio.sleep(MINUTE)
    found = await node_record(home.others[-1], home.dht.id)
    assert found.addresses == ("8.8.4.4:4000",) and ahead + 1 < found.seq < ahead + 10


@pytest.mark.deadline(1000)
async def test_private_interfaces_do_not_push_out_what_others_see(home, autojump_clock):
    home.interfaces = [f"172.17.{n}.1" for n in range(6)]
    await home.begin()
    await trio.sleep(MINUTE)
    assert await home.said() == ("8.8.8.8:4000", *(f"172.17.{n}.1:4000" for n in range(3)))
    home.interfaces = ["8.8.4.4", *home.interfaces]
    home.appear_at("8.8.4.4")
    await trio.sleep(MINUTE)
    assert (await home.said())[0] == "8.8.4.4:4000"


@pytest.mark.deadline(1000)
async def test_what_others_saw_is_said_until_they_agree_on_another(
    home, autojump_clock, monkeypatch
):
    """A round in which few answer takes nothing back."""
    home.interfaces = ["192.168.1.5"]
    seen = ["8.8.8.8"]

    async def seen_at(witnesses):
        return seen

    monkeypatch.setattr(home.dht, "seen_at", seen_at)
    await home.begin(announced=("9.8.7.6:4000",))
    await trio.sleep(MINUTE)
    assert await home.said() == ("9.8.7.6:4000", "8.8.8.8:4000")
    seen = []
    await trio.sleep(MINUTE)
    assert await home.said() == ("9.8.7.6:4000", "8.8.8.8:4000")
    seen = ["2606:4700::1"]
    await trio.sleep(MINUTE)
    assert set((await home.said())[1:]) == {
        "8.8.8.8:4000", "[2606:4700::1]:4000"
    }  # fmt: skip
    seen = ["8.8.4.4"]
    await trio.sleep(MINUTE)
    assert "8.8.8.8:4000" not in await home.said() and "8.8.4.4:4000" in await home.said()


@pytest.mark.deadline(1000)
async def test_what_one_other_says_it_saw_is_not_believed(home, autojump_clock):
    class Liar(Dht):
        def _response(self, message, asker):
            if isinstance(message, datagram.FindNode):
                return datagram.ContactsAre((datagram.Contact(home.dht.id, "7.7.7.7", 4000),))
            return super()._response(message, asker)

    home.others[3].__class__ = Liar
    await home.begin()
    await trio.sleep(MINUTE)
    assert await home.dht.seen_at(1) == ["7.7.7.7", "8.8.8.8"]
    assert await home.said() == ("8.8.8.8:4000",)


@pytest.mark.deadline(1000)
async def test_others_learn_that_a_node_moved_from_its_questions(home, autojump_clock):
    await home.begin()
    await trio.sleep(MINUTE)
    home.appear_at("8.8.4.4")
    await home.dht.nearest(home.dht.id)
    await trio.sleep(5)
    known = [c for other in home.others for c in other.contacts() if c[0].startswith("8.8.")]
    assert known and set(known) == {("8.8.4.4", 4000)}


@pytest.mark.deadline(1000)
async def test_a_node_that_meets_itself_where_another_was_is_not_its_own_contact(
    home, autojump_clock
):
    await home.begin()
    await trio.sleep(MINUTE)
    home.appear_at("9.9.3.1")
    await home.dht.bootstrap([("9.9.3.1", 4000)])
    assert home.dht.endpoint not in home.dht.contacts()


@pytest.mark.parametrize(
    "amiss", ["8.8.8.8:80", "169.254.1.1:4000", "nas.example.org:80", "0.0.0.0:4000", "[::]:4000"]
)
def test_what_others_could_not_reach_is_not_announced(amiss):
    with pytest.raises(UsageError, match="others could not reach"):
        check_announced(amiss)


@pytest.mark.parametrize("fit", ["8.8.8.8:4000", "[2606:4700::1]:4000", "nas.example.org:4000"])
def test_addresses_and_names_are_announced(fit):
    assert check_announced(fit) == fit


def test_all_addresses_can_be_listened_at_and_no_name():
    assert check_listened("0.0.0.0:4000") and check_listened("[::]:4000")
    with pytest.raises(UsageError, match=r"0\.0\.0\.0"):
        check_listened("nas.example.org:4000")


@pytest.mark.parametrize(
    ("listen", "announced", "bootstrap", "interfaces", "wanted"),
    [
        ("0.0.0.0:4000", [], [], ["192.168.1.5", "2606:4700::1"], True),  # IPv4 only
        ("[::]:4000", [], [], ["192.168.1.5", "2606:4700::1"], True),
        ("0.0.0.0:4000", [], [], ["8.8.8.8"], False),
        ("0.0.0.0:4000", [], [], ["8.8.8.8", "fd00::1"], False),
        ("[::]:4000", [], [], ["8.8.8.8", "fd00::1"], True),
        ("0.0.0.0:4000", [], [], [], True),
        ("0.0.0.0:4000", [], ["192.168.1.9:4000"], ["8.8.8.8"], True),
        ("0.0.0.0:4000", ["nas.example.org:4000"], [], ["192.168.1.5"], False),
        ("192.168.1.5:4000", ["8.8.8.8:4000"], ["9.9.9.9:4000"], [], False),
        ("8.8.8.8:4000", ["nas.local:4000"], [], ["8.8.8.8"], True),
        ("192.168.1.5:4000", [], [], ["8.8.8.8"], True),
        ("8.8.8.8:4000", [], ["9.9.9.9:4000"], ["192.168.1.5"], False),
    ],
)
def test_private_contacts_are_taken_where_this_node_is_reached_at_a_private_address(
    listen, announced, bootstrap, interfaces, wanted
):
    assert private_wanted(listen, announced, bootstrap, lambda: interfaces) is wanted


def test_a_kernel_that_lists_no_addresses_keeps_no_supplier_from_starting():
    def fail():
        raise OSError("no netlink here")

    assert not private_wanted("0.0.0.0:4000", (), ("9.9.9.9:4000",), fail)
    assert private_wanted("0.0.0.0:4000", (), ("127.0.0.1:4000",), fail)


@pytest.mark.skipif(shutil.which("ip") is None, reason="compared with what iproute2 says")
def test_the_kernel_lists_the_addresses_of_this_machine():
    said = subprocess.run(
        ["ip", "-json", "addr"], capture_output=True, text=True, check=True, timeout=10
    ).stdout
    fit = {
        info["local"] for link in json.loads(said) for info in link["addr_info"]
        if info["scope"] == "global" and not info.get("temporary") and not info.get("deprecated")
    }  # fmt: skip
    assert set(interface_addresses()) == fit
