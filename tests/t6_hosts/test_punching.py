"""Suppliers behind routers are reached past the relays where the routers let that happen."""

import json
import random
import shutil

import pytest
from asked import until
from homes import RELAYS, Cone, carried, remount_from_words
from hosts import LIMIT, missing, sh

from bitdustfs.net.punching import TRIES

SYNS = 3  #: that the kernel sends in one try: at once, and then each second


class Symmetric(Cone):
    """Each connection has an outside port of its own."""

    options = "fully-random"


class OneRouter(Cone):
    """All of them are behind the same one, which leads nobody back in who dials it from inside."""

    behind = {3: (3, 4, 0)}


@pytest.fixture
def homes(tmp_path, request):
    why = missing() or ("" if shutil.which("nft") else "routers need nftables")
    if why:
        pytest.skip(why)
    made = request.param(tmp_path)
    try:
        made.begin()
        made.create()
        yield made
    finally:
        made.close()


def ways(homes):
    return [row["way"] for row in homes.rows()]


@pytest.mark.parametrize("homes", [Cone], indirect=True)
def test_friends_behind_routers_reach_each_other_past_the_relay(homes):
    content = random.Random(1).randbytes(4_000_000)
    homes.on(0, "mount", homes.mountpoint)
    (homes.mountpoint / "first").write_bytes(b"so that the friends keep something")
    homes.on(0, "sync", homes.mountpoint)
    until(lambda: ways(homes) == ["punched"] * 2, LIMIT, "it stays relayed")

    before = carried(homes)
    (homes.mountpoint / "data").write_bytes(content)
    homes.on(0, "sync", homes.mountpoint)
    homes.wait_until_nothing_is_owed()
    assert all(row["stored"] >= len(content) for row in homes.rows())
    assert carried(homes) - before < len(content) / 10  # each friend has all of it
    assert ways(homes) == ["punched"] * 2

    for relay in homes.processes[: len(RELAYS)]:
        relay.kill()
        relay.wait(LIMIT)
    (homes.mountpoint / "more").write_bytes(content[::-1])
    homes.on(0, "sync", homes.mountpoint)
    homes.wait_until_nothing_is_owed()
    assert ways(homes) == ["punched"] * 2


def wait_until_tried_in_vain(homes):
    logs = [homes.root / f"supplier-{host}" / "log" for host in homes.friends]
    until(lambda: all("times in vain" in log.read_text() for log in logs), LIMIT, "not tried")


def dialled(homes):
    """SYNs that whoever mounts sent to where the friends are."""
    counters = sh(
        "nsenter", f"--net=/run/netns/{homes.name}g0", "nft", "-j", "list", "counter", "ip",
        "filter", "dialled",
    ).stdout  # fmt: skip
    return json.loads(counters)["nftables"][-1]["counter"]["packets"]


@pytest.mark.parametrize("homes", [Symmetric], indirect=True)
def test_where_routers_choose_a_port_for_each_connection_it_is_tried_and_stays_relayed(homes):
    content = random.Random(1).randbytes(1_000_000)
    homes.on(0, "mount", homes.mountpoint)
    (homes.mountpoint / "first").write_bytes(b"so that the friends keep something")
    homes.on(0, "sync", homes.mountpoint)
    wait_until_tried_in_vain(homes)

    tried, before = dialled(homes), carried(homes)
    assert 0 < tried <= len(homes.friends) * TRIES * SYNS
    (homes.mountpoint / "data").write_bytes(content)
    homes.on(0, "sync", homes.mountpoint)
    homes.wait_until_nothing_is_owed()
    assert carried(homes) - before > 2 * len(content)  # each friend has all of it
    assert ways(homes) == ["relayed"] * 2
    assert dialled(homes) == tried


@pytest.mark.parametrize("homes", [OneRouter], indirect=True)
def test_friends_behind_one_router_keep_a_vault_through_a_relay_outside(homes):
    """They do not hear each other in their own network, and the relay sees all at one address."""
    content = random.Random(1).randbytes(1_000_000)
    homes.on(0, "mount", homes.mountpoint)
    (homes.mountpoint / "first").write_bytes(b"so that the friends keep something")
    homes.on(0, "sync", homes.mountpoint)
    wait_until_tried_in_vain(homes)

    before = carried(homes)
    (homes.mountpoint / "data").write_bytes(content)
    homes.on(0, "sync", homes.mountpoint)
    homes.wait_until_nothing_is_owed()
    assert carried(homes) - before > 2 * len(content)  # each friend has all of it
    assert ways(homes) == ["relayed"] * 2
    homes.on(0, "unmount", homes.mountpoint)
    remount_from_words(homes, {"data": content})
