"""Names in addresses that people write: resolved in time, and believed no more than a stranger."""

import socket
import threading

import pytest
import trio
from family import credentials, serving
from nacl.signing import SigningKey

from bitdustfs.errors import Unreachable
from bitdustfs.net import hostnames
from bitdustfs.net.dht.discover import endpoints
from bitdustfs.net.hostnames import RESOLVE_DEADLINE, RESOLVED_MAX, is_name, resolve, resolve_all
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.shelf import MemoryShelf
from bitdustfs.units import GIB


class Resolver:
    """What a name server says: names and their addresses. A name without any never answers."""

    def __init__(self, **names):
        self.names = {name.replace("_", "."): hosts for name, hosts in names.items()}

    async def ask(self, host, port):
        if host not in self.names:
            raise socket.gaierror(-2, "Name or service not known")
        if self.names[host] is None:
            await trio.sleep_forever()
        return self.names[host]


@pytest.fixture
async def names(monkeypatch):
    resolver = Resolver(
        friend_example_org=["8.8.8.8", "2606:4700::1"],
        many_example_org=[f"8.8.8.{n}" for n in range(9)],
        inside_example_org=["192.168.1.1"],
        here_example_org=["127.0.0.1"],
        odd_example_org=["169.254.169.254", "224.0.0.1", "::ffff:8.8.8.8", "fe80::1%eth0"],
        mixed_example_org=["127.0.0.1", "8.8.8.8"],
        silent_example_org=None,
        nas_lan=["192.168.1.7", "169.254.1.1"],
        nas=["127.0.0.1"],
    )
    monkeypatch.setattr(hostnames, "_ask", resolver.ask)
    return resolver


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("friend.example.org:4000", ("8.8.8.8:4000", "[2606:4700::1]:4000")),
        ("mixed.example.org:4000", ("8.8.8.8:4000",)),
        ("nas.lan:4000", ("192.168.1.7:4000",)),
        ("nas:4000", ("127.0.0.1:4000",)),
        ("10.0.0.1:4000", ("10.0.0.1:4000",)),
        ("[::1]:4000", ("[::1]:4000",)),
    ],
)
async def test_a_name_leads_to_addresses_that_may_be_dialled(names, address, found):
    assert await resolve(address) == found


@pytest.mark.parametrize(
    "address",
    [
        "inside.example.org:4000", "here.example.org:4000", "odd.example.org:4000",
        "friend.example.org:80", "nobody.example.org:4000", "nowhere", "friend.example.org:999999",
    ],
)  # fmt: skip
async def test_a_name_that_leads_where_nobody_dials_leads_nowhere(names, address):
    with pytest.raises(Unreachable):
        await resolve(address)


async def test_a_name_server_that_is_silent_is_waited_for_only_so_long(names, autojump_clock):
    began = trio.current_time()
    with pytest.raises(Unreachable, match="not resolved within"):
        await resolve("silent.example.org:4000")
    assert trio.current_time() - began == pytest.approx(RESOLVE_DEADLINE)


async def test_names_that_lead_nowhere_are_left_out_and_many_addresses_are_cut(names):
    wanted = ["nobody.example.org:4000", "friend.example.org:4000", "8.8.8.8:4000"]
    assert await resolve_all(wanted) == ["8.8.8.8:4000", "[2606:4700::1]:4000"]
    assert len(await resolve("many.example.org:4000")) == RESOLVED_MAX
    assert await endpoints(wanted) == [("8.8.8.8", 4000), ("2606:4700::1", 4000)]


async def test_a_supplier_is_reached_by_its_name_and_at_its_new_address(names, nursery):
    service = SupplierService(SigningKey(b"n" * 32), MemoryShelf(), GIB)
    async with serving(service) as address:
        port = address.rpartition(":")[2]
        session = PeerSupplier(b"", (f"nas:{port}",), credentials(), nursery)
        names.names["nas"] = ["127.0.0.77"]
        with pytest.raises(Unreachable):
            await session.ping()
        names.names["nas"] = ["127.0.0.77", "127.0.0.1"]
        await trio.sleep(0.3)  # it is not dialled again at once
        await session.ping()
        assert session.reached_at() == f"nas:{port}"
        await session.aclose()


@pytest.mark.parametrize("name", ["nas", "a.b-c.example", "x1", "nas.example.org."])
def test_names(name):
    assert is_name(name)


@pytest.mark.parametrize(
    "name",
    ["10.0.0.1", "134744072", "a..b", "-a", "", "a b", "a_b", "::1", "a" * 64, "a\n",
     "\u0430.org", "x." * 130 + "x", "1.2"],
)  # fmt: skip
def test_no_names(name):
    assert not is_name(name)


async def test_a_resolver_that_does_not_answer_takes_no_thread_that_others_need(monkeypatch):
    answers = threading.Event()
    monkeypatch.setattr(hostnames, "_asking", trio.CapacityLimiter(hostnames.ASKING))
    monkeypatch.setattr(hostnames, "RESOLVE_DEADLINE", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *what, **how: answers.wait())
    try:
        async with trio.open_nursery() as nursery:
            for number in range(60):
                nursery.start_soon(unresolved, f"name{number}.example.org:4000")
        with trio.fail_after(5):
            await trio.to_thread.run_sync(lambda: None)
    finally:
        answers.set()


async def unresolved(address):
    with pytest.raises(Unreachable, match="not resolved within"):
        await resolve(address)
