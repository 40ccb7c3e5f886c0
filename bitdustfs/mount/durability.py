"""What fsync waits for (promise 2)."""

import trio

from bitdustfs.errors import Unavailable
from bitdustfs.vault.vaults import WritableVault

DEADLINE = 20.0  #: seconds that fsync with durability=published waits for suppliers
AGAIN = 2.0  #: the same, after that was in vain


class LocalDurability:
    """fsync returns when what was written is safe on this machine: -o durability=local."""

    def __init__(self, vault: WritableVault) -> None:
        self._vault = vault

    async def wait(self) -> None:
        """Also after another machine took over, for what was accepted before. Raises LocalError."""
        await self._vault.committer.commit(sync=True)


class PublishedDurability:
    """fsync returns when suppliers have it, too: -o durability=published."""

    def __init__(self, vault: WritableVault) -> None:
        self._vault, self._local = vault, LocalDurability(vault)
        self._patience = DEADLINE

    async def wait(self) -> None:
        """Raises LocalError; Unavailable and Superseded when it is safe on this machine only."""
        await self._local.wait()
        with trio.move_on_after(self._patience):
            await self._vault.publish()
            self._patience = DEADLINE
            return
        self._patience = AGAIN  # others need not wait as long, until it works again
        raise Unavailable(
            "not enough suppliers took it in time: it is safe on this machine, and published when "
            "they do"
        )


def durability(vault: WritableVault, published: bool) -> LocalDurability | PublishedDurability:
    """By the option of that name."""
    return PublishedDurability(vault) if published else LocalDurability(vault)
