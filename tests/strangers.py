"""A real supplier under every attack of strangers at once; what its customer has of it meanwhile.

    scripts/strangers [SECONDS]     120 unless told; one JSON line, and an exit code

Strangers come from loopback addresses of their own, in a process of low priority: elsewhere they
would not take this machine's processor. Each attack goes on at once when it was thrown out. The
supplier has 1,024 descriptors, as many as most systems give.
"""

import json
import os
import random
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import trio
from family import claim_of, credentials, make_block, root_of
from nacl.signing import SigningKey

from bitdustfs.cli.cmd_swarm import held_port
from bitdustfs.core.keys import VaultKey, sign
from bitdustfs.core.records import Ballot, Family, Features, Group, Member, seal_record
from bitdustfs.errors import BitdustError
from bitdustfs.net import wire
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.net.tls import TlsStream, make_context
from bitdustfs.units import GIB, KIB, MIB

SECONDS, BEFORE = 120.0, 20.0  #: under attack, and undisturbed to compare with
SLOWER_MAX = (
    1.5  #: times as long as undisturbed that a customer's put or read may take, at the median
)
DESCRIPTORS = 1024
MEMORY_MAX, LOG_MAX, DIALS_MAX = 200 * MIB, MIB, 600
BLOCKS = 500  #: that a customer puts, over and over: each time they are written and synced
PIECE = 256 * KIB  #: bytes of a customer's fragment
AGAIN = 0.2  #: seconds until a stranger who was thrown out is back
CLAIM = Ballot(1, b"m" * 16)


# -- strangers


class Stranger:
    """One attack's way to the supplier, from an address of its own."""

    def __init__(self, address: str, number: int) -> None:
        self.address, self.source = address, f"127.1.{number}.1"

    async def dial(self):
        host, _, port = self.address.rpartition(":")
        return await trio.open_tcp_stream(host, int(port), local_address=self.source)

    async def shake_hands(self):
        seed = os.urandom(32)
        stream = TlsStream(await self.dial(), make_context(seed, False), False)
        return stream, seed, await stream.handshake()

    async def session(self, key):
        """A stream with an open session of a vault."""
        stream, seed, server = await self.shake_hands()
        decoder = wire.FrameDecoder(from_server=True)
        while (frame := decoder.next_untrusted()) is None:
            decoder.feed(await stream.receive_some())
        own = SigningKey(seed).verify_key.encode()
        body = wire.session_body("owner", key.vault_id, server, own, frame.message.nonce)
        signature = sign(key.signing, "session", body)
        opening = wire.Open(wire.VERSION, "owner", key.vault_id, signature)
        await stream.send_all(wire.encode_frame(0, opening))
        await stream.receive_some()
        return stream

    async def customer(self, nursery, space, size):
        """The key of a vault with a contract here, and one fragment of `size` bytes."""
        key = VaultKey(os.urandom(32))
        peer = PeerSupplier(b"", (self.address,), credentials(key), nursery)
        await peer.promise(space, int(time.time()) + 86400)
        await peer.prepare(claim_of(key), False)
        header, fragments = make_block(os.urandom(size), k=1, n=1, key=key)
        put = peer.put(
            b"b" * 16, 0, claim_of(key), header, fragments[0].chunks, fragments[0].payload
        )
        await put
        return key, peer


async def again(attack, *arguments):
    """An attack for ever."""
    while True:
        with suppress(OSError, BitdustError, trio.BrokenResourceError, trio.ClosedResourceError):
            await attack(*arguments)
        await trio.sleep(AGAIN)


async def payload_before_a_session(stranger):
    stream, _, _ = await stranger.shake_hands()
    put = wire.Put(bytes(16), 0, b"c" * 100, b"", b"")
    await stream.send_all(wire.encode_frame(0, put, 16 * MIB))
    await stream.send_all(bytes(16 * MIB - 1))
    await trio.sleep(8)


async def unread_replies(stranger, key):
    stream = await stranger.session(key)
    for number in range(17):
        read = wire.Read(b"b" * 16, 0, 0, 4 * MIB)
        await stream.send_all(wire.encode_frame(number + 1, read))
    await trio.sleep(30)
    await stream.aclose()


async def idle_session(stranger):
    stream = await stranger.session(VaultKey(os.urandom(32)))
    while await stream.receive_some():
        pass


async def half_a_put(stranger, key):
    stream = await stranger.session(key)
    put = wire.Put(os.urandom(16), 0, claim_of(key), b"", b"")
    await stream.send_all(wire.encode_frame(1, put, 16 * MIB))
    for _ in range(60):
        await stream.send_all(b"\0")
        await trio.sleep(1)
    await stream.aclose()


async def half_a_head(stranger):
    stream = await stranger.session(VaultKey(os.urandom(32)))
    await stream.send_all(wire.PREFIX.pack(512 * KIB, 0, 1) + bytes(400 * KIB))
    await trio.sleep(30)
    await stream.aclose()


async def questions(stranger):
    stream = await stranger.session(VaultKey(os.urandom(32)))
    async with trio.open_nursery() as nursery:

        async def take():
            while await stream.receive_some():
                pass

        nursery.start_soon(take)
        for number in range(100_000):
            await stream.send_all(wire.encode_frame(number, wire.Usage()))


async def garbage(stranger):
    stream = await stranger.dial()
    await stream.send_all(random.randbytes(2000))
    await stream.aclose()
    await trio.sleep(0.05)


async def grab(stranger, nursery):
    """All that is left to give."""
    key = VaultKey(os.urandom(32))
    peer = PeerSupplier(b"", (stranger.address,), credentials(key), nursery)
    try:
        await peer.promise(16 * MIB, 2**40)
    finally:
        await peer.aclose()


async def datagrams(stranger):
    host, _, port = stranger.address.rpartition(":")
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as sender:
        while True:
            for _ in range(20):
                await sender.sendto(b"x", (host, int(port)))
            await trio.sleep(0.01)


async def family_of_victims(stranger, victim, nursery):
    """Makes the supplier dial 319 addresses that its strangers' family names."""
    key, peer = await stranger.customer(nursery, 4 * MIB, 1)

    def who():
        return Member(SigningKey(os.urandom(32)).verify_key.encode(), (victim,), 1)

    members = (Member(peer.node, (stranger.address,), 1), *(who() for _ in range(63)))
    body = Family(
        1, Features(), key.vault_id, 0, bytes(32), key.capability().read_proof_public,
        (Group(1, 1, members),), tuple(who() for _ in range(256)), {"patience": 1},
    )  # fmt: skip
    family = seal_record(key.signing, "family", body)
    await peer.accept(root_of(family, CLAIM, key=key), family, claim_of(key))
    await peer.aclose()


async def attack(address, victim):
    """All attacks, until the process is ended."""
    async with trio.open_nursery() as nursery:
        run = nursery.start_soon
        stranger = [Stranger(address, number) for number in range(20)]
        reader, _ = await stranger[1].customer(nursery, 20 * MIB, 4 * MIB)
        writer, _ = await stranger[2].customer(nursery, 17 * MIB, 1)
        for _ in range(4):
            await family_of_victims(stranger[3], victim, nursery)
        for _ in range(40):
            run(again, payload_before_a_session, stranger[4])
            run(again, half_a_head, stranger[5])
        for _ in range(32):
            run(again, unread_replies, stranger[1], reader)
            run(again, half_a_put, stranger[2], writer)
        for number in range(600):
            run(again, idle_session, stranger[6 + number % 4])
        for number in range(4):
            run(again, questions, stranger[10 + number])
            run(again, garbage, stranger[14])
        run(again, grab, stranger[15], nursery)
        run(again, datagrams, stranger[16])


# -- the customer


class Customer:
    """Puts and reads without a pause; how long each took."""

    def __init__(self, peer, key):
        self._peer, self._key, self._number = peer, key, 0
        self.times, self.failures = [], []

    async def run(self, seconds):
        self.times, self.failures = [], []
        end = trio.current_time() + seconds
        while trio.current_time() < end:
            began = trio.current_time()
            try:
                await self._put_and_read()
            except BitdustError as error:
                self.failures.append(str(error))
                await trio.sleep(AGAIN)
                continue
            self.times.append(trio.current_time() - began)

    async def _put_and_read(self):
        self._number = (self._number + 1) % BLOCKS
        block = self._number.to_bytes(16, "big")
        content = random.Random(self._number).randbytes(PIECE)
        header, fragments = make_block(content, block=block, k=1, n=1, key=self._key)
        fragment = fragments[0]
        claim = claim_of(self._key)
        await self._peer.put(block, 0, claim, header, fragment.chunks, fragment.payload)
        if await self._peer.read(block, 0, 0, PIECE) != bytes(fragment.payload)[:PIECE]:
            raise AssertionError("other bytes came back")


# -- what is measured


def tarpit():
    """A listener that accepts and says nothing: what a stranger's family points at."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(4096)
    return listener


async def count_dials(listener, counts):
    accepting = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    kept = []
    while True:
        kept.append(await accepting.accept())
        counts["dials"] += 1
        if len(kept) > 500:
            await trio.aclose_forcefully(kept.pop(0))


async def watch(pid, log, peaks):
    while True:
        status = Path(f"/proc/{pid}/status").read_text()
        memory = int(status.split("VmRSS:")[1].split()[0]) * KIB
        peaks["memory"] = max(peaks["memory"], memory)
        peaks["descriptors"] = max(peaks["descriptors"], len(os.listdir(f"/proc/{pid}/fd")))
        peaks["log"] = log.stat().st_size
        await trio.sleep(0.2)


async def until_up(peer):
    while True:
        with suppress(BitdustError):
            return await peer.ping()
        await trio.sleep(0.1)


async def under_attack(folder, supplier, address, seconds):
    peaks = {"memory": 0, "descriptors": 0, "log": 0, "dials": 0}
    key, victim = VaultKey(os.urandom(32)), tarpit()
    async with trio.open_nursery() as nursery:
        peer = PeerSupplier(b"", (address,), credentials(key), nursery)
        with trio.fail_after(30):
            await until_up(peer)
        await peer.promise(GIB, int(time.time()) + 86400)
        await peer.prepare(claim_of(key), False)
        customer = Customer(peer, key)
        await customer.run(BEFORE)
        before = customer.times
        nursery.start_soon(watch, supplier.pid, folder / "log", peaks)
        nursery.start_soon(count_dials, victim, peaks)
        words = [sys.executable, __file__, "--attack", address]
        strangers = subprocess.Popen(  # noqa: ASYNC220
            [*words, f"127.0.0.1:{victim.getsockname()[1]}"], stdin=subprocess.DEVNULL
        )
        try:
            await customer.run(seconds)
            alive = strangers.poll() is None
        finally:
            strangers.kill()
            strangers.wait()
        newcomer = PeerSupplier(b"", (address,), credentials(VaultKey(os.urandom(32))), nursery)
        with trio.move_on_after(30) as waiting:
            await until_up(newcomer)
        nursery.cancel_scope.cancel()
    said = Path(f"/proc/{supplier.pid}/limits").read_text()
    slower = statistics.median(customer.times) / statistics.median(before)
    return {
        "seconds": seconds,
        "attacked_to_the_end": alive,
        "puts_and_reads": len(customer.times),
        "failed": len(customer.failures),
        "why": sorted(set(customer.failures))[:3],
        "median_ms_before": round(1000 * statistics.median(before), 1),
        "median_ms": round(1000 * statistics.median(customer.times), 1),
        "p95_ms": round(1000 * statistics.quantiles(customer.times, n=20)[-1], 1),
        "slower": round(slower, 2),
        "newcomer_served_after": not waiting.cancelled_caught,
        "memory_mib": round(peaks["memory"] / MIB),
        "descriptors": peaks["descriptors"],
        "descriptors_allowed": int(said.split("Max open files")[1].split()[0]),
        "dials_of_a_strangers_family": peaks["dials"],
        "log_kib": round(peaks["log"] / KIB),
    }


def verdict(figures):
    """What is not as it should be."""
    wanted = {
        "the strangers gave up": figures["attacked_to_the_end"],
        "the customer's calls failed": figures["failed"] == 0,
        "the customer was slowed down": figures["slower"] <= SLOWER_MAX,
        "a newcomer is not served": figures["newcomer_served_after"],
        "too much memory": figures["memory_mib"] * MIB <= MEMORY_MAX,
        "too few descriptors": figures["descriptors"] < figures["descriptors_allowed"] / 2,
        "too many dials": figures["dials_of_a_strangers_family"] <= DIALS_MAX,
        "too long a log": figures["log_kib"] * KIB <= LOG_MAX,
    }
    return [what for what, fine in wanted.items() if not fine]


def main():
    if sys.argv[1:2] == ["--attack"]:
        os.nice(10)
        trio.run(attack, *sys.argv[2:])
        return 0
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))  # of all that it starts
    seconds = float(sys.argv[1]) if sys.argv[1:] else SECONDS
    with tempfile.TemporaryDirectory(prefix="bitdust-strangers-") as name:
        folder = Path(name)
        with held_port() as port:  # given to the supplier below
            address = f"127.0.0.1:{port}"
        environment = {**os.environ, "BITDUST_HOME": str(folder / "home")}
        if os.geteuid():
            environment["BITDUST_DUMPABLE"] = "1"  # else its descriptors cannot be counted
        with open(folder / "log", "wb") as log:
            supplier = subprocess.Popen(
                [sys.executable, "-m", "bitdustfs.cli.main", "supplier", "run", "--dir", name,
                 "--space", "2G", "--listen", address, "--for", "anyone"],
                stdout=log, stderr=log, env=environment,
            )  # fmt: skip
        try:
            figures = trio.run(under_attack, folder, supplier, address, seconds)
        finally:
            supplier.send_signal(signal.SIGTERM)
            supplier.wait(30)
        print(json.dumps(figures))
        wrong = verdict(figures)
        if wrong:
            print("; ".join(wrong), file=sys.stderr)
            print((folder / "log").read_text()[-3000:], file=sys.stderr)
    return len(wrong) > 0


if __name__ == "__main__":
    sys.exit(main())
