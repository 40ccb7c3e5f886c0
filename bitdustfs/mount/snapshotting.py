"""What a mount does with snapshots when it is asked: lists, makes and drops them."""

import time

from bitdustfs.core.snapshotnames import check_snapshot_name
from bitdustfs.errors import BitdustError, Unavailable, UsageError
from bitdustfs.mount.commands import DropSnapshot, MakeSnapshot
from bitdustfs.mount.statements import (
    SnapshotDropped,
    SnapshotLine,
    SnapshotList,
    SnapshotMade,
)
from bitdustfs.mount.syncing import Syncing
from bitdustfs.mount.thinned import thinned_lately
from bitdustfs.net.control import Say
from bitdustfs.tree.catalogue import KeptSnapshot
from bitdustfs.vault.reading import ReadVault
from bitdustfs.vault.vaults import WritableVault


async def list_snapshots(vault: ReadVault) -> SnapshotList:
    """All snapshots of the vault. Raises Unavailable."""
    kept = await vault.catalogue.kept()
    if not isinstance(vault, WritableVault):
        return SnapshotList(snapshots=[_line(k, None) for k in kept], held=None)
    back = vault.held.given_back() if kept else {}
    lines = [_line(k, back.get(k.item.number, 0)) for k in kept]
    thinned = thinned_lately(vault, time.time(), "rows", "share", "writers")
    return SnapshotList(snapshots=lines, held=vault.space.held, thinned=thinned)


def _line(kept: KeptSnapshot, gives_back: int | None) -> SnapshotLine:
    item = kept.item
    return SnapshotLine(
        name=kept.name.decode(errors="surrogateescape"),
        made=item.time[0] + item.time[1] / 1e9,
        inodes=item.inodes,
        live=item.live,
        scheduled=kept.scheduled,
        gives_back=gives_back,
    )


class Snapshotting:
    """Makes and drops snapshots of a vault that is written."""

    def __init__(self, vault: WritableVault, syncing: Syncing) -> None:
        self._vault, self._syncing = vault, syncing

    async def make(self, asked: MakeSnapshot, say: Say) -> SnapshotMade:
        """Returns once it is published, or cannot be for now and is kept on this machine.

        Raises UsageError for a name that cannot be, and BitdustError where nothing was made.
        """
        name = check_snapshot_name(asked.name)
        self._vault.pen.require()
        await self._vault.catalogue.check_new(name)
        failure = await self._syncing.attempt(asked.patience, say, name)
        if isinstance(failure, UsageError):  # somebody else's has this name by now
            raise failure
        if await self._vault.catalogue.find(name) is None:
            raise failure or Unavailable("no snapshot was made")
        await self._keep(failure)
        return SnapshotMade(name=asked.name, left=str(failure or ""))

    async def drop(self, asked: DropSnapshot, say: Say) -> SnapshotDropped:
        """Returns once that is published, or cannot be for now. Raises UsageError."""
        self._vault.pen.require()
        await self._vault.catalogue.drop(check_snapshot_name(asked.name))
        failure = await self._syncing.attempt(asked.patience, say)
        await self._keep(failure)
        return SnapshotDropped(left=str(failure or ""))

    async def _keep(self, failure: BitdustError | None) -> None:
        """What is not published is at least on this machine's disk."""
        if failure is not None:
            await self._vault.committer.commit(sync=True)
