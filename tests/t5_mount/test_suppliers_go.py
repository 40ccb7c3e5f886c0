"""Suppliers go for good, with the owner's machine there: others are hired and filled."""

import os
import random
import shutil
import subprocess
import time

import pytest

LIMIT = 200


def suppliers(world):
    return world.rows()


def wait_for_family(world, gone):
    """Until the address `gone` is in the family no more."""
    deadline = time.monotonic() + LIMIT
    while gone in {row["address"] for row in suppliers(world)}:
        assert time.monotonic() < deadline, "the supplier is not replaced"
        time.sleep(0.5)


@pytest.mark.slow
def test_promise_6_originals_lost_one_after_the_other_are_replaced_by_themselves(
    world, tmp_path, long
):
    world.start(14)
    world.mount()
    copy = tmp_path / "copy"
    make_tree(copy, seed=5)
    subprocess.run(["cp", "-a", copy, world.mountpoint / "copy"], check=True, timeout=LIMIT)
    world.run("sync", world.mountpoint)
    world.wait_until_nothing_is_owed()
    world.run("vault", "set", world.mountpoint, "patience=3s")
    originals = [row["address"] for row in suppliers(world)][: 7 if long else 3]
    for victim in originals:
        number = world.addresses.index(victim)
        world.kill_supplier(number)
        shutil.rmtree(world.supplier(number) / "store")
        wait_for_family(world, victim)
        subprocess.run(["diff", "-r", copy, world.mountpoint / "copy"], check=True, timeout=LIMIT)
        assert "nothing is wrong" in world.run("verify", world.mountpoint).stdout
    assert not {row["address"] for row in suppliers(world)} & set(originals)
    assert all(row["state"] == "online" for row in suppliers(world))
    assert "you can lose 3 more" in world.run("status", world.mountpoint).stdout
    health = os.getxattr(world.mountpoint / "copy" / "file 0", "user.bitdust.health")
    assert health == b"3"
    bootstrap = suppliers(world)[1]["address"]  # a newcomer
    world.run("unmount", world.mountpoint)
    world.move_to("two")
    world.mount(f"bootstrap={bootstrap}")
    subprocess.run(["diff", "-r", copy, world.mountpoint / "copy"], check=True, timeout=LIMIT)


def make_tree(root, seed):
    """A few megabytes of files and folders."""
    rng = random.Random(seed)
    for number in range(12):
        folder = root / f"folder {number % 3}" if number % 2 else root
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file {number}").write_bytes(rng.randbytes(rng.randrange(2_000_000)))


def test_a_position_is_given_to_a_named_supplier(world):
    world.start(8)
    world.mount()
    content = random.Random(9).randbytes(5_000_000)
    (world.mountpoint / "file").write_bytes(content)
    world.run("sync", world.mountpoint)
    family = {row["address"] for row in suppliers(world)}
    [outside] = [a for a in world.addresses if a not in family]
    fired = suppliers(world)[4]["address"]
    refused = world.run("supplier", "replace", world.mountpoint, 9, check=False)
    assert refused.returncode == 1 and "no position 9" in refused.stderr
    world.run("supplier", "replace", world.mountpoint, 4, "--with", outside)
    assert suppliers(world)[4]["address"] == outside
    world.run("unmount", world.mountpoint)
    for address in [fired, *[a for a in family if a != fired][:2]]:
        world.stop_supplier(world.addresses.index(address))
    world.move_to("two")
    world.mount(f"bootstrap={outside}")
    assert (world.mountpoint / "file").read_bytes() == content


def test_bitdust_rebuild_makes_what_a_wiped_supplier_lost(world):
    world.start(8)
    world.mount()
    content = random.Random(3).randbytes(20_000_000)
    (world.mountpoint / "file").write_bytes(content)
    world.run("sync", world.mountpoint)
    world.wait_until_nothing_is_owed()
    world.run("unmount", world.mountpoint)
    world.kill_supplier(2)
    for fragment in (world.supplier(2) / "store" / "shelf").rglob("*.?"):
        fragment.unlink()
    world.start()
    world.forget_cache()  # nothing can be made from local copies
    world.mount("take-over")
    world.run("verify", world.mountpoint, check=False)
    report = world.run("rebuild", world.mountpoint).stdout
    assert "you can lose 3 more" in report
    assert "nothing is wrong" in world.run("verify", world.mountpoint).stdout
    assert (world.mountpoint / "file").read_bytes() == content
