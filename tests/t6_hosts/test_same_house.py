"""Two machines of one network, and nobody else: they find each other by what is said there."""

import random
import time

import pytest
from hosts import LIMIT, Hosts, ip, missing


class House(Hosts):
    """Host 0 mounts, host 1 is the only supplier: no DHT, nobody to ask."""

    lan = True

    def __init__(self, root):
        super().__init__(root, 1, "l")


@pytest.fixture
def house(tmp_path):
    if why := missing():
        pytest.skip(why)
    made = House(tmp_path)
    try:
        made.lay()
        made.start(1, "--listen", "[::]:4000")
        yield made
    finally:
        made.close()


def create(house):
    words = ["vault", "create", "--ecc", "1/1", "--space", "1G", "--supplier", "10.77.0.2:4000"]
    deadline = time.monotonic() + LIMIT
    while (done := house.on(0, *words, check=False)).returncode:
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.5)


def wait_until_at(house, address):
    deadline = time.monotonic() + LIMIT
    while True:
        [row] = house.rows()
        if (row["state"], row["address"]) == ("online", address):
            return
        assert time.monotonic() < deadline, row
        time.sleep(0.3)


def test_a_mount_finds_its_supplier_that_moved_in_the_same_network(house):
    """Running, it finds it at another IPv4 address; mounted anew, at an IPv6 one."""
    create(house)
    first, second = (random.Random(n).randbytes(1_000_000) for n in range(2))
    house.on(0, "mount", house.mountpoint)
    (house.mountpoint / "first").write_bytes(first)
    house.on(0, "sync", house.mountpoint)
    house.address(1, "add", "10.77.0.50/24")
    house.address(1, "del", "10.77.0.2/24")
    if "10.77.0.50" not in ip("-n", f"{house.name}h1", "addr").stdout:  # it went with the first
        house.address(1, "add", "10.77.0.50/24")
    (house.mountpoint / "second").write_bytes(second)
    wait_until_at(house, "10.77.0.50:4000")
    house.on(0, "sync", house.mountpoint)
    house.on(0, "unmount", house.mountpoint)

    for host in (0, 1):
        house.address(host, "add", f"fd00:77::{host + 1}/64")
    house.address(1, "del", "10.77.0.50/24")
    house.on(0, "mount", house.mountpoint)
    wait_until_at(house, "[fd00:77::2]:4000")
    assert (house.mountpoint / "first").read_bytes() == first
    assert (house.mountpoint / "second").read_bytes() == second
    (house.mountpoint / "third").write_bytes(second)
    house.on(0, "sync", house.mountpoint)
    house.on(0, "unmount", house.mountpoint)
