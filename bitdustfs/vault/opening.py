"""Opening a vault.

Which root to follow, whether this machine may write, what its own state is worth.

Ask the voters; hold the best root against what this machine saw (promise 8) and against what it
published, or has not published yet (promise 10); only then claim a ballot, propose the best root
again under it, and bring the local state to it. Whenever something speaks against writing, the
answer is a sentence, nothing is claimed, and what this machine recorded stays as it is.

Where too few voters answer, the root that this machine followed last may be the newest. If this
machine also wrote it, and knows of nobody who wrote after it, it goes on as a mount does whose
suppliers went away: it writes, under the ballot that it had, for itself alone. No supplier is shown
that ballot; a claim of its own comes first (`confirm` in publish.py). Any other machine shows that
root, read-only, until enough suppliers are back (`claim_later`).
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import trio

from bitdustfs.blocks.reader import ExtentReader
from bitdustfs.cache.rows import Batch, Checkpoint, Proposed, Published
from bitdustfs.cache.state import State
from bitdustfs.core.journal import decode_journal_untrusted
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.quorum import Known, check_known_untrusted, is_quorum
from bitdustfs.core.records import (
    Ballot,
    RootContent,
    open_claim_untrusted,
    open_root_untrusted,
    root_records,
)
from bitdustfs.core.roots import descends, open_root_content_untrusted, repropose
from bitdustfs.core.sealing import Kind
from bitdustfs.errors import LeaseHeld, LocalError, Superseded, Unavailable
from bitdustfs.failpoints import reach
from bitdustfs.net.register import Fenced, RootRegister, View
from bitdustfs.units import ago
from bitdustfs.vault.alone import another_wrote, why_not_alone
from bitdustfs.vault.claims import Claims

log = logging.getLogger(__name__)

LOOK_AGAIN = 15.0  #: seconds between looks whether enough suppliers are there by now


@dataclass(frozen=True)
class Opening:
    """The root to follow; the ballot to write under, or None and, unless asked for, why not.

    `claim`: the signed claim of the ballot. `found`: order of the newest root as the voters showed
    it, before anything was claimed. `waits`: why no quorum promised the ballot to this mount; ""
    where one did.
    """

    known: Known
    ballot: Ballot | None
    claim: bytes
    message: str
    found: tuple[Ballot, int]
    complete: bool  #: whether every voter answered
    keeps: bool  #: whether this machine's own state stays as it is: the root does not fit it
    waits: str = ""


async def claim(
    key: VaultKey,
    register: RootRegister,
    claims: Claims,
    state: State,
    *,
    read_only: bool,
    take_over: bool,
    copied: bool = False,
) -> Opening:
    """The best root, claimed for writing where nothing speaks against it.

    `copied`: this machine's state came from elsewhere. Raises LeaseHeld, Superseded or Unavailable.
    """
    view = await register.read()
    known = _newest(view, _kept(key, state))
    found, complete = known.root.order, view.answers == view.voters
    diverged = _diverged(key, known, state, claims.machine)
    if diverged or another_wrote(known, state, claims.machine):  # not where a newer one is hidden
        state.set_overtaken(True)
    against = _rollback(known, state) or diverged
    message = against or _too_few(view)
    if message and not (against or read_only):
        message = why_not_alone(key, view, known, state, claims.machine, copied)
        if not message:
            return _alone(key, view, known, state)
        message = f"{_too_few(view)} to write, as {message}; {_shown(view, known)}"
    if read_only or message:
        return Opening(known, None, b"", message, found, complete, bool(against))
    claims.look(view)
    try:
        prepared, ballot, signed = await claims.prepare(view.proven, take_over)
    except LeaseHeld:
        state.set_overtaken(True)
        raise
    newest = _best(prepared)
    if known.root.order > newest.root.order and is_quorum(known.family, prepared.shown):
        newest = known  # who showed it did not answer again
    message = objection(key, newest, state, claims.machine)
    if message:
        await register.release(signed)
        return Opening(newest, None, b"", message, newest.root.order, complete, True)
    raw = repropose(key, newest.root, ballot)
    await register.accept(raw, newest.raw_family, newest.family, signed)
    register.follow(newest.family)
    root = open_root_untrusted(raw, key.vault_id)
    known = replace(newest, root=root, raw=raw, confirmed=True)
    state.set_overtaken(False)
    return Opening(known, ballot, signed, "", newest.root.order, complete, False)


async def claim_later(
    key: VaultKey,
    register: RootRegister,
    claims: Claims,
    state: State,
    reader: ExtentReader,
    shown: Known,
) -> Opening:
    """Waits until enough suppliers answer, then claims the root that a mount shows meanwhile.

    This machine's state is brought to it. Raises Superseded when they know of another root.
    """
    while True:
        await trio.sleep(LOOK_AGAIN)
        try:
            view = await register.read()
            if not view.majority or objection(key, _best(view), state, claims.machine):
                continue
            if _best(view).root.uid == shown.root.uid:
                opening = await claim(
                    key, register, claims, state, read_only=False, take_over=False
                )
                if opening.ballot is None:
                    continue  # something turned up that speaks against it
                if opening.known.root.uid == shown.root.uid:
                    await settle(key, state, reader, opening)
                    return opening
                await register.release(opening.claim)
        except (LeaseHeld, Fenced, Unavailable, LocalError) as error:
            log.info("still read-only: %s", error)
            continue
        state.set_overtaken(True)
        raise Superseded(
            "enough suppliers answer again, and know a newer state of this vault than this mount "
            "shows: unmount it and mount it again"
        )


def _best(view: View) -> Known:
    if view.best is None:
        raise Unavailable(
            f"{view.answers} of {view.voters} suppliers answered and none knows a root of this "
            "vault"
        )
    return view.best


def _newest(view: View, kept: Known | None) -> Known:
    """The newest root that voters show; where they are too few, perhaps the one `kept` here.

    They may have been away when it was published. Raises Unavailable.
    """
    if view.majority or kept is None:
        return _best(view)
    return kept if view.best is None else max(view.best, kept, key=lambda known: known.root.order)


def _kept(key: VaultKey, state: State) -> Known | None:
    """The root that this machine followed last."""
    row = state.published()
    return None if row is None else check_known_untrusted(key.vault_id, row.root, row.family)


def _too_few(view: View) -> str:
    """That a view has no majority, the beginning of a sentence; "" with one."""
    if view.majority:
        return ""
    return f"only {view.answers} of {view.voters} suppliers answered and {view.needed} are needed"


def _alone(key: VaultKey, view: View, known: Known, state: State) -> Opening:
    """This machine goes on for itself, under the claim that it made last."""
    raw, complete = state.claim(), view.answers == view.voters
    ballot = open_claim_untrusted(raw, key.vault_id).ballot
    waits = f"{_too_few(view)} to publish"
    return Opening(known, ballot, raw, "", known.root.order, complete, False, waits)


def _shown(view: View, known: Known) -> str:
    """What is shown by a mount that began with too few suppliers, and may not write."""
    when = ago(max(0, time.time() - known.root.time))
    state = "the newest state that is known" if known is view.best else "what this machine has"
    return (
        f"mounted read-only with {state}, published {when}, until enough of them are "
        "back. If the others are gone for good, bitdust vault refound makes a family of those "
        "that are left, and of new suppliers"
    )


def _rollback(known: Known, state: State) -> str:
    """Why a root older than one this machine saw at a majority is not followed (promise 8)."""
    seen = state.seen()
    if seen is None or known.root.order >= seen:
        return ""
    return (
        f"the suppliers show root {known.root.seq}, but this machine saw root {seen[1]} accepted: "
        "some of them hide the newer one; mounted read-only with what this machine knows"
    )


def objection(key: VaultKey, known: Known, state: State, machine: bytes) -> str:
    """Why a root is not to be followed or shown; "" where nothing speaks against it."""
    return _rollback(known, state) or _diverged(key, known, state, machine)


def _diverged(key: VaultKey, known: Known, state: State, machine: bytes) -> str:
    """Why what this machine published, or did not publish yet, does not fit the root found."""
    published = state.published()
    if published is None or _is_mine(known, state):
        return ""
    own_work = state.last_generation() != published.generation
    mine = root_records.peek_untrusted(published.root).ballot.machine == machine
    if (own_work or mine) and _left_behind(known, published):
        return (
            "a new family was founded over a root older than one that this machine had published; "
            "mounted "
            "read-only to keep what only this machine may still have: copy what you need, then "
            "move "
            "this machine's state folder away and mount again"
        )
    own = root_records.peek_untrusted(published.root)
    content = open_root_content_untrusted(key, known.root)
    fits = descends(known.root, content, own.seq, own.uid)
    if own.ballot.machine == machine and fits is False:
        return (
            f"the newest root was not made out of root {own.seq}, which this machine published: "
            "there are two histories of this vault. Mounted read-only to keep what only this "
            "machine may still have: copy what you need, then move this machine's state folder "
            "away and mount again"
        )
    if state.last_generation() == published.generation:
        return ""
    return (
        "another machine published since, and this one holds work that it had not published; "
        "mounted read-only to keep it: copy what you need, then move "
        "this machine's state folder away and mount again"
    )


def _left_behind(known: Known, published: Published) -> bool:
    """Whether a refounding of the family went on from before this machine's published root."""
    own = root_records.peek_untrusted(published.root)
    at = (own.ballot.lineage, own.ballot.generation)
    return any(
        at < (lineage, generation) and own.seq > seq
        for lineage, generation, seq in known.family.policy.refoundings
    )


def _is_mine(known: Known, state: State) -> bool:
    rows = (state.published(), state.proposed())
    return any(row is not None and known.root.uid == _uid(row.root) for row in rows)


async def settle(key: VaultKey, state: State, reader: ExtentReader, opening: Opening) -> None:
    """Brings this machine's state to the root found, unless its own is to be kept.

    Blocks that a crash left open are closed before. Raises Unavailable, LocalError.
    """
    known = opening.known
    if opening.keeps:
        return
    if _is_mine(known, state):
        # else nothing is claimed, and a proposal stays ours
        if opening.ballot is not None and not opening.waits:
            _go_on(known, state)
        return
    content = open_root_content_untrusted(key, known.root)
    adopt(state, known, content, await load_journal(reader, content))
    reach("followed")


def adopt(
    state: State, known: Known, content: RootContent, changes: Mapping[bytes, bytes | None]
) -> None:
    """A root from elsewhere replaces what this machine had. Raises LocalError.

    `changes`: what its journal says.
    """
    base = Checkpoint(content.index, content.generation)
    batch = None
    generation = content.generation
    if changes:
        generation += 1
        batch = Batch(generation, tuple(sorted(changes.items())))
    size = sum(len(k) + len(v or b"") for k, v in changes.items())
    published = Published(
        known.raw, known.raw_family, generation, content.journal, size, base.generation,
        bool(content.features.incompatible),
    )  # fmt: skip
    state.adopt(published, base, batch, known.confirmed)


async def load_journal(reader: ExtentReader, content: RootContent) -> dict[bytes, bytes | None]:
    """The changes that a root's journal list adds to its index. Raises Unavailable."""
    changes: dict[bytes, bytes | None] = {}
    for ref in content.journal:
        plain = await reader.read_extent(ref.place, Kind.JOURNAL)
        changes.update(decode_journal_untrusted(plain))
    return changes


def _go_on(known: Known, state: State) -> None:
    """The root is one of ours, under a new ballot: what follows it here is still to be
    published.
    """
    published, proposed = state.published(), state.proposed()
    mine: Published | Proposed | None = published
    if published is None or known.root.uid != _uid(published.root):
        mine = proposed  # it was accepted, and the machine stopped before it heard so
    assert mine is not None
    state.set_published(
        Published(
            known.raw, known.raw_family, mine.generation, mine.journal, mine.journal_bytes,
            mine.based_on, mine.guarded,
        )
    )  # fmt: skip


def _uid(raw_root: bytes) -> bytes:
    return root_records.peek_untrusted(raw_root).uid
