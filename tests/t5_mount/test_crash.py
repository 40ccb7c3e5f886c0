"""Promises 2, 3 and 4 under kill -9: a few kills; scripts/crash does a hundred.

A run in which nothing was written before the kill does not count.
"""

import json
import os
import time

import pytest
from crash import Cycle

CYCLES = (
    ("block-append", "root-proposed", "fragment-acked", "fragment-put", "block-close", None),
    ("state-committed", None, "header-recorded", "root-accept", "root-published", None),
)
#: steps of suppliers that store, for two of them at once: with five others nobody is waited for
STORING = (
    ("shelf-write", "shelf-index"),
    ("shelf-sync", "shelf-indexed"),
    ("shelf-rename", "shelf-registered"),
)


@pytest.mark.slow
@pytest.mark.parametrize("points", CYCLES, ids=["first", "second"])
def test_promise_2_and_3_hold_whenever_the_mount_is_killed(world, points, long):
    points = points if long else points[:3]
    cycle = Cycle(world, seed=len(points[0]))
    for point in points:
        cycle.run(point)
    assert cycle.counted >= len(points) - 1


def test_promise_2_an_acknowledged_fragment_survives_kill_9_of_its_supplier(world):
    content = os.urandom(5_000_000)
    world.mount()
    (world.mountpoint / "file").write_bytes(content)
    world.run("sync", world.mountpoint)
    world.wait_until_nothing_is_owed()
    for number in range(7):
        world.kill_supplier(number)
    world.run("unmount", world.mountpoint, check=False)
    world.detach()
    world.start()
    world.mount(world.move_to("two"), "take-over")
    assert (world.mountpoint / "file").read_bytes() == content
    assert "nothing is wrong" in world.run("verify", world.mountpoint).stdout


@pytest.mark.parametrize("points", STORING, ids=["write", "sync", "rename"])
def test_promise_9_suppliers_killed_while_they_store_lose_nothing_acknowledged(world, points):
    for number in range(len(points)):
        world.stop_supplier(number)
        world.wait_supplier_ended(number)
    for number, point in enumerate(points):  # each is the next that does not run
        world.start(number + 1, environment={"BITDUST_FAILPOINTS": f"{point}=kill@3"})
    content = os.urandom(40_000_000)
    world.mount()
    (world.mountpoint / "file").write_bytes(content)
    world.run("sync", world.mountpoint)
    for number in range(len(points)):
        world.wait_supplier_ended(number)  # by its own hand
    world.start()
    world.wait_until_nothing_is_owed()
    assert "nothing is wrong" in world.run("verify", world.mountpoint).stdout
    world.run("unmount", world.mountpoint)


def test_a_supplier_killed_while_it_deletes_ends_with_the_block_deleted(world):
    for number in range(2):
        world.stop_supplier(number)
        world.wait_supplier_ended(number)
    world.start(environment={"BITDUST_FAILPOINTS": "shelf-killed=kill@1"})
    world.mount()
    (world.mountpoint / "kept").write_bytes(os.urandom(3_000_000))
    world.run("sync", world.mountpoint)
    (world.mountpoint / "file").write_bytes(os.urandom(40_000_000))
    world.run("sync", world.mountpoint)
    world.wait_until_nothing_is_owed()
    (world.mountpoint / "file").unlink()
    world.run("sync", world.mountpoint)
    for number in range(2):
        world.wait_supplier_ended(number)  # by its own hand, in the middle of a deletion
    world.start()
    deadline = time.monotonic() + 90
    while max(stored(world)) > 8_000_000:
        assert time.monotonic() < deadline, f"deleted data stays: {stored(world)}"
        time.sleep(0.5)
    assert "nothing is wrong" in world.run("verify", world.mountpoint).stdout
    world.run("unmount", world.mountpoint)


def stored(world):
    """Bytes of live fragments at each supplier, as they say themselves."""
    rows = json.loads(world.run("suppliers", world.mountpoint, "--json").stdout)
    return [row["stored"] for row in rows]
