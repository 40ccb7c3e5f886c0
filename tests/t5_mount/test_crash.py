"""Promises 2, 3 and 4 under kill -9: a dozen kills; scripts/crash does a hundred.

A run in which nothing was written before the kill does not count.
"""

import os

import pytest
from crash import Cycle

CYCLES = (
    ("block-append", "fragment-put", None, "root-accept"),
    ("block-close", "state-committed", "root-propose", None),
    ("header-record", "root-accepted", None, "fragment-acked"),
)


@pytest.mark.parametrize("points", CYCLES, ids=["first", "second", "third"])
def test_promise_2_and_3_hold_whenever_the_mount_is_killed(world, points):
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


@pytest.mark.parametrize(
    "point", ["shelf-write", "shelf-sync", "shelf-rename", "shelf-index", "shelf-register"]
)
def test_promise_9_suppliers_killed_while_they_store_lose_nothing_acknowledged(world, point):
    for number in range(2):
        world.stop_supplier(number)
        world.wait_supplier_ended(number)
    world.start(environment={"BITDUST_FAILPOINTS": f"{point}=kill@3"})
    content = os.urandom(40_000_000)
    world.mount()
    (world.mountpoint / "file").write_bytes(content)
    world.run("sync", world.mountpoint)
    world.start()  # those that killed themselves come back
    world.wait_until_nothing_is_owed()
    assert "nothing is wrong" in world.run("verify", world.mountpoint).stdout
    world.run("unmount", world.mountpoint)
