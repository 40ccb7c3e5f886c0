"""Several hosts with addresses of their own, in network namespaces: a partition, and its end.

(`ip netns exec` would hide the mount in a mount namespace; nsenter changes the network alone.)
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

LIMIT = 90
HOSTS = 7
NAME = f"bd{os.getpid()}"


def sh(*words, check=True):
    return subprocess.run(
        [str(w) for w in words], check=check, capture_output=True, text=True, timeout=LIMIT
    )


def ip(*words, check=True):
    return sh("ip", *words, check=check)


class Hosts:
    """Host 0 mounts, hosts 1 to 7 are suppliers; each has an address of its own on one bridge."""

    def __init__(self, root: Path) -> None:
        self.root, self.processes = root, []
        self.mountpoint = root / "mnt"
        self.mountpoint.mkdir()

    def lay(self):
        ip("netns", "add", f"{NAME}s")  # the switch
        ip("-n", f"{NAME}s", "link", "add", "br0", "type", "bridge")
        ip("-n", f"{NAME}s", "link", "set", "br0", "up")
        for number in range(HOSTS + 1):
            name = f"{NAME}h{number}"
            ip("netns", "add", name)
            ip("-n", name, "link", "add", "eth0", "type", "veth", "peer", "name", f"p{number}",
               "netns", f"{NAME}s")  # fmt: skip
            ip("-n", f"{NAME}s", "link", "set", f"p{number}", "master", "br0", "up")
            ip("-n", name, "addr", "add", f"10.77.0.{number + 1}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")

    def on(self, host, *words, check=True, home="one"):
        command = ["nsenter", f"--net=/run/netns/{NAME}h{host}", sys.executable, "-m",
                   "bitdustfs.cli.main", *map(str, words)]  # fmt: skip
        done = subprocess.run(
            command, env={**os.environ, "BITDUST_HOME": str(self.root / home)}, timeout=LIMIT,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, done.stderr
        return done

    def start(self, host):
        folder = self.root / f"supplier-{host}"
        folder.mkdir(exist_ok=True)
        command = ["nsenter", f"--net=/run/netns/{NAME}h{host}", sys.executable, "-m",
                   "bitdustfs.cli.main", "supplier", "run", "--dir", folder, "--space", "5G",
                   "--listen", f"10.77.0.{host + 1}:4000", "--bootstrap",
                   f"10.77.0.{2 if host != 1 else 3}:4000"]  # fmt: skip
        with open(folder / "log", "ab") as log:
            own_home = {**os.environ, "BITDUST_HOME": str(folder / "home")}
            self.processes.append(
                subprocess.Popen([str(w) for w in command], stdout=log, stderr=log, env=own_home)
            )

    def cut(self, hosts, up):
        for host in hosts:
            ip("-n", f"{NAME}s", "link", "set", f"p{host}", "up" if up else "down")

    def close(self):
        if os.path.ismount(self.mountpoint):
            sh("fusermount3", "-u", "-z", self.mountpoint, check=False)
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(LIMIT)
        for name in [f"{NAME}h{n}" for n in range(HOSTS + 1)] + [f"{NAME}s"]:
            ip("netns", "del", name, check=False)


@pytest.fixture
def hosts(tmp_path):
    if (
        os.geteuid()
        or shutil.which("ip") is None
        or ip("netns", "add", NAME, check=False).returncode
    ):
        pytest.skip("network namespaces need root, iproute2 and a kernel that allows them")
    ip("netns", "del", NAME)
    made = Hosts(tmp_path)
    try:
        made.lay()
        for host in range(1, HOSTS + 1):
            made.start(host)
        yield made
    finally:
        made.close()


def rows(hosts):
    return json.loads(hosts.on(0, "suppliers", hosts.mountpoint, "--json").stdout)


def create(hosts):
    """Until all seven can be found."""
    deadline = time.monotonic() + LIMIT
    words = ["vault", "create", "--ecc", "4/7", "--space", "4G", "--bootstrap", "10.77.0.2:4000"]
    while (done := hosts.on(0, *words, check=False)).returncode:
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.5)


def test_promise_9_and_10_three_of_seven_hosts_cut_off_and_back_one_history_nothing_rebuilt(hosts):
    create(hosts)
    hosts.on(0, "mount", hosts.mountpoint)
    assert os.path.ismount(hosts.mountpoint)
    first, second = (random.Random(n).randbytes(5_000_000) for n in range(2))
    (hosts.mountpoint / "before").write_bytes(first)
    hosts.on(0, "sync", hosts.mountpoint)
    family = [row["address"] for row in rows(hosts)]
    assert len({address.rpartition(":")[0] for address in family}) == HOSTS
    cut = [int(address.split(".")[3].split(":")[0]) - 1 for address in family[:3]]
    hosts.cut(cut, up=False)
    assert (hosts.mountpoint / "before").read_bytes() == first
    (hosts.mountpoint / "during").write_bytes(second)  # four of seven: it stays here, visibly
    fd = os.open(hosts.mountpoint / "during", os.O_RDWR)
    os.fsync(fd)
    os.close(fd)
    assert os.getxattr(hosts.mountpoint / "during", "user.bitdust.state") == b"local"
    other = hosts.on(cut[0], "status", hosts.mountpoint, check=False, home="other")
    assert other.returncode == 2  # nobody else serves this mount
    hosts.cut(cut, up=True)
    hosts.on(0, "sync", hosts.mountpoint)
    deadline = time.monotonic() + LIMIT
    while json.loads(hosts.on(0, "status", hosts.mountpoint, "--json").stdout)["owed_blocks"]:
        assert time.monotonic() < deadline, "what was owed is not delivered"
        time.sleep(0.3)
    assert [row["address"] for row in rows(hosts)] == family
    assert (
        "0 fragments were made again, 0 suppliers replaced"
        in hosts.on(0, "rebuild", hosts.mountpoint).stdout
    )
    assert "nothing is wrong" in hosts.on(0, "verify", hosts.mountpoint).stdout
    hosts.on(0, "unmount", hosts.mountpoint)
    key = hosts.on(0, "key", "words").stdout
    restored = subprocess.run(
        [sys.executable, "-m", "bitdustfs.cli.main", "key", "restore"], input=key, text=True,
        env={**os.environ, "BITDUST_HOME": str(hosts.root / "two")}, timeout=LIMIT, check=True,
        capture_output=True,
    )  # fmt: skip
    assert restored.returncode == 0
    hosts.on(4, "mount", hosts.mountpoint, "-o", "bootstrap=10.77.0.3:4000", home="two")
    assert (hosts.mountpoint / "before").read_bytes() == first
    assert (hosts.mountpoint / "during").read_bytes() == second
    hosts.on(4, "unmount", hosts.mountpoint, home="two")
