"""A laptop without a network: what is pinned is here, it writes, and publishes when it is back."""

import errno
import json
import os
import random
import subprocess
import time

import pytest
from asked import until

LIMIT = 60
AT_ONCE = 2  #: seconds within which what is not here is an error


def stop_all(world):
    for number in range(7):
        world.stop_supplier(number)
    for number in range(7):
        world.wait_supplier_ended(number)


def make_tree(root):
    rng = random.Random(7)
    for folder in (root / "photos" / "2026" / "june", root / "other"):
        folder.mkdir(parents=True)
        for number in range(6):
            (folder / f"file {number}").write_bytes(rng.randbytes(rng.randrange(400_000)))
            (folder / f"note {number}").write_bytes(rng.randbytes(rng.randrange(500)))


def same(one, other):
    subprocess.run(["diff", "-r", one, other], check=True, timeout=LIMIT)


def fails_at_once(path):
    began = time.monotonic()
    with pytest.raises(OSError) as caught:
        path.read_bytes()
    assert caught.value.errno == errno.EIO
    assert time.monotonic() - began < AT_ONCE


def write_and_sync(path, content):
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@pytest.fixture
def laptop(world, tmp_path):
    """A machine that pinned a folder of what another one wrote, and then lost its network."""
    make_tree(tmp_path / "tree")
    world.mount()
    for name in ("photos", "other"):
        subprocess.run(["cp", "-a", tmp_path / "tree" / name, world.mountpoint], check=True)
    world.run("unmount", world.mountpoint)
    world.mount(world.move_to("laptop"))
    os.listdir(world.mountpoint / "other")  # its names are here, its content is not
    said = world.run("pin", world.mountpoint / "photos").stdout
    assert "15 files and folders" in said and "all here" in said
    world.run("unmount", world.mountpoint)
    stop_all(world)
    return world


def test_promise_10_a_pinned_folder_is_read_and_written_on_a_train_and_published_or_kept(
    laptop, tmp_path
):
    said = laptop.mount().stderr
    assert "offline: " in said and "files and folders are here" in said
    photos = laptop.mountpoint / "photos"
    same(tmp_path / "tree" / "photos", photos)
    subprocess.run(["ls", "-lR", photos], check=True, timeout=LIMIT, stdout=subprocess.DEVNULL)
    for number in range(3):
        fails_at_once(laptop.mountpoint / "other" / f"file {number}")
    write_and_sync(photos / "new", b"n" * 300_000)
    assert laptop.status()["verdict"].startswith("NOT safe: ")
    assert "offline: " in laptop.status()["verdict"]
    [line] = json.loads(laptop.run("pins", laptop.mountpoint, "--json").stdout)["pins"]
    assert line["path"] == "photos" and line["complete"]
    left = laptop.run("unmount", laptop.mountpoint, check=False)
    assert left.returncode and "changes that are not published" in left.stderr
    laptop.mount()
    assert (photos / "new").read_bytes() == b"n" * 300_000
    laptop.start()
    until(lambda: laptop.status()["judged"] == "safe", LIMIT, "it is not published")
    assert (laptop.mountpoint / "other" / "file 0").read_bytes()
    assert "is unmounted and published" in laptop.run("unmount", laptop.mountpoint).stdout
    laptop.home = laptop.root / "one"
    laptop.mount()
    same(tmp_path / "tree" / "other", laptop.mountpoint / "other")
    assert (laptop.mountpoint / "photos" / "new").read_bytes() == b"n" * 300_000
    laptop.run("unmount", laptop.mountpoint)
    keeps_beside_another_machine_s(laptop)


def keeps_beside_another_machine_s(laptop):
    """On the next train another machine writes meanwhile: nothing is merged, nothing is lost."""
    mine, other = laptop.root / "laptop", laptop.home
    laptop.home = mine
    laptop.mount()
    laptop.run("unmount", laptop.mountpoint)  # it wrote last
    stop_all(laptop)
    laptop.mount()
    write_and_sync(laptop.mountpoint / "photos" / "mine", b"m" * 300_000)
    laptop.run("unmount", laptop.mountpoint, check=False)
    laptop.start()
    laptop.home = other
    laptop.mount()
    (laptop.mountpoint / "theirs").write_bytes(b"t" * 300_000)
    laptop.run("unmount", laptop.mountpoint)
    laptop.home = mine
    assert "holds work that it had not published" in laptop.mount().stderr
    assert (laptop.mountpoint / "photos" / "mine").read_bytes() == b"m" * 300_000
    with pytest.raises(OSError) as caught:
        (laptop.mountpoint / "more").touch()
    assert caught.value.errno == errno.EROFS


def test_pins_are_of_this_machine_and_refuse_what_cannot_be_pinned(world):
    world.mount()
    folder = world.mountpoint / "folder"
    folder.mkdir()
    (folder / "file").write_bytes(b"f" * 200_000)
    os.setxattr(folder, "user.bitdust.pin", b"1")
    until(lambda: world.status()["pins"][0]["complete"], LIMIT, "it is not here")
    assert os.getxattr(folder, "user.bitdust.pin") == b"pinned"
    assert os.getxattr(folder / "file", "user.bitdust.pin") == b"below"
    os.removexattr(folder, "user.bitdust.pin")
    assert "nothing is pinned" in world.run("pins", world.mountpoint).stdout
    world.run("snapshot", "create", world.mountpoint, "now")
    refused = world.run("pin", world.mountpoint / ".snapshots" / "now" / "folder", check=False)
    assert refused.returncode and "cannot be pinned" in refused.stderr
    with pytest.raises(OSError) as caught:
        os.setxattr(world.mountpoint / ".snapshots" / "now", "user.bitdust.pin", b"1")
    assert caught.value.errno == errno.EROFS
    world.run("pin", folder)
    folder.rename(world.mountpoint / "renamed")
    assert "all here" in world.run("pins", world.mountpoint).stdout
    assert "is not pinned any more" in world.run("unpin", world.mountpoint / "renamed").stdout
    refused = world.run("unpin", world.mountpoint / "renamed", check=False)
    assert refused.returncode and "is not pinned" in refused.stderr
