"""What is said to a router by UPnP: Internet Gateway Device 1 and 2, Device Architecture 1.1.

No I/O. A router is found by SSDP, describes itself in XML, and is asked by SOAP over HTTP. Anybody
in a network can answer a search: only what leads to the router itself is used. So URLs name its own
address, and what it says of addresses, ports and lifetimes is checked.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import NamedTuple
from xml.sax.saxutils import escape

from bitdustfs.errors import Malformed
from bitdustfs.net.routers.elements import read_xml_untrusted
from bitdustfs.net.routers.httpanswer import HttpAnswer, read_answer_untrusted
from bitdustfs.net.routers.packets import LIFETIME_MAX, LIFETIME_MIN

SSDP_GROUP, SSDP_PORT = "239.255.255.250", 1900  #: UPnP Device Architecture, section 1
FOUND_MAX = 2048  #: bytes of an answer to a search
SERVICES_MAX = 8  #: of one description
#: a device that is searched for; one of version 2 answers to the first, too
DEVICES = [f"urn:schemas-upnp-org:device:InternetGatewayDevice:{version}" for version in (1, 2)]
_SERVICE = re.compile(r"urn:schemas-upnp-org:service:WAN(?:IP|PPP)Connection:[1-9]")
_URL = re.compile(
    r"http://(?P<host>[0-9.]{7,15})(?::(?P<port>[0-9]{1,5}))?(?P<path>/[!-~]{0,500})?", re.ASCII
)
_PATH = re.compile(r"[!-~]{1,500}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,10}", re.ASCII)

#: error codes of the service, and what they mean for whoever owns the router
CONFLICTS = (718, 729)  #: another machine has that port
PERMANENT_ONLY, NO_SUCH_ENTRY = 725, 714
_SAYS = {
    401: "it does not know what was asked", 501: "it failed", 606: "mapping is forbidden in it",
    716: "it gives no such port", 718: "another machine has that port",
    724: "it gives no other port than the own one", 725: "it maps without an end only",
    728: "it has no more room for mappings", 729: "another machine has that port",
}  # fmt: skip


class Url(NamedTuple):
    """At the router itself."""

    host: str
    port: int
    path: str


class IgdService(NamedTuple):
    """What maps ports: its type, and where it is asked."""

    type: str
    control: Url


class Failed(NamedTuple):
    """It does not do what was asked; `why`: in words."""

    code: int
    why: str


class PortEntry(NamedTuple):
    """A port that is mapped. `lifetime`: seconds; 0 for without end."""

    client: str
    port: int
    enabled: bool
    lifetime: int


def search(device: str) -> bytes:
    """Who is there? (section 1.3.2)"""
    return (
        f"M-SEARCH * HTTP/1.1\r\nHOST: {SSDP_GROUP}:{SSDP_PORT}\r\nMAN: \"ssdp:discover\"\r\n"
        f"MX: 1\r\nST: {device}\r\n\r\n"
    ).encode()  # fmt: skip


def read_found_untrusted(data: bytes, router: str) -> Url:
    """Where the router at an address describes itself. Raises Malformed."""
    if len(data) > FOUND_MAX:
        raise Malformed("an answer to a search is too long")
    answer = read_answer_untrusted(data, ended=True)
    if answer is None or answer.status != 200:
        raise Malformed("an answer to a search is none")
    return url_untrusted(answer.headers.get("location", ""), Url(router, 80, "/"))


def url_untrusted(text: str, base: Url) -> Url:
    """A URL that is at the same host as another one, or relative to that. Raises Malformed."""
    parts = _URL.fullmatch(text)
    if parts is not None:
        port = int(parts["port"] or 80)
        if parts["host"] != base.host or not 0 < port < 65536:
            raise Malformed("the router names another host than itself")
        return Url(base.host, port, parts["path"] or "/")
    if not _PATH.fullmatch(text) or "://" in text or text.startswith("//"):
        raise Malformed("the router names no address of HTTP")
    path = text if text.startswith("/") else base.path.rpartition("/")[0] + "/" + text
    return Url(base.host, base.port, path)


def get(url: Url) -> bytes:
    """The question for a description."""
    return (
        f"GET {url.path} HTTP/1.1\r\nHost: {url.host}:{url.port}\r\nConnection: close\r\n\r\n"
    ).encode()


def read_description_untrusted(body: bytes, base: Url) -> list[IgdService]:
    """The services that map ports, the first first. Raises Malformed."""
    services: list[IgdService] = []
    kind = control = ""
    for path, text in read_xml_untrusted(body):
        match path[-2:]:
            case (_, "URLBase") if text:
                base = url_untrusted(text, base)
            case ("service", "serviceType"):
                kind = text
            case ("service", "controlURL"):
                control = text
            case (_, "service"):
                if _SERVICE.fullmatch(kind) and control and len(services) < SERVICES_MAX:
                    services.append(IgdService(kind, url_untrusted(control, base)))
                kind = control = ""
    if not services:
        raise Malformed("the router describes nothing that maps ports")
    return services


def ask(service: IgdService, action: str, words: Mapping[str, str | int]) -> bytes:
    """One action of a service, by SOAP (section 3.1.1)."""
    said = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in words.items())
    body = (
        '<?xml version="1.0"?>\r\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" '
        's:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body>'
        f'<u:{action} xmlns:u="{service.type}">{said}</u:{action}></s:Body></s:Envelope>\r\n'
    )
    url = service.control
    return (
        f"POST {url.path} HTTP/1.1\r\nHost: {url.host}:{url.port}\r\nConnection: close\r\n"
        f'Content-Type: text/xml; charset="utf-8"\r\nSOAPAction: "{service.type}#{action}"\r\n'
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def read_said_untrusted(answer: HttpAnswer, action: str) -> dict[str, str] | Failed:
    """What an action came to: values by name. Raises Malformed."""
    elements = read_xml_untrusted(answer.body)
    if answer.status == 200 and any(path[-1] == f"{action}Response" for path, _ in elements):
        return {p[-1]: text for p, text in elements if p[-2:-1] == (f"{action}Response",)}
    codes = [text for path, text in elements if path[-1] == "errorCode"]
    if not codes:
        raise Malformed(f"the router answers {answer.status} to {action}, and says nothing of it")
    code = number_untrusted(codes[0], 0, 65535)
    return Failed(code, _SAYS.get(code, f"it refuses (UPnP {code})"))


def host_untrusted(said: Mapping[str, str]) -> str:
    """The address outside, of GetExternalIPAddress; "" where it has none. Raises Malformed."""
    text = said.get("NewExternalIPAddress", "")
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError:
        if not text:
            return ""
        raise Malformed("the router says an address that is none") from None
    return "" if address.is_unspecified else str(address)


def entry_untrusted(said: Mapping[str, str]) -> PortEntry:
    """Of GetSpecificPortMappingEntry. Raises Malformed."""
    lifetime = number_untrusted(said.get("NewLeaseDuration", "0"), 0, 2**32 - 1)
    believed = lifetime and min(max(lifetime, LIFETIME_MIN), LIFETIME_MAX)
    return PortEntry(
        said.get("NewInternalClient", ""),
        number_untrusted(said.get("NewInternalPort", ""), 0, 65535),
        said.get("NewEnabled", "1").lower() in ("1", "true", "yes"),
        believed,
    )


def number_untrusted(text: str, least: int, most: int) -> int:
    """A number within bounds. Raises Malformed."""
    if not _NUMBER.fullmatch(text) or not least <= int(text) <= most:
        raise Malformed("the router says a number that cannot be")
    return int(text)
