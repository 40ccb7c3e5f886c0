"""How likely a vault loses anything: reckoned each night, in a process of its own, and remembered.

The reckoning takes a processor for seconds, so it never runs in the mount's loop, nor in a thread
of the mount, which would hold the interpreter. What comes out is kept on this machine, a year of
nights of it, so that `status` costs nothing and a trend can be told.
"""

import logging
import sys
import time
from collections.abc import Callable

import msgspec
import trio

from bitdustfs.cache.state import State
from bitdustfs.core.codec import Decoder, encode
from bitdustfs.core.records import Record
from bitdustfs.errors import Malformed, Unavailable
from bitdustfs.mount.measured import Measured, measure
from bitdustfs.mount.risk_words import ASSUMED_DAYS, remedy_words, sentence
from bitdustfs.mount.statements import RemedyLine, RiskLine, RiskPoint, RiskSaid
from bitdustfs.rebuild import odds
from bitdustfs.rebuild.odds import Odds, OddsQuestion
from bitdustfs.units import KIB
from bitdustfs.vault.reading import ReadVault

log = logging.getLogger(__name__)

FIRST = 600.0  #: seconds after the mount until it is reckoned first: short mounts need not
LOOK_EVERY = 600.0  #: seconds between looks at whether it is time
NIGHT, CHANGED = 20 * 3600.0, 3600.0  #: seconds until the next one; where something changed
DEADLINE = 600.0  #: seconds that the process may take, at the lowest priority
NIGHTS_MAX = 400
MONTH = 30 * 86400.0
NAME = "odds"  #: of the value in this machine's state


class Foreseen(Record, frozen=True):
    """What was reckoned last, and the nights before. Times are Unix seconds."""

    at: float
    answer: bytes  #: Odds as JSON
    positions: tuple[int, ...]  #: that the suppliers of the question had
    days: float  #: for which they were seen
    k: int
    about: tuple[int, ...]  #: what it depends on and may change within a day: see _about
    nights: tuple[tuple[float, float, float, float], ...] = ()  #: at, chance, low, high


_foreseen = Decoder(Foreseen, "chance of a loss", 64 * KIB)
_answer = msgspec.json.Decoder(Odds)


def foreseen(state: State) -> RiskLine | None:
    """What was reckoned last; None where nothing was."""
    kept = _kept(state)
    return None if kept is None else _line(kept)


def _kept(state: State) -> Foreseen | None:
    raw = state.get_value(NAME)
    return None if raw is None else _foreseen.decode_untrusted(raw)


class Foresight:
    """Reckons for one mounted vault."""

    def __init__(self, vault: ReadVault, wall: Callable[[], float] = time.time) -> None:
        self._vault, self._wall = vault, wall

    async def run(self) -> None:
        """Each night, and soon after something changed; until the vault is read only."""
        await trio.sleep(FIRST)
        while not self._vault.read_only:
            if self._is_due():
                try:
                    await self.reckon()
                except Unavailable as error:
                    log.warning("%s", error)
            await trio.sleep(LOOK_EVERY)

    def _is_due(self) -> bool:
        kept, now = _kept(self._vault.state), self._wall()
        if kept is None or not 0 <= now - kept.at < NIGHT:
            return True
        return now - kept.at >= CHANGED and _about(self._vault, measure(self._vault, now)) != (
            kept.about
        )

    async def reckon(self) -> RiskSaid:
        """Now. Raises Unavailable, LocalError."""
        vault, now = self._vault, self._wall()
        measured = measure(vault, now)
        answer = await reckoned_apart(measured.question)
        before = _kept(vault.state)
        nights = () if before is None else before.nights
        made = Foreseen(
            now, msgspec.json.encode(answer), measured.positions, measured.days,
            measured.question.k, _about(vault, measured),
            (*nights, (now, answer.chance, answer.low, answer.high))[-NIGHTS_MAX:],
        )  # fmt: skip
        await trio.to_thread.run_sync(vault.state.set_value, NAME, encode(made))
        return RiskSaid(risk=_line(made), nights=[RiskPoint(*night) for night in made.nights])


def _about(vault: ReadVault, measured: Measured) -> tuple[int, ...]:
    """The epoch of the family, whether reserves stand by, and who is away."""
    away = (
        p for p, seen in zip(measured.positions, measured.question.suppliers, strict=True)
        if seen.away is not None
    )  # fmt: skip
    return (vault.known.family.epoch, int(measured.question.reserves > 0), *away)


async def reckoned_apart(question: OddsQuestion) -> Odds:
    """Asks a process of lowest priority. Raises Unavailable where it fails."""
    command = [sys.executable, "-P", "-m", odds.__name__]
    with trio.move_on_after(DEADLINE):
        ended = await trio.run_process(
            command, stdin=msgspec.json.encode(question), capture_stdout=True,
            capture_stderr=True, check=False,
        )  # fmt: skip
        try:
            return _answer.decode(ended.stdout)
        except msgspec.MsgspecError:
            said = ended.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise Unavailable(
                f"the chance of a loss could not be reckoned: the process ended with "
                f"{ended.returncode}: {said}"
            ) from None
    raise Unavailable(
        f"the chance of a loss was not reckoned within {DEADLINE:.0f} seconds: this machine has "
        "too much to do"
    )


def _line(kept: Foreseen) -> RiskLine:
    """Raises Malformed for what no program of ours kept."""
    try:
        answer = _answer.decode(kept.answer)
    except msgspec.MsgspecError as error:
        raise Malformed(f"a kept chance of a loss does not parse: {error}") from None
    positions = kept.positions
    weakest = positions[answer.weakest] if 0 <= answer.weakest < len(positions) else None
    at = -1 if weakest is None else weakest
    return RiskLine(
        at=kept.at, chance=answer.chance, low=answer.low, high=answer.high, days=kept.days,
        assumed=kept.days < ASSUMED_DAYS, weakest=weakest,
        remedies=[
            RemedyLine(
                what=remedy.what, chance=remedy.chance,
                said=remedy_words(remedy, kept.k, len(positions), at),
            )
            for remedy in answer.remedies
        ],
        month_ago=_month_ago(kept), said=sentence(answer, kept.days),
    )  # fmt: skip


def _month_ago(kept: Foreseen) -> float | None:
    older = [chance for at, chance, _, _ in kept.nights if at <= kept.at - MONTH]
    return older[-1] if older else None
