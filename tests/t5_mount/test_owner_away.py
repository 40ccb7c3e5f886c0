"""Real suppliers while the owner's machine is off: the bench stands in; the owner's return.

Leaving well.
"""

import json
import random
import shutil
import time

import pytest

LIMIT = 240


def prepared(world, patience="5s"):
    """A vault with content on seven suppliers, seven reserves, and the mount still there."""
    world.start(14)
    world.mount()
    files = {f"file {i}": random.Random(i).randbytes(2_000_000) for i in range(4)}
    for name, content in files.items():
        (world.mountpoint / name).write_bytes(content)
    world.run("vault", "set", world.mountpoint, f"patience={patience}")
    deadline = time.monotonic() + LIMIT
    while sum(reserve["ready"] for reserve in bench(world)) < 7:
        assert time.monotonic() < deadline, "the bench is not filled"
        time.sleep(0.2)
    world.run("sync", world.mountpoint)
    world.wait_until_nothing_is_owed()
    return files


def rows(world):
    return world.rows()


def bench(world):
    return world.status()["bench"]


def shelves(world, numbers):
    """Position -> blocks, as the files on the shelves of these suppliers say."""
    found = {}
    for number in numbers:
        for path in (world.supplier(number) / "store" / "shelf").glob("*/*.*"):
            block, _, position = path.name.partition(".")
            if position.isdigit():
                found.setdefault(int(position), set()).add(block)
    return found


def wait_until_complete(world, numbers, blocks):
    deadline = time.monotonic() + LIMIT
    while any(shelves(world, numbers).get(p, set()) < blocks for p in range(7)):
        assert time.monotonic() < deadline, {p: len(b) for p, b in shelves(world, numbers).items()}
        time.sleep(0.3)


@pytest.mark.slow
def test_promise_6_and_9_a_majority_lost_one_by_one_with_the_owners_machine_off(world, long):
    files = prepared(world)
    originals = [world.addresses.index(row["address"]) for row in rows(world)]
    lost = originals if long else originals[:4]
    reserves = [number for number in range(14) if number not in originals]
    world.run("unmount", world.mountpoint)
    blocks = shelves(world, originals)[0]
    alive = set(range(14))
    for number in lost:
        world.kill_supplier(number)
        shutil.rmtree(world.supplier(number) / "store")
        alive.discard(number)
        wait_until_complete(world, alive, blocks)
    world.move_to("two")
    bootstrap = world.addresses[reserves[0]]
    world.mount(f"bootstrap={bootstrap}")
    for name, content in files.items():
        assert (world.mountpoint / name).read_bytes() == content
    status = world.run("status", world.mountpoint).stdout
    assert f"{7 - len(lost)} of 7 suppliers answered" in status and "refound" in status
    world.run("unmount", world.mountpoint)
    assert world.run(
        "vault", "refound", "--bootstrap", bootstrap, stdin="y\n", check=False
    ).returncode
    again = world.run("vault", "refound", "--json", "--bootstrap", bootstrap, stdin="refound\n")
    assert json.loads(again.stdout)["kind"] == "vault-refounded" and "Type refound" in again.stderr
    world.mount()
    (world.mountpoint / "new").write_bytes(b"written after all")
    world.run("sync", world.mountpoint)
    for name, content in files.items():
        assert (world.mountpoint / name).read_bytes() == content
    assert "nothing is wrong" in world.run("verify", world.mountpoint).stdout
    assert "you can lose 3 more" in world.run("status", world.mountpoint).stdout


@pytest.mark.slow
def test_the_owner_comes_home_and_confirms_or_dismisses_who_stood_in(world):
    files = prepared(world)
    originals = [world.addresses.index(row["address"]) for row in rows(world)]
    world.run("unmount", world.mountpoint)
    blocks = shelves(world, originals)[0]
    lost, away = originals[1], originals[4]
    world.kill_supplier(lost)
    shutil.rmtree(world.supplier(lost) / "store")
    world.kill_supplier(away)
    wait_until_complete(world, set(range(14)) - {lost, away}, blocks)
    world.start(14)  # the one comes back as it was, the other as a stranger with nothing
    world.mount("take-over")
    deadline = time.monotonic() + LIMIT
    while True:
        family = [world.addresses.index(row["address"]) for row in rows(world)]
        copies = shelves(world, set(range(14)) - set(family))
        if family[1] != lost and family[4] == away and not copies.get(4):
            break
        assert time.monotonic() < deadline, f"{family}, {copies}"
        time.sleep(0.3)
    world.wait_until_nothing_is_owed()
    world.run("rebuild", world.mountpoint)
    assert "nothing is wrong" in world.run("verify", world.mountpoint).stdout
    for name, content in files.items():
        assert (world.mountpoint / name).read_bytes() == content


@pytest.mark.slow
def test_a_supplier_leaves_well_whether_the_owner_is_there_or_not(world):
    files = prepared(world, patience="2h")
    first, second = (world.addresses.index(row["address"]) for row in rows(world)[2:4])
    words = "supplier", "leave", "--dir", world.supplier(first)
    refused = world.run(*words, stdin="yes\n", check=False)
    assert refused.returncode == 1 and "nothing was changed" in refused.stderr
    left = world.run(*words, stdin="leave\n")
    assert "nobody depends on this supplier any more" in left.stdout
    world.wait_supplier_ended(first)
    deadline = time.monotonic() + LIMIT
    while world.addresses[first] in {row["address"] for row in rows(world)}:
        assert time.monotonic() < deadline, "the owner does not confirm who took over"
        time.sleep(0.3)
    world.wait_until_nothing_is_owed()
    assert "nothing is wrong" in world.run("verify", world.mountpoint).stdout
    blocks = shelves(world, [second])[3]
    world.run("unmount", world.mountpoint)
    world.run("supplier", "leave", "--yes", "--dir", world.supplier(second))
    world.wait_supplier_ended(second)
    rest = set(range(14)) - {first, second}
    assert shelves(world, rest)[3] >= blocks
    world.mount()
    for name, content in files.items():
        assert (world.mountpoint / name).read_bytes() == content
    again = world.run("supplier", "leave", "--dir", world.supplier(second), check=False)
    assert again.returncode == 2 and "no supplier runs in" in again.stderr
