"""All suppliers of a vault move over night, some to each other's addresses, some to IPv6 alone."""

import os
import random
import subprocess
import sys
import time

import pytest
from asked import until
from hosts import LIMIT, Hosts, missing

STAYS = ("10.77.0.6:4000", "[fd77::6]:4000")  #: a node of the network that keeps no fragments
BEFORE = {1: "10.77.0.2/24", 2: "10.77.0.3/24", 3: "10.77.0.4/24", 4: "10.77.0.5/24"}
#: one is where another was before; two have no IPv4 address any more
OVER_NIGHT = {1: "10.77.0.3/24", 2: "10.77.0.102/24", 3: "fd77::103/64", 4: "fd77::104/64"}
LATER = {1: "fd77::201/64", 2: "10.77.0.2/24", 3: "10.77.0.203/24", 4: "10.77.0.204/24"}


class Moving(Hosts):
    """Four suppliers that listen at whatever addresses they have, and a node that stays."""

    def __init__(self, root):
        super().__init__(root, 5, "m")
        self.at = dict(BEFORE)

    def begin(self):
        self.lay()
        for host in (0, 5):
            self.address(host, "add", f"fd77::{host + 1}/64")
        joined = [word for address in STAYS for word in ("--bootstrap", address)]
        self.start(5, "--listen", "[::]:4000")
        for host in BEFORE:
            self.start(host, "--listen", "[::]:4000", *joined)

    def create(self):
        words = ["vault", "create", "--ecc", "2/4", "--space", "4G", "--bootstrap", STAYS[0]]
        words += [word for host in BEFORE for word in ("--supplier", self.dialled(host))]
        deadline = time.monotonic() + LIMIT
        while (done := self.on(0, *words, check=False)).returncode:
            assert time.monotonic() < deadline, done.stderr
            time.sleep(0.5)

    def dialled(self, host):
        literal = self.at[host].partition("/")[0]
        return f"[{literal}]:4000" if ":" in literal else f"{literal}:4000"

    def move(self, everybody):
        for host in everybody:
            self.address(host, "del", self.at[host])
        for host, address in everybody.items():
            self.address(host, "add", address)
        self.at |= everybody

    def wait_until_all_are_found(self):
        """By the running mount, each where it is now."""
        there = [(self.dialled(host), "online") for host in BEFORE]
        until(
            lambda: [(row["address"], row["state"]) for row in self.rows()] == there, LIMIT,
            "somebody is not found",
        )  # fmt: skip

    def wait_until_writable(self):
        until(lambda: not self.status()["read_only"], LIMIT, "the mount stays read-only")

    def assert_nobody_was_judged(self, nodes):
        rows = self.rows()
        assert [row["node"] for row in rows] == nodes
        assert not any(row["gone"] or row["audits_failed"] or row["damaged"] for row in rows)
        said = self.on(0, "rebuild", self.mountpoint).stdout
        assert "0 fragments were made again, 0 suppliers replaced" in said


@pytest.fixture
def moving(tmp_path):
    if why := missing():
        pytest.skip(why)
    made = Moving(tmp_path)
    try:
        made.begin()
        made.create()
        yield made
    finally:
        made.close()


def test_promise_6_all_suppliers_move_and_everything_goes_on_and_nothing_is_replaced(moving):
    first, second, third = (random.Random(n).randbytes(2_000_000) for n in range(3))
    mountpoint = moving.mountpoint
    moving.on(0, "mount", mountpoint)
    (mountpoint / "before").write_bytes(first)
    moving.on(0, "sync", mountpoint)
    nodes = [row["node"] for row in moving.rows()]

    moving.move(OVER_NIGHT)  # the mount goes on
    (mountpoint / "after").write_bytes(second)
    moving.on(0, "sync", mountpoint)
    moving.wait_until_all_are_found()
    moving.wait_until_nothing_is_owed()
    assert os.getxattr(mountpoint / "after", "user.bitdust.state") == b"published"
    moving.assert_nobody_was_judged(nodes)
    moving.on(0, "unmount", mountpoint)

    moving.move(LATER)  # nobody is there to see it
    moving.on(0, "mount", mountpoint)  # by what it remembers of the network
    moving.wait_until_writable()  # at once, unless one of three was not found yet
    (mountpoint / "later").write_bytes(third)
    moving.on(0, "sync", mountpoint)
    moving.wait_until_all_are_found()
    said = moving.on(0, "supplier", "replace", mountpoint, 1, "--with", moving.dialled(2)).stdout
    assert "keeps its supplier" in said
    moving.assert_nobody_was_judged(nodes)
    moving.on(0, "unmount", mountpoint)

    key = moving.on(0, "key", "words").stdout  # and a machine that knows nothing
    subprocess.run(
        [sys.executable, "-m", "bitdustfs.cli.main", "key", "restore"], input=key, text=True,
        env={**os.environ, "BITDUST_HOME": str(moving.root / "two")}, timeout=LIMIT, check=True,
        capture_output=True,
    )  # fmt: skip
    moving.on(0, "mount", mountpoint, "-o", f"bootstrap={STAYS[0]}", home="two")
    read = [(mountpoint / name).read_bytes() for name in ("before", "after", "later")]
    assert read == [first, second, third]
    moving.on(0, "unmount", mountpoint, home="two")
