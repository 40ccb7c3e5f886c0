"""[supplier] of config.toml: what holds where the words of `bitdust supplier run` say nothing.

    [supplier]
    space = "100G"                 # live; what `bitdust supplier set` said later counts
    for = ["invited"]              # live
    trash_days = 3                 # live
    bandwidth = "up:1M/down:8M"    # live; core/bandwidth.py
    relay_rate = "8M"              # live; bytes a second that it passes on as a relay
    relay_circuits = 128           # live
    log = "info"                   # live: error, warning, info or debug
    listen = "0.0.0.0:4100"        # after a restart, as what follows
    announce = ["HOST:PORT"]
    bootstrap = ["HOST:PORT"]
    relay = ["circle"]             # or off, or keys of nodes besides
    through = ["HOST:PORT"]        # relays, for a supplier that cannot be dialled
    port_mapping = true            # the router is asked to let others in
    lan = true                     # friends in the same network are told where it is

At SIGHUP a supplier reads it again. A broken file changes nothing, and its log says why.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from bitdustfs.config import (
    Reader,
    bool_word,
    choice_word,
    number_word,
    read_section,
    size_word,
    text_word,
    texts_word,
)
from bitdustfs.core.bandwidth import UNBOUNDED
from bitdustfs.errors import UsageError
from bitdustfs.net.addresses import check_address
from bitdustfs.net.dht.datagram import RELAYS_MAX
from bitdustfs.net.line import bandwidth_word
from bitdustfs.plain import LOG_LEVELS
from bitdustfs.supplier.admission import read_admission
from bitdustfs.supplier.caps import USUAL, RelayCaps, check_caps, relay_words
from bitdustfs.supplier.housekeeping import TRASH_SECONDS
from bitdustfs.supplier.offering import Offering
from bitdustfs.supplier.presence import check_announced, check_listened

DAY = 86400.0
TRASH_DAYS_MAX = 3650
#: words that a running supplier heeds
LIVE = ("space", "for", "trash_days", "log", "bandwidth", "relay_rate", "relay_circuits")


def whom_word(value: object) -> tuple[str, ...]:
    """With whom contracts are made (admission.py). Raises UsageError."""
    words: tuple[str, ...] = texts_word(str)(value)
    read_admission(words, b"")
    return words


def through_words(relays: Collection[str]) -> tuple[str, ...]:
    """The relays of a supplier that cannot be dialled. Raises UsageError."""
    if len(relays) > RELAYS_MAX:
        raise UsageError(f"{RELAYS_MAX} relays are enough")
    for relay in relays:
        if "@" in check_address(relay):
            raise UsageError(f"{relay!r} is no relay; write HOST:PORT")
    return tuple(dict.fromkeys(relays))


def count_word(value: object) -> int:
    """A whole number. Raises UsageError."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise UsageError("write a whole number")


WORDS: dict[str, Reader] = {
    "space": size_word,
    "for": whom_word,
    "trash_days": number_word(0, TRASH_DAYS_MAX),
    "log": choice_word(*LOG_LEVELS),
    "listen": text_word(check_address),
    "announce": texts_word(lambda text: check_announced(check_address(text))),
    "bootstrap": texts_word(check_address),
    "relay": lambda value: relay_words(texts_word(str)(value)),
    "through": lambda value: through_words(texts_word(str)(value)),
    "bandwidth": bandwidth_word,
    "relay_rate": lambda value: check_caps(RelayCaps(rate=size_word(value))).rate,
    "relay_circuits": lambda value: check_caps(RelayCaps(circuits=count_word(value))).circuits,
    "port_mapping": bool_word,
    "lan": bool_word,
}
DEFAULTS: dict[str, Any] = {
    "for": ("invited",), "trash_days": TRASH_SECONDS / DAY, "log": "info", "announce": (),
    "bootstrap": (), "relay": ("circle",), "through": (), "bandwidth": UNBOUNDED,
    "port_mapping": True, "lan": True, "relay_rate": USUAL.rate,
    "relay_circuits": USUAL.circuits,
}  # fmt: skip


def configured_offering(folder: Path, said: Mapping[str, Any]) -> Offering:
    """What a supplier offers: what its command line `said`, else config.toml, else the defaults.

    Raises UsageError, with the line where the file is wrong, and LocalError.
    """
    words = DEFAULTS | read_section("supplier", WORDS) | dict(said)
    for word, example in (("space", "100G"), ("listen", "0.0.0.0:4100")):
        if word not in words:
            raise UsageError(f"say --{word} {example}, or {word} in [supplier] of config.toml")
    if not words["announce"]:
        check_listened(words["listen"])
    return Offering(
        folder, words["space"], words["listen"], words["announce"], words["bootstrap"],
        words["trash_days"] * DAY, words["for"], words["log"], tuple(said),
        words["relay"], words["through"], words["bandwidth"], words["port_mapping"], words["lan"],
        check_caps(RelayCaps(words["relay_rate"], words["relay_circuits"])),
    )  # fmt: skip


def said_of(offering: Offering) -> dict[str, Any]:
    """What the command line said of it."""
    values = {
        "space": offering.space, "listen": offering.listen, "announce": offering.announced,
        "bootstrap": offering.bootstrap, "trash_days": offering.trash_seconds / DAY,
        "for": offering.customers, "relay": offering.relay, "through": offering.through,
        "bandwidth": offering.bandwidth,
        "port_mapping": offering.port_mapping, "lan": offering.lan,
        "relay_rate": offering.caps.rate, "relay_circuits": offering.caps.circuits,
    }  # fmt: skip
    return {word: value for word, value in values.items() if word in offering.said}
