"""Two machines look at what a third one writes: their kernels show it within seconds."""

import os
import random
import threading
import time
from contextlib import suppress
from hashlib import blake2b

import pytest
from asked import status_said, until
from world import LIMIT

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


def sealed(number, rng):
    """Content that tells whether it is whole: its number, its length, and a check of both."""
    body = number.to_bytes(8, "big") + rng.randbytes(rng.randrange(90_000))
    return blake2b(body).digest() + body


def number_in(content):
    """Of which content it is. It has to be whole."""
    assert blake2b(content[64:]).digest() == content[:64], "half of one content, half of another"
    return int.from_bytes(content[64:72], "big")


class Walker(threading.Thread):
    """Looks at one follower all the time: each look has to be at one root, and none goes back."""

    def __init__(self, folder):
        super().__init__()
        self.folder, self.looks, self.newest, self.failure = folder, 0, {}, None
        self.ending = threading.Event()

    def run(self):
        try:
            while not self.ending.is_set():
                self.look()
                self.looks += 1
        except BaseException as error:
            self.failure = error

    def look(self):
        names = os.listdir(self.folder / "moving")
        assert len(names) == 1, f"a name that moves is there {len(names)} times"
        for number in range(4):
            with suppress(FileNotFoundError), open(self.folder / f"sealed {number}", "rb") as file:
                size = os.fstat(file.fileno()).st_size
                content = file.read()
                assert len(content) == size
                seen = number_in(content)
                assert seen >= self.newest.get(number, 0), "an older root than the one before"
                self.newest[number] = seen


def full_speed(world, followers, seconds):
    """Writes as fast as it goes while both are looked at; what is synced is seen in time."""
    rng, root = random.Random(2), world.mountpoint
    (root / "moving").mkdir()
    (root / "moving" / "0").touch()
    world.run("sync", root)
    for follower in followers:
        until(lambda f=follower: (f.mountpoint / "moving" / "0").exists(), SOON, "nothing is shown")
    walkers = [Walker(follower.mountpoint) for follower in followers]
    for walker in walkers:
        walker.start()
    number, lags, end = 0, [], time.monotonic() + seconds
    while time.monotonic() < end:
        pause = time.monotonic() + 1
        while time.monotonic() < pause:
            number += 1
            made = root / "made"
            made.write_bytes(sealed(number, rng))
            made.rename(root / f"sealed {number % 4}")
            (root / "moving" / f"{number - 1}").rename(root / "moving" / f"{number}")
        world.run("sync", root)
        synced, last = time.monotonic(), number
        for walker in walkers:
            until(
                lambda w=walker, n=last: w.failure or w.newest.get(n % 4, 0) >= n,
                SOON, "what is new is not shown",
            )  # fmt: skip
        lags.append(time.monotonic() - synced)
    for walker in walkers:
        walker.ending.set()
        walker.join(LIMIT)
        if walker.failure is not None:
            raise walker.failure
        assert walker.looks > seconds
    assert max(lags) < SOON


def a_listing_goes_on(world, follower):
    """A listing that began shows the names of then, each once, whatever is shown meanwhile."""
    there = world.mountpoint / "many"
    there.mkdir()
    names = {f"{number:03} {'x' * 80}" for number in range(900)}
    for name in names:
        (there / name).touch()
    world.run("sync", world.mountpoint)
    seen = follower.mountpoint / "many"
    until(seen.exists, SOON, "nothing is shown")
    with os.scandir(seen) as listing:
        listed = [next(listing).name]
        for name in names:
            (there / name).rename(there / name.replace("x", "y"))
        world.run("sync", world.mountpoint)
        after = {name.replace("x", "y") for name in names}
        until(lambda: set(os.listdir(seen)) == after, SOON, "the new names are not shown")
        listed += [entry.name for entry in listing]
    assert sorted(listed) == sorted(names)


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

    full_speed(world, followers, 60 if long else 6)

    a_listing_goes_on(world, two)

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
