"""Making and opening roots: the small signed records that name tree and journal
(docs/format.md).
"""

from os import urandom

import msgspec

from bitdustfs.core.codec import encode
from bitdustfs.core.hashing import digest
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import (
    ANCESTORS_MAX,
    FORMAT,
    SNAPSHOTS,
    Ballot,
    Features,
    Root,
    RootContent,
    decode_root_content_untrusted,
    family_hash,
    open_family_untrusted,
    root_features,
    seal_record,
)
from bitdustfs.core.sealing import Kind, Sealer, Suite

NOBODY = Ballot(0, bytes(16))  #: in place of the ballot of a root, whoever proposes it


def seal_root_content(key: VaultKey, suite: Suite, uid: bytes, content: RootContent) -> bytes:
    """The sealed part of a root; `uid` takes the block id's place."""
    sealer = Sealer(key.capability().content_key, key.vault_id, uid, 0)
    return sealer.seal(suite, 0, Kind.ROOT, encode(content))


def open_root_content_untrusted(key: VaultKey, root: Root) -> RootContent:
    """Raises Malformed or Forged."""
    sealer = Sealer(key.capability().content_key, key.vault_id, root.uid, 0)
    plain = sealer.open_unreferenced_untrusted(root.content, 0, Kind.ROOT)
    return decode_root_content_untrusted(plain)


def empty_content(key: VaultKey) -> RootContent:
    """What the root of a vault without any item says."""
    return RootContent(None, (), key.name_key, 0, 0)


def keeping_snapshots(content: RootContent) -> RootContent:
    """The same, not to be opened by programs that do not know of snapshots."""
    features = Features(incompatible=SNAPSHOTS)
    return msgspec.structs.replace(content, stored=-1, features=features)


def sign_root(
    key: VaultKey,
    suite: Suite,
    ballot: Ballot,
    seq: int,
    parent: bytes,
    family: bytes,
    content: RootContent,
    now: int,
) -> bytes:
    """A signed root with a new uid. `now`: Unix seconds; `parent`: the uid of the root before."""
    uid = urandom(16)
    named = open_family_untrusted(family, key.vault_id)
    sealed = seal_root_content(key, suite, uid, content)
    body = Root(
        FORMAT, root_features(ballot), key.vault_id, ballot, seq, uid, parent, now,
        named.epoch, family_hash(family), 0, sealed,
    )  # fmt: skip
    return seal_record(key.signing, "root", body)


def first_root(key: VaultKey, suite: Suite, ballot: Ballot, family: bytes, now: int) -> bytes:
    """The signed root of an empty vault, seq 1."""
    return sign_root(key, suite, ballot, 1, bytes(16), family, empty_content(key), now)


def repropose(key: VaultKey, root: Root, ballot: Ballot) -> bytes:
    """The same root under a new writer's ballot."""
    body = msgspec.structs.replace(root, ballot=ballot, features=root_features(ballot))
    return seal_record(key.signing, "root", body)


def lasting(root: Root) -> bytes:
    """By which a root is the same one, under whatever ballot it is proposed again. Its uid alone
    does not say so: whoever signs chooses it.
    """
    return digest(encode(msgspec.structs.replace(root, ballot=NOBODY, features=Features())))


def ancestors_with(content: RootContent, uid: bytes) -> tuple[bytes, ...]:
    """What the next root remembers: the root of this content and uid, and those before it."""
    return (*content.ancestors, uid)[-ANCESTORS_MAX:]


def descends(root: Root, content: RootContent, seq: int, uid: bytes) -> bool | None:
    """Whether a root stands on the one of `seq` and `uid`; None: that is too long ago to tell."""
    if uid in (root.uid, *content.ancestors):
        return True
    return False if root.seq - seq <= len(content.ancestors) else None
