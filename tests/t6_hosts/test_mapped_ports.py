"""A supplier behind a home router with nothing forwarded: the router is asked, and others come in.

The router is Debian's miniupnpd, which speaks PCP, NAT-PMP and UPnP, on real nftables.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from hosts import LIMIT, Hosts, ip, missing, sh

from bitdustfs.errors import BitdustError
from bitdustfs.system.running import supplier_status

HOME, LISTENERS = 3, (1, 2)
OUTSIDE, INSIDE = "9.77.4.1", "192.168.7.2"
DAEMON = "/usr/sbin/miniupnpd"
UP_BEFORE = 10.0  #: seconds for which a router was up before it is restarted
#: a masquerading router that lets nothing in; the daemon fills its chains
RULES = """
table inet filter {
    chain forward {
        type filter hook forward priority 0; policy drop;
        iifname "lan" accept
        ct state established,related accept
        jump miniupnpd
    }
    chain miniupnpd { }
    chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
    chain prerouting_miniupnpd { }
    chain postrouting {
        type nat hook postrouting priority 100;
        jump postrouting_miniupnpd
        oifname "wan" masquerade
    }
    chain postrouting_miniupnpd { }
}
table ip counted {
    chain through {
        type filter hook forward priority 10;
        iifname "wan" ct status dnat tcp dport 4000 counter
        iifname "wan" ct status dnat udp dport 4000 counter
    }
}
"""
CONFIG = """
ext_ifname=wan
listening_ip=lan
enable_natpmp={datagrams}
enable_upnp={upnp}
port=5000
secure_mode=yes
uuid=00000000-0000-0000-0000-00000000b17d
upnp_table_name=filter
upnp_nat_table_name=filter
upnp_forward_chain=miniupnpd
upnp_nat_chain=prerouting_miniupnpd
upnp_nat_postrouting_chain=postrouting_miniupnpd
allow 1024-65535 192.168.7.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""


class Home(Hosts):
    """Hosts 0 to 2 are in the world, 3 is behind a router. All of the world is on one switch."""

    def __init__(self, root, outside=OUTSIDE):
        super().__init__(root, HOME, "m")
        self.router, self.outside, self.daemon = f"{self.name}g", outside, None

    def lay(self):
        super().lay()
        for host in range(HOME):
            name = f"{self.name}h{host}"
            ip("-n", name, "addr", "flush", "dev", "eth0")
            ip("-n", name, "addr", "add", f"9.77.{host}.1/8", "dev", "eth0")
            ip("-n", name, "route", "add", "100.64.0.0/10", "dev", "eth0")
        home = f"{self.name}h{HOME}"
        ip("netns", "add", self.router)
        ip("-n", home, "link", "set", "eth0", "down")
        ip("-n", home, "addr", "flush", "dev", "eth0")
        ip("-n", home, "link", "set", "eth0", "netns", self.router)
        ip("-n", self.router, "link", "set", "eth0", "name", "wan")
        ip("-n", self.router, "addr", "add", f"{self.outside}/8", "dev", "wan")
        ip("-n", self.router, "link", "add", "lan", "type", "veth", "peer", "name", "eth0",
           "netns", home)  # fmt: skip
        ip("-n", self.router, "addr", "add", "192.168.7.1/24", "dev", "lan")
        ip("-n", home, "addr", "add", f"{INSIDE}/24", "dev", "eth0")
        for name, link in ((self.router, "lo"), (self.router, "wan"), (self.router, "lan"),
                           (home, "eth0")):  # fmt: skip
            ip("-n", name, "link", "set", link, "up")
        ip("-n", home, "route", "add", "default", "via", "192.168.7.1")
        if not self.outside.startswith("9."):
            ip("-n", self.router, "route", "add", "9.0.0.0/8", "dev", "wan")
        self.at_router("sysctl", "-qw", "net.ipv4.ip_forward=1")

    def at_router(self, *words):
        return sh("nsenter", f"--net=/run/netns/{self.router}", *words).stdout

    def load_rules(self):
        rules = self.root / "rules"
        rules.write_text(RULES)
        self.at_router("nft", "flush", "ruleset")
        self.at_router("nft", "-f", rules)

    def start_router(self, datagrams=True, upnp=False):
        """With no memory of what it was told before."""
        self.load_rules()
        config = self.root / "miniupnpd.conf"
        said = {True: "yes", False: "no"}
        config.write_text(CONFIG.format(datagrams=said[datagrams], upnp=said[upnp]))
        command = ["nsenter", f"--net=/run/netns/{self.router}", DAEMON, "-d", "-f", config,
                   "-P", self.root / "miniupnpd.pid"]  # fmt: skip
        with open(self.root / "router.log", "ab") as log:
            self.daemon = subprocess.Popen([str(w) for w in command], stdout=log, stderr=log)
        self.processes.append(self.daemon)
        listens = [*([":14e7"] if datagrams else []), *([":1388"] if upnp else [])]  # 5351, 5000
        deadline = time.monotonic() + LIMIT
        tables = [f"/proc/net/{name}" for name in ("udp", "tcp", "tcp6")]
        while not all(port in self.at_router("cat", *tables).lower() for port in listens):
            assert self.daemon.poll() is None, (self.root / "router.log").read_text()
            assert time.monotonic() < deadline, "the router does not listen"
            time.sleep(0.05)

    def stop_router(self):
        self.daemon.terminate()
        self.daemon.wait(LIMIT)

    def start_suppliers(self):
        for host in LISTENERS:
            other = LISTENERS[host % len(LISTENERS)]
            self.start(host, "--listen", f"9.77.{host}.1:4000",
                       "--bootstrap", f"9.77.{other}.1:4000")  # fmt: skip
        self.start_at_home()

    def start_at_home(self):
        self.start(HOME, "--listen", "0.0.0.0:4000", "--bootstrap", "9.77.1.1:4000")

    def supplier(self):
        """What the supplier at home says of itself; None before it answers."""
        with suppress(BitdustError):
            return supplier_status(self.root / f"supplier-{HOME}")
        return None

    def wait_until(self, wanted):
        deadline = time.monotonic() + LIMIT
        while (said := self.supplier()) is None or not wanted(said):
            assert time.monotonic() < deadline, said
            time.sleep(0.5)
        return said

    def ports_mapped(self):
        return self.at_router("nft", "list", "chain", "inet", "filter", "prerouting_miniupnpd")

    def came(self):
        """Bytes that came in from outside to port 4000 by a mapped port: of TCP, of UDP."""
        listed = self.at_router("nft", "list", "table", "ip", "counted")
        return [int(count) for count in re.findall(r"bytes (\d+)", listed)]

    def close(self):
        super().close()
        ip("netns", "del", self.router, check=False)


@pytest.fixture
def home(tmp_path, request):
    why = missing() or ("" if shutil.which("nft") else "routers need nftables")
    why = why or ("" if os.path.exists(DAEMON) else "a router that maps ports: no miniupnpd here")
    if why:
        pytest.skip(why)
    made = Home(tmp_path, *([request.param] if hasattr(request, "param") else []))
    try:
        made.lay()
        yield made
    finally:
        made.close()


def test_a_vault_is_read_through_a_port_that_the_router_mapped(home):
    """Each of the two suppliers has half of it: nothing is read but through the router."""
    home.start_router()
    home.start_suppliers()
    said = home.wait_until(lambda said: said.way == "mapped")
    address = f"{OUTSIDE}:4000"
    assert said.reachable and "PCP" in said.reached
    assert said.address.split(", ")[0] == address
    assert home.ports_mapped().count(f"dnat ip to {INSIDE}:4000") == 2  # TCP, UDP

    words = ["vault", "create", "--ecc", "2/2", "--space", "1G", "--bootstrap", "9.77.2.1:4000"]
    home.on(0, *words, "--supplier", "9.77.1.1:4000", "--supplier", address)
    mountpoint, content = home.mountpoint, random.Random(1).randbytes(3_000_000)
    home.on(0, "mount", mountpoint)
    (mountpoint / "file").write_bytes(content)
    home.on(0, "sync", mountpoint)
    deadline = time.monotonic() + LIMIT
    while [row["way"] for row in home.rows()] != ["direct", "mapped"]:
        assert time.monotonic() < deadline, home.rows()
        time.sleep(0.5)
    assert home.rows()[1]["address"] == address
    home.on(0, "unmount", mountpoint)
    tcp, udp = home.came()
    assert tcp > len(content) / 2 and udp > 0
    words = home.on(0, "key", "words").stdout
    subprocess.run(
        [sys.executable, "-m", "bitdustfs.cli.main", "key", "restore"], input=words, text=True,
        check=True, timeout=LIMIT, capture_output=True,
        env={**os.environ, "BITDUST_HOME": str(home.root / "two")},
    )  # fmt: skip
    home.on(0, "mount", mountpoint, "-o", "bootstrap=9.77.2.1:4000", home="two")
    assert (mountpoint / "file").read_bytes() == content
    home.on(0, "unmount", mountpoint, home="two")

    home.wait_until(lambda said: "no hairpin" in said.reached)
    home.processes[-1].kill()  # it takes nothing back: the router has the mapping still
    home.processes[-1].wait(LIMIT)
    home.start_at_home()
    home.wait_until(lambda said: said.way == "mapped")
    home.processes[-1].send_signal(signal.SIGTERM)
    assert home.processes[-1].wait(LIMIT) == 0
    assert "dnat" not in home.ports_mapped()  # it was taken back


@pytest.mark.parametrize("way", ["PCP", "UPnP"])
def test_a_router_that_was_restarted_is_asked_again(home, way):
    home.start_router(datagrams=way == "PCP", upnp=way == "UPnP")
    home.start_suppliers()
    began = time.monotonic()
    home.wait_until(lambda said: said.way == "mapped" and way in said.reached)
    # clocks that differ by less than RFC 6887 (8.5) allows for tell nothing
    time.sleep(max(0.0, began + UP_BEFORE - time.monotonic()))
    home.stop_router()
    home.start_router(datagrams=way == "PCP", upnp=way == "UPnP")
    assert "dnat" not in home.ports_mapped()
    deadline = time.monotonic() + LIMIT
    while home.ports_mapped().count(f"dnat ip to {INSIDE}:4000") != 2:
        assert time.monotonic() < deadline, (home.root / f"supplier-{HOME}" / "log").read_text()
        time.sleep(0.5)


def test_behind_a_router_that_maps_nothing_a_supplier_says_so_and_is_not_announced_there(home):
    """Others see where its datagrams come from; who dials that gets nowhere."""
    home.load_rules()
    home.start_suppliers()
    said = home.wait_until(lambda said: said.reachable is False and "dialled" in said.reached)
    assert said.way == "" and said.address == f"{INSIDE}:4000"
    assert "does not speak PCP" in said.reached and "--through" in said.reached
