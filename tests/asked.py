"""What a mount says, asked by the test itself.

Whoever waits for something asks again and again: as a command, each time would cost a third of a
second of processor, of which the suite has two.
"""

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bitdustfs.mount.client import MountClient

AGAIN = 0.1  #: seconds until it is asked again


def status_said(home: Path, mountpoint: Path) -> dict[str, Any]:
    """As `bitdust status --json` says it."""
    return _answer(home, mountpoint, MountClient.status)


def suppliers_said(home: Path, mountpoint: Path) -> list[dict[str, Any]]:
    """As `bitdust suppliers --json` says it."""
    return _answer(home, mountpoint, MountClient.suppliers)["suppliers"]


def _answer(home: Path, mountpoint: Path, question):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BITDUST_HOME", str(home))
        return msgspec.to_builtins(question(MountClient(mountpoint)))


def until(happened, limit: float, otherwise: str = "it does not happen"):
    """What `happened` returns once it is true. Fails after `limit` seconds."""
    deadline = time.monotonic() + limit
    while not (found := happened()):
        assert time.monotonic() < deadline, otherwise
        time.sleep(AGAIN)
    return found
