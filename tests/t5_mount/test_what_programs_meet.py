"""What programs meet on a mount where other file systems of users were at fault."""

import errno
import os
import subprocess
import sys
import time

import pytest

from bitdustfs.units import MIB, XATTR_LIST_MAX

LIMIT = 60  #: seconds any one program may take
NOBODY = 65534
UNSUPPORTED = errno.errorcode[errno.EOPNOTSUPP]


def sh(command, cwd):
    done = subprocess.run(
        command, shell=True, cwd=cwd, timeout=LIMIT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def room_of(path):
    """Bytes that a file takes."""
    return os.stat(path).st_blocks * 512


def wait_until_it_takes(path, size):
    """What a file takes is a guess from above for a second after it was written."""
    deadline = time.monotonic() + LIMIT
    while room_of(path) != size:
        assert time.monotonic() < deadline, f"{path} takes {room_of(path)} bytes and not {size}"
        time.sleep(0.1)


def test_sparse_files_stay_sparse_through_the_programs_that_copy_them(world):
    world.mount()
    image = world.mountpoint / "image"
    image.touch()
    os.truncate(image, 6 << 30)  # in a vault of 4 GiB
    assert room_of(image) == 0
    with open(image, "r+b") as file:
        for offset in (0, 100 * MIB, (6 << 30) - MIB):
            file.seek(offset)
            file.write(os.urandom(MIB))
    wait_until_it_takes(image, 3 * MIB)
    os.truncate(image, 200 * MIB)
    sh("cp image copy && cmp image copy && cp --sparse=always copy again", world.mountpoint)
    sh("tar -cSf archive.tar image && mkdir out && tar -xSf archive.tar -C out", world.mountpoint)
    sh("cmp image out/image && cmp image again", world.mountpoint)
    for name in ("copy", "again", "out/image"):
        assert room_of(world.mountpoint / name) <= 3 * MIB
    assert room_of(world.mountpoint / "archive.tar") < 4 * MIB
    assert int(sh("du -sk image", world.mountpoint).split()[0]) == 2048
    whole = world.mountpoint / "whole"
    whole.write_bytes(os.urandom(5 * MIB + 1))
    wait_until_it_takes(whole, 5 * MIB + 512)


WRITE_AND_HOLD = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.pwrite(fd, b"only the kernel has this yet", 1000)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("size", [0, 50_000])
def test_a_file_that_only_the_kernel_has_is_not_archived_as_a_hole(world, size):
    """tar -S reads no file of no blocks."""
    world.mount()
    path = world.mountpoint / "file"
    with open(path, "wb") as made:
        made.truncate(size)
    assert room_of(path) == 0  # and the kernel believes it for an hour
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITE_AND_HOLD, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert writer.stdout.readline() == "held\n"
    assert room_of(path) > 0
    archived = sh("tar -cSf - file | tar -xSf - -O", world.mountpoint)
    assert archived[1000:1028] == "only the kernel has this yet"
    writer.communicate("", timeout=LIMIT)
    assert room_of(path) > 0


def as_nobody(act):
    """What `act` returns in a process of an unprivileged user."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(writing, repr(act()).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        return pipe.read()


def attempt(call, *args):
    """The name of the errno that a call ends with, or what it returns."""
    try:
        return call(*args)
    except OSError as error:
        return errno.errorcode[error.errno]


@pytest.mark.skipif(os.getuid() != 0, reason="only root becomes another user")
def test_other_users_change_no_attributes_of_files_that_are_not_theirs(world):
    world.mount("allow_other")
    fd = os.open(world.mountpoint / "file", os.O_CREAT | os.O_RDWR, 0o600)
    for name in ("user.a", "trusted.a", "security.a"):
        os.setxattr(fd, name, b"root's")

    def all_that_can_be_tried():
        tried = {}
        for name in ("system.a", "user.a", "trusted.a", "security.a", "osx.a"):
            tried[name] = [
                attempt(os.setxattr, fd, name, b"nobody's"),
                attempt(os.getxattr, fd, name),
                attempt(os.removexattr, fd, name),
            ]
        return tried, os.listxattr(fd)

    assert as_nobody(all_that_can_be_tried) == repr((
        {
            "system.a": [UNSUPPORTED, UNSUPPORTED, UNSUPPORTED],
            "user.a": ["EACCES", "EACCES", "EACCES"],
            "trusted.a": ["EPERM", "ENODATA", "EPERM"],
            "security.a": ["EPERM", b"root's", "EPERM"],
            "osx.a": ["EACCES", "EACCES", "EACCES"],
        },
        ["security.a", "user.a"],
    ))  # fmt: skip
    for name in ("system.a", "osx.a", "a"):
        assert attempt(os.setxattr, fd, name, b"root's") == UNSUPPORTED
    assert sorted(os.listxattr(fd)) == ["security.a", "trusted.a", "user.a"]
    os.close(fd)


def test_attributes_are_refused_before_they_cannot_be_listed_any_more(world):
    world.mount()
    path = world.mountpoint / "file"
    path.touch()
    refused = None
    for number in range(300):
        refused = attempt(os.setxattr, path, f"user.{number:0250}", b"")
        if refused:
            break
    assert refused == "ENOSPC"
    assert sum(len(name) + 1 for name in os.listxattr(path)) <= XATTR_LIST_MAX
    sh("rsync -aX file copy", world.mountpoint)
    assert os.listxattr(world.mountpoint / "copy") == os.listxattr(path)


def test_promise_2_a_killed_mount_loses_at_most_a_second(world):
    world.mount()
    for number in range(20):
        (world.mountpoint / f"file{number}").write_bytes(b"%d" % number * 20_000)
    time.sleep(1.1)
    world.kill_mount()
    world.mount("take-over")
    for number in range(20):
        assert (world.mountpoint / f"file{number}").read_bytes() == b"%d" % number * 20_000


def test_the_kernel_says_how_a_vault_is_mounted(world):
    world.mount("noatime,nodiratime")
    with open("/proc/self/mounts") as mounts:
        words = next(line.split()[3] for line in mounts if str(world.mountpoint) in line)
    assert {"noatime", "nosuid", "nodev"} <= set(words.split(","))
