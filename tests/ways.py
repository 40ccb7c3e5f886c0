"""How fast a vault of two friends (1/2) is by each way to them: direct, punched, relayed.

Each of the two gets all of it. Hosts are network namespaces of this machine, so it is the programs
that bound the speed: mount, suppliers and, where there is one, the relay share its cores. A relay
passes on at most what its caps say (4 MiB a second for one node). One JSON line a way.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

from asked import until
from homes import RELAYS, Cone, TwoFriends, carried
from hosts import LIMIT, missing

MIB = 1 << 20


class Direct(TwoFriends):
    """Nobody has a router."""

    behind = {}

    def begin(self):
        self.lay()
        self.relayed = {host: f"10.77.0.{host + 1}:4000" for host in self.friends}
        for host in (*RELAYS, *self.friends):
            self.start(host)


class Relayed(TwoFriends):
    """The friends' routers take another outside port for each connection."""


WAYS = {"direct": Direct, "punched": Cone, "relayed": Relayed}


def measured(homes, way, size):
    """What writing and reading came to, by one way."""
    homes.on(0, "mount", homes.mountpoint)
    (homes.mountpoint / "first").write_bytes(b"so that the friends keep something")
    homes.on(0, "sync", homes.mountpoint)
    until(lambda: [row["way"] for row in homes.rows()] == [way] * 2, LIMIT, f"they are not {way}")
    content, through, began = os.urandom(size), carried(homes), time.monotonic()
    (homes.mountpoint / "data").write_bytes(content)
    homes.on(0, "sync", homes.mountpoint)
    homes.wait_until_nothing_is_owed()
    sent = time.monotonic() - began
    through = carried(homes) - through
    homes.on(0, "unmount", homes.mountpoint)
    shutil.rmtree(homes.root / "one" / "vaults")
    homes.on(0, "mount", homes.mountpoint, "-o", "take-over")
    until(lambda: [row["way"] for row in homes.rows()] == [way] * 2, LIMIT, f"they are not {way}")
    began = time.monotonic()
    same = (homes.mountpoint / "data").read_bytes() == content
    read = time.monotonic() - began
    homes.on(0, "unmount", homes.mountpoint)
    assert same, "it was read wrongly"
    return {
        "way": way, "to both, MB/s": round(2 * size / sent / 1e6, 1),
        "read, MB/s": round(size / read / 1e6, 1), "carried by relays, MB": through // 10**6,
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(prog="scripts/ways", description=__doc__)
    parser.add_argument("--mib", type=int, default=128, help="size of the file (128)")
    parser.add_argument("ways", nargs="*", metavar="WAY", help="direct, punched, relayed (all)")
    args = parser.parse_args()
    if why := missing() or ("" if shutil.which("nft") else "routers need nftables"):
        raise SystemExit(why)
    for way in args.ways or WAYS:
        with tempfile.TemporaryDirectory() as folder:
            homes = WAYS[way](Path(folder))
            try:
                homes.begin()
                homes.create()
                print(json.dumps(measured(homes, way, args.mib * MIB)), flush=True)
            finally:
                homes.close()


if __name__ == "__main__":
    main()
