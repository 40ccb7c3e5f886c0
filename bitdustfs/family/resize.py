"""A vault gets another size: every supplier promises other space, and the family names it.

    grow     all promise more; then a root's family names it; only then more is written
    shrink   a root's family names less; then the suppliers are told that less is enough

So the family never names more than was promised, whenever it is interrupted. A supplier that is
away while the vault shrinks keeps its larger contract until it hears of it (`Staffing`, renewals).
"""

import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from bitdustfs.core.families import next_family
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.placement import promise_each
from bitdustfs.core.records import Family, Member, open_family_untrusted
from bitdustfs.errors import Malformed, ProtocolViolation, Unavailable, UsageError
from bitdustfs.family.create import SMALLEST
from bitdustfs.family.find import owner_credentials
from bitdustfs.family.hire import agree
from bitdustfs.net.ask import Answers, ask_all
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.net.supplier import Supplier
from bitdustfs.units import format_size
from bitdustfs.vault.vaults import WritableVault

log = logging.getLogger(__name__)

DEADLINE = 10.0  #: seconds that a supplier has to promise
PUBLISH_DEADLINE = 30.0  #: seconds until a root has to name the new size
QUOTED = 3  #: refusals that one sentence quotes

SessionOf = Callable[[Member], Supplier]


@asynccontextmanager
async def invited_sessions(
    key: VaultKey, tokens: Sequence[str], at: Callable[[Member], tuple[str, ...]]
) -> AsyncGenerator[SessionOf]:
    """Sessions of their own in which those who invited the owner hear so. `at`: where they are."""
    credentials = owner_credentials(key, tokens)
    peers: dict[bytes, PeerSupplier] = {}
    async with trio.open_nursery() as nursery:

        def session(member: Member) -> PeerSupplier:
            if member.node not in peers:
                peers[member.node] = PeerSupplier(member.node, at(member), credentials, nursery)
            return peers[member.node]

        try:
            yield session
        finally:
            for peer in peers.values():
                await peer.aclose()
            nursery.cancel_scope.cancel()


async def resize(vault: WritableVault, key: VaultKey, size: int, session: SessionOf) -> int:
    """Makes the vault one of `size` bytes; the bytes of content that it takes from then on.

    `session`: whom to ask for a member's contract. A reserve that does not promise as much leaves
    the bench. Raises UsageError for less than is in use, Unavailable when a supplier does not
    promise, and what publishing raises. The vault has its size of before then.
    """
    if size < SMALLEST:
        raise UsageError(f"a vault has {format_size(SMALLEST)} at least")
    family = vault.known.family
    each = promise_each(size, family.group.k)
    with vault.space.bounded(each):  # until the family says so: nothing is taken that would not fit
        await _check_used(vault, size, each)
        unwilling = await _grow(family, each, session)
        bench = [
            Member(member.node, member.addresses, each)
            for member in family.bench
            if member.node not in unwilling
        ]
        await _publish(vault, key, family, each, bench)
        await _tell_smaller(family, each, session)
        await vault.space.refresh()
    return vault.space.capacity


async def _publish(
    vault: WritableVault, key: VaultKey, family: Family, each: int, bench: Sequence[Member]
) -> None:
    """Has a root name the contracts over `each` bytes. Raises Unavailable, and what publishing
    raises.
    """

    def change(raw: bytes) -> bytes:
        now = open_family_untrusted(raw, key.vault_id)
        if [m.node for m in now.members] != [m.node for m in family.members]:
            raise Unavailable("the vault has other suppliers meanwhile: try again")
        return next_family(key, raw, space=each, bench=bench)

    with trio.move_on_after(PUBLISH_DEADLINE):
        await vault.publish(change=change)
        return
    if {member.space for member in vault.known.family.members} != {each}:
        raise Unavailable(
            "all suppliers promised, but what was written before is not published yet, and the new "
            "size after it: try again once bitdust sync has returned"
        )


async def _check_used(vault: WritableVault, size: int, each: int) -> None:
    """Raises UsageError where files, or what a supplier keeps of them, would not fit any more."""
    live = (await vault.volume.totals()).live + vault.content.dirty
    if live > size:
        raise UsageError(
            f"the vault's files have {format_size(live)}: it cannot be made smaller than that"
        )
    await vault.space.refresh()
    most = max(map(vault.space.used, vault.known.family.members))
    if most > each:
        raise UsageError(
            f"a supplier still keeps {format_size(most)} for the vault, more than the "
            f"{format_size(each)} that it would promise: ask for more, or wait until the room of "
            "deleted files is given back"
        )


async def _grow(family: Family, each: int, session: SessionOf) -> set[bytes]:
    """Has everybody promise `each` bytes; the reserves that do not.

    Raises Unavailable where one of the members does not: then all that promised have their contract
    of before again.
    """
    small = [member for member in family.everybody if member.space < each]
    answers = await _ask(family.vault, small, each, session)
    members = {member.node for member in family.members}
    failed = {m: error for m, error in answers.failed.items() if m.node in members}
    if failed:
        await _ask(family.vault, [*answers.given], None, session)
        said = "; ".join(f"{m.addresses[0]}: {e}" for m, e in [*failed.items()][:QUOTED])
        raise Unavailable(
            f"{len(failed)} of {len(members)} suppliers do not promise {format_size(each)} ({said}"
            "); the vault keeps its size. Try again when they are there, give their positions to "
            "others (bitdust supplier replace POSITION), or ask for less"
        )
    return {member.node for member in answers.failed}


async def _tell_smaller(family: Family, each: int, session: SessionOf) -> None:
    """Gives space back; who is away hears of it later."""
    large = [member for member in family.everybody if member.space > each]
    for member, error in (await _ask(family.vault, large, each, session)).failed.items():
        log.info("%s keeps its larger contract for now: %s", member.node.hex()[:12], error)


async def _ask(
    vault: bytes, members: Sequence[Member], each: int | None, session: SessionOf
) -> Answers[Member, None]:
    """Asks for contracts over `each` bytes; None: over what the members have in the family."""

    async def ask(member: Member) -> None:
        try:
            await agree(session(member), vault, member.space if each is None else each)
        except Malformed as error:
            raise ProtocolViolation(str(error)) from error

    return await ask_all(members, ask, each=DEADLINE)
