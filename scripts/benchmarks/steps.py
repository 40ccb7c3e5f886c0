"""What programs do to any folder: the steps of the workload, one function a step.

A step relies on what earlier ones left in the folder. The clock runs for the work alone, not for
checks of what was read.
"""

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from statistics import median, quantiles

from benchmarks.folder import PIECE, Figures, Folder, Watch, check, drop_caches
from benchmarks.settings import MIB

FOLDERS, IN_FOLDER = 20, 50  #: what is looked at while something is copied
PAUSE = 0.01  #: seconds between two looks
LOOKS_MIN = 20  #: without so many of them a percentile means nothing

# -- one large file


def write(folder: Folder) -> Figures:
    """MB/s, close included."""
    watch = Watch()
    with watch.running(), open(folder.big, "wb", buffering=0) as file:
        for number in range(folder.mebibytes):
            check(file.write(folder.piece(number)), MIB)
    return watch.rate(folder.mebibytes * MIB / 1e6)


def fsync(folder: Folder) -> Figures:
    watch = Watch()
    fd = os.open(folder.big, os.O_RDWR)
    with watch.running():
        os.fsync(fd)
    os.close(fd)
    return watch.rate(1)


def _read(folder: Folder, as_written: bool = True) -> Figures:
    watch, read = Watch(), 0
    buffer, ends = bytearray(MIB), []
    with watch.running(), open(folder.big, "rb", buffering=0) as file:
        while got := file.readinto(buffer):
            read += got
            if read in (MIB, folder.mebibytes * MIB):
                ends.append(bytes(buffer))
    check(read, folder.mebibytes * MIB)
    wanted = [folder.piece(0), folder.piece(folder.mebibytes - 1)]
    if as_written and ends != wanted[-len(ends) :]:
        raise AssertionError("other bytes were read than were written")
    return watch.rate(read / 1e6)


def read_cold(folder: Folder) -> Figures:
    """MB/s, with nothing in the kernel's cache."""
    drop_caches()
    return _read(folder)


def read_warm(folder: Folder) -> Figures:
    """MB/s, read a second time."""
    _read(folder)
    return _read(folder)


def read_rewritten(folder: Folder) -> Figures:
    """MB/s, cold, of a file that was written at random since: its first bytes are others now."""
    drop_caches()
    return _read(folder, as_written=False)


def random_read(folder: Folder) -> Figures:
    """Reads of 4 KiB a second, with nothing in the kernel's cache."""
    drop_caches()
    watch, places = Watch(), folder.places()
    with watch.running():
        fd = os.open(folder.big, os.O_RDONLY)
        parts = [os.pread(fd, PIECE, place) for place in places]
        os.close(fd)
    if any(part != folder.expect(place) for part, place in zip(parts, places, strict=True)):
        raise AssertionError("other bytes were read than were written")
    return watch.rate(folder.operations)


def random_write(folder: Folder) -> Figures:
    """Writes of 4 KiB a second, into what is there; an fsync at the end belongs to it."""
    watch, places = Watch(), folder.places()
    with watch.running():
        fd = os.open(folder.big, os.O_RDWR)
        for number, place in enumerate(places):
            check(os.pwrite(fd, folder.content(number), place), PIECE)
        os.fsync(fd)
        os.close(fd)
    return watch.rate(folder.operations)


# -- many small files


def create(folder: Folder) -> Figures:
    """Files of 4 KiB a second."""
    folder.small.mkdir(parents=True)
    watch, names = Watch(), folder.names()
    with watch.running():
        for number, name in enumerate(names):
            with open(name, "wb", buffering=0) as file:
                file.write(folder.content(number))
    return watch.rate(folder.count)


def stat(folder: Folder) -> Figures:
    """Files a second, by name, with nothing in the kernel's cache."""
    drop_caches()
    watch, names = Watch(), folder.names()
    with watch.running():
        sizes = [os.stat(name).st_size for name in names]
    check(sum(sizes), folder.count * PIECE)
    return watch.rate(folder.count)


def ls(folder: Folder) -> Figures:
    """Files a second, as `ls -l` does it, with nothing in the kernel's cache."""
    drop_caches()
    watch = Watch()
    with watch.running(), os.scandir(folder.small) as entries:
        sizes = [entry.stat().st_size for entry in entries]
    check(sum(sizes), folder.count * PIECE)
    return watch.rate(folder.count)


def read_small(folder: Folder) -> Figures:
    """Files a second, with nothing in the kernel's cache."""
    drop_caches()
    watch, contents = Watch(), []
    with watch.running():
        for name in folder.names():
            with open(name, "rb", buffering=0) as file:
                contents.append(file.read())
    for number, content in enumerate(contents):
        if content != folder.content(number):
            raise AssertionError(f"file {number} has other bytes than were written")
    return watch.rate(folder.count)


def rename(folder: Folder) -> Figures:
    watch, names = Watch(), [(name, f"{name}.r") for name in folder.names()]
    with watch.running():
        for old, new in names:
            os.rename(old, new)
    return watch.rate(folder.count)


def unlink(folder: Folder) -> Figures:
    watch, names = Watch(), sorted(os.path.join(folder.small, n) for n in os.listdir(folder.small))
    with watch.running():
        for name in names:
            os.unlink(name)
    check(len(names), folder.count)
    return watch.rate(folder.count)


# -- looking while something is copied


def prepare_looks(folder: Folder) -> Figures:
    """Folders to be looked at."""
    for number in range(FOLDERS * IN_FOLDER):
        name = _look(folder, number)
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_bytes(folder.content(number))
    return {}


def look(folder: Folder) -> Figures:
    """Milliseconds that `ls -l`, and opening and reading a file, take while `write` runs."""
    drop_caches()
    chance = random.Random(3)
    listed, opened = [], []
    words = [sys.executable, "-m", "benchmarks.work", "write", str(folder.path)]
    with subprocess.Popen(
        [*words, "--big", str(folder.mebibytes)], stdout=subprocess.DEVNULL
    ) as copying:
        while copying.poll() is None:
            number = chance.randrange(FOLDERS * IN_FOLDER)
            watch = Watch()
            with watch.running(), os.scandir(_look(folder, number).parent) as entries:
                names = [entry.stat().st_size for entry in entries]
            check(len(names), IN_FOLDER)
            listed.append(1000 * watch.seconds)
            watch = Watch()
            with watch.running(), open(_look(folder, number), "rb", buffering=0) as file:
                file.read()
            opened.append(1000 * watch.seconds)
            time.sleep(PAUSE)
    check(copying.returncode, 0)
    if len(listed) < LOOKS_MIN:
        raise AssertionError(f"there was time for {len(listed)} looks only: copy more (--busy)")
    return {**_spread("ls", listed), **_spread("open", opened)}


def _look(folder: Folder, number: int) -> Path:
    return folder.path / f"looks-{number // IN_FOLDER}" / f"{number}"


def _spread(what: str, times: list[float]) -> Figures:
    worst = max(times)
    return {
        f"{what}-median": median(times),
        f"{what}-p99": min(worst, quantiles(times, n=100, method="inclusive")[-1]),
        f"{what}-worst": worst,
    }


#: what may be done to a folder, by work.py
STEPS = (
    write, fsync, read_cold, read_warm, random_read, random_write, read_rewritten, create, stat, ls,
    read_small, rename, unlink, prepare_looks, look,
)  # fmt: skip
