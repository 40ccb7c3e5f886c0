"""What is held of each supplier: its history, which outlives the mount, and who counts as gone.

Gone is for ever, with two exceptions. Whoever is gone for what it did not do (it said that it
leaves, or left audits unanswered), or for failures that are few by now, is acquitted once it passes
audits in a row and stays. And its owner may forgive anybody anything.
"""

import logging
import time
from collections.abc import Callable

import msgspec

from bitdustfs.core.codec import Decoder, encode
from bitdustfs.core.records import Record

log = logging.getLogger(__name__)

RELEASED = 1_767_225_600.0  #: 2026-01-01, in Unix seconds: a clock that says less is wrong


class History(Record, frozen=True):
    """What was seen of one supplier. Times are Unix seconds; `away_since` 0: it answers.

    Until when `away` was reckoned is `noted`. Both are 0 in histories of programs before 0.3.
    """

    rounds: int = 0
    answered: int = 0
    missed: int = 0  #: in a row
    away_since: float = 0.0
    latency: float = 0.0  #: seconds, smoothed
    gone: str = ""  #: why it is to be replaced whatever it answers
    audits: int = 0
    audits_failed: int = 0
    away: float = 0.0  #: seconds
    noted: float = 0.0
    passed: int = 0  #: audits in a row, none failed or left unanswered between
    lasting: bool = False  #: it is gone until its owner forgives it, whatever audits say
    since: float = 0.0  #: when it first answered; 0: it never did, or nobody wrote that down
    heard: float = 0.0  #: when it last did

    @property
    def dated(self) -> bool:
        """Whether since when it is known is written down, by a clock that may have been right."""
        return self.since >= RELEASED


_histories = Decoder(tuple[tuple[bytes, History], ...], "histories of suppliers", 1 << 20)


class Reputation:
    """The histories of suppliers, of the family and of families before.

    `load` and `save` keep them on this machine.
    """

    def __init__(
        self,
        load: Callable[[], bytes | None],
        save: Callable[[bytes], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        raw = load()
        self._histories = {} if raw is None else dict(_histories.decode_untrusted(raw))
        self._save, self._wall = save, wall
        self._judged = False  # whether somebody was judged since the last writing

    def history(self, node: bytes) -> History:
        return self._histories.get(node, History())

    def everybody(self) -> dict[bytes, History]:
        """The histories of all that ever were in the family or on its bench."""
        return dict(self._histories)

    def note(self, node: bytes, seen: History) -> None:
        """The history of a supplier is this from now on."""
        self._histories[node] = seen

    def keep(self) -> None:
        """Writes everything to this machine's disk: in a thread. Raises LocalError."""
        self._judged, now = False, self._wall()
        kept = [
            (node, msgspec.structs.replace(seen, noted=now))
            for node, seen in list(self._histories.items())
        ]
        self._save(encode(tuple(kept)))

    @property
    def urgent(self) -> bool:
        """Whether what is held of somebody has changed and is not written yet."""
        return self._judged

    # -- who is gone

    def gone(self) -> dict[bytes, str]:
        """Those that count as gone, and why: the rest of a sentence about each."""
        return {node: seen.gone for node, seen in self._histories.items() if seen.gone}

    def condemn(self, node: bytes, why: str, lasting: bool = True) -> None:
        """From here on the supplier counts as gone. `why`: the rest of a sentence about it.

        Not `lasting`: audits may acquit it.
        """
        if not self.history(node).gone:
            log.warning("supplier %s is gone: it %s", node.hex()[:12], why)
            self._judge(node, gone=why, lasting=lasting, passed=0)

    def acquit(self, node: bytes) -> None:
        """A supplier that was gone is like any other again; its audits stay counted."""
        log.warning("supplier %s passes audits: it is not gone any more", node.hex()[:12])
        self._judge(node, gone="", lasting=False)

    def forgive(self, node: bytes) -> None:
        """The owner forgives a supplier, with all that audits counted against it."""
        log.warning("supplier %s is forgiven", node.hex()[:12])
        self._judge(node, gone="", lasting=False, audits=0, audits_failed=0, passed=0)

    def _judge(self, node: bytes, **changed: str | bool | int) -> None:
        self._histories[node] = msgspec.structs.replace(self.history(node), **changed)
        self._judged = True

    # -- audits

    def audited(self, node: bytes, passed: bool) -> History:
        """Notes an audit that was answered; the history with it."""
        seen = self.history(node)
        self._histories[node] = msgspec.structs.replace(
            seen, audits=seen.audits + 1, audits_failed=seen.audits_failed + (not passed),
            passed=seen.passed + 1 if passed else 0,
        )  # fmt: skip
        return self._histories[node]

    def withheld(self, node: bytes) -> None:
        """Notes an audit that a supplier left unanswered although it was there."""
        self._histories[node] = msgspec.structs.replace(self.history(node), passed=0)
