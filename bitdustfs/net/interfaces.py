"""Which addresses this machine's interfaces have, as the kernel says over netlink (rtnetlink(7)).

One dump takes less than a millisecond; nothing is subscribed to.
"""

import ipaddress
import socket
import struct
import sys
from collections.abc import Iterator

from bitdustfs.net.addresses import IpAddress

_HEADER = struct.Struct("=LHHLL")  #: length, type, flags, sequence, port
_ADDRESS = struct.Struct("=BBBBL")  #: family, prefix length, flags, scope, interface
_ATTRIBUTE = struct.Struct("=HH")  #: length, type
_NEW_ADDRESS, _GET_ADDRESS, _ERROR, _DONE = 20, 22, 2, 3
_REQUEST_DUMP = 0x301
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
#: temporary (RFC 8981), duplicate, deprecated, tentative: not for others to know
_UNFIT = 0x01 | 0x08 | 0x20 | 0x40
_RECEIVED = 64 * 1024  #: bytes of one answer, at most


def interface_addresses() -> list[str]:
    """Addresses that last, of global scope: without loopback and link-local ones. Raises OSError.

    Global ones come first, then private ones.
    """
    return [str(address) for address in dict(numbered_addresses())]


def numbered_addresses() -> list[tuple[IpAddress, int]]:
    """The same, each with the number of its interface. Raises OSError."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.settimeout(1.0)
        size = _HEADER.size + _ADDRESS.size
        kernel.send(
            _HEADER.pack(size, _GET_ADDRESS, _REQUEST_DUMP, 1, 0) + _ADDRESS.pack(0, 0, 0, 0, 0)
        )
        found = list(_answers(kernel))
    fit = [(a, n) for a, n in found if not (a.is_loopback or a.is_link_local or a.is_multicast)]
    return [*dict.fromkeys(sorted(fit, key=lambda one: not one[0].is_global))]


def _answers(kernel: socket.socket) -> Iterator[tuple[IpAddress, int]]:
    while True:
        data = kernel.recv(_RECEIVED)
        while len(data) >= _HEADER.size:
            length, kind, *_ = _HEADER.unpack_from(data)
            if kind == _DONE:
                return
            if kind == _ERROR or length < _HEADER.size:
                raise OSError("the kernel does not list this machine's addresses")
            if kind == _NEW_ADDRESS:
                yield from _address(data[_HEADER.size : length])
            data = data[_aligned(length) :]


def _address(message: bytes) -> Iterator[tuple[IpAddress, int]]:
    """The address of one message, if it is one that others may use, and its interface."""
    _, _, flags, scope, interface = _ADDRESS.unpack_from(message)
    values: dict[int, bytes] = {}
    rest = message[_ADDRESS.size :]
    while len(rest) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(rest)
        if length < _ATTRIBUTE.size:
            break
        values[kind] = rest[_ATTRIBUTE.size : length]
        rest = rest[_aligned(length) :]
    if _IFA_FLAGS in values:
        flags = int.from_bytes(values[_IFA_FLAGS], sys.byteorder)
    raw = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)  # of a tunnel the latter is the peer's
    if raw is not None and scope == 0 and not flags & _UNFIT:
        yield ipaddress.ip_address(raw), interface


def _aligned(length: int) -> int:
    return (length + 3) & ~3
