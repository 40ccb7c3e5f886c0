"""Suppliers that come and go all the time.

For one real minute nothing is rebuilt and nobody is fired.
"""

import json
import os
import random
import signal
import time

import pytest

MINUTE = 60.0
CYCLE, AWAY = 20.0, 5.0  #: each supplier is away so many seconds of every cycle


@pytest.mark.slow
def test_promise_9_flapping_for_a_minute_fires_nobody_rebuilds_nothing_and_reads_go_on(world):
    world.start(9)  # there would be others to hire
    world.mount()
    content = random.Random(4).randbytes(8_000_000)
    (world.mountpoint / "file").write_bytes(content)
    world.run("sync", world.mountpoint)
    world.wait_until_nothing_is_owed()
    world.run("unmount", world.mountpoint)
    world.forget_cache()
    world.mount("take-over", "cache=1M")  # so that reads go to the suppliers
    before = [row["node"] for row in rows(world)]
    members = [world.addresses.index(row["address"]) for row in rows(world)]
    stopped, began, reads = set(), time.monotonic(), 0
    try:
        while (now := time.monotonic() - began) < MINUTE:
            for place, number in enumerate(members):
                away = (now + place * CYCLE / len(members)) % CYCLE < AWAY
                if away != (number in stopped):
                    os.kill(world.supplier_pid(number), signal.SIGSTOP if away else signal.SIGCONT)
                    (stopped.add if away else stopped.discard)(number)
            with open(world.mountpoint / "file", "rb") as file:
                at = random.Random(reads).randrange(len(content) - 100_000)
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                file.seek(at)
                assert file.read(100_000) == content[at : at + 100_000]
            reads += 1
            time.sleep(0.1)
    finally:
        for number in stopped:
            os.kill(world.supplier_pid(number), signal.SIGCONT)
    assert reads > 20
    assert [row["node"] for row in rows(world)] == before
    report = world.run("rebuild", world.mountpoint).stdout
    assert "0 fragments were made again, 0 suppliers replaced" in report
    assert "nothing is wrong" in world.run("verify", world.mountpoint).stdout


def rows(world):
    return json.loads(world.run("suppliers", world.mountpoint, "--json").stdout)
