"""Asks rebuild/odds.py in a process of its own, so that the mount's loop does not wait for it.

A thread would hold the interpreter that the loop needs. The process writes a line "DONE TOTAL" for
each step, and the answer, JSON, as the last one; of one that fails the last line says why.
"""

import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress

import msgspec
import trio

from bitdustfs.errors import Unavailable
from bitdustfs.rebuild import odds
from bitdustfs.rebuild.odds import Odds, OddsQuestion
from bitdustfs.units import MIB

DEADLINE = 600.0  #: seconds that it may take
AT_NIGHT, ASKED = 19, 5  #: how nice the process is: to whatever else runs, or where somebody waits
LINE_MAX = 1 * MIB  #: bytes

OnStep = Callable[[int, int], Awaitable[None]]


async def reckoned_apart(question: OddsQuestion, niceness: int, on_step: OnStep) -> Odds:
    """The answer. `on_step` hears how far it is: (done, total). Raises Unavailable."""
    last = b""
    with trio.move_on_after(DEADLINE):
        async with aclosing(_lines(question, niceness)) as lines:
            async for line in lines:
                last = line
                if (step := _step(line)) is not None:
                    await on_step(*step)
        try:
            return msgspec.json.decode(last, type=Odds)
        except msgspec.MsgspecError:
            said = last.decode(errors="replace") or "it said nothing"
            raise Unavailable(
                f"the chance of a loss could not be reckoned: its process failed: {said}"
            ) from None
    raise Unavailable(
        f"the chance of a loss was not reckoned within {DEADLINE:.0f} seconds: this machine has "
        "too much to do"
    )


def _step(line: bytes) -> tuple[int, int] | None:
    words = line.split()
    if len(words) == 2 and all(word.isdigit() and len(word) < 9 for word in words):
        return int(words[0]), int(words[1])
    return None


async def _lines(question: OddsQuestion, niceness: int) -> AsyncGenerator[bytes, None]:
    """What the process writes; it has ended when this has."""
    command = [sys.executable, "-P", "-m", odds.__name__, str(niceness)]
    try:
        process = await trio.lowlevel.open_process(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError as error:
        raise Unavailable(
            f"the chance of a loss could not be reckoned: no process can be started "
            f"({error.strerror or error}); try again when this machine has less to do"
        ) from error
    assert process.stdin is not None and process.stdout is not None
    try:
        with suppress(trio.BrokenResourceError):  # it died: what it wrote says why
            await process.stdin.send_all(msgspec.json.encode(question))
        await process.stdin.aclose()
        rest = b""
        async for chunk in process.stdout:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line
            if len(rest) > LINE_MAX:
                return
        if rest:
            yield rest
    finally:
        with trio.CancelScope(shield=True):
            if process.returncode is None:
                process.kill()
            await process.wait()
            await process.stdout.aclose()
