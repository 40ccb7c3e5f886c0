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
    """All that a folder shows, and how it shows it."""
    seen = {}
    for path, folders, files in os.walk(folder):
        at = os.path.relpath(path, folder)
        for name in folders:
            seen[at, name] = None
        for name in files:
            file = os.path.join(path, name)
            with open(file, "rb") as opened:
                seen[at, name] = opened.read(), os.stat(file).st_size
    return seen


def test_kernels_of_followers_show_what_is_new(world, followers):
    rng = random.Random(1)
    root = world.mountpoint
    for round_ in range(4):
        for number in range(6):
            file = root / f"file {rng.randrange(9)}"
            if not file.exists() or rng.random() < 0.5:
                file.write_bytes(rng.randbytes(rng.choice([3, 5_000, 300_000])))
            elif rng.random() < 0.5:
                os.truncate(file, rng.randrange(file.stat().st_size + 1))
            elif rng.random() < 0.5:
                file.rename(root / f"file {rng.randrange(9)}")
            else:
                file.unlink()
        (root / f"folder {round_}").mkdir()
        if round_:
            (root / f"folder {round_ - 1}").rmdir()
        wanted = look(root)
        world.run("sync", root)
        synced = time.monotonic()
        for follower in followers:
            until(lambda f=follower: look(f.mountpoint) == wanted, SOON, "a kernel shows what was")
        print(round_, time.monotonic() - synced, [f.status()["follows"] for f in followers] if "follows" in followers[0].status() else "")
