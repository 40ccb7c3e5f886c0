"""What processes and this machine tell of themselves, in /proc."""

import ctypes
import os
import platform
import re
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.settings import MIB

TICKS = os.sysconf("SC_CLK_TCK")
CLONE_NEWNET = 0x40000000  # sched.h


@dataclass(frozen=True)
class Usage:
    """Since the process began: processor seconds, and bytes that it wrote to disk.

    Memory in MiB: resident now, and at most.
    """

    cpu: float
    written: int
    memory: float
    peak: float


def usage(pid: int) -> Usage:
    """Raises OSError when the process is gone."""
    process = Path(f"/proc/{pid}")
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    status = (process / "status").read_text()
    return Usage(
        (int(fields[11]) + int(fields[12])) / TICKS,
        _number((process / "io").read_text(), "write_bytes"),
        _number(status, "VmRSS") * 1024 / MIB,
        _number(status, "VmHWM") * 1024 / MIB,
    )


def _number(text: str, name: str) -> int:
    found = re.search(rf"^{name}:\s*(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else 0


class Wakeups:
    """How often threads of processes woke up, since this was made.

    A thread's count goes with the thread, so somebody has to `look` again and again.
    """

    def __init__(self, pids: Sequence[int]) -> None:
        self.counts = dict.fromkeys(pids, 0)
        self._seen: dict[Path, int] = {}
        self.look()
        self.counts = dict.fromkeys(pids, 0)

    def look(self) -> None:
        """Counts what came since the last look."""
        for pid in self.counts:
            for task in Path(f"/proc/{pid}/task").iterdir():
                with suppress(OSError):  # a thread that has just ended
                    count = _number((task / "status").read_text(), "voluntary_ctxt_switches")
                    self.counts[pid] += count - self._seen.get(task, 0)
                    self._seen[task] = count


def processor_of(pids: Sequence[int]) -> float:
    """Processor seconds of several processes together."""
    return sum(usage(pid).cpu for pid in pids)


def packets() -> tuple[int, int]:
    """Packets and bytes that loopback carried so far."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == "lo":
            fields = rest.split()
            return int(fields[1]), int(fields[0])
    return 0, 0


def own_network() -> bool:
    """Moves this process to a network of its own, so that packets of others do not count.

    Whether that worked: it takes root.
    """
    if os.geteuid():
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        return False
    with suppress(OSError):
        done = subprocess.run(["ip", "link", "set", "lo", "up"], check=False, timeout=10)
        return done.returncode == 0
    return False


def file_system(folder: Path) -> str:
    """The type of the file system that `folder` lies on."""
    device, best = os.stat(folder).st_dev, "unknown"
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines():
        head, _, tail = line.partition(" - ")
        if head.split()[2] == wanted:
            best = tail.split()[0]
    return best


def machine(folder: Path) -> dict[str, object]:
    """What a reader of the figures has to know of the machine."""
    model = re.search(r"^model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = _number(Path("/proc/meminfo").read_text(), "MemTotal")
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": os.cpu_count() or 1,
        "memory_GiB": round(memory / MIB, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "file_system": file_system(folder),
        "load_at_start": round(os.getloadavg()[0], 2),
        "caches_dropped": os.access("/proc/sys/vm/drop_caches", os.W_OK),
        "commit": _commit(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _commit() -> str:
    """What is measured; "" where it is no checkout."""
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    with suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=10)
        return done.stdout.strip()
    return ""
