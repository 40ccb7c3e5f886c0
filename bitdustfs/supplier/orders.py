"""What a running supplier can be asked by whoever runs it, and what it says, typed.

`bitdust supplier status --json` and `customers --json` print these: a field may be added, and none
is renamed. Sizes are bytes, times Unix seconds, periods seconds; vaults and nodes are hexadecimal.
"""

import msgspec

from bitdustfs.net.control import Command, Commands, Statement


class Leave(Command, frozen=True, kw_only=True, tag="leave"):
    """Hand over what is kept here. Answered by Completed once nobody depends on this supplier."""


class AskSelf(Command, frozen=True, kw_only=True, tag="status"):
    """Answered by SupplierSelf."""


class AskCustomers(Command, frozen=True, kw_only=True, tag="customers"):
    """Answered by Customers."""


class Pause(Command, frozen=True, kw_only=True, tag="pause"):
    """Make no new contracts; what is kept is served. Answered by SupplierSelf."""


class Resume(Command, frozen=True, kw_only=True, tag="resume"):
    """Make contracts again. Answered by SupplierSelf."""


class Donate(Command, frozen=True, kw_only=True, tag="set"):
    """From now on `space` bytes are donated, so much of the line is used (core/bandwidth.py), and
    so much is passed on as a relay (supplier/caps.py), after a restart as well; null: as before.
    Answered by SupplierSelf.
    """

    space: int | None = None
    bandwidth: str | None = None
    relay_rate: int | None = None
    relay_circuits: int | None = None


SupplierCommand = Leave | AskSelf | AskCustomers | Pause | Resume | Donate
SUPPLIER_COMMANDS: Commands[SupplierCommand] = Commands(SupplierCommand)


class RelaySelf(msgspec.Struct, frozen=True, kw_only=True):
    """What a supplier does as a relay."""

    rate: int  #: bytes a second that it passes on at most
    circuits_max: int
    circuits: int  #: that there are now
    nodes: int  #: on standby: they are reached through it
    passed: int  #: bytes that it passed on since the start


class SupplierSelf(Statement, frozen=True, kw_only=True, tag="supplier"):
    """How a supplier is."""

    node: str
    address: str  #: where others find it
    state: str  #: serving, paused (it makes no new contracts) or leaving
    uptime: float  #: seconds since it was started
    space: int  #: bytes that are donated
    promised: int  #: bytes of contracts that bind
    used: int  #: bytes that customers use
    trash: int  #: bytes of what owners deleted, which go where room is needed
    free: int  #: bytes that the disk has free
    customers: int  #: vaults that have a contract or something here
    fragments: int
    received: int  #: bytes of fragments that came since the start
    served: int  #: bytes of fragments that were read since the start
    asked: (
        float | None
    )  #: seconds since anybody asked it anything; null: nobody has since the start
    network: int  #: nodes of the network that it knows
    warnings: list[str]  #: sentences
    reachable: bool | None = None  #: from other networks: seen, cannot be, or null: not seen yet
    reached: str = ""  #: why that is said, the rest of a sentence
    way: str = ""  #: direct, mapped (at the router), relayed, or empty: none is known
    program: str = ""  #: version of bitdustfs that runs
    bandwidth: str = "0"  #: what may be used of its line, as it is written in options
    relay: RelaySelf | None = None  #: null: it is none
    retained: int = 0  #: bytes of `used` that customers deleted, and contracts have kept


class CustomerLine(msgspec.Struct, frozen=True, kw_only=True):
    """One vault for which something is kept, or promised."""

    vault: str
    promised: int  #: bytes; 0 where the contract does not bind any more
    used: int
    fragments: int
    until: int  #: when the contract ends
    invited: bool  #: it came by a token, or was named
    owner_here: bool  #: its owner has it mounted just now
    depends: bool  #: it would miss this supplier: nobody else has all that is here
    token: str = ""  #: nonce of the invitation by which it came; empty where it came by none
    retain: int = 0  #: seconds that what it deletes, and its past roots, are kept
    retained: int = 0  #: bytes of `used` that are kept for that


class FriendLine(msgspec.Struct, frozen=True, kw_only=True):
    """A friend's supplier and this one, as `bitdust friends` says it."""

    node: str  #: empty for an invitation that nobody came by yet
    name: str  #: that was given here; no other machine knows it
    state: str  #: online, away, or invited
    way: str  #: how it was reached just now: direct, mapped, relayed, punched, or "" where not
    address: str  #: where it was reached, or where it says that it is
    seen: float | None  #: seconds since it was reached last; null: never yet
    gives: int  #: bytes that it promised me
    keeps: int | None  #: bytes that it keeps of my vaults; null: my vaults there are not mounted
    given: int  #: bytes that I promised it
    kept: int | None  #: bytes that my supplier keeps for it; null: that does not run
    vaults: list[str]  #: mine that it is a supplier of
    since: int  #: when the deal, or the invitation, was made
    until: int  #: when the invitation ends; 0 once somebody came by it
    settled: bool  #: the friend's supplier is known to have the deal, too
    invitations: list[str]  #: nonces of those that I signed: of each deal, or of the invitation


class Customers(Statement, frozen=True, kw_only=True, tag="customers"):
    """Whom a supplier keeps something for."""

    customers: list[CustomerLine]
