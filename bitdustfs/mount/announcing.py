"""A mount and the DHT: it hears the witness there, and keeps the vault's record fresh."""

import trio

from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import open_root_untrusted
from bitdustfs.core.sealing import Suite
from bitdustfs.net.dht.discover import ANNOUNCE_EVERY, announce_vault, newest_hint
from bitdustfs.net.dht.node import Dht
from bitdustfs.net.dht.seeker import Seeker
from bitdustfs.vault.reading import ReadVault


class Announcing:
    """One mount's record in the DHT: addresses by hand may be forgotten once it is there."""

    def __init__(self, key: VaultKey, vault: ReadVault, seeker: Seeker, suite: Suite) -> None:
        self._key, self._vault, self._seeker, self._suite = key, vault, seeker, suite

    async def run(self) -> None:
        """First hears what the record bears witness of: a newer root than the suppliers showed.

        Then announces while the mount may write, anew whenever the family changes.
        """
        vault = self._vault
        hint = await newest_hint(await self._seeker.dht(), self._key.capability())
        if hint is not None:
            vault.heed_witness(hint.ballot, hint.root_seq)
        vault.witness_asked()
        while not vault.read_only:
            await self._announce(await self._seeker.dht())
            with trio.move_on_after(ANNOUNCE_EVERY):
                await vault.wait_moved()

    async def _announce(self, dht: Dht) -> None:
        root = open_root_untrusted(self._vault.state_root(), self._key.vault_id)
        known = self._vault.known
        await announce_vault(dht, self._key, root, known.family, known.raw_family, self._suite)
