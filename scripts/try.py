"""What scripts/try does once everything is installed; says each step and what came of it."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import real_input

STEP_LIMIT = 600  #: seconds any one step may take
SUPPLIERS, STOPPED = 7, (0, 2, 5)


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


class Machine:
    """A BITDUST_HOME."""

    def __init__(self, home: Path) -> None:
        self.environment = {**os.environ, "BITDUST_HOME": str(home)}

    def bitdust(self, *words: object, stdin: str | None = None, show: bool = True) -> str:
        command = ["bitdust", *map(str, words)]
        if show:
            print(
                "$ " + " ".join(w if len(w) < 70 else w[:67] + "..." for w in command), flush=True
            )
        done = subprocess.run(
            [sys.executable, "-m", "bitdustfs.cli.main", *command[1:]],
            env=self.environment, timeout=STEP_LIMIT, input=stdin, text=True,
            stdout=subprocess.PIPE, check=False,
        )  # fmt: skip
        if done.returncode:
            sys.exit(f"that failed (exit code {done.returncode})")
        if show and done.stdout:
            print(done.stdout.rstrip(), flush=True)
        return done.stdout


def timed(command: list[object], what: str) -> None:
    began = time.monotonic()
    print("$ " + " ".join(map(str, command)), flush=True)
    if subprocess.run(list(map(str, command)), timeout=STEP_LIMIT, check=False).returncode:
        sys.exit(f"{what} failed")
    print(f"{what}: {time.monotonic() - began:.1f} s", flush=True)


def compare(source: Path, copy: Path, what: str) -> None:
    """Content by diff -r; modes, times in nanoseconds, links and attributes by a manifest."""
    timed(["diff", "-r", "--no-dereference", "--exclude=fifo", source, copy], what)
    if real_input.manifest(source) != real_input.manifest(copy):
        sys.exit(f"{what}: modes, times, links or attributes differ")


def main() -> None:
    if not os.path.exists("/dev/fuse"):
        sys.exit(
            "This machine has no /dev/fuse, so nothing can be mounted here (modprobe fuse, or a "
            "container started with --device /dev/fuse)."
        )
    root = Path(tempfile.mkdtemp(prefix="bitdust-try-"))
    mountpoint, swarm = root / "vault", root / "swarm"
    mountpoint.mkdir()
    machine = Machine(root / "machine-one")
    try:
        run(root, mountpoint, swarm, machine)
    finally:
        if os.path.ismount(mountpoint):
            subprocess.run(["fusermount3", "-u", "-z", str(mountpoint)], check=False, timeout=60)
        machine.bitdust("swarm", swarm, "--stop", show=False)
        shutil.rmtree(root, ignore_errors=True)


def run(root: Path, mountpoint: Path, swarm: Path, first: Machine) -> None:
    say(f"{SUPPLIERS} suppliers on this machine, each with a shelf of its own")
    first.bitdust("swarm", swarm, "--suppliers", SUPPLIERS)
    addresses = (swarm / "addresses").read_text().split()

    say("a vault: any 4 of the 7 are enough")
    first.bitdust("vault", "create", "--ecc", "4/7", "--space", "4G", "--bootstrap", addresses[0])
    secret = first.bitdust("key", "words", show=False)

    noise, remark = real_input.noise_size(root)
    say(
        "mount it and copy in Python's standard library, 5,000 small files, "
        f"a file of {noise >> 20} MiB that does not compress, a sparse one, links, odd names"
    )
    if remark:
        print(remark)
    first.bitdust("mount", mountpoint)
    source = root / "source"
    real_input.make_all(source, noise)
    timed(["cp", "-a", source, mountpoint / "copy"], "copying in")
    compare(source, mountpoint / "copy", "comparing")
    began = time.monotonic()
    first.bitdust("unmount", mountpoint)
    print(f"publishing the rest and unmounting: {time.monotonic() - began:.1f} s")

    say(f"three suppliers stop: {', '.join(map(str, STOPPED))}; machine one is lost")
    for number in STOPPED:
        pid = int((swarm / f"supplier-{number}" / "pid").read_text().split()[0])
        os.kill(pid, 15)
    shutil.rmtree(root / "machine-one")

    say("another machine, with the 24 words and one address only")
    second = Machine(root / "machine-two")
    second.bitdust("key", "restore", stdin=secret)
    began = time.monotonic()
    second.bitdust("mount", mountpoint, "-o", f"bootstrap={addresses[1]}")
    names = len(os.listdir(mountpoint / "copy" / "library"))
    print(f"mounted and listed {names} names: {time.monotonic() - began:.2f} s")
    compare(source, mountpoint / "copy", "comparing, everything fetched with three suppliers gone")
    second.bitdust("status", mountpoint)
    second.bitdust("unmount", mountpoint)
    say("everything came back equal")


if __name__ == "__main__":
    main()
