"""Real disks that are full: of the machine that mounts, and of suppliers."""

import errno
import json
import os
import random
import subprocess
import time

import pytest

root_only = pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a small tmpfs")


@pytest.fixture
def small_disk(request):
    mounted = []

    def make(folder, size):
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
        mounted.append(folder)

    yield make
    for folder in mounted:
        if os.path.ismount(folder):
            subprocess.run(["umount", "-l", folder], check=True)


@root_only
def test_promise_4_a_full_cache_disk_is_enospc_and_recovers(small_disk, world):
    disk = world.home / "vaults"
    small_disk(disk, "40m")
    world.mount()
    rng = random.Random(1)
    kept = rng.randbytes(8_000_000)
    (world.mountpoint / "kept").write_bytes(kept)
    world.run("sync", world.mountpoint)
    ballast = disk / "ballast"  # another program fills the disk
    with open(ballast, "wb") as file, pytest.raises(OSError):
        while True:
            file.write(bytes(1 << 20))
    with (
        pytest.raises(OSError) as caught,
        open(world.mountpoint / "too much", "wb", buffering=0) as file,
    ):
        for _ in range(60):
            file.write(rng.randbytes(1 << 20))
        os.fsync(file.fileno())
    assert caught.value.errno == errno.ENOSPC
    assert (world.mountpoint / "kept").read_bytes() == kept
    (world.mountpoint / "too much").unlink(missing_ok=True)  # its name may be refused already
    ballast.unlink()
    after = rng.randbytes(3_000_000)
    (world.mountpoint / "after").write_bytes(after)
    world.run("sync", world.mountpoint)
    assert (
        json.loads(world.run("status", world.mountpoint, "--json").stdout)["state"] == "published"
    )
    world.run("unmount", world.mountpoint)
    subprocess.run(["umount", "-l", disk], check=True)
    small_disk(disk, "400m")  # the machine is gone; the suppliers have all
    world.mount()
    assert (world.mountpoint / "kept").read_bytes() == kept
    assert (world.mountpoint / "after").read_bytes() == after
    assert "nothing is wrong" in world.run("verify", world.mountpoint).stdout


@root_only
def test_promise_4_a_disk_smaller_than_what_is_written_makes_room_by_itself(small_disk, world):
    """What the suppliers hold goes from here: the vault has room, so nothing is refused."""
    disk = world.home / "vaults"
    small_disk(disk, "80m")
    world.mount()
    files = {f"file {n}": random.Random(n).randbytes(20_000_000) for n in range(10)}
    for name, content in files.items():
        (world.mountpoint / name).write_bytes(content)
    world.run("sync", world.mountpoint)
    for name, content in files.items():
        assert (world.mountpoint / name).read_bytes() == content


@pytest.mark.slow
@root_only
def test_promise_4_deleting_and_syncing_work_while_another_program_fills_the_disk(
    small_disk, world
):
    disk = world.home / "vaults"
    small_disk(disk, "80m")
    world.mount()
    kept = random.Random(1).randbytes(8_000_000)
    (world.mountpoint / "kept").write_bytes(kept)
    for number in range(300):
        (world.mountpoint / f"small {number}").write_bytes(kept[number : number + 5000])
    world.run("sync", world.mountpoint)
    ballast = disk / "ballast"
    with open(ballast, "wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(1 << 12))
    for number in range(300):
        (world.mountpoint / f"small {number}").unlink()
    folder = os.open(world.mountpoint, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    world.run("sync", world.mountpoint)
    with pytest.raises(OSError) as caught, open(world.mountpoint / "new", "wb") as file:
        file.write(kept)
    assert caught.value.errno == errno.ENOSPC
    (world.mountpoint / "new").unlink(missing_ok=True)  # its name may have been taken
    ballast.unlink()
    assert (world.mountpoint / "kept").read_bytes() == kept
    deadline = time.monotonic() + 30
    while not any((disk).glob("*/reserve")):  # taken again, for the next time
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (world.mountpoint / "after").write_bytes(kept)
    world.run("sync", world.mountpoint)
    world.run("unmount", world.mountpoint)
    world.mount(world.move_to("two"))
    assert sorted(os.listdir(world.mountpoint)) == ["after", "kept"]
    assert (world.mountpoint / "kept").read_bytes() == kept


@root_only
def test_promise_9_two_suppliers_with_full_disks_stop_nobody(small_disk, world):
    for number in (1, 4):
        world.stop_supplier(number)
        world.wait_supplier_ended(number)
        store = world.supplier(number) / "store"
        saved = store.with_name("saved")
        store.rename(saved)
        small_disk(store, "3m")
        subprocess.run(f"cp -a {saved}/. {store}/", shell=True, check=True)
    world.start()
    world.mount()
    content = random.Random(2).randbytes(20_000_000)
    (world.mountpoint / "file").write_bytes(content)
    world.run("sync", world.mountpoint)
    status = json.loads(world.run("status", world.mountpoint, "--json").stdout)
    refusing = [s["last_error"] for s in status["suppliers"] if "no-space" in s["last_error"]]
    assert len(refusing) == 2
    world.run("unmount", world.mountpoint)
    world.mount(world.move_to("two"))
    assert (world.mountpoint / "file").read_bytes() == content
