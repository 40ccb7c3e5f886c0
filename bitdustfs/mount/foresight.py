"""How likely a vault loses anything: reckoned each night, in a process of its own, and remembered.

What comes out is kept on this machine, a year of
nights of it, so that `status` costs nothing and a trend can be told.
"""

import logging
import time
from collections.abc import Callable

import msgspec
import trio

from bitdustfs.cache.state import State
from bitdustfs.core.codec import Decoder, encode
from bitdustfs.core.records import Record
from bitdustfs.errors import Malformed, Unavailable
from bitdustfs.mount.measured import Measured, measure
from bitdustfs.mount.reckoner import AT_NIGHT, OnStep, reckoned_apart
from bitdustfs.mount.risk_words import ASSUMED_DAYS, remedy_words, sentence, weak_words
from bitdustfs.mount.statements import RemedyLine, RiskLine, RiskPoint, RiskSaid
from bitdustfs.mount.supplier_warnings import NAME_DIGITS
from bitdustfs.rebuild.odds import Odds
from bitdustfs.units import KIB
from bitdustfs.vault.reading import ReadVault

log = logging.getLogger(__name__)

FIRST = 600.0  #: seconds after the mount until it is reckoned first: short mounts need not
LOOK_EVERY = 600.0  #: seconds between looks at whether it is time
NIGHT, CHANGED = 20 * 3600.0, 3600.0  #: seconds until the next one; where something changed
NIGHTS_MAX = 400
MONTH = 30 * 86400.0
NAME = "odds"  #: of the value in this machine's state


class Foreseen(Record, frozen=True):
    """What was reckoned last, and the nights before. Times are Unix seconds."""

    at: float
    answer: bytes  #: Odds as JSON
    positions: tuple[int, ...]  #: that the suppliers of the question had
    nodes: tuple[bytes, ...]  #: their keys
    days: float  #: for which they were seen
    k: int
    about: tuple[int, ...]  #: what it depends on and may change within a day: see _about
    nights: tuple[tuple[float, float, float, float], ...] = ()  #: at, chance, low, high


_foreseen = Decoder(Foreseen, "chance of a loss", 64 * KIB)
_answer = msgspec.json.Decoder(Odds)


def foreseen(state: State) -> RiskLine | None:
    """What was reckoned last; None where nothing was."""
    kept = _kept(state)
    return None if kept is None else _line(*kept)


def _kept(state: State) -> tuple[Foreseen, Odds] | None:
    """What is kept, and the answer in it; None where nothing is, or what another version wrote.

    That is reckoned again in the next night: no command fails by it.
    """
    if (raw := state.get_value(NAME)) is None:
        return None
    try:
        kept = _foreseen.decode_untrusted(raw)
        return kept, _answer.decode(kept.answer)
    except (Malformed, msgspec.MsgspecError) as error:
        log.info("the chance of a loss is to be reckoned again: %s", error)
        return None


class Foresight:
    """Reckons for one mounted vault."""

    def __init__(self, vault: ReadVault, wall: Callable[[], float] = time.time) -> None:
        self._vault, self._wall = vault, wall
        self._failed_at: float | None = None  # by the wall clock

    async def run(self) -> None:
        """Each night, and soon after something changed; until the vault is read only."""
        await trio.sleep(FIRST)
        while not self._vault.read_only:
            if self._is_due():
                try:
                    await self.reckon(AT_NIGHT, _nobody_watches)
                except Unavailable as error:
                    self._failed_at = self._wall()
                    log.warning("%s; it is tried again in the next night", error)
            await trio.sleep(LOOK_EVERY)

    def _is_due(self) -> bool:
        kept, now = _kept(self._vault.state), self._wall()
        if self._failed_at is not None and 0 <= now - self._failed_at < NIGHT:
            return False
        if kept is None or not 0 <= now - kept[0].at < NIGHT:
            return True
        if now - kept[0].at < CHANGED:
            return False
        return _about(self._vault, measure(self._vault, now)) != kept[0].about

    async def reckon(self, niceness: int, on_step: OnStep) -> RiskSaid:
        """Now. `on_step` hears how far it is. Raises Unavailable, LocalError."""
        vault, now = self._vault, self._wall()
        measured = measure(vault, now)
        answer = await reckoned_apart(measured.question, niceness, on_step)
        before = _kept(vault.state)
        nights = () if before is None else before[0].nights
        if nights and 0 <= now - nights[-1][0] < NIGHT / 2:
            nights = nights[:-1]  # of one night the last
        made = Foreseen(
            now, msgspec.json.encode(answer), measured.positions, measured.nodes, measured.days,
            measured.question.k, _about(vault, measured),
            (*nights, (now, answer.chance, answer.low, answer.high))[-NIGHTS_MAX:],
        )  # fmt: skip
        await trio.to_thread.run_sync(vault.state.set_value, NAME, encode(made))
        return RiskSaid(
            risk=_line(made, answer), nights=[RiskPoint(*night) for night in made.nights]
        )


async def _nobody_watches(done: int, total: int) -> None:
    """At night."""


def _about(vault: ReadVault, measured: Measured) -> tuple[int, ...]:
    """The epoch of the family, whether reserves stand by, and who is away."""
    away = (
        p for p, seen in zip(measured.positions, measured.question.suppliers, strict=True)
        if seen.away is not None
    )  # fmt: skip
    return (vault.known.family.epoch, int(measured.question.reserves > 0), *away)


def _line(kept: Foreseen, answer: Odds) -> RiskLine:
    weakest, name = None, ""
    if 0 <= answer.weakest < min(len(kept.positions), len(kept.nodes)):
        weakest = kept.positions[answer.weakest]
        name = f"supplier {kept.nodes[answer.weakest].hex()[:NAME_DIGITS]} at position {weakest}"
    return RiskLine(
        at=kept.at, chance=answer.chance, low=answer.low, high=answer.high, days=kept.days,
        assumed=kept.days < ASSUMED_DAYS, weakest=weakest, weak=weak_words(name, answer),
        remedies=[
            RemedyLine(
                what=remedy.what, chance=remedy.chance,
                said=remedy_words(remedy, kept.k, len(kept.positions), weakest),
            )
            for remedy in answer.remedies
        ],
        month_ago=_month_ago(kept), said=sentence(answer, kept.days),
    )  # fmt: skip


def _month_ago(kept: Foreseen) -> float | None:
    older = [chance for at, chance, _, _ in kept.nights if at <= kept.at - MONTH]
    return older[-1] if older else None
