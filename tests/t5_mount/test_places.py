"""Local work goes on while reads wait for suppliers that hang."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bitdustfs.mount.places import READ_AHEAD

HANGING = Path(__file__).parents[1] / "hanging.py"
READERS = 24
LIMIT = 10  #: seconds for any of it
#: in a process of its own: who shares a descriptor of a mount that hangs, hangs with it
WORK = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
os.write(fd, b"x" * 10_000)
os.fsync(fd)
os.close(fd)
"""


@pytest.fixture
def mountpoint(tmp_path):
    """A mount whose files cannot be read, at a path that mountinfo has to write otherwise."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse, so nothing can be mounted")
    if os.getuid() and not os.listdir("/sys/fs/fuse/connections"):
        pytest.skip("fusectl is not mounted here, and only root can do without")
    path = tmp_path / "with a space, and \\"
    path.mkdir()
    with subprocess.Popen(
        [sys.executable, HANGING, path], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "BITDUST_HOME": str(tmp_path)},
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "ready\n"
        yield path
        process.kill()  # whoever still waits gets an error
    subprocess.run(["fusermount3", "-u", "-z", path], timeout=LIMIT, check=False)


def test_a_local_fsync_does_not_wait_behind_reads_of_suppliers_that_hang(mountpoint):
    readers = [
        subprocess.Popen(["cat", mountpoint / f"cold-{i}"], stdout=subprocess.DEVNULL)
        for i in range(READERS)
    ]
    try:
        time.sleep(1)  # until they all wait, and have read ahead
        assert all(reader.poll() is None for reader in readers)
        worker = subprocess.Popen([sys.executable, "-c", WORK, mountpoint / "local"])
        assert worker.wait(LIMIT / 2) == 0
    finally:
        for reader in readers:
            reader.kill()


def test_root_has_the_kernel_ask_for_more_at_once(mountpoint):
    device = os.lstat(mountpoint).st_dev
    limit = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    if not os.access(limit, os.W_OK):
        pytest.skip("only root may set it")
    assert int(limit.read_text()) == READ_AHEAD
