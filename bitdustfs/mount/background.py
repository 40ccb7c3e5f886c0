"""A process of its own for a mount: forked, detached from its terminal, heard through a pipe.

The parent returns once the mount works, so that a command's exit code tells whether the folder is
there. The child says it in one message, "ok" and a warning on the next line, or the error as a
sentence, and then closes the pipe. Before, it may say what it waits for, a line each. A
pipe that ends empty means that the child died.
"""

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn, TextIO

import trio

from bitdustfs import config
from bitdustfs.core.keys import VaultKey
from bitdustfs.errors import BitdustError
from bitdustfs.mount.options import MountOptions
from bitdustfs.mount.process import Ready, TellWait, run_mount
from bitdustfs.net.loglines import FewLines
from bitdustfs.plain import log_plainly

log = logging.getLogger(__name__)

OK, WAITS = "ok", "waits: "

Work = Callable[[Ready, TellWait], None]


def mount_in_background(options: MountOptions, key: VaultKey, tell: TellWait) -> str:
    """Mounts in another process; its warning, or "". Raises BitdustError when it did not work.

    `tell` hears what is waited for.
    """
    return run_in_background(
        f"{key.vault_id.hex()[:16]}.log",
        lambda ready, waits: trio.run(run_mount, options, key, ready, waits),
        tell,
    )


def run_in_background(log_name: str, work: Work, tell: TellWait) -> str:
    """Runs `work` in another process; returns what it calls its first argument with.

    What it calls its second one with before is told here. It must be called before anything is
    opened or any thread runs: it forks. Raises BitdustError with the sentence of what `work` raised
    before it was ready.
    """
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        os.close(read_end)
        _be_child(StartReport(os.fdopen(write_end, "w", errors="surrogateescape")), log_name, work)
    os.close(write_end)
    with os.fdopen(read_end, errors="surrogateescape") as pipe:
        while (answer := pipe.readline()).startswith(WAITS):
            tell(answer.removeprefix(WAITS).rstrip("\n"))
        answer += pipe.read()
    verdict, _, message = answer.partition("\n")
    if verdict != OK:
        raise BitdustError(answer.strip() or "the mount process died; see its log")
    return message


class StartReport:
    """The child's end of the pipe: what it waits for, then one message."""

    def __init__(self, pipe: TextIO) -> None:
        self._pipe = pipe

    def ready(self, warning: str) -> None:
        """It works."""
        self._say(f"{OK}\n{warning}")

    def waits(self, sentence: str) -> None:
        """It does not work yet, for this reason."""
        if not self._pipe.closed:
            with suppress(BrokenPipeError):  # nobody waits for it any more
                self._pipe.write(f"{WAITS}{sentence}\n")
                self._pipe.flush()

    def failed(self, sentence: str) -> None:
        """It does not. After `ready` nobody listens any more."""
        if not self._pipe.closed:
            self._say(f"{sentence}\n")

    def _say(self, message: str) -> None:
        with suppress(BrokenPipeError):  # Ctrl-C: nobody waits any more, and the mount goes on
            self._pipe.write(message)
            self._pipe.close()


def _be_child(report: StartReport, log_name: str, work: Work) -> NoReturn:
    """Never returns: the parent's stack, with its `finally`s, is not ours."""
    code = 1
    try:
        os.setsid()
        if _detached(report, log_name):
            code = _run(report, work)
    finally:
        os._exit(code)


def _detached(report: StartReport, log_name: str) -> bool:
    try:
        _detach(log_name)
    except (OSError, BitdustError) as error:
        report.failed(f"the log cannot be written: {error}")
        return False
    return True


def _run(report: StartReport, work: Work) -> int:
    """The exit code."""
    try:
        work(report.ready, report.waits)
        return 0
    except BaseException as error:
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        if isinstance(cause, BitdustError):
            log.error("%s", cause)
        else:
            log.critical("a bug ends this process", exc_info=True)
        report.failed(str(cause) or type(cause).__name__)
        return 1


def _detach(log_name: str) -> None:
    """Standard streams to a log file; the folder we were started in is let go. Raises OSError."""
    log_plainly(logging.INFO, FewLines(), config.home() / "logs" / log_name)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.chdir("/")
