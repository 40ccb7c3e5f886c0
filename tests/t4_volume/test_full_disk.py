"""Full and failing disks.

A clean errno, nothing committed lost, and all is well once there is room.
"""

import errno
import os

import pytest
from machine import PowerCut
from scenario import read_file, write_file

from bitdustfs import failpoints
from bitdustfs.errors import DiskFull, FsError, LocalError
from bitdustfs.fuse.errno_table import errno_of
from bitdustfs.units import MIB


@pytest.fixture(autouse=True)
def heal():
    yield
    failpoints.plan = None


def failing(text):
    failpoints.plan = failpoints.FaultPlan(text)


@pytest.mark.parametrize("action", ["enospc", "eio"])
@pytest.mark.parametrize("point", failpoints.MOUNT_WRITES)
async def test_promise_4_a_disk_that_fails_at_any_write_loses_nothing_committed(
    net, tmp_path, point, action
):
    content = os.urandom(2 * MIB)
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await write_file(vault, b"before", content)
        await vault.committer.commit(sync=True)
        await write_file(vault, b"during", content)
        failing(f"{point}={action}@1+")
        codes = set()
        for _ in range(3):
            try:
                await vault.committer.commit(sync=True)
                await vault.publish()
            except (LocalError, FsError) as error:
                codes.add(errno_of(error))
                assert isinstance(error, DiskFull) == (action == "enospc")
        assert codes == {getattr(errno, action.upper())}
        assert await read_file(vault, b"before") == content
        assert await read_file(vault, b"during") == content
        failpoints.plan = None  # there is room again
        await write_file(vault, b"after", content)
        await vault.committer.commit(sync=True)
        await vault.publish()
    async with net.mount(tmp_path / "two", machine=b"n" * 16) as vault:
        for name in (b"before", b"during", b"after"):
            assert await read_file(vault, name) == content


@pytest.mark.parametrize("point", failpoints.MOUNT_WRITES)
async def test_promise_3_a_machine_that_stops_while_its_disk_fails_has_the_last_commit(
    net, tmp_path, point
):
    content = os.urandom(MIB)
    with pytest.RaisesGroup(pytest.RaisesExc(PowerCut)):
        async with net.mount(tmp_path / "one", make_root=True) as vault:
            await write_file(vault, b"kept", content)
            await vault.committer.commit(sync=True)
            failing(f"{point}=enospc@1+")
            await write_file(vault, b"never committed", content)
            with pytest.raises(LocalError):
                await vault.committer.commit(sync=True)
                await vault.publish()
            raise PowerCut from None
    failpoints.plan = None
    async with net.mount(tmp_path / "one") as vault:
        assert await read_file(vault, b"kept") == content
        await vault.publish()
