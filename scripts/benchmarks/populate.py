"""Makes a vault of many files without FUSE, through the layer below it, and publishes it.

`python -m benchmarks.populate FILES ADDRESS` fills the vault whose key is in BITDUST_HOME and that
the supplier at ADDRESS knows. Files are empty, a thousand to a folder.
"""

import stat
import sys

import trio

from bitdustfs import config
from bitdustfs.cache import keyfile
from bitdustfs.cache.machine import machine_id
from bitdustfs.core.items import ROOT_INODE
from bitdustfs.core.keys import VaultKey
from bitdustfs.family.find import Ways
from bitdustfs.fs.names import Caller
from bitdustfs.fs.volume import Volume
from bitdustfs.mount.cpu import suite
from bitdustfs.vault.assemble import open_state_folder, open_vault
from bitdustfs.vault.settings import Settings
from bitdustfs.vault.vaults import WritableVault

IN_FOLDER = 1000  #: files of one folder
NOBODY = Caller(0, 0)


async def populate(key: VaultKey, files: int, address: str) -> None:
    """Returns once it is published. Raises BitdustError."""
    folder = open_state_folder(config.home(), key.vault_id, machine_id())
    try:
        async with trio.open_nursery() as network:
            ways = Ways(key, [address], network)
            family = (await ways.find_family()).family
            async with open_vault(folder, key, suite(), family, ways.connect, Settings()) as vault:
                assert isinstance(vault, WritableVault), vault.message
                await vault.volume.make_root(NOBODY)
                await _fill(vault.volume, files)
                await vault.publish()
            network.cancel_scope.cancel()
    finally:
        folder.close()


async def _fill(volume: Volume, files: int) -> None:
    for first in range(0, files, IN_FOLDER):
        name = b"folder-%d" % (first // IN_FOLDER)
        parent = (await volume.create(ROOT_INODE, name, stat.S_IFDIR | 0o755, NOBODY)).inode
        for number in range(first, min(first + IN_FOLDER, files)):
            made = await volume.create(parent, b"f%07d" % number, stat.S_IFREG | 0o644, NOBODY)
            await volume.forget(made.inode, 1)
            await trio.lowlevel.checkpoint()  # nothing above waits, and others have work as well
        await volume.forget(parent, 1)


def main() -> None:
    key = keyfile.load(config.default_key_path(), lambda: "")
    trio.run(populate, key, int(sys.argv[1]), sys.argv[2])


if __name__ == "__main__":
    main()
