"""A vault ends, with all that anybody keeps of it: irreversible, and safe to be interrupted.

The owner's word goes to every supplier of the family and to its reserves. Who is away is remembered
in a file until it was told, so that the same command, run again, goes on where it was. This
machine's state of the vault and the key file go last, when nobody keeps anything.
"""

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
from bitdustfs.core.records import Member, VaultEnd, seal_record
from bitdustfs.core.sealing import Suite
from bitdustfs.errors import BitdustError, Malformed, PeerError, Refused, Unavailable, UsageError
from bitdustfs.family.find import Ways
from bitdustfs.family.own_root import own_state
from bitdustfs.net.ask import ask_all

DEADLINE = 30.0  #: seconds for all suppliers together
REST_MAX = 1 << 20  #: bytes of the file

_rests = Decoder(tuple[Member, ...], "list of suppliers", REST_MAX)


class Keeping(NamedTuple):
    """Who keeps something of a vault that is to be deleted. `begun`: it was begun before."""

    members: tuple[Member, ...]
    begun: bool


class Told(NamedTuple):
    """What one supplier said. `error`: why it still keeps what it has, or ""."""

    member: Member
    error: str


async def who_keeps(
    key: VaultKey, addresses: Sequence[str], machine: bytes, suite: Suite
) -> Keeping:
    """All who may keep something of the vault, as far as it can be known.

    Raises UsageError where nobody is known, Unavailable where nobody answers who would know, and
    StateLocked while the vault is mounted here.
    """
    rest = _rest(key.vault_id)
    if rest is not None:
        return Keeping(rest, True)
    found: dict[bytes, Member] = {}
    if (config.home() / "vaults" / key.vault_id.hex()).is_dir():
        with own_state(key, config.home(), machine, suite) as (own, _):
            if own is not None:
                found = {member.node: member for member in own.family.everybody}
    try:
        async with trio.open_nursery() as nursery:
            ways = Ways(key, addresses, nursery)
            known = await ways.find_family()
            found |= {member.node: member for member in known.family.everybody}
            nursery.cancel_scope.cancel()
    except* (UsageError, Unavailable) as group:
        if not found:
            raise group.exceptions[0] from None
    return Keeping(tuple(found.values()), False)


async def delete_at(
    key: VaultKey, members: Sequence[Member], addresses: Sequence[str]
) -> list[Told]:
    """Has the vault deleted at these suppliers; what each said. Who did not is remembered."""
    path = config.deleting_path(key.vault_id)
    write_durably(path, encode(tuple(members)))
    async with trio.open_nursery() as nursery:
        ways = Ways(key, addresses, nursery)

        async def end(member: Member) -> None:
            body = VaultEnd(key.vault_id, member.node, int(time.time()))
            await ways.connect(member).end_vault(seal_record(key.signing, "vault-end", body))

        answers = await ask_all(members, end, deadline=DEADLINE)
        nursery.cancel_scope.cancel()
    ended = [Told(m, _why(answers.failed.get(m), m in answers.given)) for m in members]
    write_durably(path, encode(tuple(told.member for told in ended if told.error)))
    return ended


def _why(error: PeerError | None, given: bool) -> str:
    if given:
        return ""
    if isinstance(error, Refused):
        older = error.code == "unauthorised"
        return "it is of a version that cannot delete a vault" if older else error.detail
    return str(error or f"no answer within {DEADLINE:.0f} s")


def forget_here(vault: bytes) -> None:
    """Deletes what this machine has of a vault that nobody keeps any more, but its key."""
    shutil.rmtree(config.home() / "vaults" / vault.hex(), ignore_errors=True)
    for path in (config.peers_path(vault), config.deleting_path(vault)):
        path.unlink(missing_ok=True)


def _rest(vault: bytes) -> tuple[Member, ...] | None:
    """Whom a deletion that was begun did not reach yet; None: none was begun."""
    path: Path = config.deleting_path(vault)
    with suppress(FileNotFoundError):
        try:
            return _rests.decode_untrusted(path.read_bytes())
        except Malformed as error:
            raise BitdustError(f"{path} is damaged ({error}); delete it to begin anew") from None
    return None
