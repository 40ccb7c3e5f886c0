"""A vault ends, with all that anybody keeps of it: irreversible, and safe to be interrupted.

The owner's word goes to every supplier of the family and to its reserves. Who is away is remembered
in a file until it was told, so that the same command, run again, goes on where it was. This
machine's state of the vault and the key file go last, when nobody keeps anything.

Before anybody is told, the vault is claimed as by a mount: a machine that writes is refused to, or
stops it all. Half a vault is worse than all or none.
"""

import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import trio

from bitdustfs import config
from bitdustfs.cache.folder import write_durably
from bitdustfs.core.codec import Decoder, encode
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.quorum import Known
from bitdustfs.core.records import Ballot, Member, VaultEnd, claim_ballot, seal_record
from bitdustfs.core.sealing import Suite
from bitdustfs.errors import BitdustError, Malformed, PeerError, Refused, Unavailable, UsageError
from bitdustfs.family.find import Ways
from bitdustfs.family.own_root import own_state
from bitdustfs.net.ask import ask_all
from bitdustfs.net.register import Fenced, RootRegister

DEADLINE = 30.0  #: seconds for all suppliers together
REST_MAX = 1 << 20  #: bytes of the file
CLAIMS = 8  #: that are tried while others claim at the same time

_rests = Decoder(tuple[bool, tuple[Member, ...]], "list of suppliers", REST_MAX)


class Keeping(NamedTuple):
    """Who keeps something of a vault that is to be deleted.

    `begun`: it was begun before. `sure`: suppliers showed the newest family; else there may be
    others that this machine does not know. `known`: the newest root and family, if it is not begun.
    """

    members: tuple[Member, ...]
    begun: bool
    sure: bool
    known: Known | None


class Told(NamedTuple):
    """What one supplier said. `error`: why it did not say that it deleted all, or ""; where it did
    not answer it may have. `retains`: it was told, and deletes all once the retention is over.
    """

    member: Member
    error: str
    retains: bool = False


async def who_keeps(
    key: VaultKey, addresses: Sequence[str], machine: bytes, suite: Suite
) -> Keeping:
    """All who may keep something of the vault, as far as it can be known.

    Raises UsageError where nobody is known, Unavailable where nobody answers who would know, and
    StateLocked while the vault is mounted here.
    """
    rest = _rest(key.vault_id)
    sure, members = rest or (False, ())
    found = {member.node: member for member in members}
    known: Known | None = None
    if rest is None and (config.home() / "vaults" / key.vault_id.hex()).is_dir():
        with own_state(key, config.home(), machine, suite) as (known, _):
            if known is not None:
                found = {member.node: member for member in known.family.everybody}
    try:
        async with trio.open_nursery() as nursery:
            shown = await Ways(key, addresses, nursery).find_family()
            nursery.cancel_scope.cancel()
        if known is None or shown.root.order >= known.root.order:
            known, sure = shown, True
        found |= {member.node: member for member in shown.family.everybody}
    except* (UsageError, Unavailable) as group:
        if rest is None and known is None:
            raise group.exceptions[0] from None
    return Keeping(tuple(found.values()), rest is not None, sure, None if rest else known)


async def fence(key: VaultKey, known: Known, addresses: Sequence[str]) -> tuple[Member, ...]:
    """From here on no machine writes that has the vault mounted; where too few answer, none can.

    Who is of the newest family that the voters showed: one supplier alone may know an old one.
    Raises LeaseHeld where a voter knows of a mount, and Unavailable where others claim all the
    time.
    """
    async with trio.open_nursery() as nursery:
        register = RootRegister(key.vault_id, Ways(key, addresses, nursery).connect, known.family)
        await _claim(key, register, known.root.ballot)
        nursery.cancel_scope.cancel()
    return register.family.everybody


async def _claim(key: VaultKey, register: RootRegister, highest: Ballot) -> None:
    """Claims above all others, and gives the lease back at once."""
    machine = os.urandom(16)  # nobody's: it never mounts
    for _ in range(CLAIMS):
        ballot = Ballot(highest.generation + 1, machine, highest.lineage)
        claim = claim_ballot(key.signing, ballot)
        with suppress(Unavailable):  # no voter has a lease: those who are there promised
            try:
                await register.prepare(claim, take_over=False)
            except Fenced as fenced:
                highest = max(highest, fenced.rival.ballot)
                continue
        await register.release(claim)
        return
    raise Unavailable("other machines claim this vault at the same time; try again")


async def delete_at(
    key: VaultKey, members: Sequence[Member], sure: bool, addresses: Sequence[str]
) -> list[Told]:
    """Has the vault deleted at these suppliers; what each said. Who did not is remembered."""
    path = config.deleting_path(key.vault_id)
    write_durably(path, encode((sure, tuple(members))))
    async with trio.open_nursery() as nursery:
        ways = Ways(key, addresses, nursery)

        async def end(member: Member) -> None:
            body = VaultEnd(key.vault_id, member.node, int(time.time()))
            await ways.connect(member).end_vault(seal_record(key.signing, "vault-end", body))

        answers = await ask_all(members, end, deadline=DEADLINE)
        nursery.cancel_scope.cancel()
    ended = [_told(m, answers.failed.get(m), m in answers.given) for m in members]
    write_durably(path, encode((sure, tuple(told.member for told in ended if told.error))))
    return ended


def _told(member: Member, error: PeerError | None, given: bool) -> Told:
    retains = isinstance(error, Refused) and error.code == "retained"
    return Told(member, _why(error, given), retains)


def _why(error: PeerError | None, given: bool) -> str:
    if given:
        return ""
    if isinstance(error, Refused):
        older = error.code == "unauthorised"
        return "it is of a version that cannot delete a vault" if older else error.detail
    return str(error or f"no answer within {DEADLINE:.0f} s")


def forget_here(vault: bytes) -> None:
    """Deletes what this machine has of a vault that nobody keeps any more, but its key.

    Raises OSError where some of it stays.
    """
    folder = config.home() / "vaults" / vault.hex()
    if folder.exists():
        shutil.rmtree(folder)
    config.peers_path(vault).unlink(missing_ok=True)
    forget_rest(vault)


def forget_rest(vault: bytes) -> None:
    """A deletion that was begun is over: nobody has to be told any more."""
    config.deleting_path(vault).unlink(missing_ok=True)


def _rest(vault: bytes) -> tuple[bool, tuple[Member, ...]] | None:
    """Whom a deletion that was begun did not reach yet, behind whether these were all there are;
    None: none was begun.
    """
    path: Path = config.deleting_path(vault)
    with suppress(FileNotFoundError):
        try:
            return _rests.decode_untrusted(path.read_bytes())
        except Malformed as error:
            raise BitdustError(f"{path} is damaged ({error}); delete it to begin anew") from None
    return None
