"""A vault's policy: what its owner wants of its family, typed, with its defaults in one place.

In the signed family the policy is a map of words to whole numbers (docs/format.md), so that
programs of several ages read each other's: a word that is not known here is kept and not heeded. In
code it is a `Policy`. Refoundings travel in the same map, as `lineage:L` = S (`refounded:G` = S in
version 1); in code they are a field.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from bitdustfs.core.schedule import OFF, Schedule, read_schedule
from bitdustfs.core.spread import Spread

PATIENCE = 72 * 3600  #: seconds that a supplier may be away before it is replaced (tests/churn.py)
MARGIN = 1  #: fragments beyond k below which nobody is waited for
_LINEAGE, _REFOUNDED = "lineage:", "refounded:"
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
    refoundings: tuple[Refounding, ...] = ()  #: those that the family came through, in their order


def read_policy(words: Mapping[str, int]) -> Policy:
    """The policy that a family's words say."""
    return Policy(
        patience=float(words.get("patience", PATIENCE)),
        margin=words.get("margin", MARGIN),
        bandwidth=float(words.get("bandwidth", 0)),
        spread=words.get("spread", Spread.NETWORK),
        bench=words.get("bench"),
        schedule=read_schedule(words),
        refoundings=(
            *(Refounding(0, generation, seq) for generation, seq in _numbered(words, _REFOUNDED)),
            *(Refounding(lineage, 0, seq) for lineage, seq in _numbered(words, _LINEAGE)),
        ),
    )


def _numbered(words: Mapping[str, int], prefix: str) -> list[tuple[int, int]]:
    """Number and value of the words that are `prefix` and a number."""
    found = [(w.removeprefix(prefix), seq) for w, seq in words.items() if w.startswith(prefix)]
    return [(int(number), seq) for number, seq in found if NUMBER.fullmatch(number)]


def refounding_word(refounding: Refounding) -> dict[str, int]:
    """How a refounding is written into a family's words."""
    return {f"{_LINEAGE}{refounding.lineage}": refounding.seq}
