"""How a supplier starts that keeps a million fragments: seconds, memory, and what it then spends.

    scripts/million [--fragments N] [--vaults N] [--trash N]     one JSON line

Rows of the index are real; the fragments' files are empty, since nobody reads them here.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lmdb

from bitdustfs.core.codec import encode
from bitdustfs.supplier.shelfrows import (
    TrashRow,
    VaultRow,
    encode_vault_row,
    fragment_key,
    fragment_row,
)
from bitdustfs.units import GIB

AT_ONCE = 20_000  #: rows in one transaction
FOREVER = 2_000_000_000
MAP = 64 * GIB


def fill(store, fragments, vaults, trash):
    """The shelf of a supplier that has kept all that for a while, its first start over."""
    env = lmdb.open(str(store / "index"), map_size=MAP, max_dbs=8)
    tables = {name: env.open_db(name.encode()) for name in ("vaults", "fragments", "trash")}
    row = fragment_row(400, 32, 4096, bytes(32))
    for number in range(vaults):
        vault = number.to_bytes(32, "big")
        folder = store / "shelf" / vault.hex()
        folder.mkdir(parents=True)
        kept, killed = fragments // vaults, trash // vaults
        for at in range(0, kept, AT_ONCE):
            with env.begin(write=True) as txn:
                for index in range(at, min(at + AT_ONCE, kept)):
                    name = vault + fragment_key(index.to_bytes(16, "big"), 0)
                    os.close(os.open(folder / f"{name[32:48].hex()}.0", os.O_CREAT))
                    if index < killed:
                        txn.put(name, encode(TrashRow(row, 1000 + index)), db=tables["trash"])
                    else:
                        txn.put(name, encode(row), db=tables["fragments"])
        used = (kept - killed) * row.size
        with env.begin(write=True) as txn:
            made = VaultRow(GIB * 1000, FOREVER, used, kept - killed)
            txn.put(vault, encode_vault_row(made), db=tables["vaults"])
    env.close()


START = """
import resource, sys, time
began = time.perf_counter()
from pathlib import Path
from bitdustfs.supplier import daemon  # all that a supplier's process imports
from bitdustfs.cache.folder import OwnedFolder
from bitdustfs.supplier.diskshelf import DiskShelf
from bitdustfs.supplier.service import SupplierService
from nacl.signing import SigningKey
imported = time.perf_counter()
shelf = DiskShelf(OwnedFolder(Path(sys.argv[1]), "shelf", {"id": "million"}))
service = SupplierService(SigningKey(bytes(32)), shelf, 1 << 50, trash_seconds=1e12)
service.housekeeping.offer()
opened = time.perf_counter()
freed = service.housekeeping.tidy()
print(imported - began, opened - imported, time.perf_counter() - opened,
      resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, shelf.trash.total, freed)
"""


def start(store):
    """Starts once; seconds to import, to open, to tidy, and MiB."""
    words = [sys.executable, "-c", START, str(store)]
    out = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    imports, opening, tidying = (round(float(word), 3) for word in out[:3])
    return {
        "import_s": imports, "open_s": opening, "tidy_s": tidying, "peak_mib": int(out[3]) // 1024
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fragments", type=int, default=1_000_000, help="kept (1000000)")
    parser.add_argument("--vaults", type=int, default=4, help="that they are of (4)")
    parser.add_argument("--trash", type=int, default=0, help="of these, in the trash (0)")
    parser.add_argument("--keep", type=Path, help="an absolute path, where the shelf stays")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = args.keep or Path(folder) / "store"
        if not store.exists():
            store.mkdir()
            subprocess.run([sys.executable, "-c", START, str(store)], check=True)
            fill(store, args.fragments, args.vaults, args.trash)
        began = time.perf_counter()
        first = start(store)
        second = start(store)
        took = time.perf_counter() - began
    print(json.dumps({"first": first, "again": second, "seconds": round(took, 2)}))


if __name__ == "__main__":
    main()
