"""A mount as a service: what `systemctl status` shows of it while it runs."""

from collections.abc import Awaitable, Callable

import trio

from bitdustfs.net import notify

EVERY = 30.0  #: seconds between status lines


async def keep_told(verdict: Callable[[], Awaitable[str]]) -> None:
    """Tells the service manager, if there is one, whether data is safe. Until cancelled."""
    while notify.listened():
        notify.notify(notify.status_word(await verdict()))
        await trio.sleep(EVERY)
