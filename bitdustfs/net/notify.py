"""What systemd is told of a service: sd_notify(3), a datagram to the socket $NOTIFY_SOCKET.

Where that is not set nothing is sent. A manager that does not listen stops nobody.
"""

import logging
import os
import socket
import time

log = logging.getLogger(__name__)

SOCKET = "NOTIFY_SOCKET"
STATUS_MAX = 1000  #: characters of a status line


def listened() -> bool:
    """Whether somebody wants to be told."""
    return bool(os.environ.get(SOCKET))


def notify(*words: str) -> None:
    """Sends NAME=VALUE words in one datagram."""
    address = os.environ.get(SOCKET, "")
    if not address:
        return
    if address.startswith("@"):  # the abstract namespace
        address = f"\0{address[1:]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
        try:
            out.setblocking(False)
            out.sendto("\n".join(words).encode(errors="replace"), address)
        except OSError as error:
            log.info("the service manager does not listen: %s", error)


def ready(status: str) -> None:
    """It works, or works again after `reloading`."""
    notify("READY=1", status_word(status))


def reloading() -> None:
    """It reads its configuration; `ready` follows."""
    microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify("RELOADING=1", f"MONOTONIC_USEC={microseconds}")


def stopping(status: str) -> None:
    """It ends, which may take a while."""
    notify("STOPPING=1", status_word(status))


def status_word(status: str) -> str:
    """One line for `systemctl status`."""
    return f"STATUS={' '.join(status.split())[:STATUS_MAX]}"
