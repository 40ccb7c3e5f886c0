"""Names of extended attributes: which there are, who sees them, and how many can be listed."""

import errno
import stat

import pytest
from machine import CALLER
from scenario import QUIET

from bitdustfs.core.items import ROOT_INODE, Xattr, encode_item, xattr_key
from bitdustfs.errors import FsError
from bitdustfs.units import XATTR_LIST_MAX


@pytest.fixture
async def mounted(net, tmp_path):
    async with net.mount(tmp_path / "one", make_root=True, **QUIET) as vault:
        mode = stat.S_IFREG | 0o600
        yield vault, (await vault.volume.create(ROOT_INODE, b"file", mode, CALLER)).inode


async def refusal(call, *args):
    with pytest.raises(FsError) as refused:
        await call(*args)
    return refused.value.errno


NOBODYS = [
    b"system.a", b"system.", b"system.posix_acl", b"system.nfs4_acl", b"osx.a", b"a", b"user",
    b"USER.a", b"os2.a", b"btrfs.compression",
]  # fmt: skip


@pytest.mark.parametrize("name", NOBODYS)
async def test_what_nobody_looks_after_is_not_supported(mounted, name):
    """The kernel asks nobody for permission to change system.*: any user could."""
    vault, inode = mounted
    xattrs = vault.xattrs
    assert await refusal(xattrs.set, inode, name, b"1") == errno.EOPNOTSUPP
    assert await refusal(xattrs.get, inode, name) == errno.EOPNOTSUPP
    assert await refusal(xattrs.remove, inode, name) == errno.EOPNOTSUPP
    assert await xattrs.list(inode, True) == []


@pytest.mark.parametrize("name", [b"user.", b"trusted.", b"security."])
async def test_a_prefix_alone_is_no_name(mounted, name):
    vault, inode = mounted
    assert await refusal(vault.xattrs.set, inode, name, b"1") == errno.EINVAL
    assert await refusal(vault.xattrs.get, inode, name) == errno.EINVAL
    assert await refusal(vault.xattrs.remove, inode, name) == errno.EINVAL


@pytest.mark.parametrize("name", [b"user.a", b"trusted.a", b"security.a", b"user.system.a"])
async def test_what_the_kernel_looks_after_is_kept(mounted, name):
    vault, inode = mounted
    await vault.xattrs.set(inode, name, b"1")
    assert await vault.xattrs.get(inode, name) == b"1"
    assert await vault.xattrs.list(inode, True) == [name]
    await vault.xattrs.remove(inode, name)
    assert await refusal(vault.xattrs.get, inode, name) == errno.ENODATA


async def test_acls_are_not_there_and_cannot_be_set(mounted):
    vault, inode = mounted
    for name in (b"system.posix_acl_access", b"system.posix_acl_default"):
        assert await refusal(vault.xattrs.get, inode, name) == errno.ENODATA
        assert await refusal(vault.xattrs.set, inode, name, b"1") == errno.EOPNOTSUPP
        assert await refusal(vault.xattrs.remove, inode, name) == errno.ENODATA


async def test_trusted_names_are_shown_to_root_alone(mounted):
    vault, inode = mounted
    await vault.xattrs.set(inode, b"trusted.a", b"1")
    await vault.xattrs.set(inode, b"user.a", b"1")
    assert await vault.xattrs.list(inode, False) == [b"user.a"]
    assert await vault.xattrs.list(inode, True) == [b"trusted.a", b"user.a"]


async def test_what_older_programs_kept_under_other_prefixes_is_not_shown(mounted):
    vault, inode = mounted
    tree = vault.volume.tree
    item = encode_item(Xattr(1, b"1"))
    await tree.run(lambda tx: tx.put(xattr_key(inode, b"system.a"), item))
    assert await refusal(vault.xattrs.get, inode, b"system.a") == errno.EOPNOTSUPP
    assert await vault.xattrs.list(inode, True) == []


async def test_a_list_that_could_not_be_read_again_is_refused_early(mounted):
    vault, inode = mounted
    names = [b"user.%0250d" % number for number in range(300)]
    refused = []
    for name in names:
        try:
            await vault.xattrs.set(inode, name, b"")
        except FsError as error:
            refused.append(error.errno)
    assert refused and set(refused) == {errno.ENOSPC}
    listed = await vault.xattrs.list(inode, True)
    assert listed == names[: len(listed)]
    assert XATTR_LIST_MAX - 256 < sum(len(name) + 1 for name in listed) <= XATTR_LIST_MAX
    await vault.xattrs.set(inode, names[0], b"replaced all the same")
    await vault.xattrs.remove(inode, names[0])
    await vault.xattrs.set(inode, names[-1], b"in the place of the one that went")


async def test_what_the_kernel_asks_at_each_write_is_remembered_until_it_changes(mounted):
    vault, inode = mounted
    name = b"security.capability"
    for _ in range(2):
        assert await refusal(vault.xattrs.get, inode, name) == errno.ENODATA
    await vault.xattrs.set(inode, name, b"1")
    assert await vault.xattrs.get(inode, name) == b"1"
    await vault.xattrs.remove(inode, name)
    assert await refusal(vault.xattrs.get, inode, name) == errno.ENODATA
