"""Processes with a time limit, and the folder of a run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks import janitor
from benchmarks.settings import Failed

TAIL = 2000  #: characters of a failed process's words that are passed on
ENDING = 3.0  #: seconds that a process has to end by itself
CLEARING = 120.0  #: seconds that clearing away may take


@contextmanager
def run_folder(inside: Path | None) -> Iterator[Path]:
    """A folder for all files, mounts and processes of a run. All of it is gone afterwards."""
    folder = janitor.make_folder(inside)
    cleaner = janitor.start(folder)
    try:
        yield folder
    finally:
        held = {number: signal.signal(number, signal.SIG_IGN) for number in ENDS}
        assert cleaner.stdin is not None
        cleaner.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            cleaner.wait(CLEARING)
        for number, handler in held.items():
            signal.signal(number, handler)


ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  #: what ends a run


def end_on_signals() -> None:
    """Every signal that asks for the end unwinds this process as Ctrl-C does."""
    for number in ENDS:
        signal.signal(number, signal.default_int_handler)


def environment(home: Path | None = None) -> dict[str, str]:
    """For processes: they import what this one imports. `home`: a machine of ours."""
    paths = [path for path in sys.path if path]
    made = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    if home is not None:
        made["BITDUST_HOME"] = str(home)
        if os.geteuid():
            made["BITDUST_DUMPABLE"] = "1"  # else /proc does not tell what it wrote
    return made


def run(
    words: Sequence[object],
    limit: float,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> str:
    """What a command prints. Raises Failed when it fails, or takes more than `limit` seconds."""
    command = [*map(str, words)]
    process = subprocess.Popen(
        command, env=env or environment(), text=True, errors="replace", start_new_session=True,
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        said, complained = process.communicate(stdin, timeout=limit)
    except subprocess.TimeoutExpired:
        raise Failed(f"{_short(command)} took more than {limit:g} s") from None
    finally:
        if process.poll() is None:
            _kill_group(process)
    if process.returncode:
        why = (complained or said).strip()[-TAIL:]
        raise Failed(f"{_short(command)} failed ({process.returncode}): {why}")
    return said


def _short(command: Sequence[str]) -> str:
    words = [Path(word).name if word.startswith("/") else word for word in command]
    return " ".join(words)[:200]


def _kill_group(process: subprocess.Popen[str]) -> None:
    """Also what it started. What hangs in a mount ends once the mount does: nobody waits long."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(ENDING)


class Server:
    """A file system's process that stays in the foreground."""

    def __init__(self, words: Sequence[object], log: Path, env: Mapping[str, str]) -> None:
        self._log = log
        with open(log, "ab") as file:
            self._process = subprocess.Popen(
                [*map(str, words)], env=env, start_new_session=True, stdin=subprocess.DEVNULL,
                stdout=file, stderr=file,
            )  # fmt: skip

    def wait_mounted(self, place: Path, limit: float) -> None:
        """Returns once something is mounted at `place`. Raises Failed."""
        give_up = time.monotonic() + limit
        while not janitor.mounts_under(place):
            if self._process.poll() is not None:
                said = self._log.read_text(errors="replace")[-TAIL:]
                raise Failed(f"nothing was mounted at {place.name}: {said}")
            if time.monotonic() > give_up:
                raise Failed(f"nothing was mounted at {place.name} within {limit:g} s")
            time.sleep(0.02)

    def end(self) -> None:
        """By itself where it does so soon, else by force."""
        try:
            self._process.wait(ENDING)
        except subprocess.TimeoutExpired:
            self._process.kill()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(ENDING)


def end_process(pid: int, number: int) -> None:
    """Sends a signal and waits until the process is gone; by force after ENDING seconds."""
    give_up = time.monotonic() + ENDING
    with suppress(ProcessLookupError):
        os.kill(pid, number)
        while Path(f"/proc/{pid}").exists() and not _is_zombie(pid):
            if time.monotonic() > give_up:
                os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.02)


def _is_zombie(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True
