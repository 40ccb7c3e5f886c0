"""A vault's policy: what its owner wants of its family, typed, with its defaults in one place.

In the signed family the policy is a map of words to whole numbers (docs/format.md), so that
programs of several ages read each other's: a word that is not known here is kept and not heeded. In
code it is a `Policy`. Refoundings travel in the same map, as `refounded:G` = S; in code they are a
field.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from bitdustfs.core.spread import Spread

PATIENCE = 72 * 3600  #: seconds that a supplier may be away before it is replaced (tests/churn.py)
MARGIN = 1  #: fragments beyond k below which nobody is waited for
_REFOUNDED = "refounded:"


class Refounding(NamedTuple):
    """A family that was founded anew: under this ballot generation, over the root of this seq."""

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
    refoundings: tuple[Refounding, ...] = ()  #: those that the family came through, in their order


def read_policy(words: Mapping[str, int]) -> Policy:
    """The policy that a family's words say."""
    return Policy(
        patience=float(words.get("patience", PATIENCE)),
        margin=words.get("margin", MARGIN),
        bandwidth=float(words.get("bandwidth", 0)),
        spread=words.get("spread", Spread.NETWORK),
        bench=words.get("bench"),
        refoundings=tuple(
            Refounding(int(word.removeprefix(_REFOUNDED)), seq)
            for word, seq in words.items()
            if word.startswith(_REFOUNDED) and word.removeprefix(_REFOUNDED).isdigit()
        ),
    )


def refounding_word(refounding: Refounding) -> dict[str, int]:
    """How a refounding is written into a family's words."""
    return {f"{_REFOUNDED}{refounding.generation}": refounding.seq}
