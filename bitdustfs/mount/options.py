"""What a mount may be told."""

from dataclasses import dataclass
from pathlib import Path

from bitdustfs.blocks.evict import CACHE_LIMIT
from bitdustfs.core.bandwidth import UNBOUNDED, Bandwidth
from bitdustfs.fuse.shown import AS_KEPT, ShownOwner
from bitdustfs.rebuild.audit import DAILY


@dataclass(frozen=True)
class MountOptions:
    """One mount's options; README says what each is for."""

    mountpoint: Path  #: absolute, without links
    key_path: Path
    source: str = "bitdust"  #: what mount(8) and fstab call the vault
    bootstrap: tuple[str, ...] = ()  #: addresses to ask besides those remembered here
    read_only: bool = False
    at: str = ""  #: a snapshot's name, or a time: the vault as it was then, read-only
    take_over: bool = False
    allow_other: bool = False
    published: bool = False  #: fsync waits for suppliers
    metered: bool = True  #: bulk work waits on a connection that is metered
    foreground: bool = False
    cache: int = CACHE_LIMIT  #: bytes of disk for what suppliers hold already
    audits: int = DAILY  #: bytes that audits may fetch in a day
    bandwidth: Bandwidth = UNBOUNDED  #: what all of its traffic may take of the line
    lan: bool = True  #: suppliers are looked for in this machine's networks
    owner: ShownOwner = AS_KEPT  #: whose all files are shown to be
    log: str = "info"  #: the least level that is logged (plain.LOG_LEVELS)
    said: frozenset[str] = frozenset()  #: words of -o: config.toml does not change these
    kernel: frozenset[str] = frozenset()  #: mount options that the kernel carries out
