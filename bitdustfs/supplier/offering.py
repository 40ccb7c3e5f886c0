"""What whoever runs a supplier decided, also as the supplier's folder remembers it.

    offering   JSON: the words that it was started with last; what starts it again reads them
    donated    JSON: what `bitdust supplier set --space` said, and what the words said then
    bandwidth  the same of `--bandwidth`
    relaying   the same of `--relay-rate` and `--relay-circuits`

So of the words and `set` the newer one counts, also after a restart.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from bitdustfs.cache.folder import write_durably
from bitdustfs.core.bandwidth import UNBOUNDED, Bandwidth, parse_bandwidth
from bitdustfs.errors import LocalError, UsageError
from bitdustfs.supplier.caps import USUAL, RelayCaps

OFFERING, DONATED, BANDWIDTH, RELAYING = "offering", "donated", "bandwidth", "relaying"
T = TypeVar("T")

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
    bandwidth: Bandwidth = UNBOUNDED  #: what all of its traffic may take of the line
    port_mapping: bool = True  #: whether the router is asked to map its port
    lan: bool = True  #: whether it calls in this machine's networks
    caps: RelayCaps = USUAL  #: how much it passes on as a relay


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
    bandwidth: str = "0"
    port_mapping: bool = True
    lan: bool = True
    caps: tuple[int, int] = USUAL


class Donated(NamedTuple):
    """The file `donated`."""

    said: int  #: bytes that the words of the command line said when it was set
    space: int  #: bytes that it was set to


class BandwidthSet(NamedTuple):
    """The file `bandwidth`; both as core/bandwidth.py writes them."""

    said: str  #: what the words of the command line said when it was set
    bandwidth: str  #: what it was set to


def remember(offering: Offering) -> None:
    """Keeps the words, for what starts it again. Raises OSError."""
    kept = _Words(
        offering.space, offering.listen, offering.announced, offering.bootstrap,
        offering.trash_seconds, offering.customers, offering.log, offering.said,
        offering.relay, offering.through, str(offering.bandwidth), offering.port_mapping,
        offering.lan, offering.caps,
    )  # fmt: skip
    write_durably(offering.folder / OFFERING, msgspec.json.encode(kept))


def last_offering(folder: Path) -> Offering | None:
    """With what the supplier in `folder` was started last; None where nothing tells."""
    try:
        kept = msgspec.json.decode((folder / OFFERING).read_bytes(), type=_Words)
        bandwidth = parse_bandwidth(kept.bandwidth)
    except (OSError, msgspec.MsgspecError, ValueError, UsageError):
        return None
    return Offering(
        folder, kept.space, kept.listen, kept.announced, kept.bootstrap, kept.trash_seconds,
        kept.customers, kept.log, kept.said, kept.relay, kept.through, bandwidth,
        kept.port_mapping, kept.lan, RelayCaps(*kept.caps),
    )  # fmt: skip


def command_words(offering: Offering) -> list[str]:
    """The words behind `bitdust` that start it so, where config.toml says the rest."""
    values = {
        "space": (str(offering.space),), "listen": (offering.listen,),
        "announce": offering.announced, "bootstrap": offering.bootstrap,
        "trash_days": (f"{offering.trash_seconds / 86400:g}",),
        "through": offering.through, "bandwidth": (str(offering.bandwidth),),
        "relay_rate": (str(offering.caps.rate),),
        "relay_circuits": (str(offering.caps.circuits),),
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
    """The same with what was set since its words were written. Raises LocalError."""
    space = _kept(offering.folder / DONATED, list[int], "--space")
    if space is not None and Donated(*space).said == offering.space:
        offering = replace(offering, space=Donated(*space).space)
    line = _kept(offering.folder / BANDWIDTH, list[str], "--bandwidth")
    if line is not None and BandwidthSet(*line).said == str(offering.bandwidth):
        bandwidth = parse_bandwidth(BandwidthSet(*line).bandwidth)
        offering = replace(offering, bandwidth=bandwidth)
    caps = _kept(offering.folder / RELAYING, list[tuple[int, int]], "--relay-rate")
    if caps is not None and caps[0] == offering.caps:
        offering = replace(offering, caps=RelayCaps(*caps[1]))
    return offering


def _kept(path: Path, kind: type[list[T]], word: str) -> list[T] | None:
    """The two values of a file, where there is one."""
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=kind)
        if len(kept) == 2:
            return kept
        error: Exception = ValueError("it does not hold two values")
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, ValueError) as failure:
        error = failure
    raise LocalError(f"{path} cannot be read ({error}); delete it, and say {word}")


def donate(offering: Offering, space: int) -> None:
    """Keeps that `space` bytes are donated, until the words say something else. Raises OSError."""
    write_durably(offering.folder / DONATED, msgspec.json.encode([offering.space, space]))


def bound(offering: Offering, bandwidth: Bandwidth) -> None:
    """Keeps what may be used of the line, until the words say something else. Raises OSError."""
    kept = [str(offering.bandwidth), str(bandwidth)]
    write_durably(offering.folder / BANDWIDTH, msgspec.json.encode(kept))


def cap_relay(offering: Offering, caps: RelayCaps) -> None:
    """Keeps how much it passes on, until the words say something else. Raises OSError."""
    write_durably(offering.folder / RELAYING, msgspec.json.encode([offering.caps, caps]))
