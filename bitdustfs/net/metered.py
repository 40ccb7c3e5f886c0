"""Is this machine on a connection that is paid by the byte? NetworkManager knows, where it runs.

It is asked by busctl(1), which comes with systemd: each minute, in a process of its own, within a
deadline. Where neither is there, no connection counts as metered.
"""

import logging
import re
from collections.abc import Awaitable, Callable

import trio

log = logging.getLogger(__name__)

EVERY = 60.0  #: seconds between questions
DEADLINE = 5.0  #: seconds for one
MANAGER = "org.freedesktop.NetworkManager"
QUESTION = (
    "busctl", "--system", "--auto-start=no", "--timeout=3", "get-property", MANAGER,
    f"/{MANAGER.replace('.', '/')}", MANAGER, "Metered",
)  # fmt: skip
#: NMMetered (NetworkManager D-Bus API): 1 yes, 3 guessed yes; 0 unknown, 2 no, 4 guessed no
METERED = (1, 3)
PAUSED = "this connection is metered: what is new waits (bitdust sync sends it all the same)"

_answer = re.compile(rb"u ([0-9]{1,3})\s*")


def is_metered_untrusted(said: bytes) -> bool:
    """What an answer of busctl says; an answer of another form says no."""
    found = _answer.fullmatch(said)
    return found is not None and int(found[1]) in METERED


async def ask_manager() -> bool:
    """Whether the connection is metered. Raises FileNotFoundError where nobody can be asked."""
    with trio.move_on_after(DEADLINE):
        done = await trio.run_process(
            QUESTION, capture_stdout=True, capture_stderr=True, check=False
        )
        return not done.returncode and is_metered_untrusted(done.stdout)
    return False


class Metered:
    """Whether bulk work waits: on a metered connection, where that is heeded."""

    def __init__(self, heeded: bool = False, ask: Callable[[], Awaitable[bool]] = ask_manager):
        self._heeded, self._ask, self._metered = heeded, ask, False
        self._changed = trio.Event()

    @property
    def pauses(self) -> bool:
        """Whether bulk work waits now."""
        return self._heeded and self._metered

    @property
    def said(self) -> str:
        """That, as a sentence; "" while it goes on."""
        return PAUSED if self.pauses else ""

    def heed(self, heeded: bool) -> None:
        """Whether a metered connection matters from here on."""
        self._heeded = heeded
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def wait_free(self) -> None:
        """Returns once bulk work may go on."""
        while self.pauses:
            await self._changed.wait()

    def _note(self, metered: bool) -> None:
        if metered != self._metered:
            self._metered = metered
            log.info("this connection is %s", "metered" if metered else "not metered")
            self._tell()

    async def run(self) -> None:
        """Until cancelled, or where nobody can be asked."""
        while True:
            if self._heeded:
                try:
                    self._note(await self._ask())
                except OSError as error:
                    log.info("whether connections are metered is not known: %s", error)
                    self._note(False)  # nothing waits for ever by that
                    if isinstance(error, FileNotFoundError):  # nobody can be asked here
                        return
            with trio.move_on_after(EVERY):
                await self._changed.wait()
