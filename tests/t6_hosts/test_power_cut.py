"""Soon after the mount one host's packets are dropped without a word, and some seconds later not.

For minutes: scripts/power-cut.
"""

from power_cut import cut_one


def test_promise_9_a_power_cut_soon_after_the_mount_fires_nobody_and_moves_nothing(hosts):
    hosts.on(0, "mount", hosts.mountpoint)
    (hosts.mountpoint / "file").write_bytes(bytes(range(256)) * 10_000)
    hosts.on(0, "sync", hosts.mountpoint)
    hosts.wait_until_nothing_is_owed()
    cut_one(hosts, 2, 8.0)
    assert "0 suppliers replaced" in hosts.on(0, "rebuild", hosts.mountpoint).stdout
    hosts.on(0, "unmount", hosts.mountpoint)
