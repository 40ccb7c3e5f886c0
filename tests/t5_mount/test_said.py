"""What the commands say of a real mount while suppliers are away (each state: test_account.py)."""

import json
import os
import signal

import pytest
from asked import until
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


#: what is asked of a mount; the last one ends it
VERBS = "status", "status --check", "verify", "sync", "rebuild", "snapshot create", "unmount"


def codes(world, *verbs, mountpoint=None):
    """Exit codes of commands at a mount."""
    told = [world.run(*verb.split(), mountpoint or world.mountpoint, check=False) for verb in verbs]
    return [done.returncode for done in told]


@pytest.mark.slow
def test_exit_codes_say_what_is_true(five):
    """What is published is known here by what was done; for each state see test_account.py."""
    five.mount()
    (five.mountpoint / "old").write_bytes(b"o" * 10_000)
    said(five, "sync", 0)
    five.wait_until_nothing_is_owed()
    assert codes(five, *VERBS) == [0, 0, 0, 0, 0, 0, 0]  # all there
    for number in (0, 2):
        five.kill_supplier(number)
    five.mount()
    (five.mountpoint / "more").write_bytes(b"m" * 10_000)
    # enough to write: published, and two of five lack some of it
    assert codes(five, "sync", "verify", "rebuild", "snapshot create") == [0, 4, 3, 0]
    five.kill_supplier(3)
    (five.mountpoint / "new").write_bytes(b"n" * 10_000)
    assert "not published" in said(five, "unmount", 1)
    warned = five.mount().stderr  # two of five, to read: what is written stays here
    assert "2 of 5 suppliers answered" in warned and "not published" in warned
    assert os.getxattr(five.mountpoint / "new", "user.bitdust.state") == b"local"
    told = said(five, "status", 0)
    assert "only here" in told and "not published" in told and "silent" in told
    assert said(five, "verify", 4).count("could not be looked at: it does not answer") == 3
    assert "changes that are not published" in said(five, "sync", 1)
    assert codes(five, "status --check", "rebuild", "snapshot create") == [3, 1, 1]
    five.kill_supplier(1)  # fewer than k
    assert codes(five, "status --check", "verify", "sync") == [3, 4, 1]
    five.kill_supplier(4)  # nobody
    assert codes(five, "status --check", "sync", "rebuild", "snapshot create") == [3, 1, 1, 1]
    assert "changes that are not published" in said(five, "unmount", 1)
    assert "not published" in five.mount().stderr
    assert codes(five, "status --check", "sync", "unmount") == [3, 1, 1]
    five.start(5)
    five.mount()
    said(five, "sync", 0)
    five.wait_until_nothing_is_owed()
    assert codes(five, *VERBS[:-1]) == [0, 0, 0, 0, 0, 0]
    hold_taken_over(five)


def hold_taken_over(world):
    """Another machine takes the vault over while work is unpublished here."""
    words = world.run("key", "words").stdout
    other, folder = world.root / "two", world.root / "mnt2"
    folder.mkdir()
    world.run("key", "restore", home=other, stdin=words)
    bootstrap = f"bootstrap={world.addresses[0]}"
    held = world.run("mount", folder, "-o", bootstrap, home=other, check=False)
    assert held.returncode == 1 and "has this vault mounted" in held.stderr
    world.run("mount", folder, "-o", f"{bootstrap},take-over", home=other)
    (folder / "theirs").write_bytes(b"t" * 10_000)
    world.run("sync", folder, home=other)
    (world.mountpoint / "mine").write_bytes(b"m" * 10_000)
    assert "took this vault over" in said(world, "sync", 1)
    assert codes(world, *VERBS) == [0, 3, 0, 1, 1, 1, 1]
    world.run("unmount", folder, home=other)
    warned = world.mount().stderr
    assert "another machine published since" in warned
    assert codes(world, *VERBS) == [0, 3, 0, 1, 1, 1, 1]


def test_who_hangs_is_shown_silent_and_a_mount_ends_and_begins_all_the_same(world):
    """How long that takes: t4_volume/test_waits.py."""
    world.mount()
    (world.mountpoint / "file").write_bytes(b"x" * 100_000)
    said(world, "sync", 0)
    told = json.loads(world.run("status", world.mountpoint, "--risk", "--json").stdout)
    risk = told["risk"]
    assert 0 < risk["low"] < risk["chance"] < risk["high"] <= 1 and len(told["nights"]) == 1
    hung = [world.supplier_pid(number) for number in (1, 4)]
    try:
        for pid in hung:
            os.kill(pid, signal.SIGSTOP)

        def two_silent():
            shown = world.status()
            silent = sum(line["state"] != "online" for line in shown["suppliers"])
            return shown if silent == 2 else None

        shown = until(two_silent, 60)
        assert shown["may_lose"] == 1 and "1 more supplier" in " ".join(shown["safety"])
        assert shown["risk"]["chance"] == risk["chance"] and shown["risk"]["assumed"]
        (world.mountpoint / "new").write_bytes(b"n" * 100_000)
        said(world, "unmount", 0)
        world.mount()
        assert (world.mountpoint / "new").read_bytes() == b"n" * 100_000
        said(world, "unmount", 0)
    finally:
        for pid in hung:
            os.kill(pid, signal.SIGCONT)
