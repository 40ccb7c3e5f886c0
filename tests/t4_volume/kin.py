"""Suppliers of one family, and reserves, that watch each other as time passes."""

import os
import time

from nacl.signing import SigningKey
from scenario import write_file

from bitdustfs.core.records import Member
from bitdustfs.family.replace import set_bench, set_policy
from bitdustfs.supplier.guard import Guard
from bitdustfs.supplier.memory import MemorySupplier
from bitdustfs.supplier.service import LEASE, SupplierService
from bitdustfs.supplier.shelf import MemoryShelf
from bitdustfs.units import GIB

PATIENCE = 1000
NOW = time.time()


class Kin:
    """Seven members and seven reserves, each with a guard, in virtual time. `down`: who is away."""

    def __init__(self, net):
        self.net, self.now, self.down = net, 1_000_000.0, set()
        self.set_by = 0.0  # seconds by which the suppliers' wall clocks were set
        self.vault = net.key.vault_id
        self.services = {}
        for service in net.services:
            self.adopt(service)
        self.reserves = []

    def adopt(self, service):
        began = self.now
        service._clock = service.kinship._clock = lambda: self.now
        service.kinship._wall = lambda: NOW + self.now - began + self.set_by
        self.services[service.node.verify_key.encode()] = service

    async def bench(self, count=7):
        members = []
        for _ in range(count):
            service = SupplierService(SigningKey(os.urandom(32)), MemoryShelf(), 4 * GIB)
            self.adopt(service)
            supplier = MemorySupplier(service, self.vault)
            await supplier.promise(4 * GIB, 2_000_000_000)
            self.net.spares.append(supplier)
            members.append(Member(supplier.node, ("127.0.0.1:5002",), 4 * GIB))
            self.reserves.append(service)
        return members

    def guard(self, service):
        own = service.node.verify_key.encode()

        def connect(vault, member):
            peer = MemorySupplier(self.services[member.node], vault, "member", own)
            if member.node in self.down or own in self.down:
                peer.break_()
            return peer

        return Guard(service, connect)

    async def pass_time(self, seconds, rounds=8):
        for _ in range(rounds):
            self.now += seconds / rounds
            for node, guard in self.guards.items():
                if node not in self.down:
                    await guard.round(self.vault)
                    await guard.fill(self.vault)

    def start(self):
        self.guards = {node: self.guard(service) for node, service in self.services.items()}

    def lose(self, service):
        """For good, with all it kept."""
        node = service.node.verify_key.encode()
        self.down.add(node)
        service.shelf.kept.clear()
        self.net.sessions()[node].break_()

    def standing(self):
        rows = [s.shelf.vault(self.vault) for n, s in self.services.items() if n not in self.down]
        return sorted(row.standing for row in rows if row is not None and row.standing >= 0)

    def fragments(self):
        """Position -> blocks, over everybody who is there."""
        found = {}
        for node, service in self.services.items():
            if node not in self.down:
                for _, key in service.shelf.kept:
                    found.setdefault(key[16], set()).add(key[:16])
        return found


async def filled(net, tmp_path, files, policy=None):
    """A vault with files and a bench, and its owner gone."""
    kin = Kin(net)
    async with net.mount(tmp_path / "one", make_root=True) as vault:
        await set_bench(vault, net.key, await kin.bench())
        await set_policy(vault, net.key, {"patience": PATIENCE, **(policy or {})})
        for name, content in files.items():
            await write_file(vault, name, content)
        await vault.publish()
        await vault.courier.try_all()
        for reserve in vault.known.family.bench:
            await vault.circle.session(reserve).accept(
                vault.state_root(), vault.known.raw_family, vault.pen.claim
            )
    kin.now += LEASE + 1
    kin.start()
    await kin.pass_time(10, rounds=2)
    return kin


async def silent(*what):
    """Nobody watches."""
