"""What taking in fragments costs a supplier: processor seconds a GiB, user and system apart.

    scripts/receiving [--mib N] [--at-once N] [--size MIB]     one JSON line

The supplier is a process of its own, with TLS over loopback and a shelf on this disk. Its customer
puts fragments as a mount does, some at once. Only the supplier's processor time is counted.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import trio
from family import claim_of, contracted, credentials, make_block
from nacl.signing import SigningKey

from bitdustfs.cache.folder import OwnedFolder
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.net.tls import make_context
from bitdustfs.supplier.diskshelf import DiskShelf
from bitdustfs.supplier.server import SupplierServer
from bitdustfs.supplier.service import SupplierService
from bitdustfs.units import GIB, MIB

NODE = SigningKey(b"n" * 32)
TICKS = os.sysconf("SC_CLK_TCK")
WARM = 4  #: fragments before anything is counted


async def serve(folder):
    """A supplier that says at which port it is, until its input ends."""
    shelf = DiskShelf(OwnedFolder(folder, "shelf", {"id": "receiving"}))
    service = SupplierService(NODE, shelf, 64 * GIB)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    print(listeners[0].socket.getsockname()[1], flush=True)
    await SupplierServer(service, make_context(NODE.encode(), True)).serve(listeners)


def times(pid):
    """Processor seconds of a process so far: user, system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / TICKS, int(fields[12]) / TICKS


async def put_all(peer, numbers, size, at_once):
    content = os.urandom(size)
    left = iter(numbers)

    async def work():
        for number in left:
            block = number.to_bytes(16, "big")
            header, fragments = make_block(content, block=block, k=1, n=1)
            await peer.put(block, 0, claim_of(), header, fragments[0].chunks, fragments[0].payload)

    async with trio.open_nursery() as nursery:
        for _ in range(at_once):
            nursery.start_soon(work)


async def measure(pid, port, args):
    size, count = int(args.size * MIB), round(args.mib / args.size)
    async with trio.open_nursery() as nursery:
        peer = PeerSupplier(
            NODE.verify_key.encode(), (f"127.0.0.1:{port}",), credentials(), nursery
        )
        await contracted(peer, 32 * GIB)
        await put_all(peer, range(WARM), size, args.at_once)
        before, began = times(pid), time.perf_counter()
        await put_all(peer, range(WARM, WARM + count), size, args.at_once)
        took, after = time.perf_counter() - began, times(pid)
        nursery.cancel_scope.cancel()
    gib = size * count / GIB
    user, system = ((after[i] - before[i]) / gib for i in range(2))
    memory = Path(f"/proc/{pid}/status").read_text().split("VmHWM:")[1].split()[0]
    return {
        "user_s_per_gib": round(user, 2),
        "system_s_per_gib": round(system, 2),
        "mb_per_s": round(size * count / took / 1e6, 1),
        "peak_mib": int(memory) // 1024,
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mib", type=int, default=512, help="how much is put (512)")
    parser.add_argument("--size", type=float, default=4, help="MiB of a fragment (4)")
    parser.add_argument("--at-once", type=int, default=2, help="puts under way at once (2)")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve is not None:
        trio.run(serve, args.serve)
        return
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, __file__, "--serve", f"{folder}/store"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as supplier:
            try:
                port = int(supplier.stdout.readline())
                print(json.dumps(trio.run(measure, supplier.pid, port, args)))
            finally:
                supplier.kill()


if __name__ == "__main__":
    main()
