"""[mount] of config.toml: what holds for every mount whose options do not say otherwise.

    [mount]
    cache = "10G"                  # live
    audits = "80M"                 # live
    bandwidth = "up:1M/down:8M"    # live; core/bandwidth.py
    metered = "pause"              # live; or "ignore"
    log = "info"                   # live: error, warning, info or debug
    bootstrap = ["HOST:PORT"]      # at the next mount, as what follows
    allow_other = false
    durability = "local"           # or "published"
    lan = true                     # suppliers are looked for in this machine's networks

At SIGHUP a mount reads it again. A broken file changes nothing, and its log says why.
"""

import logging
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from bitdustfs.config import (
    Reader,
    bool_word,
    choice_word,
    read_section,
    size_word,
    texts_word,
)
from bitdustfs.errors import LocalError, UsageError
from bitdustfs.mount.options import MountOptions
from bitdustfs.net.addresses import check_address
from bitdustfs.net.line import bandwidth_word
from bitdustfs.plain import LOG_LEVELS, reopen_logs, set_log_level
from bitdustfs.rebuild.audit import DAILY_MIN
from bitdustfs.units import format_size

log = logging.getLogger(__name__)

LIVE = ("cache", "audits", "bandwidth", "metered", "log")  #: words that a running mount heeds


def audits_word(value: object) -> int:
    """Bytes a day. Raises UsageError where they are too few to find anything."""
    audits = size_word(value)
    if audits < DAILY_MIN:
        raise UsageError(f"{format_size(DAILY_MIN)} a day is the least")
    return audits


WORDS: dict[str, Reader] = {
    "cache": size_word,
    "audits": audits_word,
    "bandwidth": bandwidth_word,
    "metered": choice_word("pause", "ignore"),
    "log": choice_word(*LOG_LEVELS),
    "bootstrap": texts_word(check_address),
    "allow_other": bool_word,
    "durability": choice_word("local", "published"),
    "lan": bool_word,
}


FIELDS = {"durability": "published"}  #: of MountOptions, where a word is called otherwise


def with_configured(options: MountOptions) -> MountOptions:
    """The options with what config.toml says, except for words that `options.said` names.

    What the file said before and says no more is as it is where nothing is said. Raises UsageError
    with the line, and LocalError.
    """
    defaults = {field.name: field.default for field in fields(MountOptions)}
    found = read_section("mount", WORDS)
    if "durability" in found:
        found["durability"] = found["durability"] == "published"
    if "metered" in found:
        found["metered"] = found["metered"] == "pause"
    words: dict[str, Any] = {}
    for word in WORDS:
        if word not in options.said:
            field = FIELDS.get(word, word)
            words[field] = found.get(word, defaults[field])
    return replace(options, **words)


class MountReload:
    """Reads config.toml again for a mount that began with these `options`."""

    def __init__(self, options: MountOptions) -> None:
        self.options = options

    def reread(self, apply: Callable[[MountOptions], None]) -> None:
        """What can be changed live is; what cannot is said. `apply` sets limits."""
        reopen_logs()
        try:
            now = with_configured(self.options)
        except (UsageError, LocalError) as error:
            log.error("config.toml is not heeded, all stays as it was: %s", error)
            return
        before = self.options
        changed = [word for word in WORDS if _of(now, word) != _of(before, word)]
        live = [word for word in changed if word in LIVE]
        for word in changed:
            if word not in LIVE:
                log.warning("%s has changed in config.toml: that needs a new mount", word)
        self.options = replace(
            before, cache=now.cache, audits=now.audits, bandwidth=now.bandwidth,
            metered=now.metered, log=now.log,
        )  # fmt: skip
        set_log_level(now.log)
        apply(self.options)
        log.info("config.toml was read again; new here: %s", ", ".join(live) or "nothing")


def _of(options: MountOptions, word: str) -> object:
    return getattr(options, FIELDS.get(word, word))
