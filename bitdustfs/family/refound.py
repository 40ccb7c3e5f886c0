"""A family that lost its majority for good gets a successor: the owner's last resort for writing.

A majority of the old family can no longer agree to anything, so the new one is signed without it:
members that answer stay, reserves that stood in take the positions they have copies of, new
suppliers that the owner names take others, over the highest root that any of the old ones holds.
What only the lost ones held of newer roots is lost; and if they were merely cut off and another
machine writes there, there are two histories, of which the refounded one wins.
"""

import logging
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from bitdustfs.core.keys import VaultKey
from bitdustfs.core.placement import majority
from bitdustfs.core.policy import Refounding, refounding_word
from bitdustfs.core.quorum import Known
from bitdustfs.core.records import (
    Ballot,
    Family,
    Group,
    Member,
    claim_ballot,
    family_features,
    family_hash,
    root_features,
    seal_record,
)
from bitdustfs.errors import Unavailable, UsageError
from bitdustfs.net.ask import ask_all
from bitdustfs.net.register import RootRegister
from bitdustfs.net.supplier import Connect, Supplier
from bitdustfs.net.wire import KinIs

log = logging.getLogger(__name__)


#: a new supplier, with a contract, for a position of a family; None: there is no more
Engage = Callable[[Family, int], Awaitable[Member | None]]


async def nobody(family: Family, position: int) -> Member | None:
    """No new supplier is named."""
    return None


async def _stand(family: Family, connect: Connect) -> dict[bytes, KinIs]:
    """Who of the family and its bench answers, and how they stand."""
    answers = await ask_all(family.everybody, lambda member: connect(member).kin())
    for member, error in answers.failed.items():
        log.info("%s does not answer: %s", member.node.hex()[:12], error)
    return {member.node: told for member, told in answers.given.items()}


async def refound(
    key: VaultKey,
    family: Family,
    connect: Connect,
    own: Known | None = None,
    engage: Engage = nobody,
    seats: Mapping[bytes, Supplier] = {},
) -> Family:
    """Signs and founds the successor of `family`; returns it. Mount as usual afterwards.

    `own`: the newest root that this machine knows to have been accepted, and its family. `engage`
    is asked for each position that nobody has any more. `seats`: those that this machine holds.
    Raises UsageError when a majority of the family answers: then nothing of this is needed;
    Unavailable when even with stand-ins and new suppliers there is no majority.
    """
    register = RootRegister(key.vault_id, connect, family, seats)
    view = await register.read()
    if view.majority:
        raise UsageError("a majority of the family answers: mount the vault as usual")
    best = view.best
    if own is not None and (best is None or own.root.order > best.root.order):
        best = own
    if best is None:
        raise Unavailable("nobody who answers knows a root of this vault")
    old = best.family
    answers = await _stand(old, connect)
    standing = {k.standing: node for node, k in answers.items() if k.standing is not None}
    members, alive = [], 0
    for position, member in enumerate(old.members):
        stand_in = None if member.node in answers else standing.get(position)
        reserve = None if stand_in is None else old.member(stand_in)
        if member.node not in answers and reserve is None:
            reserve = await engage(old, position)
        members.append(reserve or member)
        alive += member.node in answers or reserve is not None
    needed = majority(len(members))
    if alive < needed:
        raise Unavailable(
            f"{alive} of {len(members)} positions have a supplier or a stand-in that answers, and "
            f"{needed} are needed for a new family; name new suppliers (--with HOST:PORT), or try "
            "again when more are back"
        )
    lineage = max(filter(None, (view.proven, best.root.ballot))).lineage + 1
    words = refounding_word(Refounding(lineage, 0, best.root.seq))
    order = NextOrder(lineage, best.root.seq + 1, old.epoch + 1)
    return await begin_history(key, best, members, order, words, connect)


class NextOrder(NamedTuple):
    """The numbers with which a history begins: above all that was known before."""

    lineage: int
    seq: int
    epoch: int


async def begin_history(
    key: VaultKey,
    then: Known,
    members: Sequence[Member],
    order: NextOrder,
    words: Mapping[str, int],
    connect: Connect,
) -> Family:
    """Goes on from a root in another lineage, with these members; the family, as it was signed.

    `words`: what its policy says of that. Raises what RootRegister.found does.
    """
    taken = {member.node for member in members}
    group = Group(then.family.group.k, then.family.group.meta_k, tuple(members))
    body = msgspec.structs.replace(
        then.family, epoch=order.epoch, parent=family_hash(then.raw_family), groups=(group,),
        former=(), seat=b"", features=family_features(()),
        bench=tuple(m for m in then.family.bench if m.node not in taken),
        words={**then.family.words, **words},
    )  # fmt: skip
    raw = seal_record(key.signing, "family", body)
    ballot = Ballot(1, os.urandom(16), order.lineage)  # nobody's: a mount claims its own
    root = msgspec.structs.replace(
        then.root, ballot=ballot, seq=order.seq, family_epoch=order.epoch,
        family_hash=family_hash(raw), features=root_features(ballot),
    )  # fmt: skip
    register = RootRegister(key.vault_id, connect, body)
    claim = claim_ballot(key.signing, ballot)
    await register.found(seal_record(key.signing, "root", root), raw, claim)
    return body
