"""A vault on a machine of its own, over memory suppliers: what volume tests open and reopen."""

import os
from contextlib import asynccontextmanager

from family import KEY
from nacl.signing import SigningKey

from bitdustfs.core.placement import metadata_k
from bitdustfs.core.records import (
    Ballot,
    Family,
    Features,
    Group,
    Member,
    claim_ballot,
    open_family_untrusted,
    seal_record,
)
from bitdustfs.core.roots import first_root
from bitdustfs.core.sealing import Suite
from bitdustfs.fs.names import Caller
from bitdustfs.net.register import RootRegister
from bitdustfs.supplier.memory import MemorySupplier
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.shelf import MemoryShelf
from bitdustfs.units import GIB
from bitdustfs.vault.assemble import open_state_folder, open_vault
from bitdustfs.vault.settings import Settings

CALLER = Caller(1000, 1000, 0o022)


class PowerCut(BaseException):
    """Ends a mount as nothing in the program does: not even what could still be committed is."""


class Net:
    """n memory suppliers and an empty vault on them. `times`: the clocks of their services."""

    def __init__(self, k=4, n=7, space=4 * GIB, key=KEY, **times):
        self.key, self.times = key, times
        self.services = [
            SupplierService(SigningKey(os.urandom(32)), MemoryShelf(), space, **times)
            for _ in range(n)
        ]
        self.suppliers = [MemorySupplier(s, key.vault_id) for s in self.services]
        self.spares = []
        self.k, self.space = k, space

    @property
    def family(self):
        """The family as some supplier knows it."""
        rows = [s.shelf.vault(self.key.vault_id) for s in self.services]
        raw = next(row.family for row in rows if row is not None and row.family)
        return open_family_untrusted(raw, self.key.vault_id)

    def sessions(self):
        return {s.node: s for s in [*self.suppliers, *self.spares]}

    async def spare(self):
        """Another supplier, with a contract, as a member of a family."""
        service = SupplierService(
            SigningKey(os.urandom(32)), MemoryShelf(), self.space, **self.times
        )
        supplier = MemorySupplier(service, self.key.vault_id)
        await supplier.promise(self.space, 2_000_000_000)
        self.spares.append(supplier)
        return Member(supplier.node, ("127.0.0.1:5001",), self.space)

    async def create(self):
        members = tuple(Member(s.node, ("127.0.0.1:5000",), self.space) for s in self.suppliers)
        for supplier in self.suppliers:
            await supplier.promise(self.space, 2_000_000_000)
        group = Group(self.k, metadata_k(self.k), members)
        body = Family(
            1, Features(), self.key.vault_id, 0, bytes(32),
            self.key.capability().read_proof_public, (group,),
        )  # fmt: skip
        family = seal_record(self.key.signing, "family", body)
        ballot = Ballot(1, os.urandom(16))
        opened = open_family_untrusted(family, self.key.vault_id)
        register = RootRegister(self.key.vault_id, lambda m: self.sessions()[m.node], opened)
        root = first_root(self.key, Suite.AEGIS256, ballot, family, 0)
        await register.found(root, family, claim_ballot(self.key.signing, ballot))

    @asynccontextmanager
    async def mount(
        self, home, machine=b"m" * 16, make_root=False, sessions=None, family=None, **settings
    ):
        folder = open_state_folder(home, self.key.vault_id, machine)
        try:
            async with open_vault(
                folder,
                self.key,
                Suite.AEGIS256,
                family or self.family,
                lambda member: (sessions or self.sessions())[member.node],
                Settings(**settings),
            ) as vault:
                if make_root:
                    await vault.volume.make_root(CALLER)
                yield vault
        finally:
            folder.close()
