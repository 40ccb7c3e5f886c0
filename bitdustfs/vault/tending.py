"""The tasks of an open vault: which run from the beginning, and which only with the pen confirmed.

A mount that began without enough suppliers does for itself whatever it can. What shows suppliers
its ballot waits until a quorum promised it one.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import trio

from bitdustfs.errors import BitdustError
from bitdustfs.vault.reading import ReadVault
from bitdustfs.vault.scheduling import Scheduling
from bitdustfs.vault.settings import Settings
from bitdustfs.vault.vaults import WritableVault

log = logging.getLogger(__name__)

Task = tuple[str, Callable[[], Awaitable[None]]]  #: what it does, for the log; and its function

LAST_COMMIT = 30.0  #: seconds that a last commit may take when a mount ends by force


async def look_after(vault: ReadVault, ended: trio.CancelScope) -> None:
    """The tasks of a vault that is only read, until it is `ended`."""
    with ended:
        async with trio.open_nursery() as nursery:
            for what, task in _of_any(vault):
                nursery.start_soon(vault.aside, what, task)


def _of_any(vault: ReadVault) -> Sequence[Task]:
    return (
        ("watching suppliers", vault.watch.run),
        ("pinning", vault.pinning.run),
        ("counting what is here", vault.offline.run),
    )


@asynccontextmanager
async def tending(
    vault: WritableVault, settings: Settings, tasks: Sequence[Task]
) -> AsyncIterator[None]:
    """All tasks of a vault that is written, and `tasks`; at the end a last commit."""
    confirmed = vault.pen.once_confirmed
    async with trio.open_nursery() as nursery:
        nursery.start_soon(confirmed, vault.courier.run)
        nursery.start_soon(vault.committer.run)
        nursery.start_soon(vault.flow.run)
        nursery.start_soon(vault.keep_publishing)
        nursery.start_soon(confirmed, vault.lease.run)
        for what, task in (
            ("claiming again", vault.keep_claim),
            ("rebuilding", vault.rebuilder.run),
            ("auditing", vault.auditor.run),
            ("making snapshots", Scheduling(vault, vault.thinning, settings.wall).run),
            *((("giving space back", vault.reclaimer.run),) if settings.reclaims else ()),
        ):
            nursery.start_soon(confirmed, partial(vault.aside, what, task))
        for what, task in (
            *_of_any(vault),
            ("claiming", vault.confirm_claim),
            ("remembering who writes", vault.remember_loss),
            ("hearing of damage", vault.auditor.hear),
            ("asking for used space", vault.keep_usage_fresh),
            ("evicting", vault.keep_within_cache),
            ("giving space back to writers", vault.give_back_for_writers),
            *tasks,
        ):
            nursery.start_soon(vault.aside, what, task)
        try:
            yield
        except (Exception, trio.Cancelled, KeyboardInterrupt):
            await _last_commit(vault)
            raise
        await vault.committer.commit(sync=True)
        nursery.cancel_scope.cancel()


async def _last_commit(vault: WritableVault) -> None:
    """Something ended the mount by force: what was accepted should be on this disk all the same."""
    with trio.CancelScope(shield=True, deadline=trio.current_time() + LAST_COMMIT):
        try:
            await vault.committer.commit(sync=True)
        except BitdustError as error:
            log.error("what was in memory could not be kept: %s", error)
