"""Several hosts with addresses of their own, in network namespaces, each on one switch.

(`ip netns exec` would hide the mount in a mount namespace; nsenter changes the network alone.)
"""

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from asked import status_said, suppliers_said, until

LIMIT = 90
NAME = f"bd{os.getpid()}"


def sh(*words, check=True):
    return subprocess.run(
        [str(w) for w in words], check=check, capture_output=True, text=True, timeout=LIMIT
    )


def ip(*words, check=True):
    return sh("ip", *words, check=check)


class Hosts:
    """Host 0 mounts, hosts 1 to `count` are suppliers; each has an address of its own."""

    lan = False  #: whether suppliers call on the switch: else they are found by other ways

    def __init__(self, root: Path, count: int, tag: str = "") -> None:
        self.root, self.count, self.processes = root, count, []
        self.name = NAME + tag
        self.mountpoint = root / "mnt"
        self.mountpoint.mkdir()

    def lay(self):
        ip("netns", "add", f"{self.name}s")  # the switch
        ip("-n", f"{self.name}s", "link", "add", "br0", "type", "bridge")
        ip("-n", f"{self.name}s", "link", "set", "br0", "up")
        for number in range(self.count + 1):
            name = f"{self.name}h{number}"
            ip("netns", "add", name)
            ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", f"p{number}",
               "netns", f"{self.name}s")  # fmt: skip
            ip("-n", f"{self.name}s", "link", "set", f"p{number}", "master", "br0", "up")
            ip("-n", name, "addr", "add", f"10.77.0.{number + 1}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")

    def on(self, host, *words, check=True, home="one", stdin=None):
        command = ["nsenter", f"--net=/run/netns/{self.name}h{host}", sys.executable, "-m",
                   "bitdustfs.cli.main", *map(str, words)]  # fmt: skip
        done = subprocess.run(
            command, env={**os.environ, "BITDUST_HOME": str(self.root / home)}, timeout=LIMIT,
            capture_output=True, text=True, check=False, input=stdin,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, done.stderr
        return done

    def start(self, host, *words):
        """A supplier; `words` in place of where it listens, and of whom it joins by."""
        folder = self.root / f"supplier-{host}"
        folder.mkdir(exist_ok=True)
        command = ["nsenter", f"--net=/run/netns/{self.name}h{host}", sys.executable, "-m",
                   "bitdustfs.cli.main", "supplier", "run", "--dir", folder, "--space", "5G",
                   *(words or ("--listen", f"10.77.0.{host + 1}:4000", "--bootstrap",
                               f"10.77.0.{2 if host != 1 else 3}:4000")),
                   *(() if self.lan else ("--no-lan",)), "--for", "anyone"]  # fmt: skip
        own_home = {**os.environ, "BITDUST_HOME": str(folder / "home")}
        with open(folder / "log", "ab") as log:
            self.processes.append(
                subprocess.Popen([str(w) for w in command], stdout=log, stderr=log, env=own_home)
            )

    def address(self, host, verb, address):
        """Adds or deletes ("add", "del") an address of a host."""
        words = ["nodad"] if ":" in address and verb == "add" else []
        ip("-n", f"{self.name}h{host}", "addr", verb, address, "dev", "eth0", *words)

    def cut(self, hosts, up):
        for host in hosts:
            ip("-n", f"{self.name}s", "link", "set", f"p{host}", "up" if up else "down")

    def close(self):
        if os.path.ismount(self.mountpoint):
            sh("fusermount3", "-u", "-z", self.mountpoint, check=False)
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(LIMIT)
        for name in [f"{self.name}h{n}" for n in range(self.count + 1)] + [f"{self.name}s"]:
            ip("netns", "del", name, check=False)

    def status(self):
        """What the mount says of itself."""
        return status_said(self.root / "one", self.mountpoint)

    def rows(self):
        """What the mount says of its suppliers."""
        return suppliers_said(self.root / "one", self.mountpoint)

    def host_of(self, row):
        """The host at which a supplier is."""
        return int(row["address"].split(".")[3].split(":")[0]) - 1

    def create(self):
        """A vault of seven, as soon as all seven can be found."""
        deadline = time.monotonic() + LIMIT
        words = ["vault", "create", "--ecc", "4/7", "--space", "4G"]
        while (done := self.on(0, *words, "--bootstrap", "10.77.0.2:4000", check=False)).returncode:
            assert time.monotonic() < deadline, done.stderr
            time.sleep(0.5)

    def wait_until_nothing_is_owed(self):
        until(lambda: not self.status()["owed_blocks"], LIMIT, "what is owed is not delivered")


def missing():
    """Why there can be no namespaces here, or ""."""
    if (
        os.geteuid()
        or shutil.which("ip") is None
        or ip("netns", "add", NAME, check=False).returncode
    ):
        return "network namespaces need root, iproute2 and a kernel that allows them"
    ip("netns", "del", NAME)
    return ""


@contextmanager
def running(root: Path, count: int):
    """So many hosts with their suppliers running, and one more."""
    made = Hosts(root, count)
    try:
        made.lay()
        for host in range(1, count + 1):
            made.start(host)
        yield made
    finally:
        made.close()
