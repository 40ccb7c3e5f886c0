"""A line on which an upload takes minutes: nobody waits without a sentence and a choice.

It takes so long that no part of it is done before a test is over, also on a busy machine.
"""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from world import LIMIT, World

CAP = "bandwidth=up:16K"
RATE = 16 << 10
CONTENT = os.urandom(6 << 20)  # twice that for 1/2: no fragment is there before 13 minutes
SOON = 100  # seconds: the end of a mount may take two minutes


@pytest.fixture
def slow(tmp_path):
    """A vault of 1/2; it is mounted with more to upload than can soon be done."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse, so nothing can be mounted")
    made = World(tmp_path)
    made.start(suppliers=2)
    made.create("1/2", "300M")
    made.mount(CAP)
    made.run("sync", made.mountpoint)
    made.sent_before = received(made)
    made.since = time.monotonic()
    (made.mountpoint / "photo").write_bytes(CONTENT)
    yield made
    made.close()


def received(world):
    """Bytes of fragments that the suppliers got."""
    told = (
        world.run("supplier", "status", "--dir", world.supplier(number), "--json").stdout
        for number in (0, 1)
    )
    return sum(json.loads(said)["received"] for said in told)


def all_there(world):
    """The next mount, without a bound, publishes the rest."""
    world.mount()
    assert (world.mountpoint / "photo").read_bytes() == CONTENT
    assert "everything written so far is published" in world.run("sync", world.mountpoint).stdout
    world.wait_until_nothing_is_owed()
    said = world.run("unmount", world.mountpoint).stdout
    assert said.startswith("safe: ")


def test_a_bound_holds_for_a_mount_and_sync_ends_when_its_time_is_over(slow):
    done = slow.run("sync", slow.mountpoint, "--once", "--for", "2s", check=False)
    assert done.returncode == 3 and done.stdout.count("\n") == 1
    assert done.stdout.startswith("NOT safe yet: 6.0 MiB only here")
    assert "published as soon as suppliers take it" in done.stdout
    passed = time.monotonic() - slow.since
    assert received(slow) - slow.sent_before <= RATE * (passed + 1)
    status = json.loads(slow.run("status", slow.mountpoint, "--json").stdout)
    assert status["bandwidth"] == "up:16K"


def test_unmounting_says_how_long_it_takes_and_leaves_the_rest_where_that_is_wanted(slow):
    words = [sys.executable, "-m", "bitdustfs.cli.main", "unmount", str(slow.mountpoint)]
    environment = {**os.environ, "BITDUST_HOME": str(slow.home)}
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as unmounting:
        said = unmounting.stderr.readline()
        assert said.startswith("NOT safe yet: 6.0 MiB only here; at this rate (")
        said = unmounting.stderr.readline()
        assert "Ctrl-C leaves it mounted" in said and "unmount --now" in said
        unmounting.send_signal(signal.SIGINT)
        said = unmounting.stderr.read()
        assert unmounting.wait(LIMIT) == 130 and "the mount goes on by itself" in said
    assert os.path.ismount(slow.mountpoint)
    began = time.monotonic()
    done = slow.run("unmount", "--now", slow.mountpoint, check=False)
    assert time.monotonic() - began < SOON
    assert done.returncode == 1 and not os.path.ismount(slow.mountpoint)
    assert "published by the next mount here" in done.stderr
    all_there(slow)


def test_at_sigterm_what_cannot_be_done_in_time_is_left_at_once(slow):
    pid = slow.mount_pid()
    began = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    while slow.find_mount() == pid:
        assert time.monotonic() - began < SOON
        time.sleep(0.2)
    assert "is sent in" in slow.log() or "left are sent in" in slow.log()
    all_there(slow)


def test_after_a_kill_the_next_mount_goes_on(slow):
    with open(slow.mountpoint / "photo", "rb+") as file:
        os.fsync(file.fileno())
    slow.kill_mount()
    before = received(slow)
    all_there(slow)
    sent = received(slow) - before
    assert 1.9 * len(CONTENT) < sent < 2.5 * len(CONTENT)
    slow.mount()
    slow.run("sync", slow.mountpoint)
    slow.run("unmount", slow.mountpoint)
    assert received(slow) - before - sent < len(CONTENT) / 2  # not again
