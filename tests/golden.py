"""A vault of format 1, frozen in tests/golden/: what every later version must still mount.

`python tests/golden.py` writes it; it is written once per format version and never again.
"""

import stat
import sys
import tempfile
from pathlib import Path

import msgspec
import trio
from machine import CALLER, Net
from nacl.signing import SigningKey

from bitdustfs.core.items import ROOT_INODE
from bitdustfs.supplier.memory import MemorySupplier
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.shelf import MemoryShelf, VaultRow
from bitdustfs.units import EXTENT_MAX

FILE = Path(__file__).parent / "golden" / "vault-1.msgpack"
CONTENT = {
    b"empty": b"",
    b"inline": b"a few bytes",
    b"text": b"the same line again and again\n" * 6000,
    b"bytes": bytes(range(256)) * (EXTENT_MAX // 256) + b"one more",
    b"not utf-8 \xff": b"x" * 600,
}


class Supplier(msgspec.Struct):
    """One supplier's seed, its row of the vault, its fragments."""

    seed: bytes
    row: VaultRow
    fragments: list[tuple[bytes, bytes, bytes, bytes, bytes]]


async def make() -> None:
    net = Net(k=2, n=3, space=1 << 30)
    await net.create()
    with tempfile.TemporaryDirectory() as folder:
        async with net.mount(Path(folder) / "m", make_root=True) as vault:
            volume = vault.volume
            inside = await volume.create(ROOT_INODE, b"folder", stat.S_IFDIR | 0o750, CALLER)
            for name, content in CONTENT.items():
                made = await volume.create(inside.inode, name, stat.S_IFREG | 0o640, CALLER)
                await vault.content.write(made.inode, 0, content)
            holes = await volume.create(ROOT_INODE, b"holes", stat.S_IFREG | 0o644, CALLER)
            await vault.content.truncate(holes.inode, 1 << 30)
            generation = await vault.committer.commit(sync=True, freeze=True)
            await vault.publisher._checkpoint(generation)
            await volume.create(
                ROOT_INODE, b"link", stat.S_IFLNK | 0o777, CALLER, target=b"folder/text"
            )
            await vault.publish()
    suppliers = []
    for service in net.services:
        shelf = service.shelf
        fragments = [(key, *map(bytes, kept)) for (_, key), kept in sorted(shelf.kept.items())]
        suppliers.append(Supplier(service.node.encode(), shelf.rows[net.key.vault_id], fragments))
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_bytes(msgspec.msgpack.encode(suppliers))


def load() -> Net:
    """The frozen vault on memory suppliers."""
    suppliers = msgspec.msgpack.decode(FILE.read_bytes(), type=list[Supplier])
    net = Net(k=2, n=3)
    net.services, net.suppliers = [], []
    for frozen in suppliers:
        shelf = MemoryShelf()
        shelf.rows[net.key.vault_id] = frozen.row
        for key, header, chunks, payload, header_hash in frozen.fragments:
            shelf.kept[net.key.vault_id, key] = (header, chunks, bytearray(payload), header_hash)
        service = SupplierService(SigningKey(frozen.seed), shelf, 4 << 30)
        net.services.append(service)
        net.suppliers.append(MemorySupplier(service, net.key.vault_id))
    return net


if __name__ == "__main__":
    if FILE.exists():
        sys.exit(f"{FILE} exists: a format's golden vault is made once")
    trio.run(make)
