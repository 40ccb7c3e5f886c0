"""What is said and cleared of a dead mount: what is known here, and nothing that is not.

A mount dies here without a process: its connection to the kernel is closed. So it takes no time.
"""

import ctypes
import os
import re
import subprocess
from contextlib import contextmanager

import pytest

from bitdustfs.cache.folder import OwnedFolder
from bitdustfs.cache.machine import machine_id
from bitdustfs.cache.rows import Batch
from bitdustfs.cache.state import State, keeps_unpublished
from bitdustfs.core.sealing import Suite
from bitdustfs.errors import LocalError, UsageError
from bitdustfs.mount.mountable import check_mountable
from bitdustfs.mount.mountpoint import OURS, attached, attached_marker, markers_of
from bitdustfs.mount.options import MountOptions
from bitdustfs.mount.remains import clear_dead, clear_marks
from bitdustfs.mount.unmount import unmount
from bitdustfs.vault.account import ENDED_BY_DEATH
from bitdustfs.vault.assemble import open_state_folder

A, B, C, LIMIT = b"a" * 32, b"b" * 32, b"c" * 32, 60
UNKNOWN = "nothing here tells whether all of it is published"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def there(tmp_path):
    folder = tmp_path / "my\rvault \\040"
    folder.mkdir()
    return folder


@contextmanager
def dead(mountpoint, kind=OURS):
    """A mount of this type whose connection to the kernel has ended."""
    if os.geteuid() or not os.path.exists("/dev/fuse"):
        pytest.skip("only root may mount without fusermount3, and where there is /dev/fuse")
    fd = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    told = f"fd={fd},rootmode=40000,user_id=0,group_id=0".encode()
    done = libc.mount(b"one", os.fsencode(mountpoint), kind.encode(), 0, told)
    code = ctypes.get_errno()
    os.close(fd)
    assert done == 0, os.strerror(code)
    try:
        yield
    finally:
        subprocess.run(
            ["umount", "-l", str(mountpoint)], capture_output=True, timeout=LIMIT, check=False
        )


def attach(vault, mountpoint):
    """The mark of a mount that did not end in order."""
    attached_marker(vault).write_bytes(os.fsencode(mountpoint))


def state_of(home, vault, unpublished):
    """This machine's state of a vault; its folder."""
    folder = open_state_folder(home, vault, machine_id())
    state = State(folder.path / "state", bytes(32), vault, Suite.AEGIS256)
    if unpublished:
        state.append(Batch(1, ((b"key", b"value"),), ()), sync=True)
    state.close()
    folder.close()
    return folder.path


def everything(folder):
    return sorted(path for path in folder.rglob("*") if "run" not in path.parts)


@pytest.mark.parametrize("unpublished", [False, True])
def test_what_is_known_of_a_dead_mount_is_what_its_own_vault_says(home, there, unpublished):
    state_of(home, A, unpublished)
    state_of(home, B, not unpublished)  # mounted elsewhere
    attach(A, there)
    attach(B, there / "other")
    with dead(there):
        done = unmount(there, None)
    assert done.said == ("" if unpublished else ENDED_BY_DEATH)
    assert done.trouble.startswith("changes of it are not published") == unpublished
    assert not markers_of(there) and markers_of(there / "other") and not os.path.ismount(there)


def test_a_mount_of_another_home_is_not_said_to_be_published(home, there):
    """There is no marker of it here, whatever vaults are."""
    for vault in (b"", A):
        if vault:
            state_of(home, vault, False)
        with dead(there):
            done = unmount(there, None)
        assert done.trouble.startswith(UNKNOWN) and not done.said


def test_a_dead_mount_of_another_file_system_is_left_alone(home, there, tmp_path):
    with dead(there, "fuse.sshfs"):
        said = f"type fuse.sshfs is at {there}: fusermount3 -u -z '{there}'"
        for refused in (
            lambda: unmount(there, None),
            lambda: check_mountable(MountOptions(there, tmp_path / "key"), 0),
        ):
            with pytest.raises(UsageError, match=re.escape(said)):
                refused()
        with pytest.raises(UsageError, match="lies in a dead mount"):
            unmount(there / "below", None)


def test_a_mount_says_what_another_vault_left_there(home, there):
    for vault in (A, B):
        state_of(home, vault, True)
        attach(vault, there)
    assert clear_dead(there, B) == "" and len(markers_of(there)) == 2  # nothing is dead
    with dead(there):
        assert attached() == [there]
        said = clear_dead(there, B)
    assert f"of another vault, {A.hex()[:16]}: changes of it are not published" in said
    assert B.hex()[:16] not in said and not os.path.ismount(there)
    assert markers_of(there) == [attached_marker(B)]  # which its mount writes anew
    state_of(home, C, False)
    attach(C, there)
    with dead(there):
        assert clear_dead(there, B) == f"a dead mount was at {there}: it is cleared away"
    assert markers_of(there) == [attached_marker(B)]


def missing(home):
    """Nothing is there."""


def moved_aside(home):
    folder = state_of(home, A, False)
    folder.rename(folder.with_name(f"{folder.name}.old"))


def empty(home):
    (home / "vaults" / A.hex()).mkdir(parents=True)


def without_a_database(home):
    OwnedFolder(home / "vaults" / A.hex(), "vault", {"id": A.hex()}).close()


def foreign(home):
    (state_of(home, A, False) / "bitdust.json").write_text("[]")


def no_database(home):
    (state_of(home, A, False) / "state" / "data.mdb").write_bytes(b"no database" * 1000)


def malformed(home):
    folder = open_state_folder(home, A, machine_id())
    state = State(folder.path / "state", bytes(32), A, Suite.AEGIS256)
    with state._database.write(sync=True) as write:
        write.txn.put(b"published", b"\xff", db=state._database.table("meta"))
    state.close()
    with pytest.raises(LocalError, match="damaged"):
        keeps_unpublished(folder.path / "state")
    folder.close()


@pytest.mark.parametrize(
    "state",
    [missing, moved_aside, empty, without_a_database, foreign, no_database, malformed],
)
def test_a_state_that_cannot_be_read_tells_nothing_and_its_mark_goes(home, there, state):
    state(home)
    attach(A, there)
    before = everything(home)
    assert clear_marks(there) is None
    assert not markers_of(there) and everything(home) == before


def test_a_state_that_another_process_has_tells_nothing(home, there):
    state_of(home, A, False)
    attach(A, there)
    folder = open_state_folder(home, A, machine_id())
    assert clear_marks(there) is None and not markers_of(there)
    folder.close()
