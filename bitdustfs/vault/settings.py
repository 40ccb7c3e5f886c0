"""What a mount may choose."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bitdustfs.blocks.circle import IsOwn, nobody_is
from bitdustfs.blocks.evict import CACHE_LIMIT
from bitdustfs.blocks.throttle import Throttle
from bitdustfs.net.metered import Metered
from bitdustfs.rebuild.audit import DAILY
from bitdustfs.units import MIB

PUBLISH_EVERY = 30.0  #: seconds after which anything committed is published
PUBLISH_BYTES = 4 * MIB  #: bytes waiting that make publishing due at once
PUBLISH_TICK = 2.0  #: seconds between looks whether it is due


@dataclass(frozen=True)
class Settings:
    """The choices, with what holds where nothing is chosen."""

    read_only: bool = False
    take_over: bool = False
    publish_every: float = PUBLISH_EVERY
    publish_tick: float = PUBLISH_TICK
    reclaims: bool = True  #: whether dead blocks are deleted
    cache_limit: int = CACHE_LIMIT  #: bytes kept on this disk, what is not yet safe excepted
    audits: int = DAILY  #: bytes that audits may fetch in a day
    witness: bool = False  #: whether the first root waits for what the DHT bears witness of
    wall: Callable[[], int] = time.time_ns  #: nanoseconds since 1970, by which snapshots are made
    is_own: IsOwn = nobody_is  #: which suppliers are on this very machine
    metered: Metered = field(default_factory=Metered)  #: whether bulk work waits
    throttle: Throttle | None = None  #: by which sessions make way, if they do
