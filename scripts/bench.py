"""Measures a vault on seven local suppliers and prints one JSON line.

seq_write_MBps        writing --big MiB of noise into the mount (1 MiB writes, close included)
published_MBps        from the first write until all suppliers acknowledged everything
cold_read_MBps        reading it on a machine with an empty cache
create_per_s          --files files of 4 KiB
create_published_s    from the last one's close until they are published
remount_ls_s          another machine: mount until the first ls of the vault's root
mount_rss_MiB         largest resident size of the mount process while writing
rebuild_MBps          fragment bytes made again a second, when a supplier is lost with all it had
                      and nothing is cached here: k fragments are read for each
rebuild_local_MBps    the same where this machine still has the blocks
rebuild_rss_MiB       largest resident size of the mount process meanwhile
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

MIB = 1 << 20
LIMIT = 600  #: seconds any command may take


class Bench:
    """A swarm, a vault, and the machine that has it mounted."""

    def __init__(self, root: Path) -> None:
        self.root, self.swarm, self.mountpoint = root, root / "swarm", root / "mnt"
        self.mountpoint.mkdir()
        self.home = root / "one"
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, *words: object, stdin: str | None = None) -> str:
        environment = {**os.environ, "BITDUST_HOME": str(self.home)}
        command = [sys.executable, "-m", "bitdustfs.cli.main", *map(str, words)]
        done = subprocess.run(
            command, env=environment, timeout=LIMIT, input=stdin, text=True,
            stdout=subprocess.PIPE, check=True,
        )  # fmt: skip
        return done.stdout

    def pid(self) -> int:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if os.fsencode(self.mountpoint) in words and b"mount" in words:
                    return int(entry.name)
        raise RuntimeError("the mount process is gone")

    def close(self) -> None:
        if os.path.ismount(self.mountpoint):
            subprocess.run(["fusermount3", "-u", "-z", str(self.mountpoint)], check=False)
        self.run("swarm", self.swarm, "--stop")
        shutil.rmtree(self.root, ignore_errors=True)


class PeakMemory:
    """The largest resident size of a process, in MiB, between start and stop."""

    def __init__(self, pid: int) -> None:
        self._pid, self.peak, self._over = pid, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1])
            self.peak = max(self.peak, pages * os.sysconf("SC_PAGESIZE") / MIB)

    def stop(self) -> float:
        self._over.set()
        self._thread.join()
        return self.peak


def drop_caches() -> None:
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        print("not root: the page cache stays warm, cold figures are too good", file=sys.stderr)


def measure(bench: Bench, big: int, files: int) -> dict[str, float]:
    result: dict[str, float] = {}
    bench.run("swarm", bench.swarm, "--suppliers", 7)
    address = (bench.swarm / "bootstrap").read_text()
    bench.run("vault", "create", "--ecc", "4/7", "--space", "8G", "--bootstrap", address)
    bench.run("mount", bench.mountpoint)
    noise = os.urandom(8 * MIB)
    memory = PeakMemory(bench.pid())
    began = time.perf_counter()
    with open(bench.mountpoint / "big", "wb", buffering=0) as file:
        for i in range(big):
            at = (i * 4099) % (7 * MIB)
            file.write(noise[at : at + MIB])
    result["seq_write_MBps"] = big * MIB / (time.perf_counter() - began) / 1e6
    bench.run("sync", bench.mountpoint)
    while json.loads(bench.run("status", bench.mountpoint, "--json"))["owed_blocks"]:
        time.sleep(0.05)
    result["published_MBps"] = big * MIB / (time.perf_counter() - began) / 1e6
    result["mount_rss_MiB"] = memory.stop()

    folder = bench.mountpoint / "small"
    folder.mkdir()
    began = time.perf_counter()
    for i in range(files):
        (folder / f"f{i:06d}").write_bytes(noise[i * 37 : i * 37 + 4096])
    created = time.perf_counter()
    result["create_per_s"] = files / (created - began)
    bench.run("sync", bench.mountpoint)
    result["create_published_s"] = time.perf_counter() - created
    result["rebuild_local_MBps"] = rebuild(bench, 8, big)
    bench.run("unmount", bench.mountpoint)

    words = bench.run("key", "words")
    bench.home = bench.root / "two"
    bench.run("key", "restore", stdin=words)
    drop_caches()
    began = time.perf_counter()
    bench.run("mount", bench.mountpoint, "-o", f"bootstrap={address}")
    os.listdir(bench.mountpoint)
    result["remount_ls_s"] = time.perf_counter() - began
    began = time.perf_counter()
    buffer = bytearray(MIB)
    with open(bench.mountpoint / "big", "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    result["cold_read_MBps"] = big * MIB / (time.perf_counter() - began) / 1e6
    began = time.perf_counter()
    for entry in os.scandir(bench.mountpoint / "small"):
        entry.stat()
    result["cold_ls_l_per_s"] = files / (time.perf_counter() - began)
    memory = PeakMemory(bench.pid())
    result["rebuild_MBps"] = rebuild(bench, 9, big)
    result["rebuild_rss_MiB"] = memory.stop()
    bench.run("unmount", bench.mountpoint)
    return result


def rebuild(bench: Bench, suppliers: int, big: int) -> float:
    """Loses one supplier for good, replaces it by a new one; MB/s of the fragments that it had."""
    rows = json.loads(bench.run("suppliers", bench.mountpoint, "--json"))
    addresses = (bench.swarm / "addresses").read_text().split()
    position, victim = next(
        (p, addresses.index(row["address"])) for p, row in enumerate(rows)
        if row["address"] != addresses[0]
    )  # fmt: skip
    lost = bench.swarm / f"supplier-{victim}"
    os.kill(int((lost / "pid").read_text()), signal.SIGKILL)
    shutil.rmtree(lost / "store")
    bench.run("swarm", bench.swarm, "--suppliers", suppliers)
    new = (bench.swarm / "addresses").read_text().split()[-1]
    began = time.perf_counter()
    bench.run("supplier", "replace", bench.mountpoint, position, "--with", new)
    return big * MIB / 4 / (time.perf_counter() - began) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--big", type=int, default=1024, help="MiB written and read (1024)")
    parser.add_argument("--files", type=int, default=2000, help="small files (2000)")
    args = parser.parse_args()
    bench = Bench(Path(tempfile.mkdtemp(prefix="bitdust-bench-")))
    try:
        result = measure(bench, args.big, args.files)
    finally:
        bench.close()
    print(json.dumps({name: round(value, 2) for name, value in result.items()}))


if __name__ == "__main__":
    main()
