"""Who is at the other end of a loopback connection: the kernel's table of sockets has the user.

A token can be read off a screen, and a cookie is sent to every port of its host (RFC 6265, 8.5). So
a connection is only served where its other end belongs to the user that serves, or to root.
"""

import os
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))  #: proc_pid_net(5)
ROOT = 0
_LOCAL, _REMOTE, _STATE, _UID, _INODE = 1, 2, 3, 7, 9  #: columns
_HELD = ("01", "08")  #: states (tcp_states.h): established, closed by the other end

End = tuple[str, int]  #: address literal and port


def is_own(client: End, server: End) -> bool:
    """Whether the socket `client`, connected to `server`, is of this user or of root."""
    return user_of(client, server, map(_lines, TABLES)) in (os.geteuid(), ROOT)


def user_of(client: End, server: End, tables: Iterable[list[str]]) -> int | None:
    """The user id of the socket bound to `client` and connected to `server`; None: there is none.

    A socket that its program closed does not count: the tables show such as root's, without an
    inode. Each of `tables` is a file's lines, the first of them a heading.
    """
    wanted = {(one, two) for one in _written(client) for two in _written(server)}
    for lines in tables:
        for line in lines[1:]:
            fields = line.split()
            if len(fields) <= _INODE or (fields[_LOCAL], fields[_REMOTE]) not in wanted:
                continue
            if fields[_STATE] in _HELD and fields[_INODE] != "0":
                return int(fields[_UID])
    return None


def _lines(table: Path) -> list[str]:
    with suppress(OSError):  # without IPv6 the second one is not there
        return table.read_text().splitlines()
    return []


def _written(end: End) -> list[str]:
    """How the tables write an end: words in this machine's byte order, then the port."""
    host, port = end
    written = []
    for family, prefix in ((socket.AF_INET, b""), (socket.AF_INET6, b""),
                           (socket.AF_INET, bytes(10) + b"\xff\xff")):  # fmt: skip
        with suppress(OSError):
            packed = prefix + socket.inet_pton(family, host)
            words = struct.unpack(f"={len(packed) // 4}I", packed)
            written.append(f"{''.join(f'{word:08X}' for word in words)}:{port:04X}")
    return written
