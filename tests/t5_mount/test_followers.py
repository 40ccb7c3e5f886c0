"""Two machines look at what a third one writes: their kernels show it within seconds."""

import os
import random
import time

import pytest
from asked import status_said, until

SOON = 3.0  #: seconds from a root to its being shown


class Follower:
    """A machine with the words alone, that mounts read-only."""

    def __init__(self, world, name):
        self.world, self.home = world, world.root / name
        self.mountpoint = world.root / f"mnt of {name}"
        self.mountpoint.mkdir()
        words = world.run("key", "words").stdout
        world.run("key", "restore", home=self.home, stdin=words)
        bootstrap = f"bootstrap={world.addresses[-1]}"
        world.run("mount", self.mountpoint, "-o", "ro", "-o", bootstrap, home=self.home)

    def status(self):
        return status_said(self.home, self.mountpoint)

    def close(self):
        self.world.run("unmount", self.mountpoint, home=self.home)


@pytest.fixture
def followers(world):
    world.mount()
    world.run("sync", world.mountpoint)
    made = [Follower(world, name) for name in ("two", "three")]
    yield made
    for follower in made:
        follower.close()


def look(folder):
    """All that a folder shows, and how it shows it; None where it changed meanwhile."""
    seen = {}
    for path, folders, files in os.walk(folder):
        at = os.path.relpath(path, folder)
        for name in folders:
            seen[at, name] = os.stat(os.path.join(path, name)).st_nlink
        for name in files:
            file = os.path.join(path, name)
            try:
                with open(file, "rb") as opened:
                    seen[at, name] = opened.read(), os.stat(file).st_size
            except OSError:
                return None
    return seen


def write(root, rng, number):
    """Some changes of every kind."""
    for _ in range(6):
        file = root / f"file {rng.randrange(9)}"
        if not file.exists() or rng.random() < 0.5:
            file.write_bytes(rng.randbytes(rng.choice([3, 5_000, 300_000])))
        elif rng.random() < 0.5:
            os.truncate(file, rng.randrange(file.stat().st_size + 1))
        elif rng.random() < 0.5:
            file.rename(root / f"file {rng.randrange(9)}")
        else:
            file.unlink()
    (root / f"folder {number}").mkdir()
    if number:
        (root / f"folder {number - 1}").rmdir()


def shows(follower, wanted, within=SOON):
    until(lambda: look(follower.mountpoint) == wanted, within, "a kernel shows what was")


def test_kernels_of_followers_show_what_is_new(world, followers, long):
    rng, root = random.Random(1), world.mountpoint
    lags = []
    for number in range(60 if long else 4):
        write(root, rng, number)
        wanted = look(root)
        world.run("sync", root)
        synced = time.monotonic()
        for follower in followers:
            shows(follower, wanted)
        lags.append(time.monotonic() - synced)
    assert max(lags) < SOON
    two = followers[0]
    said = world.run("status", two.mountpoint, home=two.home).stdout
    assert f"follows: root {two.status()['follows']['root']}, published " in said

    kept = root / "kept open"
    kept.write_bytes(b"read on" * 50_000)
    world.run("sync", root)
    shows(two, look(root))
    with open(two.mountpoint / "kept open", "rb") as opened:
        assert opened.read(7) == b"read on"
        kept.unlink()
        world.run("sync", root)
        shows(two, look(root))
        assert os.fstat(opened.fileno()).st_nlink == 0
        assert opened.read() == b"read on" * 49_999
