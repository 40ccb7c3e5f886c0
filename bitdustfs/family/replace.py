"""A family changes: a position goes to another supplier, or the policy is another one.

The new supplier first gets everything that the position holds, and from then on also what is new.
Then a root names the next family and its former voters, and is accepted by majorities of both. Only
then the old supplier is out: a second root names the same family without former voters.
"""

import logging
import random
from collections.abc import Callable, Sequence

import trio

from bitdustfs.cache.rows import CLOSED, DEAD
from bitdustfs.core.families import next_family
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import Member, open_family_untrusted
from bitdustfs.core.spans import slice_length
from bitdustfs.errors import Malformed, PeerError, Unavailable
from bitdustfs.net.supplier import Supplier
from bitdustfs.rebuild.census import list_in_time, obtainable
from bitdustfs.rebuild.fill import FLOOR, Fill
from bitdustfs.rebuild.rebuilder import OnProgress
from bitdustfs.units import CHUNK_SIZE
from bitdustfs.vault.vaults import WritableVault

log = logging.getLogger(__name__)

CLAIMS_TRIED = 59  #: with one in twenty missing, 0.95 that one of them shows it
CLAIM_DEADLINE = 5.0  #: seconds that a chunk may take
ROUNDS = 3  #: times that what is still missing is tried before the change is given up


async def set_policy(vault: WritableVault, key: VaultKey, policy: dict[str, int]) -> None:
    """Publishes a family with another policy. Raises what publishing raises."""
    await vault.publish(change=lambda raw: next_family(key, raw, policy=policy))


async def set_bench(vault: WritableVault, key: VaultKey, bench: Sequence[Member]) -> None:
    """Publishes a family with other reserves. Raises what publishing raises."""
    await vault.publish(change=lambda raw: next_family(key, raw, bench=bench))


async def replace_member(
    vault: WritableVault,
    key: VaultKey,
    position: int,
    member: Member,
    progress: OnProgress,
    wanted: Callable[[], bool] = lambda: True,
) -> Fill:
    """Gives `position` to `member`, who made a contract already. Raises Unavailable, PeerError.

    When it fails, the family is as it was, and what the new one got is used by the next attempt;
    so, too, when it is not `wanted` any more: the supplier that was away is back.
    """
    vault.pen.require()
    fired = vault.known.family.members[position].node
    supplier = vault.circle.connect(member)
    await supplier.prepare(vault.pen.claim, True)
    fill = Fill(
        vault.fetcher, supplier, position, lambda: vault.pen.claim, vault.courier.encode_one,
        wanted, lambda: supplier.bearable(FLOOR),
    )  # fmt: skip
    vault.ledger.welcome(position, supplier)  # what is new goes there at once
    try:
        missing = await _fill_all(vault, fill, supplier, position, progress)
        if not wanted():
            raise Unavailable(f"the supplier of position {position} is back: nothing is replaced")
        if missing:
            raise Unavailable(
                f"{len(missing)} fragments of position {position} could not be made or placed; the "
                "family stays as it was, try again later"
            )

        def change(raw: bytes) -> bytes:
            there = open_family_untrusted(raw, key.vault_id).members[position].node
            if there != fired:  # what was pending from before came true
                raise Unavailable(f"position {position} was given to another supplier meanwhile")
            return next_family(key, raw, position, member)

        await vault.publish(change=change)
    finally:
        proposed = vault.state.proposed()
        if proposed is None or not proposed.family:  # else the change may still come true
            await vault.ledger.settle(position, joined=False)
    log.info("position %d is with %s now", position, member.node.hex()[:12])
    return fill


async def _fill_all(
    vault: WritableVault, fill: Fill, supplier: Supplier, position: int, progress: OnProgress
) -> set[bytes]:
    """Fills what is missing, and what came meanwhile; the blocks that are missing still.

    What nobody could make is not among them: it is repaired when those who have it are back.
    """
    missing: set[bytes] = set()
    distrusted = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_report, fill, progress)
        for turn in range(ROUNDS + 1):
            listed = set(await list_in_time(supplier, position))
            if turn == 0:
                distrusted = not await _has_what_it_lists(vault, supplier, position, listed)
            missing = await _missing(vault, fill.placed if distrusted else listed)
            if not missing or turn == ROUNDS:
                break
            await fill.run(_in_order(vault, missing))
        nursery.cancel_scope.cancel()
    if missing:
        missing = await obtainable(vault.fetcher, vault.auditor.census, missing)
    return missing


async def _missing(vault: WritableVault, there: set[bytes]) -> set[bytes]:
    """Blocks that a root needs, as far as anybody here knows, and that the new supplier does not
    have.
    """
    census = await vault.auditor.recent(0)
    needs, rows = vault.reclaimer.needs(), vault.state.blocks.snapshot()

    def lacking() -> set[bytes]:
        known = {b for b, row in rows.items() if row.state == CLOSED and row.acked}
        dead = {b for b, row in rows.items() if row.state == DEAD}
        listed = {block for block in census.blocks() - known if needs(block)}
        return (known | listed) - there - dead

    return await trio.to_thread.run_sync(lacking)


async def _has_what_it_lists(
    vault: WritableVault, supplier: Supplier, position: int, listed: set[bytes]
) -> bool:
    """Whether random chunks of what a newcomer says that it has already are there, and right."""
    chosen = random.sample(sorted(listed), min(len(listed), CLAIMS_TRIED))
    for block in chosen:
        try:
            header = await vault.fetcher.header(block)
        except Unavailable:
            continue  # nobody's block: it is not counted either
        length = slice_length(header.length, header.k)
        start = random.randrange(0, length, CHUNK_SIZE)
        stop = min(length, start + CHUNK_SIZE)
        with trio.move_on_after(CLAIM_DEADLINE):
            try:
                await vault.fetcher.prove_at(supplier, header, position, start, stop)
                continue
            except (PeerError, Malformed) as error:
                log.warning("%s lists what it does not have: %s", supplier.node.hex()[:12], error)
        return False
    return True


def _in_order(vault: WritableVault, blocks: set[bytes]) -> list[bytes]:
    """The thinnest first, as the last look of the rebuilder found them; then oldest first."""
    first = [block for block in vault.rebuilder.thin_first if block in blocks]
    return first + sorted(blocks - set(first))


async def _report(fill: Fill, progress: OnProgress) -> None:
    while True:
        await progress(fill.done, fill.total)
        await trio.sleep(0.3)
