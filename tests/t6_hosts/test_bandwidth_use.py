"""What a mount takes of its line, each way, by the counters of its interface."""

import json
import os
import subprocess
import sys
import threading
import time

from hosts import LIMIT, ip

RATE = 100 << 10  #: bytes a second
SECONDS = 6
HEADERS = 1.1  #: what comes on top: headers of TCP and IP, acknowledgements


def counted(hosts):
    """Bytes that went out of the host that mounts, and that came in."""
    said = ip("-n", f"{hosts.name}h0", "-s", "-j", "link", "show", "eth0").stdout
    [link] = json.loads(said)
    return link["stats64"]["tx"]["bytes"], link["stats64"]["rx"]["bytes"]


def used(hosts):
    """Bytes out, bytes in, and the most that may be of each, over some seconds."""
    before, began = counted(hosts), time.monotonic()
    time.sleep(SECONDS)
    after, passed = counted(hosts), time.monotonic() - began
    out, came = (b - a for a, b in zip(before, after, strict=True))
    return out, came, HEADERS * RATE * (passed + 2)


def restored(hosts, home):
    """Another machine with the key."""
    key = hosts.on(0, "key", "words").stdout
    subprocess.run(
        [sys.executable, "-m", "bitdustfs.cli.main", "key", "restore"], input=key, text=True,
        env={**os.environ, "BITDUST_HOME": str(hosts.root / home)}, timeout=LIMIT, check=True,
        capture_output=True,
    )  # fmt: skip


def test_so_many_seconds_take_so_many_times_the_bound_at_most(hosts):
    there, film, note = hosts.mountpoint, os.urandom(5 << 18), os.urandom(2000)
    hosts.on(0, "mount", there, "-o", "bandwidth=up:100K")
    hosts.on(0, "sync", there)
    (there / "film").write_bytes(film)  # 2.2 MiB to send: twenty seconds
    assert hosts.on(0, "sync", there, "--for", "1s", check=False).returncode == 3
    out, _, most = used(hosts)
    assert RATE < out <= most
    status = json.loads(hosts.on(0, "status", there, "--json").stdout)
    assert status["judged"] == "pending" and status["seconds_left"] and status["rate"]
    assert [line["state"] for line in status["suppliers"]] == ["online"] * 7
    hosts.on(0, "unmount", "--now", there, check=False)
    hosts.on(0, "mount", there)
    (there / "note").write_bytes(note)
    hosts.on(0, "unmount", there)

    restored(hosts, "reader")
    words = ["mount", there, "-o", "ro,bandwidth=down:100K,bootstrap=10.77.0.3:4000"]
    hosts.on(0, *words, home="reader")
    read = []
    reading = threading.Thread(target=lambda: read.append((there / "film").read_bytes()))
    reading.start()
    time.sleep(1)
    _, came, most = used(hosts)
    assert RATE < came <= most
    assert (there / "note").read_bytes() == note  # beside it
    reading.join(LIMIT)
    assert read == [film]
    hosts.on(0, "unmount", there, home="reader")
