"""Clears a benchmark's folder away: its processes, its mounts, its files.

Run as `python -m benchmarks.janitor FOLDER`, it waits until its standard input ends, that is until
the benchmark has ended, however that came about, and only then does its work. All that belongs to a
benchmark carries its folder's name: processes among their arguments, mounts as their place. The
name is made by mkdtemp, so nobody else has it (but who looks at a log in it meanwhile).
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

PREFIX = "bitdust-bench-"
DETACHING = 10.0  #: seconds that taking one mount away may take
PATIENCE = 20.0  #: seconds that processes have to be gone


def make_folder(inside: Path | None) -> Path:
    """A folder that `clear` accepts."""
    return Path(os.path.realpath(tempfile.mkdtemp(prefix=PREFIX, dir=inside)))


def mounts_under(folder: Path) -> list[Path]:
    """Places below `folder`, and itself, at which something is mounted; the inmost first.

    It asks no mount, so none can hold it up.
    """
    places = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        head, *escaped = line.split(b" ")[4].split(b"\\")
        rest = [bytes([int(part[:3], 8)]) + part[3:] for part in escaped]
        place = Path(os.fsdecode(head + b"".join(rest)))
        if place == folder or folder in place.parents:
            places.append(place)
    return places[::-1]


def processes_under(folder: Path) -> list[int]:
    """Those that have `folder`, or what is below it, among their arguments; not this one."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(_names(os.fsdecode(word), str(folder)) for word in words):
            found.append(int(entry.name))
    return found


def _names(word: str, folder: str) -> bool:
    """`word` may be a path, or an option or a URL that ends in one."""
    _, found, rest = word.partition(folder)
    return bool(found) and rest[:1] in ("", "/")


def detach(place: Path) -> None:
    """Takes a mount away, in use or not."""
    for command in (["fusermount3", "-u", "-z"], ["umount", "-l"]):
        with suppress(OSError, subprocess.TimeoutExpired):
            words = [*command, str(place)]
            done = subprocess.run(words, capture_output=True, check=False, timeout=DETACHING)
            if done.returncode == 0:
                return


def clear(folder: Path) -> str:
    """Ends, unmounts and deletes; what could not be cleared away, as a sentence, or ""."""
    if not folder.name.startswith(PREFIX):
        return f"{folder} was made by no benchmark"
    give_up = time.monotonic() + PATIENCE
    while (left := processes_under(folder)) and time.monotonic() < give_up:
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    for place in mounts_under(folder):
        detach(place)
    if mounts_under(folder):
        return f"something is still mounted below {folder}"
    shutil.rmtree(folder, ignore_errors=True)
    if left:
        return f"processes of {folder} are still there: {left}"
    return f"{folder} could not be deleted" if folder.exists() else ""


def start(folder: Path) -> subprocess.Popen[bytes]:
    """A janitor that waits for this process's end, out of reach of the terminal's Ctrl-C."""
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.janitor", str(folder)],
        stdin=subprocess.PIPE, start_new_session=True, cwd="/",
    )  # fmt: skip


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    trouble = clear(Path(sys.argv[1]))
    if trouble:
        print(trouble, file=sys.stderr)
    return len(trouble) > 0


if __name__ == "__main__":
    sys.exit(main())
