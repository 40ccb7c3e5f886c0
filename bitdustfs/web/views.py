"""What the page is told and what it may ask for, typed: one struct an answer, or a body.

Figures are those of the statements that `--json` prints, unchanged. Sentences have the names that
this machine's owner gave. /api/openapi.json is made of these structs.
"""

from typing import Annotated

import msgspec

from bitdustfs.mount.commands import Share, SnapshotName
from bitdustfs.mount.statements import PolicySaid, Status
from bitdustfs.net.control import Statement
from bitdustfs.supplier.orders import CustomerLine, SupplierSelf
from bitdustfs.units import GROUP_MAX

LimitText = Annotated[str, msgspec.Meta(max_length=200)]


class Moment(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of a mount at one time, for plots."""

    at: float  #: Unix seconds
    rate: float  #: bytes a second that suppliers were sent
    only_here: int  #: bytes that were on this machine only
    online: list[int]  #: positions whose suppliers answered


class MountView(msgspec.Struct, frozen=True, kw_only=True):
    """One mount of this home."""

    id: str  #: by which it is named in paths
    mountpoint: str
    grade: str  #: ok, warning or wrong: is anything to be done? (system/judging.py)
    verdict: str  #: the first line of `bitdust status`; of a silent mount why there is none
    safety: list[str]  #: sentences: what is published, only here, may be lost, and how likely
    warnings: list[str]  #: sentences
    names: dict[str, str]  #: of suppliers, by their keys, where they have one
    status: Status | None  #: null: it did not answer
    policy: PolicySaid | None
    history: list[Moment]  #: of the last minutes in which somebody looked, the oldest first


class SupplierView(msgspec.Struct, frozen=True, kw_only=True):
    """One supplier that ran on this machine."""

    id: str  #: by which it is named in paths
    folder: str
    grade: str  #: as of a mount
    said: str  #: how it is, one sentence
    names: dict[str, str]  #: of vaults, by their keys, where they have one
    told: SupplierSelf | None  #: null: it does not run, or did not answer
    customers: list[CustomerLine]


class EventLine(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was seen to change between two looks."""

    at: float  #: Unix seconds
    said: str


class ErrandLine(msgspec.Struct, frozen=True, kw_only=True):
    """Work that was begun here and takes its time."""

    id: str
    mount: str  #: the id of the mount that does it
    verb: str  #: rebuild, verify, snapshot, replace or limit
    state: str  #: running, done or failed
    began: float  #: Unix seconds
    ended: float | None
    done: int  #: of `total`; 0 of 0: nobody knows as yet
    total: int
    what: str  #: what is counted
    unit: str  #: "B" where bytes are counted
    said: list[str]  #: sentences: what came of it


class Overview(Statement, frozen=True, kw_only=True, tag="overview"):
    """All that the page shows."""

    program: str  #: version of bitdustfs that serves the page
    at: float  #: when this was asked for, Unix seconds
    mounts: list[MountView]
    suppliers: list[SupplierView]
    events: list[EventLine]  #: the newest first
    errands: list[ErrandLine]  #: the newest first


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A body without a word: {}."""


class VerifyWords(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much is looked at."""

    local: bool = False  #: only what is on this machine
    sample: Share = 1.0  #: share of the fragments' chunks that is fetched


class SnapshotWords(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the snapshot is called; "": by the time."""

    name: SnapshotName = ""


class LimitWords(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What rebuilding may move, on all machines, as in bitdust vault set bandwidth=10M."""

    bandwidth: LimitText  #: bytes a second; "0": no bound


class DonateWords(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """As in bitdust supplier set; "": as before."""

    space: LimitText = ""  #: for example 100G
    bandwidth: LimitText = ""  #: of all its traffic, for example up:1M/down:8M; "0": no bound


class ReplaceWords(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which position gets another supplier, which is found in the network."""

    position: Annotated[int, msgspec.Meta(ge=0, lt=GROUP_MAX)]
    #: the key of the supplier that has the position now: whoever confirms says whom they mean
    node: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
