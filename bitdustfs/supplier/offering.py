"""What whoever runs a supplier decided, also as the supplier's folder remembers it.

    offering   JSON: the words that it was started with last; what starts it again reads them
    donated    JSON: what `bitdust supplier set --space` said, and what the words said then

So of `--space` and `set` the newer one counts, also after a restart.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import msgspec

from bitdustfs.cache.folder import write_durably
from bitdustfs.errors import LocalError

OFFERING, DONATED = "offering", "donated"
WORDS_SAID = ("space", "listen", "announce", "bootstrap", "trash_days", "for")


@dataclass(frozen=True)
class Offering:
    """Addresses are HOST:PORT, and checked."""

    folder: Path  #: of shelf, index, key and control socket
    space: int  #: bytes to donate
    listen: str
    announced: tuple[str, ...]  #: where others reach it, by name or not; nothing: at `listen`
    bootstrap: tuple[str, ...]
    trash_seconds: float
    customers: tuple[str, ...]  #: with whom contracts are made (admission.py)
    log: str = "info"  #: the least level that is logged (plain.LOG_LEVELS)
    #: words that the command line said; the others are of config.toml, or what holds anyway
    said: tuple[str, ...] = WORDS_SAID
    relay: tuple[str, ...] = ("circle",)  #: for whom it is a relay (relay.py)
    through: tuple[str, ...] = ()  #: relays through which it is reached; none: it is dialled
    port_mapping: bool = True  #: whether the router is asked to map its port
    lan: bool = True  #: whether it calls in this machine's networks


class _Words(msgspec.Struct, frozen=True):
    """The file `offering`. Fields may be added."""

    space: int
    listen: str
    announced: tuple[str, ...] = ()
    bootstrap: tuple[str, ...] = ()
    trash_seconds: float = 0.0
    customers: tuple[str, ...] = ("invited",)
    log: str = "info"
    said: tuple[str, ...] = WORDS_SAID
    relay: tuple[str, ...] = ("circle",)
    through: tuple[str, ...] = ()
    port_mapping: bool = True
    lan: bool = True


class Donated(NamedTuple):
    """The file `donated`."""

    said: int  #: bytes that the words of the command line said when it was set
    space: int  #: bytes that it was set to


def remember(offering: Offering) -> None:
    """Keeps the words, for what starts it again. Raises OSError."""
    kept = _Words(
        offering.space, offering.listen, offering.announced, offering.bootstrap,
        offering.trash_seconds, offering.customers, offering.log, offering.said,
        offering.relay, offering.through, offering.port_mapping, offering.lan,
    )  # fmt: skip
    write_durably(offering.folder / OFFERING, msgspec.json.encode(kept))


def last_offering(folder: Path) -> Offering | None:
    """With what the supplier in `folder` was started last; None where nothing tells."""
    try:
        kept = msgspec.json.decode((folder / OFFERING).read_bytes(), type=_Words)
    except (OSError, msgspec.MsgspecError, ValueError):
        return None
    return Offering(
        folder, kept.space, kept.listen, kept.announced, kept.bootstrap, kept.trash_seconds,
        kept.customers, kept.log, kept.said, kept.relay, kept.through, kept.port_mapping,
        kept.lan,
    )  # fmt: skip


def command_words(offering: Offering) -> list[str]:
    """The words behind `bitdust` that start it so, where config.toml says the rest."""
    values = {
        "space": (str(offering.space),), "listen": (offering.listen,),
        "announce": offering.announced, "bootstrap": offering.bootstrap,
        "trash_days": (f"{offering.trash_seconds / 86400:g}",),
        "through": offering.through,
    }  # fmt: skip
    words = ["supplier", "run", "--dir", str(offering.folder)]
    for word, said in values.items():
        if word in offering.said:
            words += [each for value in said for each in (f"--{word.replace('_', '-')}", value)]
    for word, wanted in (("port_mapping", offering.port_mapping), ("lan", offering.lan)):
        if word in offering.said and not wanted:
            words.append(f"--no-{word.replace('_', '-')}")
    if "relay" in offering.said:
        words += ["--relay", *offering.relay]
    return [*words, "--for", *offering.customers] if "for" in offering.said else words


def with_donated(offering: Offering) -> Offering:
    """The same with what was set since its words were written."""
    try:
        kept = Donated(
            *msgspec.json.decode((offering.folder / DONATED).read_bytes(), type=list[int])
        )
    except FileNotFoundError:
        return offering
    except (OSError, msgspec.MsgspecError, ValueError, TypeError) as error:
        raise LocalError(
            f"{offering.folder / DONATED} cannot be read ({error}); delete it, and say --space"
        ) from None
    return replace(offering, space=kept.space) if kept.said == offering.space else offering


def donate(offering: Offering, space: int) -> None:
    """Keeps that `space` bytes are donated, until the words say something else. Raises OSError."""
    write_durably(offering.folder / DONATED, msgspec.json.encode([offering.space, space]))
