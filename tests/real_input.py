"""Real files to copy, every awkward one among them, and what must be equal after a round trip.

Used by the tests and by scripts/try.
"""

import os
import random
import shutil
import sys
from pathlib import Path

MIB = 1 << 20
NOISE = 1024 * MIB  #: bytes of the large incompressible file
DISK_NEEDED = (
    8 * NOISE
)  #: bytes free for a run with it: source, two machines' caches, seven shelves


def noise_size(folder: Path) -> tuple[int, str]:
    """(bytes of the incompressible file that this disk has room for, a remark or "")."""
    free = shutil.disk_usage(folder).free
    if free >= DISK_NEEDED:
        return NOISE, ""
    return 64 * MIB, f"only {free >> 30} GiB are free here, so the large file has 64 MiB, not 1 GiB"


def write_noise(path: Path, size: int, seed: int = 1) -> None:
    rng = random.Random(seed)
    with open(path, "wb") as file:
        for at in range(0, size, 16 * MIB):
            file.write(rng.randbytes(min(16 * MIB, size - at)))


def awkward_files(folder: Path, noise: int, sparse: int) -> None:
    """A large file, a sparse one of so many bytes, links, odd names, attributes."""
    write_noise(folder / "noise", noise)
    os.link(folder / "noise", folder / "hard link")
    os.symlink("hard link", folder / "symlink")
    os.symlink("/nowhere/at all", folder / "dangling")
    (folder / "empty").touch()
    with open(folder / "sparse", "wb") as file:
        file.seek(40_000_000)
        file.write(b"end")
        file.truncate(sparse)
    (folder / ("n" * 255)).write_bytes(b"longest name")
    Path(os.fsdecode(os.fsencode(folder) + b"/not utf-8 \xff\xfe")).write_bytes(b"bytes")
    os.mkfifo(folder / "fifo")
    os.setxattr(folder / "empty", "user.comment", b"an attribute")
    os.setxattr(folder / "empty", "user.large", bytes(range(256)) * 8)
    os.chmod(folder / "empty", 0o4751)
    os.utime(folder / "noise", ns=(123_456_789, 1_600_000_000_123_456_789))


def many_files(folder: Path, count: int) -> None:
    folder.mkdir()
    for i in range(count):
        (folder / f"file-{i:05d}").write_text(f"the content of file {i}\n" * (i % 50))


def standard_library(target: Path, whole: bool) -> None:
    """This Python's standard library, links and modes kept, and an executable.

    Not the `whole`: without its own tests and compiled modules, which are six files in seven.
    """
    library = Path(os.__file__).parent
    without = ["site-packages"] if whole else ["site-packages", "test", "__pycache__"]
    ignore = shutil.ignore_patterns(*without)
    shutil.copytree(library, target, symlinks=True, ignore=ignore)
    shutil.copy2(os.path.realpath(sys.executable), target / "python-executable")


def make_all(folder: Path, noise: int, whole: bool = True) -> None:
    """All of the above in a new folder; not the `whole`: some thousand files less."""
    folder.mkdir()
    standard_library(folder / "library", whole)
    many_files(folder / "many", 5000 if whole else 500)
    awkward_files(folder, noise, 400_000_000 if whole else 60_000_000)


def manifest(root: Path) -> dict[bytes, tuple]:
    """What cp -a must keep, by path: mode, size, time, number of names, target, attributes."""
    found = {}
    for folder, names, files in os.walk(os.fsencode(root)):
        for name in [*names, *files]:
            path = os.path.join(folder, name)
            info = os.lstat(path)
            is_link = os.path.islink(path)
            is_folder = os.path.isdir(path) and not is_link
            target = os.readlink(path) if is_link else b""
            size = 0 if is_folder else info.st_size
            links = 0 if is_folder else info.st_nlink
            xattrs = {} if is_link else {
                x: os.getxattr(path, x) for x in os.listxattr(path) if x.startswith("user.")
            }  # fmt: skip
            key = os.path.relpath(path, os.fsencode(root))
            found[key] = (info.st_mode, size, info.st_mtime_ns, links, target, xattrs)
    return found
