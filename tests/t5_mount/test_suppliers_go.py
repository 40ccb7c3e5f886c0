"""Suppliers go for good, with the owner's machine there: others are hired and filled."""

import json
import random
import shutil
import time

LIMIT = 90


def suppliers(world):
    return json.loads(world.run("suppliers", world.mountpoint, "--json").stdout)


def wait_for_family(world, gone):
    """Until the address `gone` is in the family no more."""
    deadline = time.monotonic() + LIMIT
    while gone in {row["address"] for row in suppliers(world)}:
        assert time.monotonic() < deadline, "the supplier is not replaced"
        time.sleep(0.5)


def test_three_suppliers_lost_one_after_the_other_are_replaced_by_themselves(world):
    world.start(10)
    world.mount()
    files = {f"file {i}": random.Random(i).randbytes(3_000_000) for i in range(4)}
    for name, content in files.items():
        (world.mountpoint / name).write_bytes(content)
    world.run("sync", world.mountpoint)
    world.wait_until_nothing_is_owed()
    world.run("vault", "set", world.mountpoint, "patience=2s")
    for _ in range(3):
        victim = suppliers(world)[1]["address"]
        number = world.addresses.index(victim)
        world.kill_supplier(number)
        shutil.rmtree(world.supplier(number) / "store")
        wait_for_family(world, victim)
        assert "nothing is wrong" in world.run("verify", world.mountpoint).stdout
    assert all(row["state"] == "online" for row in suppliers(world))
    assert "you can lose 3 more" in world.run("status", world.mountpoint).stdout
    bootstrap = suppliers(world)[1]["address"]
    world.run("unmount", world.mountpoint)
    world.move_to("two")
    world.mount(f"bootstrap={bootstrap}")
    for name, content in files.items():
        assert (world.mountpoint / name).read_bytes() == content


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
