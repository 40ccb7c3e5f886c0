"""What the commands say of a real mount while suppliers are away (each state: test_account.py)."""

import json
import os
import signal
import time

import pytest
from world import World


@pytest.fixture
def five(tmp_path):
    """Five suppliers, of whom any two are enough to read, and three to write."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse, so nothing can be mounted")
    made = World(tmp_path)
    made.start(5)
    made.create("2/5")
    yield made
    made.close()


def said(world, verb, code):
    done = world.run(verb, world.mountpoint, check=False)
    assert done.returncode == code, (verb, done.stdout, done.stderr)
    return done.stdout + done.stderr


def test_what_is_only_here_is_not_said_to_be_published(five):
    five.mount()
    (five.mountpoint / "old").write_bytes(b"o" * 10_000)
    said(five, "sync", 0)
    five.wait_until_nothing_is_owed()
    for number in (0, 2, 3):
        five.kill_supplier(number)
    (five.mountpoint / "new").write_bytes(b"n" * 10_000)
    assert "not published" in said(five, "unmount", 1)
    warned = five.mount().stderr  # two of five: only to look
    assert "2 of 5 suppliers answered" in warned and "not published" in warned
    assert os.getxattr(five.mountpoint / "new", "user.bitdust.state") == b"local"
    told = said(five, "status", 0)
    assert "read-only" in told and "not published" in told and "silent" in told
    assert said(five, "verify", 4).count("could not be looked at: it does not answer") == 3
    for verb in ("sync", "unmount"):
        assert "changes that are not published" in said(five, verb, 1)


def seconds_of_ending_twice(world):
    began = time.monotonic()
    said(world, "unmount", 0)
    world.mount()
    said(world, "unmount", 0)
    return time.monotonic() - began


def test_who_hangs_is_shown_silent_and_the_end_of_a_mount_does_not_wait(world):
    world.mount()
    (world.mountpoint / "file").write_bytes(b"x" * 100_000)
    said(world, "sync", 0)
    told = json.loads(world.run("status", world.mountpoint, "--risk", "--json").stdout)
    risk = told["risk"]
    assert 0 < risk["low"] < risk["chance"] < risk["high"] <= 1 and len(told["nights"]) == 1
    well = seconds_of_ending_twice(world)
    world.mount()
    hung = [world.supplier_pid(number) for number in (1, 4)]
    try:
        for pid in hung:
            os.kill(pid, signal.SIGSTOP)
        shown, deadline = {"suppliers": []}, time.monotonic() + 20
        while sum(line["state"] != "online" for line in shown["suppliers"]) != 2:
            assert time.monotonic() < deadline, shown["suppliers"]
            shown = world.status()
        assert shown["may_lose"] == 1 and "1 more supplier" in " ".join(shown["safety"])
        assert shown["risk"]["chance"] == risk["chance"] and shown["risk"]["assumed"]
        # it was 40 in all; a busy machine takes longer for both
        assert seconds_of_ending_twice(world) < 20 + 2 * well
    finally:
        for pid in hung:
            os.kill(pid, signal.SIGCONT)
