"""Making families: each is the signed successor of another one (docs/format.md)."""

from collections.abc import Sequence

import msgspec

from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import (
    Family,
    Group,
    Member,
    family_features,
    family_hash,
    open_family_untrusted,
    seal_record,
)


def next_family(
    key: VaultKey,
    raw: bytes,
    position: int | None = None,
    member: Member | None = None,
    policy: dict[str, int] | None = None,
    bench: Sequence[Member] | None = None,
    seat: bytes | None = None,
    space: int | None = None,
) -> bytes:
    """The successor of a signed family, signed.

    One position, some of the policy, the bench, the owner's seat, or the bytes that each member
    promised changed. Where the voters change, it names the former ones: majorities of both must
    agree until `settled_family` follows.
    """
    family = open_family_untrusted(raw, key.vault_id)
    group = family.group
    if position is not None and member is not None:
        members = list(group.members)
        members[position] = member
        group = Group(group.k, group.meta_k, tuple(members))
    if space is not None:
        members = [msgspec.structs.replace(member, space=space) for member in group.members]
        group = Group(group.k, group.meta_k, tuple(members))
    reserves = family.bench if bench is None else bench
    nodes = {each.node for each in group.members}
    body = msgspec.structs.replace(
        family,
        groups=(group,),
        words={**family.words, **(policy or {})},
        bench=tuple(reserve for reserve in reserves if reserve.node not in nodes),
        seat=family.seat if seat is None else seat,
    )
    same = {each.node for each in body.voters} == {each.node for each in family.voters}
    return _successor(key, raw, msgspec.structs.replace(body, former=() if same else family.voters))


def settled_family(key: VaultKey, raw: bytes) -> bytes:
    """The successor of a signed family that names former voters: the same without them."""
    family = open_family_untrusted(raw, key.vault_id)
    return _successor(key, raw, msgspec.structs.replace(family, former=()))


def _successor(key: VaultKey, raw: bytes, body: Family) -> bytes:
    features = family_features(body.former)
    epoch, parent = body.epoch + 1, family_hash(raw)
    body = msgspec.structs.replace(body, features=features, epoch=epoch, parent=parent)
    return seal_record(key.signing, "family", body)
