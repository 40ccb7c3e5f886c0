"""A node that dials others back when they ask for it: whom, how often, and what it says."""

import os

import trio
import trio.testing
from nacl.signing import SigningKey

from bitdustfs.net.dht import datagram, dialback
from bitdustfs.net.dht.dialback import Dialling
from bitdustfs.net.dht.node import Dht
from bitdustfs.net.dht.udp import UdpSocket
from bitdustfs.net.tls import make_context
from bitdustfs.supplier.server import SupplierServer
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.shelf import MemoryShelf
from bitdustfs.units import GIB


async def a_node(nursery, key, port=0, make_socket=UdpSocket):
    dialling = Dialling(key, True, make_socket)
    node = Dht(key, serves=True, allow_private=True, dial_backs=dialling)
    await node.bind("127.0.0.1", port)
    await nursery.start(node.run)
    return node


async def test_who_is_asked_to_dial_back_says_whether_the_key_answered(nursery):
    """The asker listens at its port by UDP; by TCP nobody does, then another node, then it."""
    key = SigningKey(os.urandom(32))
    asker, other = await a_node(nursery, key), await a_node(nursery, SigningKey(os.urandom(32)))
    port = asker.endpoint[1]

    async def dialled(at=port):
        body = await asker.ask(other.endpoint, datagram.DialBack("127.0.0.1", at))
        return body.message

    assert await dialled() == datagram.DialledBack("127.0.0.1", False, True)
    for node, right in ((SigningKey(os.urandom(32)), False), (key, True)):
        async with trio.open_nursery() as listening:
            service = SupplierService(node, MemoryShelf(), GIB)
            server = SupplierServer(service, make_context(node.encode(), server_side=True))
            listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
            listening.start_soon(server.serve, listeners)
            assert (await dialled()).tcp is right
            listening.cancel_scope.cancel()
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as nobody:
        await nobody.bind(("127.0.0.1", 0))
        assert (await dialled(nobody.getsockname()[1])).udp is False


async def test_nobody_has_another_dial_more_often_than_now_and_then(nursery, monkeypatch):
    monkeypatch.setattr(dialback, "TRIED_FOR", 0.01)
    key = SigningKey(os.urandom(32))
    asker, other = await a_node(nursery, key), await a_node(nursery, SigningKey(os.urandom(32)))
    asked = datagram.DialBack(*asker.endpoint)
    for _ in range(int(dialback.BURST)):
        assert await asker.ask(other.endpoint, asked) is not None
    with trio.move_on_after(0.5) as waited:
        await asker.ask(other.endpoint, asked)
    assert waited.cancelled_caught


async def test_whatever_is_dialled_back_the_node_goes_on(nursery):
    """A bug that who is dialled brings out ends that dial alone."""

    class Broken(UdpSocket):
        async def bind(self, address):
            raise RuntimeError("a bug")

    asker = await a_node(nursery, SigningKey(os.urandom(32)))
    other = await a_node(nursery, SigningKey(os.urandom(32)), make_socket=Broken)
    with trio.move_on_after(0.5) as waited:
        await asker.ask(other.endpoint, datagram.DialBack(*asker.endpoint))
    assert waited.cancelled_caught
    assert (await asker.ask(other.endpoint, datagram.DhtPing())) is not None


async def test_who_is_seen_elsewhere_is_told_so_at_once_and_not_dialled(nursery):
    asker = await a_node(nursery, SigningKey(os.urandom(32)))
    other = await a_node(nursery, SigningKey(os.urandom(32)))
    for _ in range(2 * int(dialback.BURST)):  # and it costs no dial
        body = await asker.ask(other.endpoint, datagram.DialBack("9.9.9.9", 4000))
        assert body.message == datagram.DialledBack("127.0.0.1", False, False)


class Deaf:
    """A socket in memory to which nobody ever answers, or the one dialled floods with junk."""

    def __init__(self, floods=False):
        self.floods, self.sent, self.given = floods, 0, 0

    async def bind(self, address):
        pass

    async def sendto(self, data, address):
        self.sent += 1

    async def recvfrom(self, size):
        if not self.floods:
            await trio.sleep_forever()
        self.given += 1
        await trio.sleep(0.001)
        return b"junk", ("9.9.9.9", 4000)

    def close(self):
        pass


def asking(dialling, host, port):
    body = datagram.Body(1, bytes(32), True, bytes(16), b"", datagram.DialBack(host, port))
    return dialling.ask(body, (host, port), body.message)


async def silent(address, node, context, bulk, line):
    await trio.sleep_forever()


async def test_whoever_is_taken_in_is_answered_before_it_gives_up(autojump_clock, monkeypatch):
    monkeypatch.setattr(dialback, "meet", silent)
    dialling, answers = Dialling(SigningKey(os.urandom(32)), False, Deaf), []

    async def answer(endpoint, number, said):
        answers.append((trio.current_time() - began, endpoint[0]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dialling.run, answer)
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        for _ in range(2):  # those that wait, and those that are dialled
            for number in range(dialback.AT_ONCE):
                asking(dialling, f"8.8.{len(answers)}.{number}", 4000)
            await trio.testing.wait_all_tasks_blocked()
        for number in range(20):
            asking(dialling, f"9.8.{number}.1", 4000)
        await trio.sleep(20)
        nursery.cancel_scope.cancel()
    assert len(answers) == dialback.AT_ONCE + dialback.WAITING_MAX
    assert max(at for at, _ in answers) < dialback.ANSWERED_IN - 1


async def test_of_a_network_only_so_many_are_dialled_whatever_their_ports(
    autojump_clock, monkeypatch
):
    monkeypatch.setattr(dialback, "meet", silent)
    dialled = []

    async def answer(endpoint, number, said):
        await trio.lowlevel.checkpoint()

    dialling = Dialling(SigningKey(os.urandom(32)), True, lambda: dialled.append(1) or Deaf())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(dialling.run, answer)
        for port in range(4000, 4040):
            asking(dialling, "192.168.1.9", port)
            await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert len(dialled) <= dialback.BURST + 40 * dialback.RATE


async def test_who_floods_the_one_that_dials_is_heard_only_so_often(autojump_clock, monkeypatch):
    monkeypatch.setattr(dialback, "meet", silent)
    line, answers = Deaf(floods=True), []
    opened = dialback.datagram.open_datagram_untrusted
    looked = []
    monkeypatch.setattr(
        dialback.datagram, "open_datagram_untrusted",
        lambda data: looked.append(1) or opened(data),
    )  # fmt: skip
    dialling = Dialling(SigningKey(os.urandom(32)), False, lambda: line)

    async def answer(endpoint, number, said):
        answers.append(said)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dialling.run, answer)
        asking(dialling, "9.9.9.9", 4000)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert answers == [datagram.DialledBack("9.9.9.9", False, False)]
    assert len(looked) == dialback.HEARD_MAX and line.sent == dialback.PINGS
