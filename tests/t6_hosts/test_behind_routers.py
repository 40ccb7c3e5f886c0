"""Suppliers behind routers with no port forwarded keep a vault's data, through relays."""

import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hosts import LIMIT, Hosts, ip, missing, sh

from bitdustfs.supplier.nodekey import node_key

RELAYS = {1: "10.77.0.2:4000", 2: "10.77.0.3:4000"}
BEHIND = (3, 4)
MASQUERADE = """
table ip nat {
    chain out { type nat hook postrouting priority 100; oifname "wan" masquerade; }
}
table ip filter {
    chain through {
        type filter hook forward priority 0; policy drop;
        iifname "lan" accept
        ct state established,related accept
    }
}
"""


class Homes(Hosts):
    """Hosts 1 and 2 can be dialled; 3 and 4 have a router of their own each."""

    code, direct = "2/4", tuple(RELAYS.values())

    def __init__(self, root):
        super().__init__(root, 4, "r")

    def lay(self):
        super().lay()
        for host in BEHIND:
            home, router = f"{self.name}h{host}", f"{self.name}g{host}"
            ip("netns", "add", router)
            ip("-n", home, "addr", "flush", "dev", "eth0")
            ip("-n", home, "link", "set", "eth0", "down")
            ip("-n", home, "link", "set", "eth0", "netns", router)  # the way to the switch
            ip("-n", router, "link", "set", "eth0", "name", "wan")
            ip("-n", router, "addr", "add", f"10.77.0.{host + 1}/24", "dev", "wan")
            ip("-n", router, "link", "add", "lan", "type", "veth", "peer", "name", "eth0",
               "netns", home)  # fmt: skip
            ip("-n", router, "addr", "add", "192.168.7.1/24", "dev", "lan")
            ip("-n", home, "addr", "add", "192.168.7.2/24", "dev", "eth0")
            for name, link in ((router, "wan"), (router, "lan"), (home, "eth0")):
                ip("-n", name, "link", "set", link, "up")
            ip("-n", home, "route", "add", "default", "via", "192.168.7.1")
            rules = self.root / f"rules-{host}"
            rules.write_text(MASQUERADE)
            sh("nsenter", f"--net=/run/netns/{router}", "nft", "-f", rules)
            sh("nsenter", f"--net=/run/netns/{router}", "sysctl", "-qw", "net.ipv4.ip_forward=1")

    def begin(self):
        self.lay()
        keys = {host: node_key(self._folder(host)).verify_key.encode().hex() for host in BEHIND}
        self.relayed = {host: f"relay:{key}@{RELAYS[1]}" for host, key in keys.items()}
        joined = [word for address in RELAYS.values() for word in ("--bootstrap", address)]
        for host, address in RELAYS.items():
            self.start(host, "--listen", address, *joined, "--relay", "circle", *keys.values())
        for host in BEHIND:
            relays = [word for address in RELAYS.values() for word in ("--through", address)]
            self.start(host, "--listen", "192.168.7.2:4000", *joined, *relays)

    def _folder(self, host) -> Path:
        folder = self.root / f"supplier-{host}"
        folder.mkdir()
        return folder

    def create(self):
        words = ["vault", "create", "--ecc", self.code, "--space", "1G", "--bootstrap", RELAYS[2]]
        for address in (*self.direct, *self.relayed.values()):
            words += ["--supplier", address]
        deadline = time.monotonic() + LIMIT
        while (done := self.on(0, *words, check=False)).returncode:
            assert time.monotonic() < deadline, done.stderr
            time.sleep(0.5)

    def wait_until_reached(self, positions, relay):
        """Those positions, through that relay."""
        deadline = time.monotonic() + LIMIT
        while True:
            rows = [self.rows()[position] for position in positions]
            if all(
                row["way"] == "relayed"
                and row["state"] == "online"
                and row["address"].endswith(relay)
                for row in rows
            ):
                return
            assert time.monotonic() < deadline, rows
            time.sleep(0.5)

    def close(self):
        super().close()
        for host in BEHIND:
            ip("netns", "del", f"{self.name}g{host}", check=False)


class TwoFriends(Homes):
    """The vault is on 3 and 4 alone: the relays keep nothing of it."""

    code, direct = "1/2", ()


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


def remount_from_words(homes, files):
    """On a machine that knows nothing but the words and the second relay."""
    words = homes.on(0, "key", "words").stdout
    subprocess.run(
        [sys.executable, "-m", "bitdustfs.cli.main", "key", "restore"], input=words, text=True,
        env={**os.environ, "BITDUST_HOME": str(homes.root / "two")}, timeout=LIMIT, check=True,
        capture_output=True,
    )  # fmt: skip
    homes.on(0, "mount", homes.mountpoint, "-o", f"bootstrap={RELAYS[2]}", home="two")
    for name, content in files.items():
        assert (homes.mountpoint / name).read_bytes() == content, name
    homes.on(0, "unmount", homes.mountpoint, home="two")


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
