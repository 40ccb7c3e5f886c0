"""`bitdust vault recover` with real suppliers that lost everything but the blocks."""

import json
import os
import random

import pytest

from bitdustfs.cache.folder import OwnedFolder
from bitdustfs.supplier.diskshelf import DiskShelf
from bitdustfs.supplier.shelf import VaultRow


def lose_root(store):
    """What is left of a supplier's register is the contract."""
    folder = OwnedFolder(store, "shelf", {"id": _identity(store)})
    shelf = DiskShelf(folder)
    with shelf._env.begin(db=shelf._rows) as txn:
        vaults = [bytes(key) for key, _ in txn.cursor()]
    for vault in vaults:
        row = shelf.vault(vault)
        shelf.set_vault(vault, VaultRow(row.space, row.until, row.used, row.fragments))
    shelf.close()
    folder.close()


def _identity(store):
    return json.loads((store / "bitdust.json").read_text())["id"]


@pytest.mark.slow
def test_a_vault_without_roots_is_recovered_from_its_blocks(world):
    world.mount()
    content = random.Random(7).randbytes(5_000_000)
    (world.mountpoint / "folder").mkdir()
    (world.mountpoint / "folder" / "photo.jpg").write_bytes(content)
    (world.mountpoint / "small").write_bytes(b"inline")
    world.run("unmount", world.mountpoint)
    world.move_to("two")
    for number in range(7):
        world.stop_supplier(number)
        world.wait_supplier_ended(number)
        lose_root(world.supplier(number) / "store")
    world.start()
    bootstrap = f"bootstrap={world.addresses[0]}"
    assert world.mount(bootstrap, check=False).returncode
    words = [word for address in world.addresses for word in ("--supplier", address)]
    told = json.loads(world.run("vault", "recover", *words, "--json").stdout)
    assert told["kind"] == "vault-recovered" and told["whole"] and not told["unreadable"]
    refused = world.run("vault", "recover", *words, check=False)
    assert refused.returncode == 2 and "still know a root" in refused.stderr
    world.mount(bootstrap)
    assert (world.mountpoint / "folder" / "photo.jpg").read_bytes() == content
    assert (world.mountpoint / "small").read_bytes() == b"inline"
    assert "nothing is wrong" in world.run("verify", world.mountpoint).stdout
    (world.mountpoint / "new").write_bytes(os.urandom(100_000))
    world.run("unmount", world.mountpoint)
