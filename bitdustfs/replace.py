"""A family changes: a position goes to another supplier, or the policy is another one.

The new supplier first gets everything that the position holds, and from then on also what is new. Then
a root names the next family, and is accepted by majorities of both (one position a change, so that any
two majorities of neighbouring families meet). Only then the old supplier is out.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import trio

from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import (
    Group,
    Member,
    family_hash,
    open_family_untrusted,
    seal_record,
)
from bitdustfs.errors import Unavailable
from bitdustfs.net.service import claim_ballot
from bitdustfs.net.supplier import Supplier
from bitdustfs.rebuild.census import list_all
from bitdustfs.rebuild.fill import Fill
from bitdustfs.vault import OpenVault

log = logging.getLogger(__name__)

ROUNDS = 3  #: times that what is still missing is tried before the change is given up
Progress = Callable[[int, int], Awaitable[None]]


def next_family(
    key: VaultKey,
    raw: bytes,
    position: int | None = None,
    member: Member | None = None,
    policy: dict[str, int] | None = None,
    bench: Sequence[Member] | None = None,
) -> bytes:
    """The successor of a signed family, signed: one position, some of the policy, or the bench changed."""
    family = open_family_untrusted(raw, key.vault_id)
    groups = list(family.groups)
    if position is not None and member is not None:
        members = list(groups[0].members)
        members[position] = member
        groups[0] = Group(groups[0].k, groups[0].meta_k, tuple(members))
    reserves = family.bench if bench is None else bench
    body = msgspec.structs.replace(
        family, epoch=family.epoch + 1, parent=family_hash(raw), groups=tuple(groups),
        policy={**family.policy, **(policy or {})},
        bench=tuple(r for r in reserves if member is None or r.node != member.node),
    )  # fmt: skip
    return seal_record(key.signing, "family", body)


async def set_policy(vault: OpenVault, key: VaultKey, policy: dict[str, int]) -> None:
    """Publishes a family with another policy. Raises what publishing raises."""
    await vault.publish(change=lambda raw: next_family(key, raw, policy=policy))


async def set_bench(vault: OpenVault, key: VaultKey, bench: Sequence[Member]) -> None:
    """Publishes a family with other reserves. Raises what publishing raises."""
    await vault.publish(change=lambda raw: next_family(key, raw, bench=bench))


async def replace_member(
    vault: OpenVault,
    key: VaultKey,
    position: int,
    member: Member,
    progress: Progress,
    wanted: Callable[[], bool] = lambda: True,
) -> Fill:
    """Gives `position` to `member`, who made a contract already. Raises Unavailable, PeerError.

    When it fails, the family is as it was, and what the new one got is used by the next attempt; so, too,
    when it is not `wanted` any more: the supplier that was away is back.
    """
    if vault.uploader is None or vault.ballot is None:
        raise Unavailable("this mount is read-only")
    uploader, fetcher = vault.uploader, vault.fetcher
    fired = vault.known.family.voters[position].node
    supplier = fetcher.connect(member)
    await supplier.prepare(claim_ballot(key.signing, vault.ballot), True)
    fill = Fill(fetcher, supplier, position, vault.ballot, uploader.encode_one)
    fill.pace.rate = float(fetcher.family.policy.get("bandwidth", 0))
    fill.wanted = wanted
    uploader.moved[0, position] = supplier  # what is new goes there at once
    try:
        missing = await _fill_all(vault, fill, supplier, position, progress)
        if not wanted():
            raise Unavailable(f"the supplier of position {position} is back: nothing is replaced")
        if missing:
            raise Unavailable(
                f"{missing} fragments of position {position} could not be made or placed; the "
                "family stays as it was, try again later"
            )

        def change(raw: bytes) -> bytes:
            there = open_family_untrusted(raw, key.vault_id).voters[position].node
            if there != fired:  # what was pending from before came true
                raise Unavailable(f"position {position} was given to another supplier meanwhile")
            return next_family(key, raw, position, member)

        await vault.publish(change=change)
    finally:
        proposed = vault.state.proposed()
        if proposed is None or not proposed.family:  # else the change may still come true
            uploader.settle_move(0, position, welcome=False)
    log.info("position %d is with %s now", position, member.node.hex()[:12])
    return fill


async def _fill_all(
    vault: OpenVault, fill: Fill, supplier: Supplier, position: int, progress: Progress
) -> int:
    """Fills what is missing, and what came meanwhile; how many fragments are missing still."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_report, fill, progress)
        for _ in range(ROUNDS):
            missing = await _missing(vault, position, set(await list_all(supplier, position)))
            if not missing:
                break
            await fill.run(_in_order(vault, missing))
        else:
            missing = await _missing(vault, position, set(await list_all(supplier, position)))
        nursery.cancel_scope.cancel()
    return len(missing)


async def _missing(vault: OpenVault, position: int, there: set[bytes]) -> set[bytes]:
    """Blocks that somebody keeps and the new supplier does not."""
    census = await vault.auditor.recent(0)
    assert vault.uploader is not None
    known = {block for block, acked in vault.uploader.acknowledged().items() if acked}
    dying = vault.uploader.dead()
    return {b for b in known | set(census.blocks()) if b not in there} - dying


def _in_order(vault: OpenVault, blocks: set[bytes]) -> list[bytes]:
    """The thinnest first, as the last look of the rebuilder found them; then oldest first."""
    thin = [] if vault.rebuilder is None else vault.rebuilder.thin_first
    first = [block for block in thin if block in blocks]
    return first + sorted(blocks - set(first))


async def _report(fill: Fill, progress: Progress) -> None:
    while True:
        await progress(fill.done, fill.total)
        await trio.sleep(0.3)
