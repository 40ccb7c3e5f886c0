"""A router that speaks UPnP, on loopback: how it is found, asked and believed."""

import ipaddress
import math
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from bitdustfs.errors import Malformed
from bitdustfs.net.routers import igd, upnp
from bitdustfs.net.routers.elements import DEPTH_MAX, ELEMENTS_MAX, read_xml_untrusted
from bitdustfs.net.routers.gateway import Gateway
from bitdustfs.net.routers.httpanswer import ANSWER_MAX, HttpAnswer, read_answer_untrusted
from bitdustfs.net.routers.igd import Failed, IgdService, PortEntry, Url
from bitdustfs.net.routers.packets import LIFETIME_MAX, LIFETIME_MIN, TCP, UDP
from bitdustfs.net.routers.router import LIFETIME, OpenPort, RouterRefuses, Silent
from bitdustfs.net.routers.upnp import find_upnp

HERE = ipaddress.IPv4Address("127.0.0.1")
GATEWAY = Gateway(HERE, HERE)
BASE = Url("192.168.7.1", 5000, "/a/rootDesc.xml")
PPP, IP = (f"urn:schemas-upnp-org:service:WAN{kind}Connection:1" for kind in ("PPP", "IP"))
DESCRIPTION = f"""<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><device><serviceList>
<service><serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType>
<controlURL>/forward</controlURL></service></serviceList>
<deviceList><device><deviceList><device><serviceList>
<service><serviceType>{PPP}</serviceType><controlURL>/ppp</controlURL></service>
<service><serviceType>{IP}</serviceType><controlURL>ip</controlURL></service>
</serviceList></device></deviceList></device></deviceList></device></root>"""
TAKEN = "another machine has that port"


class Home:
    """It answers searches, describes itself, and maps; the line by PPP is down."""

    def __init__(self):
        self.mapped, self.errors, self.leases, self.deaf = {}, [], None, False
        self.address, self.location, self.description = "9.9.9.9", None, DESCRIPTION
        self.chunked, self.strange = False, b""

    def soap(self, path, action, words):
        if path == "/ppp":
            return self.said(action, {"NewExternalIPAddress": "0.0.0.0"})
        if action == "GetExternalIPAddress":
            return self.said(action, {"NewExternalIPAddress": self.address})
        at = words["NewProtocol"], words["NewExternalPort"]
        if action == "AddPortMapping":
            if self.errors:
                return self.fault(self.errors.pop(0))
            lease = words["NewLeaseDuration"] if self.leases is None else self.leases
            self.mapped[at] = (words["NewInternalClient"], words["NewInternalPort"], lease)
            return self.said(action, {})
        if at not in self.mapped:
            return self.fault(714)
        if action == "DeletePortMapping":
            del self.mapped[at]
            return self.said(action, {})
        client, port, lease = self.mapped[at]
        return self.said(action, {
            "NewInternalPort": port, "NewInternalClient": client, "NewEnabled": "1",
            "NewPortMappingDescription": "x", "NewLeaseDuration": lease,
        })  # fmt: skip

    def said(self, action, words):
        inside = "".join(f"<{name}>{value}</{name}>" for name, value in words.items())
        return 200, f"<u:{action}Response xmlns:u='{IP}'>{inside}</u:{action}Response>"

    def fault(self, code):
        return 500, (
            "<s:Fault><detail><UPnPError xmlns='urn:schemas-upnp-org:control-1-0'>"
            f"<errorCode>{code}</errorCode></UPnPError></detail></s:Fault>"
        )

    def answer(self, data):
        head, _, body = data.partition(b"\r\n\r\n")
        verb, path, _ = head.decode().split("\r\n")[0].split(" ")
        if self.strange:
            return self.strange
        if verb == "GET":
            return self.http(200, self.description)
        elements = read_xml_untrusted(body)
        [action] = [path[-1] for path, _ in elements if len(path) == 3]
        status, said = self.soap(path, action, {p[-1]: text for p, text in elements})
        return self.http(status, (
            "<s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/'><s:Body>"
            f"{said}</s:Body></s:Envelope>"
        ))  # fmt: skip

    def http(self, status, body):
        body = body.encode()
        head = f"HTTP/1.1 {status} x\r\nServer: home\r\n"
        if self.chunked:
            parts = [body[at : at + 100] for at in range(0, len(body), 100)] + [b""]
            chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
            return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks
        return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body

    async def serve(self, stream):
        data = await stream.receive_some()
        while not data.endswith((b"Envelope>\r\n", b"close\r\n\r\n")):
            data += await stream.receive_some()
        if self.deaf:
            await trio.sleep_forever()
        try:
            await stream.send_all(self.answer(data))
        except trio.BrokenResourceError:  # it had heard enough
            return
        await stream.aclose()

    async def be_found(self, line, port):
        where = self.location or f"http://127.0.0.1:{port}/rootDesc.xml"
        said = f"HTTP/1.1 200 OK\r\nST: x\r\nLOCATION: {where}\r\n\r\n".encode()
        while True:
            data, asker = await line.recvfrom(2000)
            assert b'MAN: "ssdp:discover"' in data and b"InternetGatewayDevice:" in data
            await line.sendto(said, asker)


@asynccontextmanager
async def at_home(**facts):
    """A router, and how it is found."""
    made = Home()
    vars(made).update(facts)
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as line:
        await line.bind(("127.0.0.1", 0))
        async with trio.open_nursery() as nursery:
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            port = listeners[0].socket.getsockname()[1]
            nursery.start_soon(trio.serve_listeners, made.serve, listeners)
            nursery.start_soon(made.be_found, line, port)
            yield made, partial(find_upnp, GATEWAY, line.getsockname()[1])
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_port_is_mapped_missed_and_taken_back_by_upnp(chunked):
    async with at_home(chunked=chunked) as (home, find):
        router = await find()
        for protocol in (TCP, UDP):
            assert await router.map(protocol, 4000, 4000) == OpenPort("9.9.9.9", 4000, LIFETIME)
        entry = ("127.0.0.1", "4000", str(LIFETIME))
        assert home.mapped == {("TCP", "4000"): entry, ("UDP", "4000"): entry}
        assert await router.remembers()
        home.mapped["TCP", "4000"] = ("127.0.0.9", "4000", "60")
        assert not await router.remembers()
        del home.mapped["TCP", "4000"]
        assert not await router.remembers()
        await router.map(TCP, 4000, 4000)
        await router.unmap(TCP, 4000, 4000)
        await router.unmap(TCP, 4000, 4000)
        await router.unmap(UDP, 4000, 4000)
        assert home.mapped == {} and await router.remembers()


async def test_another_port_is_asked_for_where_one_is_taken():
    async with at_home(errors=[718]) as (home, find):
        router = await find()
        port = (await router.map(TCP, 4000, 4000)).port
        assert port in upnp.OTHER_PORTS and [*home.mapped] == [("TCP", str(port))]
        home.mapped.clear()
        await router.map(TCP, 4000, 4001)
        assert await router.remembers()  # of the first one nothing is expected any more
        home.errors = [718] * (upnp.OTHERS_TRIED + 1)
        with pytest.raises(RouterRefuses, match="others have those"):
            await router.map(TCP, 4000, 4000)


@pytest.mark.parametrize(
    ("errors", "leases", "lifetime"),
    [
        ([725], None, math.inf),
        ([], 1200, 1200),
        ([], 1, LIFETIME_MIN),
        ([], 604800, LIFETIME_MAX),
        ([], 0, math.inf),
    ],
)
async def test_for_how_long_a_port_is_mapped_is_what_the_router_says(errors, leases, lifetime):
    async with at_home(errors=errors, leases=leases) as (_, find):
        assert (await (await find()).map(TCP, 4000, 4000)).lifetime == lifetime


async def test_what_a_router_refuses_by_upnp_is_said_in_words():
    async with at_home(errors=[606]) as (_, find):
        with pytest.raises(RouterRefuses, match="forbidden"):
            await (await find()).map(TCP, 4000, 4000)
    async with at_home(address="") as (_, find):
        with pytest.raises(RouterRefuses, match="no address of the provider"):
            await find()


@pytest.mark.parametrize(
    "facts",
    [
        {"location": "http://127.0.0.2:80/rootDesc.xml"},  # it has others asked in its place
        {"location": "http://8.8.8.8/rootDesc.xml"},
        {"location": "file:///etc/passwd"},
        {"description": DESCRIPTION.replace(">ip<", ">http://8.8.8.8/ip<").replace(PPP, "x")},
        {"description": '<!DOCTYPE r [<!ENTITY a "aaaa">]><r>&a;</r>'},
        {"description": "<root/>"},
        {"address": "nowhere"},
        {"strange": b"SSH-2.0-OpenSSH\r\n\r\n"},
        {"strange": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"},
        {"strange": b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (ANSWER_MAX + 1)},
    ],
)
async def test_a_router_that_says_what_cannot_be_is_not_used(facts, monkeypatch):
    monkeypatch.setattr(upnp, "FOUND_IN", 0.3)
    async with at_home(**facts) as (_, find):
        with pytest.raises(RouterRefuses):
            await find()


async def test_a_router_that_falls_silent_has_not_forgotten(monkeypatch):
    async with at_home() as (home, find):
        router = await find()
        await router.map(TCP, 4000, 4000)
        monkeypatch.setattr(upnp, "CALL_IN", 0.1)
        home.deaf = True
        with pytest.raises(Silent):
            await router.remembers()
        monkeypatch.setattr(upnp, "CALL_IN", 10.0)
        home.deaf, home.strange = False, b"HTTP/1.1 503 busy\r\nContent-Length: 0\r\n\r\n"
        assert await router.remembers()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("http://192.168.7.1:5000/x", "/x"), ("/x", "/x"), ("x", "/a/x"),
        ("http://192.168.7.1:5000", "/"),
    ],
)  # fmt: skip
def test_urls_lead_to_the_router_itself(text, path):
    assert igd.url_untrusted(text, BASE) == Url("192.168.7.1", 5000, path)


@pytest.mark.parametrize(
    "text",
    [
        "", "http://192.168.7.2:5000/x", "http://192.168.7.1:0/x", "http://192.168.7.1:70000/x",
        "http://192.168.7.1@8.8.8.8/x", "http://192.168.7.1.evil/x", "https://192.168.7.1/x",
        "//8.8.8.8/x", "http://192.168.7.1:5000/x y", "/x\r\nHost: evil", "/" + "x" * 600,
        "file://192.168.7.1/etc", "http://[fe80::1]/x", "x://y",
    ],
)  # fmt: skip
def test_urls_that_lead_elsewhere_are_refused(text):
    with pytest.raises(Malformed):
        igd.url_untrusted(text, BASE)


def test_the_service_that_maps_is_found_in_a_description():
    found = igd.read_description_untrusted(DESCRIPTION.encode(), BASE)
    wanted = [(PPP, BASE._replace(path="/ppp")), (IP, BASE._replace(path="/a/ip"))]
    assert found == [IgdService(*one) for one in wanted]
    many = "".join(
        f"<service><serviceType>{IP}</serviceType><controlURL>/{n}</controlURL></service>"
        for n in range(100)
    )
    based = f"<root><URLBase>http://192.168.7.1:81/</URLBase>{many}</root>".encode()
    found = igd.read_description_untrusted(based, BASE)
    assert len(found) == igd.SERVICES_MAX and found[0].control == Url("192.168.7.1", 81, "/0")


@pytest.mark.parametrize(
    "data",
    [
        b"<a" + b"/>" * 2,
        b"<a>" * (DEPTH_MAX + 1) + b"</a>" * (DEPTH_MAX + 1),
        b"<a>" + b"<b/>" * ELEMENTS_MAX + b"</a>",
        b'<?xml version="1.0"?><!DOCTYPE a SYSTEM "http://8.8.8.8/dtd"><a/>',
        b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a><a/>'.encode("utf-16"),
        b'<?xml version="1.0" encoding="no-such"?><a/>',
        b"",
    ],
)
def test_xml_that_is_large_or_clever_is_refused(data):
    with pytest.raises(Malformed):
        read_xml_untrusted(data)


def test_an_answer_is_whole_or_waited_for_or_refused():
    whole = b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 3\r\n\r\nabc"
    headers = {"a": "b", "content-length": "3"}
    assert read_answer_untrusted(whole, False) == HttpAnswer(200, headers, b"abc")
    for at in range(len(whole)):
        assert read_answer_untrusted(whole[:at], False) is None
        with pytest.raises(Malformed):
            read_answer_untrusted(whole[:at], True)
    head = b"HTTP/1.0 500 x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"2;x=y\r\nab\r\n1\r\nc\r\n0\r\n\r\n"
    assert read_answer_untrusted(head + chunks, False).body == b"abc"
    assert read_answer_untrusted(b"HTTP/1.1 200 OK\r\n\r\nabc", True).body == b"abc"
    with pytest.raises(Malformed):
        read_answer_untrusted(head + chunks.replace(b"1\r\nc", b"zz\r\nc"), False)


def test_values_are_within_bounds():
    assert igd.host_untrusted({"NewExternalIPAddress": "9.9.9.9"}) == "9.9.9.9"
    assert igd.host_untrusted({"NewExternalIPAddress": "0.0.0.0"}) == igd.host_untrusted({}) == ""
    assert igd.entry_untrusted({"NewInternalPort": "4000"}) == PortEntry("", 4000, True, 0)
    for words in ({}, {"NewInternalPort": "70000"}, {"NewInternalPort": "-1"},
                  {"NewInternalPort": "1", "NewLeaseDuration": "99999999999"},
                  {"NewInternalPort": "\u0661"}):  # fmt: skip
        with pytest.raises(Malformed):
            igd.entry_untrusted(words)
    with pytest.raises(Malformed):
        igd.host_untrusted({"NewExternalIPAddress": "9.9.9.9.evil"})
    fault = HttpAnswer(500, {}, b"<e><errorCode>718</errorCode></e>")
    assert igd.read_said_untrusted(fault, "X") == Failed(718, TAKEN)
    with pytest.raises(Malformed):
        igd.read_said_untrusted(HttpAnswer(500, {}, b"<e/>"), "X")


def test_what_is_asked_carries_no_markup():
    asked = igd.ask(IgdService(IP, BASE), "X", {"NewA": "</NewA><b>&"})
    assert b"&lt;/NewA&gt;&lt;b&gt;&amp;" in asked
    body = asked.partition(b"\r\n\r\n")[2]
    assert f"Content-Length: {len(body)}\r\n".encode() in asked
