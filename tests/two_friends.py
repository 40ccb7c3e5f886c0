"""Two friends keep one's data (1/2), and one of them is off: real processes and mounts.

Takes some minutes: after each mount, the first root waits a minute for the friend that is off. Says
what it does, and how long it took; fails where a promise is broken.
"""

import os
import tempfile
import time
from pathlib import Path

from world import World


def said(world, what, *words):
    """Runs a command, and prints how long it took."""
    began = time.monotonic()
    world.run(*words)
    print(f"{what}: {time.monotonic() - began:.1f} s", flush=True)


def state_of(path):
    return os.getxattr(path, "user.bitdust.state").decode()


def writes(world):
    """Whether the mount may be written."""
    try:
        (world.mountpoint / "probe").touch()
    except OSError:
        return False
    return True


def evenings(world):
    content = os.urandom(3_000_000)
    world.start(suppliers=2)
    world.create("1/2", "300M")
    world.mount()
    (world.mountpoint / "before").write_bytes(content)
    said(world, "both on: sync", "sync", world.mountpoint)
    world.kill_supplier(1)
    (world.mountpoint / "photo").write_bytes(content)
    said(world, "one killed: sync", "sync", world.mountpoint)
    assert state_of(world.mountpoint / "photo") == "published"
    said(world, "unmount", "unmount", world.mountpoint)
    said(world, "mount again", "mount", world.mountpoint)
    assert writes(world)
    (world.mountpoint / "another").write_bytes(content)
    said(world, "written again: unmount", "unmount", world.mountpoint)

    first, bootstrap = world.home, f"bootstrap={world.addresses[0]}"
    world.move_to("two")
    world.mount(bootstrap)
    assert (world.mountpoint / "photo").read_bytes() == content
    assert (world.mountpoint / "another").read_bytes() == content
    assert not writes(world)
    print("another machine, from the other friend alone: all is there, read-only", flush=True)
    world.run("unmount", world.mountpoint)

    world.start(suppliers=2)
    world.mount(bootstrap, "take-over")  # the lease's end was told to one of two
    assert (world.mountpoint / "another").read_bytes() == content
    (world.mountpoint / "elsewhere").write_bytes(content)
    said(world, "both on again, the other machine writes: unmount", "unmount", world.mountpoint)

    world.home = first
    world.mount()
    assert (world.mountpoint / "elsewhere").read_bytes() == content
    assert state_of(world.mountpoint / "elsewhere") == "published"
    assert writes(world)
    said(world, "the first machine again: unmount", "unmount", world.mountpoint)


def main():
    with tempfile.TemporaryDirectory() as root:
        world = World(Path(root))
        try:
            evenings(world)
        finally:
            world.close()
    print("everything is as promised")


if __name__ == "__main__":
    main()
