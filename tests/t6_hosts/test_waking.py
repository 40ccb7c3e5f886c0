"""A laptop sleeps and wakes up elsewhere: no hook tells the mount, and it goes on within seconds.

As its process sees that (clock_gettime(2): CLOCK_MONOTONIC stands still while a machine sleeps): in
one moment the time of day jumps and the address is another one. What is stopped by a signal sees
its other clocks run on as well.
"""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from hosts import LIMIT, Hosts, ip, missing
from world import mount_process

HOURS = 3600
PROMPT = 15  #: seconds; the kernel gives a connection up after 20


class Laptop(Hosts):
    """Host 0 sleeps. Its clock is the file `later`, what it runs sees that."""

    def __init__(self, root):
        super().__init__(root, 2, "w")
        self.clock, self.last = root / "later", 1
        self.jump(0)

    def jump(self, seconds):
        """The time of day, from now on."""
        with open(self.clock, "r+b" if self.clock.exists() else "wb") as file:
            file.write(seconds.to_bytes(8, "little", signed=True))

    def move(self):
        """Another network, as far as addresses tell."""
        before, self.last = self.last, self.last + 100
        self.address(0, "add", f"10.77.0.{self.last}/24")
        self.address(0, "del", f"10.77.0.{before}/24")
        if f"10.77.0.{self.last}/" not in ip("-n", f"{self.name}h0", "addr").stdout:
            self.address(0, "add", f"10.77.0.{self.last}/24")  # it went with the first


@pytest.fixture
def laptop(tmp_path, monkeypatch):
    if why := missing():
        pytest.skip(why)
    made, library = Laptop(tmp_path), tmp_path / "later.so"
    source = Path(__file__).parents[1] / "later.c"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True, timeout=LIMIT
    )
    try:
        made.lay()
        addresses = [f"10.77.0.{host + 1}:4000" for host in (1, 2)]
        for host in (1, 2):
            made.start(host)
        words = [word for address in addresses for word in ("--supplier", address)]
        deadline = time.monotonic() + LIMIT
        while (
            done := made.on(0, "vault", "create", "--space", "1G", *words, check=False)
        ).returncode:
            assert time.monotonic() < deadline, done.stderr
            time.sleep(0.5)
        with monkeypatch.context() as patch:
            patch.setenv("LATER", str(made.clock))
            patch.setenv("LD_PRELOAD", str(library))
            made.on(0, "mount", made.mountpoint, "-o", "lan=off")
        yield made
    finally:
        made.close()


def published_within(laptop, name, seconds):
    """Something is written, and soon at both suppliers; who has not answered is not blamed."""
    (laptop.mountpoint / name).write_bytes(random.Random(name).randbytes(1_000_000))
    began = time.monotonic()
    laptop.on(0, "sync", laptop.mountpoint)
    laptop.wait_until_nothing_is_owed()
    assert time.monotonic() - began < seconds
    for row in laptop.rows():
        assert row["state"] == "online" and not row["gone"] and not row["audits_failed"], row


def test_promise_11_a_machine_that_slept_and_moved_goes_on_within_seconds(laptop):
    published_within(laptop, "before", LIMIT)
    for jump in (9 * HOURS, -3 * HOURS):  # a night; and a clock that was wrong before
        laptop.jump(jump)
        laptop.move()
        published_within(laptop, f"after-{jump}", PROMPT)
    pid = mount_process(laptop.root / "one", laptop.mountpoint)
    laptop.cut([0], False)
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(12)  # longer than a call may take
        laptop.jump(33 * HOURS)
    finally:
        laptop.cut([0], True)
        os.kill(pid, signal.SIGCONT)
    published_within(laptop, "at-last", PROMPT)
    said = laptop.on(0, "rebuild", laptop.mountpoint).stdout
    assert "0 fragments were made again, 0 suppliers replaced" in said
    assert "is unmounted and published" in laptop.on(0, "unmount", laptop.mountpoint).stdout
