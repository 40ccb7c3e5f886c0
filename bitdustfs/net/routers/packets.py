"""What is said to a router by PCP (RFC 6887) and NAT-PMP (RFC 6886), without I/O.

Both are asked at UDP port 5351, and have fixed layouts in network byte order. Ports are mapped for
IPv4 only: IPv6 needs none.

    NAT-PMP asks      0 | op | 0 u16 | internal u16 | suggested u16 | lifetime u32       (3.3)
    and answers       0 | 128 + op | result u16 | epoch u32 | internal u16 | external u16 |
                      lifetime u32
    the address       0 | 0, and 0 | 128 | result u16 | epoch u32 | IPv4 address         (3.2)
    PCP asks          2 | op | 0 u16 | lifetime u32 | client's address 16                (7.1)
    and answers       2 | 128 + op | 0 | result u8 | lifetime u32 | epoch u32 | 0 12     (7.2)
    behind it, MAP    nonce 12 | protocol u8 | 0 3 | internal u16 | external u16 |
                      external address 16                                              (11.1)
"""

import ipaddress
import struct
from typing import NamedTuple

from bitdustfs.errors import Malformed

PORT = 5351  #: of routers that speak either (RFC 6887, section 19.1)
ANSWER_MAX = 1100  #: bytes of one PCP message (RFC 6887, section 7)
NONCE_SIZE = 12
TCP, UDP = 6, 17  #: protocol numbers, as PCP has them
#: lifetimes that are believed; a router that grants ever shorter ones would be asked all the time
LIFETIME_MIN, LIFETIME_MAX = 60, 86400

_NATPMP_ADDRESS, _NATPMP_OPS = 0, {UDP: 1, TCP: 2}
_PCP_VERSION, _PCP_ANNOUNCE, _PCP_MAP = 2, 0, 1
_ANSWER = 128  #: added to the opcode
_UNSUPPORTED_VERSION = 1  #: of both
_natpmp_asks = struct.Struct("!BBHHHI")
_natpmp_head = struct.Struct("!BBHI")  #: version, opcode, result, epoch
_natpmp_mapped = struct.Struct("!HHI")  #: internal port, external port, lifetime
_pcp_asks = struct.Struct("!BBHI16s")
_pcp_head = struct.Struct("!BBBBII12x")  #: version, opcode, reserved, result, lifetime, epoch
_pcp_map = struct.Struct("!12sB3xHH16s")

#: what results mean, in words for whoever owns the router
_NATPMP_SAYS = {
    1: "it does not speak this version", 2: "port mapping is switched off in it",
    3: "it has no address of the provider", 4: "it has no more room for mappings",
    5: "it does not know what was asked",
}  # fmt: skip
_PCP_SAYS = {
    1: "it does not speak this version", 2: "port mapping is switched off in it",
    3: "it did not understand", 4: "it does not know what was asked",
    7: "it has no address of the provider", 8: "it has no more room for mappings",
    10: "this machine has too many mappings", 11: "it gives no such port",
    12: "another router is in between",
}  # fmt: skip


class Says(NamedTuple):
    """Any answer: `epoch` counts the router's seconds since it began to keep mappings.

    `result`: 0, or why it refuses; `why`: the same in words.
    """

    epoch: int
    result: int = 0
    why: str = ""

    @property
    def other_version(self) -> bool:
        """It speaks NAT-PMP where it was asked by PCP, or the other way round."""
        return self.result == _UNSUPPORTED_VERSION


class SaysAddress(NamedTuple):
    """NAT-PMP: the router's address outside."""

    epoch: int
    host: str


class SaysMapped(NamedTuple):
    """A port is mapped, for `lifetime` seconds. NAT-PMP says no `host`, and no `nonce`."""

    epoch: int
    protocol: int
    internal: int
    external: int
    lifetime: int
    host: str = ""
    nonce: bytes = b""


def ask_natpmp_address() -> bytes:
    return bytes([0, _NATPMP_ADDRESS])


def ask_natpmp_map(protocol: int, internal: int, external: int, lifetime: int) -> bytes:
    """`lifetime` 0 takes the mapping back; then `external` has to be 0 (section 3.4)."""
    return _natpmp_asks.pack(0, _NATPMP_OPS[protocol], 0, internal, external, lifetime)


def read_natpmp_untrusted(data: bytes) -> Says | SaysAddress | SaysMapped:
    """An answer by NAT-PMP. Raises Malformed."""
    if len(data) < _natpmp_head.size:
        raise Malformed("an answer of the router is too short")
    version, op, result, epoch = _natpmp_head.unpack_from(data)
    if version != 0:
        raise Malformed("the router does not answer by NAT-PMP")
    if result:
        return Says(epoch, result, _NATPMP_SAYS.get(result, f"it refuses (NAT-PMP {result})"))
    rest = data[_natpmp_head.size :]
    if op == _ANSWER + _NATPMP_ADDRESS and len(rest) == 4:
        return SaysAddress(epoch, str(ipaddress.IPv4Address(rest)))
    for protocol, asked in _NATPMP_OPS.items():
        if op == _ANSWER + asked and len(rest) == _natpmp_mapped.size:
            internal, external, lifetime = _natpmp_mapped.unpack(rest)
            return SaysMapped(epoch, protocol, internal, external, _believed(lifetime))
    raise Malformed("the router answers something that was not asked")


def ask_pcp_announce(own: ipaddress.IPv4Address) -> bytes:
    """Whether it is there, and since when (section 14.1)."""
    return _pcp_asks.pack(_PCP_VERSION, _PCP_ANNOUNCE, 0, 0, _mapped_6(own))


def ask_pcp_map(
    own: ipaddress.IPv4Address,
    nonce: bytes,
    protocol: int,
    internal: int,
    external: int,
    lifetime: int,
) -> bytes:
    """`lifetime` 0 takes the mapping back. `own`: this machine, as the router sees it."""
    nobody = _mapped_6(ipaddress.IPv4Address(0))
    asked = _pcp_asks.pack(_PCP_VERSION, _PCP_MAP, 0, lifetime, _mapped_6(own))
    return asked + _pcp_map.pack(nonce, protocol, internal, external, nobody)


def read_pcp_untrusted(data: bytes) -> Says | SaysMapped:
    """An answer by PCP, options behind it not read. Raises Malformed.

    A router that speaks NAT-PMP alone says so in its own form (RFC 6886, section 3.5).
    """
    if data[:1] == b"\0":
        said = read_natpmp_untrusted(data)
        if isinstance(said, Says):
            return said
        raise Malformed("the router answers by NAT-PMP what was not asked")
    if not _pcp_head.size <= len(data) <= ANSWER_MAX:
        raise Malformed("an answer of the router has no size of PCP")
    version, op, _, result, lifetime, epoch = _pcp_head.unpack_from(data)
    if version != _PCP_VERSION:
        raise Malformed("the router answers by another version of PCP")
    if result:
        return Says(epoch, result, _PCP_SAYS.get(result, f"it refuses (PCP {result})"))
    if op == _ANSWER + _PCP_ANNOUNCE:
        return Says(epoch)
    if op != _ANSWER + _PCP_MAP or len(data) < _pcp_head.size + _pcp_map.size:
        raise Malformed("the router answers something that was not asked")
    nonce, protocol, internal, external, raw = _pcp_map.unpack_from(data, _pcp_head.size)
    host = ipaddress.IPv6Address(raw)
    mapped = host.ipv4_mapped
    if protocol not in _NATPMP_OPS or mapped is None:
        raise Malformed("the router mapped something that was not asked for")
    return SaysMapped(epoch, protocol, internal, external, _believed(lifetime), str(mapped), nonce)


def _believed(lifetime: int) -> int:
    """0 stays: it was taken back."""
    return lifetime and min(max(lifetime, LIFETIME_MIN), LIFETIME_MAX)


def _mapped_6(address: ipaddress.IPv4Address) -> bytes:
    return b"\0" * 10 + b"\xff\xff" + address.packed
