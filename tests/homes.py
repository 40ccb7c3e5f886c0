"""Homes: hosts behind routers of their own, which forward no port, and relays."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from hosts import LIMIT, Hosts, ip, sh

from bitdustfs.supplier.nodekey import node_key

RELAYS = {1: "10.77.0.2:4000", 2: "10.77.0.3:4000"}
#: of a home's router: what its own side asks for comes back, and nothing else comes in
MASQUERADE = """
table ip nat {
    chain out { type nat hook postrouting priority 100; oifname "wan" masquerade OPTIONS; }
}
table ip filter {
    counter dialled { }
    chain in {
        type filter hook input priority 0; policy accept;
        iifname "wan" ct state new drop
    }
    chain through {
        type filter hook forward priority 0; policy drop;
        iifname "lan" ip daddr 10.77.0.4-10.77.0.5 tcp flags syn / syn,ack counter name dialled
        iifname "lan" accept
        ct state established,related accept
    }
}
"""


class Homes(Hosts):
    """Hosts 1 and 2 can be dialled; 3 and 4 have a router of their own each."""

    code, direct = "2/4", tuple(RELAYS.values())
    friends = (3, 4)
    behind = {3: (3,), 4: (4,)}  #: router, in the place of a host -> hosts behind it
    options = "fully-random"  #: of masquerade: each connection has an outside port of its own

    def __init__(self, root):
        super().__init__(root, 4, "r")
        self.inside = {}  # host -> its address behind its router

    def lay(self):
        super().lay()
        for router, homes in self.behind.items():
            self._lay_router(router)
            for number, host in enumerate(homes, 2):
                self._lay_home(host, router, f"192.168.7.{number}")

    def _lay_router(self, number):
        """A router in the place of the host with that number."""
        home, router = f"{self.name}h{number}", f"{self.name}g{number}"
        ip("netns", "add", router)
        ip("-n", home, "addr", "flush", "dev", "eth0")
        ip("-n", home, "link", "set", "eth0", "down")
        ip("-n", home, "link", "set", "eth0", "netns", router)  # the way to the switch
        ip("-n", router, "link", "set", "eth0", "name", "wan")
        ip("-n", router, "addr", "add", f"10.77.0.{number + 1}/24", "dev", "wan")
        ip("-n", router, "link", "add", "lan", "type", "bridge")
        ip("-n", router, "addr", "add", "192.168.7.1/24", "dev", "lan")
        for link in ("lo", "wan", "lan"):
            ip("-n", router, "link", "set", link, "up")
        rules = self.root / f"rules-{number}"
        rules.write_text(MASQUERADE.replace("OPTIONS", self.options))
        sh("nsenter", f"--net=/run/netns/{router}", "nft", "-f", rules)
        sh("nsenter", f"--net=/run/netns/{router}", "sysctl", "-qw", "net.ipv4.ip_forward=1")

    def _lay_home(self, host, number, address):
        home, router = f"{self.name}h{host}", f"{self.name}g{number}"
        if host != number:
            ip("-n", home, "link", "del", "eth0")
        port = f"in{host}"
        ip("-n", router, "link", "add", port, "type", "veth", "peer", "name", "eth0",
           "netns", home)  # fmt: skip
        ip("-n", router, "link", "set", port, "master", "lan", "up")
        ip("-n", home, "addr", "add", f"{address}/24", "dev", "eth0")
        ip("-n", home, "link", "set", "eth0", "up")
        ip("-n", home, "route", "add", "default", "via", "192.168.7.1")
        self.inside[host] = address

    def begin(self):
        self.lay()
        keys = {
            host: node_key(self._folder(host)).verify_key.encode().hex() for host in self.friends
        }
        self.relayed = {host: f"relay:{key}@{RELAYS[1]}" for host, key in keys.items()}
        joined = [word for address in RELAYS.values() for word in ("--bootstrap", address)]
        for host, address in RELAYS.items():
            self.start(host, "--listen", address, *joined, "--relay", "circle", *keys.values())
        for host in self.friends:
            relays = [word for address in RELAYS.values() for word in ("--through", address)]
            self.start(host, "--listen", f"{self.inside[host]}:4000", *joined, *relays)

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
        for host in self.behind:
            ip("netns", "del", f"{self.name}g{host}", check=False)


class TwoFriends(Homes):
    """The vault is on 3 and 4 alone: the relays keep nothing of it."""

    code, direct = "1/2", ()


class Cone(TwoFriends):
    """Whoever mounts has a router of his own, too, and each leads a port out by the same one."""

    behind, options = {0: (0,), 3: (3,), 4: (4,)}, ""


def carried(homes):
    """Bytes that came to the relays so far."""
    said = [
        json.loads(ip("-n", f"{homes.name}h{host}", "-s", "-j", "link", "show", "eth0").stdout)
        for host in RELAYS
    ]
    return sum(links[0]["stats64"]["rx"]["bytes"] for links in said)


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
