"""What is left to an owner who cannot mount, or not what he wants to see: found the family anew, go
back to a past root, or make the tree from blocks alone.

All start from a key and addresses, on a machine where the vault is not mounted. What they do with
the answers is decided in family/refound.py, family/rewind.py and vault/recover.py; here they get
their sessions, this machine's state, and an end.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import trio

from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import Family, Member, RootContent
from bitdustfs.core.sealing import Suite
from bitdustfs.errors import PeerError
from bitdustfs.family.find import Ways, owner_credentials
from bitdustfs.family.hire import hire
from bitdustfs.family.own_root import own_state, put_aside
from bitdustfs.family.refound import refound
from bitdustfs.family.rewind import Lookback, PastMoment, look_back, promise_again, rewind
from bitdustfs.net.dht.discover import find_family_addresses
from bitdustfs.net.dht.seeker import Seeker
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.vault.assemble import open_state_folder, open_vault
from bitdustfs.vault.keepers import Tell
from bitdustfs.vault.recover import Recovered, Remains, build_tree, find_index, look, new_root
from bitdustfs.vault.settings import Settings
from bitdustfs.vault.vaults import WritableVault


async def refound_vault(
    key: VaultKey,
    addresses: Sequence[str],
    home: Path,
    machine: bytes,
    suite: Suite,
    newcomers: Sequence[str] = (),
    tokens: Sequence[str] = (),
) -> Family:
    """Founds a family of those that are left, and of suppliers at the addresses `newcomers`, over
    the highest root; that family.

    `tokens`: by which those invited the owner. Raises what `Ways.find_family` and
    `refound` raise, and StateLocked while the vault is mounted here.
    """
    async with trio.open_nursery() as nursery:
        ways = Ways(key, addresses, nursery, tokens=tokens)
        known = await ways.find_family()
        waiting, engaged = list(newcomers), set[bytes]()

        async def engage(old: Family, position: int) -> Member | None:
            if not waiting:
                return None
            address = waiting.pop(0)
            member = await hire(old, position, ways.credentials, [], address, unwanted=engaged)
            engaged.add(member.node)
            return member

        with own_state(key, home, machine, suite) as (own, seats):
            family = await refound(key, known.family, ways.connect, own, engage, seats)
        nursery.cancel_scope.cancel()
    return family


class Rewound(NamedTuple):
    """What came of a rewinding. `aside`: where this machine's state of the history that was left
    is, if it had one. `short`: suppliers that do not promise what they did then, and why.
    """

    family: Family
    aside: Path | None
    short: dict[str, str]


async def look_at_past(key: VaultKey, addresses: Sequence[str]) -> Lookback:
    """What suppliers keep of the vault's past: those at the addresses, those that the DHT knows,
    and those that all of these name.
    """
    async with trio.open_nursery() as nursery:
        ways = Ways(key, addresses, nursery)
        found = await find_family_addresses(await ways.seeker.dht(), key.capability())
        every = dict.fromkeys((*addresses, *found))
        peers = [PeerSupplier(b"", (a,), ways.credentials, nursery) for a in every]
        try:
            past = await look_back(key.vault_id, peers, ways.connect)
        finally:
            for peer in peers:
                await peer.aclose()
        nursery.cancel_scope.cancel()
    return past


async def rewind_vault(
    key: VaultKey,
    addresses: Sequence[str],
    home: Path,
    machine: bytes,
    suite: Suite,
    past: Lookback,
    moment: PastMoment,
) -> Rewound:
    """Goes back to a moment. What this machine had of what is left then is put aside.

    Raises what `rewind` raises, and StateLocked while the vault is mounted here.
    """
    there = (home / "vaults" / key.vault_id.hex()).exists()
    async with trio.open_nursery() as nursery:
        ways = Ways(key, addresses, nursery)
        with own_state(key, home, machine, suite):  # nobody mounts it here meanwhile
            family = await rewind(key, past, moment, ways.connect)
        short = await promise_again(key, family, ways.connect)
        nursery.cancel_scope.cancel()
    return Rewound(family, put_aside(home, key.vault_id) if there else None, short)


class Recovery:
    """Recovers one vault on one machine. `say` hears of what goes wrong on the way.

    `over_root`: also where suppliers know a root, because that is of no use.
    """

    def __init__(
        self,
        key: VaultKey,
        home: Path,
        machine: bytes,
        suite: Suite,
        over_root: bool,
        say: Tell,
    ) -> None:
        self._key, self._home, self._machine, self._suite = key, home, machine, suite
        self._over_root, self._say = over_root, say

    async def run(self, addresses: Sequence[str]) -> Recovered:
        """From the blocks of the suppliers at `addresses` to a root that can be mounted.

        Raises UsageError while suppliers know a root, Unavailable when nobody helps.
        """
        credentials = owner_credentials(self._key)
        async with trio.open_nursery() as nursery:
            seeker = Seeker(lambda: addresses, nursery)
            found = await find_family_addresses(await seeker.dht(), self._key.capability())
            every = dict.fromkeys((*addresses, *found))  # the latter are those that moved
            peers = [PeerSupplier(b"", (a,), credentials, nursery) for a in every]
            try:
                return await self._recover(await self._there(peers))
            finally:
                for peer in peers:
                    await peer.aclose()
                nursery.cancel_scope.cancel()

    async def _there(self, peers: Sequence[PeerSupplier]) -> list[PeerSupplier]:
        """Those that answer, each node once."""
        there = [peer for peer in peers if await self._answers(peer)]
        return list({peer.node: peer for peer in reversed(there)}.values())[::-1]

    async def _answers(self, peer: PeerSupplier) -> bool:
        try:
            await peer.ping()
        except PeerError as error:
            self._say(f"{peer.addresses[0]}: {error}")
            return False
        return True

    async def _recover(self, suppliers: Sequence[PeerSupplier]) -> Recovered:
        found = await look(self._key, suppliers, self._over_root, self._say)
        content = await find_index(self._key, found)
        if content is not None:
            await new_root(self._key, self._suite, found, content)
            return Recovered(True, len(found.headers), found.unreadable)
        empty = RootContent(None, (), self._key.name_key, 0, 0)
        await new_root(self._key, self._suite, found, empty)
        return await self._fill(found)

    async def _fill(self, found: Remains) -> Recovered:
        """Mounts the empty vault aside, without FUSE, and puts the files in that blocks tell of."""
        scratch = self._home / "recovering"
        shutil.rmtree(scratch, ignore_errors=True)
        folder = open_state_folder(scratch, self._key.vault_id, self._machine)
        settings = Settings(take_over=True, reclaims=False)
        try:
            async with open_vault(
                folder, self._key, self._suite, found.family, found.connect, settings
            ) as vault:
                assert isinstance(vault, WritableVault)  # its only root was made just now
                outcome = await build_tree(vault, found)
                await vault.publish()
            return outcome
        finally:
            folder.close()
            shutil.rmtree(scratch, ignore_errors=True)
