"""Every figure that can be measured: its name, its scene, its unit, and which way is better."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from benchmarks.settings import Failed


class Row(NamedTuple):
    """`along`: what the figure is shown against, where it is measured at several sizes."""

    name: str
    scene: str
    title: str
    unit: str
    less_is_better: bool = False
    along: str = ""


#: scenes in the order in which they run, and what they do; {words} are settings
SCENES = {
    "workload": "what programs do: a file of {big} MiB, {files} files of 4 KiB",
    "busy": "ls and opening small files while {busy} MiB are copied",
    "publish": "writing until suppliers have it",
    "far": "reading on another machine, whose cache is empty: all comes from suppliers",
    "small": "{small} files: created, published, mounted elsewhere, read there",
    "many": "vaults of many files, made without FUSE, mounted on a new machine each round",
    "rebuild": "a supplier is lost with all it had; another one takes its place",
    "idle": "a mount and its suppliers, with nothing to do for {idle} seconds",
}
MB, EACH = "MB/s", "/s"


def _latency(what: str, title: str) -> list[Row]:
    return [
        Row(f"busy-{what}-{name}", "busy", f"{title} while copying, {words}", "ms", True)
        for name, words in (("median", "median"), ("p99", "99 %"), ("worst", "worst"))
    ]


ROWS = [
    Row("write", "workload", "sequential write", MB),
    Row("fsync", "workload", "fsync after it", "s", True),
    Row("read-uploading", "workload", "cold read while uploads run", MB),
    Row("read-published", "workload", "cold read once published", MB),
    Row("read-warm", "workload", "warm read", MB),
    Row("random-read", "workload", "random read 4 KiB, cold", EACH),
    Row("random-write", "workload", "random write 4 KiB, fsync included", EACH),
    Row("read-rewritten", "workload", "cold read of what was written at random", MB),
    Row("create", "workload", "create 4 KiB", EACH),
    Row("stat", "workload", "stat cold", EACH),
    Row("ls", "workload", "ls -l cold", EACH),
    Row("read-small", "workload", "read 4 KiB files, cold", EACH),
    Row("rename", "workload", "rename", EACH),
    Row("unlink", "workload", "unlink", EACH),
    *_latency("ls", "ls -l of 50 files"),
    *_latency("open", "open and read 4 KiB"),
    Row("published", "publish", "write until published", MB, along="MiB"),
    Row("delivered", "publish", "write until every supplier has it", MB, along="MiB"),
    Row("publish-memory", "publish", "memory of the mount, peak", "MiB", True, "MiB"),
    Row("publish-cpu", "publish", "processor of the mount", "s/GiB", True, "MiB"),
    Row("publish-cpu-suppliers", "publish", "processor of all suppliers", "s/GiB", True, "MiB"),
    Row("far-read", "far", "cold read from suppliers", MB),
    Row("far-read-stopped", "far", "cold read, n-k of them stopped", MB),
    Row("far-random", "far", "random read 4 KiB from suppliers", EACH),
    Row("far-random-stopped", "far", "random read, n-k of them stopped", EACH),
    Row("far-cpu", "far", "processor of the mount, reading", "s/GiB", True),
    Row("far-cpu-suppliers", "far", "processor of all suppliers, read from", "s/GiB", True),
    Row("far-memory", "far", "memory of the mount, peak", "MiB", True),
    Row("small-create", "small", "create 4 KiB", EACH),
    Row("small-published", "small", "created and published", "s", True),
    Row("small-mount-ls", "small", "mount elsewhere until the first ls", "s", True),
    Row("small-read", "small", "read them all, from suppliers", EACH),
    Row("many-mount-ls", "many", "mount until the first ls", "s", True, "files"),
    Row("many-ls", "many", "then ls -l of one folder", "ms", True, "files"),
    Row("many-find", "many", "then stat of all", EACH, along="files"),
    Row("many-memory", "many", "memory of the mount after that", "MiB", True, "files"),
    Row("rebuild", "rebuild", "rebuild, nothing cached here", "MB/s of fragments"),
    Row("rebuild-local", "rebuild", "rebuild from this machine's blocks", "MB/s of fragments"),
    Row("rebuild-memory", "rebuild", "memory of the mount, peak", "MiB", True),
    Row("idle-cpu", "idle", "processor of the mount", "% of a core", True),
    Row("idle-cpu-supplier", "idle", "processor of a supplier", "% of a core", True),
    Row("idle-wakeups", "idle", "wake-ups of the mount", EACH, True),
    Row("idle-wakeups-supplier", "idle", "wake-ups of a supplier", EACH, True),
    Row("idle-packets", "idle", "packets of all together", EACH, True),
    Row("idle-traffic", "idle", "bytes in them", "B/s", True),
    Row("idle-written", "idle", "written to disk by the mount", "KiB", True),
    Row("idle-written-supplier", "idle", "written to disk by a supplier", "KiB", True),
]
BY_NAME = {row.name: row for row in ROWS}


def select(words: Sequence[str]) -> list[Row]:
    """The rows meant by names, names of scenes, or patterns like "far-*"; all, where none is said.

    Raises Failed for a word that means none.
    """
    for word in words:
        if not any(_means(word, row) for row in ROWS):
            raise Failed(f"no row and no scene is called {word!r}: see --list")
    return [row for row in ROWS if not words or any(_means(word, row) for word in words)]


def _means(word: str, row: Row) -> bool:
    return word == row.scene or fnmatchcase(row.name, word)
