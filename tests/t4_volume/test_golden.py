"""Format 1 mounts for ever."""

import stat

from golden import CONTENT, load

from bitdustfs.core.items import ROOT_INODE


async def test_the_golden_vault_of_format_1_mounts_and_reads(tmp_path):
    net = load()
    net.suppliers[1].break_()
    async with net.mount(tmp_path / "m", machine=b"g" * 16, take_over=True) as vault:
        volume = vault.volume
        folder = await volume.lookup(ROOT_INODE, b"folder")
        assert folder.attributes.mode == stat.S_IFDIR | 0o750
        listed = await volume.readdir(folder.inode, 0, 100)
        assert {e.name for e in listed} == {b".", b"..", *CONTENT}
        for name, content in CONTENT.items():
            found = await volume.lookup(folder.inode, name)
            assert found.attributes.mode == stat.S_IFREG | 0o640
            assert await vault.content.read(found.inode, 0, 1 << 20) == content
        holes = await volume.lookup(ROOT_INODE, b"holes")
        assert holes.attributes.size == 1 << 30
        assert await vault.content.read(holes.inode, 1 << 29, 4096) == bytes(4096)
        link = await volume.lookup(ROOT_INODE, b"link")
        assert await volume.readlink(link.inode) == b"folder/text"
