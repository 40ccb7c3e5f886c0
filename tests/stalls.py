"""How long the loop of a mount stands still while a vault of many blocks is looked after.

A vault on seven suppliers that exist on paper only: each lists BLOCKS blocks and makes any of their
fragments when asked. One in twenty blocks lacks a fragment, one supplier is away, a little is
written all the time, `status` is asked every five seconds. A task of its own sleeps 5 ms again and
again; what a sleep takes longer than that is a stall, as a program would feel it.

Prints one JSON line: blocks; seconds of opening the vault again, and of the processor for it; then
seconds of looking, stalls over 50 ms, longest and 99.9th percentile (ms), processor seconds.
"""

import argparse
import gc
import json
import os
import stat
import tempfile
import time
from bisect import bisect_right
from functools import lru_cache, partial
from pathlib import Path

import trio
from family import KEY
from machine import CALLER, Net

from bitdustfs.cache.rows import CLOSED, BlockRow
from bitdustfs.core.erasure import ErasureCode
from bitdustfs.core.fragment import encode_block, sign_header
from bitdustfs.core.items import ROOT_INODE, BlockUse, encode_item, use_key
from bitdustfs.core.records import Ballot, Place
from bitdustfs.errors import Unreachable
from bitdustfs.mount.garbage import leave_out_what_stays
from bitdustfs.net import wire
from bitdustfs.supplier.memory import MemorySupplier
from bitdustfs.units import BLOCK_MAX

TICK = 0.005  #: seconds that the task sleeps
STALL = 0.050  #: seconds from which on a stall counts
USES_AT_ONCE = 2000


@lru_cache(maxsize=256)
def made(block):
    """(signed header, fragments) of a block that exists on paper."""
    content = block * 64
    fragments = encode_block(content, ErasureCode(4, 7))
    header = sign_header(
        KEY.signing, fragments, block=block, group=0, k=4, key_epoch=0, length=len(content),
        directory=Place(block, 0, 0, 1, bytes(32)), ballot=Ballot(1, bytes(16)), seq=1,
    )  # fmt: skip
    return header, fragments


class PaperSupplier(MemorySupplier):
    """Lists `blocks` for its position beside what it really keeps; gives their fragments."""

    def carry(self, position, blocks):
        self.position, self.paper, self.away = position, set(blocks), False
        self.keys = sorted(block + bytes([position]) for block in blocks)

    async def call(self, request, payload=b""):
        if self.away:
            await trio.lowlevel.checkpoint()
            raise Unreachable("away on purpose")
        if isinstance(request, wire.List):
            await trio.lowlevel.checkpoint()
            at = bisect_right(self.keys, request.after)
            page = self.keys[at : at + request.limit]
            return wire.Listed(tuple((k, 100) for k in page), at + len(page) < len(self.keys)), b""
        block = getattr(request, "block", b"")
        if block in self.paper and isinstance(request, wire.Head):
            header, fragments = made(block)
            return wire.HeadIs(header, fragments[self.position].chunks), b""
        if block in self.paper and isinstance(request, wire.Read):
            data = bytes(made(block)[1][self.position].payload)
            return wire.Bytes(), data[request.offset : request.offset + request.length]
        if isinstance(request, wire.Put) and block[:8] == bytes(8):
            await trio.lowlevel.checkpoint()
            return wire.Done(), b""
        return await super().call(request, payload)


def count_uses(blocks, tx):
    for block in blocks:
        tx.put(use_key(block), encode_item(BlockUse(1, BLOCK_MAX, BLOCK_MAX)))


async def prepare(vault, blocks, lacking):
    """Rows of blocks that were uploaded long ago, and their use in the tree."""
    rows = {}
    for block in blocks:
        acked = tuple(p for p in range(7) if not (p == 3 and block in lacking))
        rows[block] = BlockRow(
            CLOSED, False, 0, 4, 7, 1024, Place(block, 0, 0, 1, bytes(32)), bytes(440), acked,
            False, b"", True,
        )  # fmt: skip
    await trio.to_thread.run_sync(partial(vault.state.blocks._write, rows, True))
    for at in range(0, len(blocks), USES_AT_ONCE):
        await vault.volume.tree.run(partial(count_uses, blocks[at : at + USES_AT_ONCE]))
    await vault.publish()


async def watch_loop(stalls):
    while True:
        began = time.perf_counter()
        await trio.sleep(TICK)
        stalls.append(time.perf_counter() - began - TICK)


async def live(vault):
    """What a quiet mount does: a little is written, and somebody looks at status."""
    turn = 0
    while True:
        name = b"note %d" % (turn % 50)
        found = await vault.volume.lookup(ROOT_INODE, name)
        if found is None:
            found = await vault.volume.create(ROOT_INODE, name, stat.S_IFREG | 0o644, CALLER)
        await vault.content.write(found.inode, 0, os.urandom(2000))
        if turn % 5 == 0:
            await vault.rebuilder.replanned()
            await vault.xattrs.get(found.inode, b"user.bitdust.health")
        turn += 1
        await trio.sleep(1)


async def measure(count, seconds):
    net = Net()
    net.suppliers = [PaperSupplier(service, net.key.vault_id) for service in net.services]
    blocks = [bytes(8) + number.to_bytes(8, "big") for number in range(count)]
    lacking = set(blocks[::20])
    for position, supplier in enumerate(net.suppliers):
        supplier.carry(position, [b for b in blocks if position != 3 or b not in lacking])
    await net.create()
    stalls = []
    with tempfile.TemporaryDirectory() as folder:
        async with net.mount(Path(folder) / "m", make_root=True) as vault:
            await prepare(vault, blocks, lacking)
        gc.collect()
        began, spent = time.perf_counter(), time.process_time()
        async with net.mount(Path(folder) / "m") as vault:
            opening = time.perf_counter() - began, time.process_time() - spent
            leave_out_what_stays()
            spent = time.process_time()
            net.suppliers[6].away = True
            with trio.move_on_after(seconds):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(watch_loop, stalls)
                    nursery.start_soon(live, vault)
            net.suppliers[6].away, spent = False, time.process_time() - spent
    stalls.sort()
    return {
        "blocks": count,
        "open_s": round(opening[0], 2),
        "open_processor_s": round(opening[1], 2),
        "seconds": seconds,
        "stalls_over_50_ms": sum(stall > STALL for stall in stalls),
        "longest_ms": round(1000 * stalls[-1], 1),
        "p999_ms": round(1000 * stalls[int(len(stalls) * 0.999)], 1),
        "processor_s": round(spent, 1),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=20_000, help="rows of blocks (20000)")
    parser.add_argument("--seconds", type=float, default=600, help="how long to look (600)")
    args = parser.parse_args()
    print(json.dumps(trio.run(measure, args.blocks, args.seconds)))


if __name__ == "__main__":
    main()
