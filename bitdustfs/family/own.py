"""Which suppliers are on this very machine: what they keep goes where the machine goes.

A supplier is this machine's own if `bitdust supplier run` noted its node key under this
BITDUST_HOME (cache/machine.py), or if it is reached at an address of this machine's own interfaces.
Loopback is everybody's own and says nothing: a swarm is a network of strangers.

Not found out: a supplier of another BITDUST_HOME that is reached by loopback or through a router,
and one on another machine whose disk is this one's (a network share).
"""

from collections.abc import Sequence

from bitdustfs.cache.machine import own_suppliers
from bitdustfs.core.records import Member
from bitdustfs.errors import UsageError
from bitdustfs.net.addresses import is_here

WITHOUT_OWN = (
    "it is on this very machine, and is lost with it; --own gives it a position all the same"
)


def on_this_machine(member: Member) -> bool:
    """Whether a supplier is this machine's own."""
    return member.node in own_suppliers() or any(is_here(address) for address in member.addresses)


def check_own(k: int, n: int, others: Sequence[Member]) -> None:
    """Raises UsageError unless one of n positions may be on this machine, beside `others`."""
    if k == n:
        raise UsageError(
            f"with {k}/{n} every supplier is needed: none may be on this machine, or nothing "
            "survives its loss"
        )
    if any(map(on_this_machine, others)):
        raise UsageError("one position is on this machine already, and more than one is too many")
