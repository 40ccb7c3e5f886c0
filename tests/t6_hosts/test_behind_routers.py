"""Suppliers behind routers with no port forwarded keep a vault's data, through relays."""

import random
import shutil

import pytest
from homes import RELAYS, Homes, TwoFriends, remount_from_words
from hosts import LIMIT, missing


@pytest.fixture
def homes(tmp_path, request):
    why = missing() or ("" if shutil.which("nft") else "routers need nftables")
    if why:
        pytest.skip(why)
    made = getattr(request, "param", Homes)(tmp_path)
    try:
        made.begin()
        made.create()
        yield made
    finally:
        made.close()


def test_suppliers_behind_routers_are_reached_through_relays_and_one_relay_dies(homes):
    first, second = (random.Random(n).randbytes(2_000_000) for n in range(2))
    mountpoint = homes.mountpoint
    homes.on(0, "mount", mountpoint)
    (mountpoint / "before").write_bytes(first)
    homes.on(0, "sync", mountpoint)
    homes.wait_until_nothing_is_owed()
    rows = homes.rows()
    assert [row["way"] for row in rows] == ["direct", "direct", "relayed", "relayed"]
    assert all(row["stored"] > 500_000 for row in rows), rows

    homes.processes[0].kill()  # the first relay, without a word
    homes.processes[0].wait(LIMIT)
    (mountpoint / "after").write_bytes(second)
    homes.on(0, "sync", mountpoint)
    homes.wait_until_reached((2, 3), RELAYS[2])
    homes.on(0, "unmount", mountpoint)
    remount_from_words(homes, {"before": first, "after": second})


@pytest.mark.parametrize("homes", [TwoFriends], indirect=True)
def test_two_friends_behind_routers_keep_a_vault_and_the_relay_dies(homes):
    """All of the vault's traffic goes through one relay, then all of it through the other one."""
    first, second = (random.Random(n).randbytes(2_000_000) for n in range(2))
    mountpoint = homes.mountpoint
    homes.on(0, "mount", mountpoint)
    (mountpoint / "before").write_bytes(first)
    homes.on(0, "sync", mountpoint)
    homes.wait_until_nothing_is_owed()
    rows = homes.rows()
    assert [row["way"] for row in rows] == ["relayed"] * 2
    assert all(row["stored"] >= len(first) for row in rows), rows

    homes.processes[0].kill()  # the first relay, without a word
    homes.processes[0].wait(LIMIT)
    (mountpoint / "after").write_bytes(second)
    homes.on(0, "sync", mountpoint)
    homes.wait_until_reached((0, 1), RELAYS[2])
    homes.on(0, "unmount", mountpoint)
    remount_from_words(homes, {"before": first, "after": second})
