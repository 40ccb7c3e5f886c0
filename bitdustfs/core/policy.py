"""A vault's policy: what its owner wants of its family, typed, with its defaults in one place.

In the signed family the policy is a map of words to whole numbers (docs/format.md), so that
programs of several ages read each other's: a word that is not known here is kept and not heeded. In
code it is a `Policy`. Refoundings travel in the same map, as `lineage:L` = S (`refounded:G` = S in
version 1); in code they are a field.

A rewinding is a refounding over a root of the past: besides `lineage:L` = S there is `rewound:L` =
the lineage of that root. Deaths of the lineages before L are lifted by that: which root of them a
death names does not matter, since a thief of the key writes what he likes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from bitdustfs.core.schedule import OFF, Schedule, read_schedule
from bitdustfs.core.spread import Spread

PATIENCE = 72 * 3600  #: seconds that a supplier may be away before it is replaced (tests/churn.py)
MARGIN = 1  #: fragments beyond k below which nobody is waited for
_LINEAGE, _REFOUNDED, _REWOUND = "lineage:", "refounded:", "rewound:"
RETAIN_MAX = 366 * 86400  #: seconds of the longest retention
#: as programs write them: `int` fails for other digits, and for thousands of them
NUMBER = re.compile("[0-9]{1,20}", re.ASCII)


class Refounding(NamedTuple):
    """A family that was founded anew: under this lineage, over the root of this seq.

    Version 1 had no lineages: `generation` is the ballot generation that it leapt to.
    """

    lineage: int
    generation: int
    seq: int


@dataclass(frozen=True)
class Policy:
    """What the family is to be like."""

    patience: float = PATIENCE  #: seconds that a supplier may be away before it is replaced
    margin: int = MARGIN  #: fragments beyond k below which a block is repaired without patience
    bandwidth: float = 0.0  #: bytes a second that rebuilding may move; 0: no bound
    spread: int = Spread.NETWORK  #: a Spread; higher numbers are of newer programs
    bench: int | None = None  #: reserves to be lined up; None: as many as there are positions
    schedule: Schedule = OFF  #: of snapshots
    retain: int = 0  #: seconds for which suppliers keep what was deleted, and past roots
    refoundings: tuple[Refounding, ...] = ()  #: those that the family came through, in their order
    rewindings: tuple[int, ...] = ()  #: lineages of those of them that went on from a past root

    def rewound(self, lineage: int) -> int:
        """The lineage of the last rewinding that a root of this lineage came through; 0: none.

        Words for lineages to come are not heeded: nobody can have a rewinding taken for done.
        """
        return max((each for each in self.rewindings if each <= lineage), default=0)


def read_policy(words: Mapping[str, int]) -> Policy:
    """The policy that a family's words say."""
    return Policy(
        patience=float(words.get("patience", PATIENCE)),
        margin=words.get("margin", MARGIN),
        bandwidth=float(words.get("bandwidth", 0)),
        spread=words.get("spread", Spread.NETWORK),
        bench=words.get("bench"),
        schedule=read_schedule(words),
        retain=min(max(0, words.get("retain", 0)), RETAIN_MAX),
        refoundings=(
            *(Refounding(0, generation, seq) for generation, seq in _numbered(words, _REFOUNDED)),
            *(Refounding(lineage, 0, seq) for lineage, seq in _numbered(words, _LINEAGE)),
        ),
        rewindings=tuple(lineage for lineage, _ in _numbered(words, _REWOUND)),
    )


def _numbered(words: Mapping[str, int], prefix: str) -> list[tuple[int, int]]:
    """Number and value of the words that are `prefix` and a number."""
    found = [(w.removeprefix(prefix), seq) for w, seq in words.items() if w.startswith(prefix)]
    return [(int(number), seq) for number, seq in found if NUMBER.fullmatch(number)]


def refounding_word(refounding: Refounding) -> dict[str, int]:
    """How a refounding is written into a family's words."""
    return {f"{_LINEAGE}{refounding.lineage}": refounding.seq}


def rewinding_words(refounding: Refounding, past: int) -> dict[str, int]:
    """The same for one that went on from a root of the past, of the lineage `past`."""
    return {**refounding_word(refounding), f"{_REWOUND}{refounding.lineage}": past}
