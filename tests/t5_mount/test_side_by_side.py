"""A hundred small things on a mount, and on a plain folder beside it: both say the same."""

import os
from pathlib import Path

import pytest
from small_things import CASES, attributes, content, folders, names
from world import World

PARTS = (names, content, attributes, folders)  # each adds its cases


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A folder on a mount, and a plain one."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse, so nothing can be mounted")
    root = tmp_path_factory.mktemp("side by side")
    world, plain = World(root), root / "plain"
    plain.mkdir()
    try:
        world.start()
        world.create()
        world.mount()
        yield world.mountpoint, plain
    finally:
        world.close()


def test_promise_1_a_hundred_small_things_are_as_on_a_plain_folder(both):
    assert PARTS and len(CASES) >= 100
    wrong = []
    for name, function in CASES.items():
        seen = []
        for folder in both:
            place: Path = folder / name.replace("/", " ")[:60]
            place.mkdir()
            seen.append(function(place))
        if seen[0] != seen[1]:
            wrong.append(f"{name}: {seen[0]!r} on the mount, {seen[1]!r} beside it")
    assert not wrong, "\n".join(wrong)
