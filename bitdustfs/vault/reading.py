"""A vault that is open to be looked at: a root was found, and its tree is shown as it was."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import trio

from bitdustfs.blocks.fetch import Fetcher
from bitdustfs.blocks.reader import ExtentReader
from bitdustfs.blocks.space import Space
from bitdustfs.cache.state import State
from bitdustfs.core.quorum import Known
from bitdustfs.core.records import Ballot, root_records
from bitdustfs.errors import LocalError, Unavailable
from bitdustfs.fs.content import Content
from bitdustfs.fs.past import Past
from bitdustfs.fs.showing import Showing
from bitdustfs.fs.volume import Volume
from bitdustfs.fs.xattrs import Xattrs
from bitdustfs.net.register import RootRegister
from bitdustfs.rebuild.watch import Watch
from bitdustfs.tree.catalogue import Catalogue
from bitdustfs.vault.account import Account
from bitdustfs.vault.followed import Followed
from bitdustfs.vault.offline import Offline
from bitdustfs.vault.pinning import Pinning
from bitdustfs.vault.safety import ReadSafety, Safety, to_publish, too_few

log = logging.getLogger(__name__)

AFTER_FAILURE = 5.0  #: seconds until a task that this machine's disk stopped begins again


@dataclass(frozen=True)
class Parts:
    """What every open vault is made of. `found`: order of the newest root as voters showed it."""

    volume: Volume
    content: Content
    xattrs: Xattrs
    catalogue: Catalogue
    past: Past
    showing: Showing
    reader: ExtentReader
    fetcher: Fetcher
    state: State
    space: Space
    watch: Watch
    register: RootRegister
    followed: Followed
    found: tuple[Ballot, int]
    safety: ReadSafety | Safety
    pinning: Pinning
    offline: Offline


class ReadVault:
    """What is open of any vault.

    `message` says why it is read-only, where that was not asked for.
    """

    def __init__(self, parts: Parts, message: str) -> None:
        self.volume, self.content, self.xattrs = parts.volume, parts.content, parts.xattrs
        self.catalogue, self.past = parts.catalogue, parts.past
        self.showing = parts.showing
        self.reader, self.fetcher, self.circle = parts.reader, parts.fetcher, parts.fetcher.circle
        self.state, self.space, self.watch = parts.state, parts.space, parts.watch
        self.register, self._followed = parts.register, parts.followed
        self._found, self._safety, self._message = parts.found, parts.safety, message
        self.pinning, self.offline = parts.pinning, parts.offline
        self._troubles: list[str] = []
        self._parts = parts

    async def as_of(self, wanted: str) -> "ReadVault":
        """The same vault as a snapshot shows it; see Catalogue.as_of. Raises UsageError."""
        view = self.past.view(await self.catalogue.as_of(wanted))
        volume, content, xattrs = view.volume, view.content, view.xattrs
        parts = replace(self._parts, volume=volume, content=content, xattrs=xattrs)
        return ReadVault(parts, self._message)

    @property
    def known(self) -> Known:
        """The root found at the mount or at the last change of the family, and the family."""
        return self._followed.known

    @property
    def read_only(self) -> bool:
        """Whether nothing may be written."""
        return True

    @property
    def message(self) -> str:
        """Why it is read-only, "" where that was asked for or it is not."""
        return self._message

    @property
    def troubles(self) -> list[str]:
        """What status should warn of."""
        return list(self._troubles)

    async def wait_moved(self) -> None:
        """Returns when the family has changed."""
        await self._followed.wait_moved()

    def state_root(self) -> bytes:
        """The signed bytes of the newest root that is known to be accepted."""
        published = self.state.published()
        return self.known.raw if published is None else published.root

    def published_seq(self) -> int:
        """Seq of the newest root that is known to be accepted."""
        return root_records.peek_untrusted(self.state_root()).seq

    def heed_witness(self, ballot: Ballot, seq: int) -> None:
        """The DHT record saw the root (ballot, seq): newer than voters showed is not to be trusted.

        A mount that only looks says so; one that writes turns read-only.
        """
        if (ballot, seq) > self._found:
            self._is_behind(
                f"the network remembers root {seq} of this vault, and the suppliers showed only "
                f"root {self._found[1]}: some of them may hide the newer one; this mount is "
                "read-only"
            )

    def _is_behind(self, why: str) -> None:
        self._message = "; ".join(filter(None, (self._message, why)))

    def witness_asked(self) -> None:
        """The DHT record was asked for, whatever it said."""

    def too_few(self) -> str:
        """Why nothing can be published just now; "" when enough suppliers answer."""
        return too_few(self.circle, self.register.needed)

    def to_publish(self) -> int:
        """How many suppliers have to be there so that anything can be published."""
        return to_publish(self.circle, self.register.needed)

    async def account(self) -> Account:
        """What may be said of this mount now: what is published, what is only here."""
        return await self._safety.account(self.message)

    def warn(self, trouble: str) -> None:
        """Status should say so from here on."""
        self._troubles.append(trouble)

    async def aside(self, what: str, task: Callable[[], Awaitable[None]]) -> None:
        """Runs a task without which the mount can go on: its bug is shown by status, not fatal.

        It begins again while this machine's disk refuses, or too few suppliers answer.
        """
        while True:
            try:
                await task()
                return
            except Exception as error:
                why = _why_it_waits(error)
                if not why:
                    log.exception("%s stopped by our own fault", what)
                    self.warn(f"{what} stopped by a bug of bitdustfs; see the log, and mount again")
                    return
                log.warning("%s waits: %s", what, why)
                await trio.sleep(AFTER_FAILURE)
            except BaseExceptionGroup as ending:
                # it failed in the moment in which the mount ended: nothing is left to begin again
                cancelled, failed = ending.split(trio.Cancelled)
                if cancelled is None or not isinstance(failed, ExceptionGroup):
                    raise
                log.warning("%s ended with the mount, and failed: %s", what, failed.exceptions)
                raise cancelled from None


def _why_it_waits(error: Exception) -> str:
    """Of a task that begins again; "" for a bug. What has parts that run at once raises groups."""
    if isinstance(error, LocalError | Unavailable):
        return str(error) or type(error).__name__
    if isinstance(error, ExceptionGroup):
        reasons = [_why_it_waits(each) for each in error.exceptions]
        return "; ".join(dict.fromkeys(reasons)) if all(reasons) else ""
    return ""
