"""A partition between hosts with addresses of their own, and its end."""

import os
import random
import subprocess
import sys

from hosts import LIMIT


def test_promise_9_and_10_three_of_seven_hosts_cut_off_and_back_one_history_nothing_rebuilt(hosts):
    hosts.on(0, "mount", hosts.mountpoint)
    assert os.path.ismount(hosts.mountpoint)
    first, second = (random.Random(n).randbytes(5_000_000) for n in range(2))
    (hosts.mountpoint / "before").write_bytes(first)
    hosts.on(0, "sync", hosts.mountpoint)
    family = [row["address"] for row in hosts.rows()]
    assert len({address.rpartition(":")[0] for address in family}) == 7
    cut = [hosts.host_of(row) for row in hosts.rows()[:3]]
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
    hosts.wait_until_nothing_is_owed()
    assert [row["address"] for row in hosts.rows()] == family
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
