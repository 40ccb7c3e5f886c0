"""A host loses its power, or its router is switched off: its packets are dropped without a word.

tests/power_cut.py [MINUTES] [SECONDS AFTER THE MOUNT]: seven suppliers and two reserves in network
namespaces, one of the seven cut off for so long. Prints what the mount says of it meanwhile, and
fails if anybody is fired, anything moves, or the host is not online 30 seconds after it is back.
"""

import sys
import tempfile
import time
from pathlib import Path

from hosts import Hosts, missing, running

BACK_WITHIN = 30.0  #: seconds from the end of the cut until the supplier is online
LOOK_EVERY = 2.0


def stored(hosts: Hosts) -> dict[int, int]:
    """Host -> bytes of fragments on its disk."""
    return {
        host: sum(
            file.stat().st_size
            for file in hosts.root.glob(f"supplier-{host}/store/shelf/**/*")
            if file.is_file()
        )
        for host in range(1, hosts.count + 1)
    }


def cut_one(hosts: Hosts, position: int, seconds: float, say=print) -> float:
    """Cuts the host of a position off for `seconds`; how long it took to be online again.

    Raises AssertionError when somebody is fired, something moves, or it takes too long.
    """
    before, kept = hosts.rows(), stored(hosts)
    victim = hosts.host_of(before[position])
    hosts.cut([victim], up=False)
    began, states = time.monotonic(), []
    while time.monotonic() - began < seconds:
        check(hosts, before, say)
        row = hosts.rows()[position]
        if not states or states[-1] != row["state"]:
            states.append(row["state"])
            say(f"{time.monotonic() - began:6.0f} s  host {victim} is {row['state']}")
        time.sleep(LOOK_EVERY)
    hosts.cut([victim], up=True)
    back = time.monotonic()
    while (row := hosts.rows()[position])["state"] != "online" or row["away"]:
        took = time.monotonic() - back
        assert took < BACK_WITHIN, f"{row['state']} {took:.0f} s after it is back: {row}"
        time.sleep(0.3)
    took = time.monotonic() - back
    say(f"online {took:.1f} s after it was back; states {states}")
    check(hosts, before, say)
    assert stored(hosts) == kept, "something moved"
    return took


def check(hosts: Hosts, before, say) -> None:
    """Nobody is fired, and nobody is to be."""
    rows = hosts.rows()
    assert [row["node"] for row in rows] == [row["node"] for row in before], "somebody was fired"
    gone = [row for row in rows if row["state"] in ("gone", "absent")]
    assert not gone, gone


def main(minutes: float, after: float) -> None:
    """Once, with real processes."""
    if why := missing():
        sys.exit(why)
    with tempfile.TemporaryDirectory() as folder, running(Path(folder), 9) as hosts:
        hosts.create()
        hosts.on(0, "mount", hosts.mountpoint)
        (hosts.mountpoint / "file").write_bytes(bytes(range(256)) * 100_000)
        hosts.on(0, "sync", hosts.mountpoint)
        hosts.wait_until_nothing_is_owed()
        time.sleep(after)
        cut_one(hosts, 2, minutes * 60)
        print(hosts.on(0, "status", hosts.mountpoint).stdout)
        print(hosts.on(0, "rebuild", hosts.mountpoint).stdout)
        hosts.on(0, "unmount", hosts.mountpoint)


if __name__ == "__main__":
    words = [float(word) for word in sys.argv[1:]]
    main(*(words + [5.0, 0.0][len(words) :]))
