"""What a mount says of itself and of what it did: one struct a statement, each defined here only.

`bitdust status --json` and `suppliers --json` print these, so programs rely on the fields' names. A
field may be added; one that is renamed, dropped or means something else needs another `version` of
its statement (net/control.py). Sizes are bytes, times Unix seconds, periods seconds; nodes, vaults
and blocks are hexadecimal.
"""

import msgspec

from bitdustfs.net.control import Statement


class SupplierLine(msgspec.Struct, frozen=True, kw_only=True):
    """One position of the family and its supplier, as this mount sees them."""

    position: int
    node: str
    address: str  #: where it was last reached, or that nobody knows
    state: str  #: online, silent, suspect, absent or gone (rebuild/watch.py)
    uptime: float | None  #: share of all pings that it answered; null before the first
    gone: str  #: why it is to be replaced whatever it answers: the rest of a sentence; or ""
    latency: float  #: seconds, smoothed
    away: float  #: seconds since the first of the pings that it missed in a row
    stored: int  #: bytes that it keeps of this vault, as far as it has told
    full: bool  #: it has much less room left than the others
    audits: int
    audits_failed: int
    lacks: int  #: fragments that were found wrong or lost there and not made again since
    damaged: int  #: answers with damaged data since the mount began
    last_error: str  #: of the last request that failed, or ""
    own: bool = False  #: it is on this very machine: no loss of it can be borne with it
    heard: float | None = None  #: seconds since it last answered; null: not since the mount began
    owed: int = 0  #: bytes of fragments that are still to be sent to it
    rate: float = 0.0  #: bytes a second that it is sent just now
    space: int = 0  #: bytes that it promised
    way: str = "direct"  #: how it was reached last: direct, mapped, relayed or punched


class ReserveLine(msgspec.Struct, frozen=True, kw_only=True):
    """One reserve on the bench."""

    node: str
    address: str
    state: str
    ready: bool  #: it knows the family as it is now
    stands_in_for: int | None  #: the position that it has a copy of; null: of none
    keeps_for: list[int] = []  #: positions that were away, of which it keeps new fragments for now


class VisitLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one stand-in read for one position while the owner was away."""

    node: str
    position: int
    bytes: int
    until: int  #: when it last read


class RebuildingLine(msgspec.Struct, frozen=True, array_like=True):
    """How far the present round of rebuilding is; in JSON the array [done, total]."""

    done: int = 0
    total: int = 0


class ThinnedLine(msgspec.Struct, frozen=True, kw_only=True):
    """A scheduled snapshot that is not kept any more."""

    name: str
    when: float  #: it went
    why: str  #: rows (newer ones are kept), share (all took too much) or writers (they need room)


class RemedyLine(msgspec.Struct, frozen=True, kw_only=True):
    """Something that would make a loss less likely."""

    what: str  #: replace, reserve, patience or supplier (rebuild/odds.py)
    chance: float  #: of a loss within a year, with it
    said: str  #: what that is, and how it is done


class RiskLine(msgspec.Struct, frozen=True, kw_only=True):
    """The chance that anything published is lost within a year (docs/durability.md)."""

    at: float  #: when it was reckoned
    chance: float  #: 0.000025 is 1 in 40,000; 0.00000001 means that or less
    low: float  #: of twenty cases one is better
    high: float  #: and one is worse
    days: float  #: for which the suppliers were seen, in the mean
    assumed: bool  #: too few days: most of it is assumed, not measured
    weakest: int | None  #: position of the supplier that is most likely to leave; null: all alike
    weak: str  #: that, a sentence; or ""
    remedies: list[RemedyLine]  #: what would help most first
    month_ago: float | None  #: the chance as it was reckoned then
    said: str  #: the chance and its range, one sentence


class RiskPoint(msgspec.Struct, frozen=True, array_like=True):
    """A chance that was reckoned in one night; in JSON the array [at, chance, low, high]."""

    at: float
    chance: float
    low: float
    high: float


class RiskSaid(Statement, frozen=True, kw_only=True, tag="risk"):
    """How likely anything is lost."""

    risk: RiskLine
    nights: list[RiskPoint]  #: the oldest first


class FollowsLine(msgspec.Struct, frozen=True, kw_only=True):
    """How a mount that is only looked at follows whoever writes the vault."""

    root: int  #: number of the root that is shown
    published: float  #: when it was
    heard: float | None  #: seconds since any supplier answered about new ones; null: none did yet
    why: str = ""  #: why a newer root that was heard of is not shown, a sentence; "" where none is


class PinLine(msgspec.Struct, frozen=True, kw_only=True):
    """A folder or file that this machine keeps, and how much of it is here."""

    inode: int
    path: str  #: how it was called then, from the mountpoint on; empty: the whole vault
    files: int  #: files and folders; 0: not looked at yet, or not there any more
    files_here: int
    bytes: int  #: of content
    bytes_here: int
    complete: bool  #: all of it is here, its names and attributes as well


class PinsSaid(Statement, frozen=True, kw_only=True, tag="pins"):
    """What is pinned on this machine."""

    pins: list[PinLine]
    room: int  #: bytes that the cache has for what is pinned
    why: str  #: why not all is here, a sentence; empty: it is, or is being fetched


class Status(Statement, frozen=True, kw_only=True, tag="status"):
    """How safe a mount's content is, and who keeps it."""

    vault: str
    state: str  #: published, local (something is not published yet) or read-only
    message: str  #: why it is read-only, if it was not asked for; else ""
    inodes: int
    live: int  #: bytes of content
    dirty: int  #: bytes of content that are only in memory
    may_lose: int  #: suppliers that may go now without loss; below 0 not all can be read now
    thinnest: str  #: the block that would be lost first; "" when all are alike
    rebuilding: RebuildingLine
    bench: list[ReserveLine]
    visits: list[VisitLine]
    local_blocks: int  #: blocks that are only on this machine as yet
    owed_blocks: int  #: blocks that some supplier has not acknowledged yet
    thin_blocks: int = 0  #: published blocks that no supplier more than it takes to read them holds
    suppliers: list[SupplierLine]
    warnings: list[str]  #: sentences
    unpublished: int = 0  #: files and folders whose last change is not published
    verdict: str = ""  #: is my data safe now? one line
    only_here: int = 0  #: bytes that are on this machine only
    to_send: int = 0  #: bytes to be sent until these are published, to suppliers that are there
    rate: float = 0.0  #: bytes a second that suppliers are sent just now
    seconds_left: float | None = None  #: until these are published, at this rate; null: unknown
    complete: int = 0  #: positions whose suppliers acknowledged everything
    judged: str = ""  #: the verdict in one word: safe, thin, pending, unsafe or unreadable
    read_only: bool = False  #: nothing can be written there, asked for or not
    program: str = ""  #: version of bitdustfs that runs
    safety: list[str] = []  #: sentences: what is published, what is only here, what may be lost
    thinned: list[ThinnedLine] = []  #: that went in the last week for the share or for writers
    bandwidth: str = "0"  #: what the mount may use of its line, as it is written in options
    paused: str = ""  #: why uploads, rebuilding and audits wait, a sentence; empty: they go on
    risk: RiskLine | None = None  #: null: it was not reckoned yet
    follows: FollowsLine | None = None  #: null: it shows no roots of other machines
    retain: int = 0  #: seconds that suppliers keep what was deleted, and past roots; 0: none
    retained: int = 0  #: bytes of content that this takes, as far as suppliers have told
    retained_until: float | None = None  #: when the last of that goes; null: there is nothing
    pins: list[PinLine] = []  #: what this machine keeps to be read without a network
    pins_why: str = ""  #: why not all of that is here; empty: it is, or is being fetched


class Suppliers(Statement, frozen=True, kw_only=True, tag="suppliers"):
    """Who keeps the vault; `suppliers --json` prints the list alone."""

    suppliers: list[SupplierLine]


class HoldingLine(msgspec.Struct, frozen=True, kw_only=True):
    """Blocks that the same suppliers have."""

    k: int  #: suppliers that reading one of them takes
    has: list[int]  #: positions whose suppliers acknowledged their fragments, and keep them
    blocks: int
    bytes: int  #: of these blocks, before they are cut into fragments
    local: int  #: how many of them are on this machine, too


class BlockMap(Statement, frozen=True, kw_only=True, tag="map"):
    """Which suppliers have which blocks, as far as this machine knows."""

    lines: list[HoldingLine]  #: those that bear the least first
    more: int  #: blocks of further lines, which bear more


class PolicySaid(Statement, frozen=True, kw_only=True, tag="policy"):
    """The policy of the vault's family (core/policy.py), and its code k/n."""

    k: int
    n: int
    patience: float
    margin: int
    bandwidth: float  #: bytes a second; 0: no bound
    spread: int
    retain: int = 0  #: seconds that suppliers keep what was deleted, and past roots


class Synced(Statement, frozen=True, kw_only=True, tag="synced"):
    """All that was written before is published, or the time is over. `said`: that, in words."""

    said: str
    published: bool = True  #: false: the time is over; what is left is published by itself


class GoneLine(msgspec.Struct, frozen=True, kw_only=True):
    """One supplier that counts as gone, and why: the rest of a sentence about it."""

    node: str
    why: str


class GoneSuppliers(Statement, frozen=True, kw_only=True, tag="gone"):
    """Who counts as gone here, of the family or of one before."""

    suppliers: list[GoneLine]


class Forgiven(Statement, frozen=True, kw_only=True, tag="forgiven"):
    """A supplier does not count as gone any more."""

    node: str


class Replaced(Statement, frozen=True, kw_only=True, tag="replaced"):
    """A position has another supplier. `bytes` were sent to it.

    `same`: the one that was named has the position already, and is where it was named.
    """

    bytes: int  #: that were sent to the new one
    same: bool = False  #: the one that was named has the position already


class Resized(Statement, frozen=True, kw_only=True, tag="resized"):
    """The vault has another size: it takes so many bytes of content, as `df` shows."""

    capacity: int


class RebuildOutcome(Statement, frozen=True, kw_only=True, tag="rebuilt"):
    """What one round of rebuilding did, and what it could not do."""

    placed: int  #: fragments
    replaced: int  #: suppliers
    waiting: int  #: blocks that wait until more of their suppliers are back
    lost: int = 0  #: blocks that nobody can make again, whoever comes back
    incomplete: int = 0  #: blocks that some supplier lacks its fragment of, for whatever reason
    failure: str  #: why no further supplier was replaced, or ""
    margin: int  #: as Status.may_lose
    safety: str = ""  #: what that means, a sentence


class VerifyOutcome(Statement, frozen=True, kw_only=True, tag="verified"):
    """What was looked at. Nothing of it is wrong when there are no `faults`."""

    items: int
    inodes: int
    blocks: int
    extents_checked: int
    chunks_checked: int
    margin: int | None  #: suppliers that the thinnest block may lose; null: none was looked at
    unsent: int  #: blocks that are only on this machine as yet
    faults: list[str]  #: sentences, not more than some dozens
    more_faults: int
    snapshots: int = 0  #: whose trees were read to their ends
    unseen: list[str] = []  #: what could not be looked at, and why: sentences
    owed: list[str] = []  #: what is still to be sent, and to whom: sentences
    proved: list[str] = []  #: what audits showed, where only a sample was fetched: sentences
    verdict: str = ""  #: what follows from all that, a sentence


class SnapshotLine(msgspec.Struct, frozen=True, kw_only=True):
    """One snapshot."""

    name: str
    made: float  #: when
    inodes: int  #: files and folders in it
    live: int  #: bytes of content in it
    scheduled: bool = False  #: nobody made it by hand: it may be thinned
    gives_back: int | None  #: bytes of blocks that it alone keeps, an estimate; null: not reckoned


class SnapshotList(Statement, frozen=True, kw_only=True, tag="snapshot-list"):
    """All snapshots."""

    snapshots: list[SnapshotLine]  #: the oldest first
    held: int | None  #: bytes that they keep together, an estimate; null: not reckoned
    thinned: list[ThinnedLine] = []  #: that went in the last week on this machine


class ScheduleSaid(Statement, frozen=True, kw_only=True, tag="schedule"):
    """When snapshots are made by themselves, and which of them are kept (core/schedule.py)."""

    on: bool  #: they are made
    hourly: int  #: hours that keep their last one
    daily: int
    weekly: int
    monthly: int
    share: int  #: percent of the quota that snapshots may take


class SnapshotMade(Statement, frozen=True, kw_only=True, tag="snapshot-made"):
    """It is kept, on this machine at least."""

    name: str
    left: str  #: why it is not published yet; "" where it is


class SnapshotDropped(Statement, frozen=True, kw_only=True, tag="snapshot-dropped"):
    """It is not kept any more."""

    left: str  #: why that is not published yet; "" where it is


class Ended(Statement, frozen=True, kw_only=True, tag="ended"):
    """The mount has ended. `message`: what could not be published and why, or ""."""

    message: str
    said: str = ""  #: where all is published: that, as the end of a sentence
    verdict: str = ""  #: is my data safe now? one line
