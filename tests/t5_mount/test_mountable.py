"""What stands in the way of a mount is named; what stands there dead is cleared away."""

import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from bitdustfs.errors import BitdustError, LocalError, UsageError
from bitdustfs.mount.attachment import fuse_options
from bitdustfs.mount.mountable import check_mountable
from bitdustfs.mount.mountpoint import mounted_at
from bitdustfs.mount.options import MountOptions

USER, LIMIT = 65534, 60


@pytest.fixture
def options(tmp_path, monkeypatch):
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path / "home"))
    folder = tmp_path / "my vault"
    folder.mkdir()
    return MountOptions(folder, tmp_path / "key", allow_other=True)


@pytest.fixture
def fuse(tmp_path):
    """A device that is there, and a configuration that lets others in."""
    (tmp_path / "conf").write_text("# mount_max = 1000\nuser_allow_other\n")
    (tmp_path / "device").touch()
    return {"device": tmp_path / "device", "conf": tmp_path / "conf"}


def test_what_lets_others_in_is_named(options, fuse):
    check_mountable(options, USER, **fuse)
    fuse["conf"].write_text("#user_allow_other\n")
    with pytest.raises(UsageError, match=f"user_allow_other in {fuse['conf']}"):
        check_mountable(options, USER, **fuse)
    check_mountable(options, 0, **fuse)  # root needs no permission


def test_a_machine_without_fuse_is_told(options, fuse):
    fuse["device"].unlink()
    with pytest.raises(LocalError, match="modprobe fuse"):
        check_mountable(options, 0, **fuse)


def test_a_folder_that_is_missing_or_something_else_is_told(options, fuse):
    options.mountpoint.rmdir()
    with pytest.raises(UsageError, match=f"make it first: mkdir -p '{options.mountpoint}'"):
        check_mountable(options, 0, **fuse)
    options.mountpoint.touch()
    with pytest.raises(UsageError, match="is not a folder; it is something else"):
        check_mountable(options, 0, **fuse)


def test_a_folder_of_somebody_else_is_told(options, fuse, tmp_path):
    """In a process of a user's own: root may write everywhere."""
    above = [p for p in tmp_path.parents if p.is_relative_to(Path(tempfile.gettempdir()))][:-1]
    for folder in (tmp_path, *above):
        folder.chmod(0o755)
    (tmp_path / "home" / "run").mkdir(parents=True, exist_ok=True)
    options.mountpoint.chmod(0o555)
    reads, writes = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(USER)
            check_mountable(options, os.geteuid(), **fuse)
        except BitdustError as error:
            os.write(writes, str(error).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(writes)
    with os.fdopen(reads) as said:
        assert f"sudo chown {USER if os.geteuid() == 0 else os.geteuid()} '" in said.read()


def test_the_kernels_table_says_what_is_mounted_where(tmp_path):
    assert mounted_at("/proc") == ("proc", os.stat("/proc").st_dev) and mounted_at(tmp_path) is None


def test_a_source_with_commas_is_one_option(tmp_path):
    words = fuse_options(MountOptions(tmp_path, tmp_path, "/keys/a,b\\c"), False)
    assert "fsname=/keys/a\\,b\\\\c" in words


@pytest.mark.parametrize("source", ["none", "key file"])
def test_mount_8_finds_what_is_mounted_and_a_dead_mount_is_mounted_over(world, source):
    if os.geteuid():
        pytest.skip("mount -a is root's")
    key = world.home / "keys" / "a,b key"
    (world.home / "keys" / "vault.key").rename(key)
    key.with_name("vault.key").symlink_to(key)
    named = str(key) if source == "key file" else source
    mount = ["mount", named, world.mountpoint]
    world.run(*mount)
    (world.mountpoint / "file").write_text("kept")
    world.run("sync")
    table = world.root / "fstab"
    line = f"{named} {world.mountpoint}".replace("a,b key", "a,b\\040key")
    table.write_text(f"{line} bitdust defaults 0 0\n")
    told = subprocess.run(
        ["mount", "-a", "-v", "-T", str(table)], capture_output=True, text=True, timeout=LIMIT,
        check=False,
    )  # fmt: skip
    assert told.returncode == 0 and "already mounted" in told.stdout, told
    told = world.run(*mount, check=False)
    assert told.returncode == 2 and f"bitdust status {world.mountpoint}" in told.stderr
    pid = world.mount_pid()
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + LIMIT
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    told = world.run(*mount, "-o", "take-over")
    assert "a dead mount was at" in told.stderr
    assert (world.mountpoint / "file").read_text() == "kept"
