"""The vault's key and all that is derived from it (design: keyed BLAKE2b, one `person` a purpose).

    secret (32 bytes)
      |- "sign"      Ed25519 seed of the vault; the public half is the vault id
      |- "record"    Ed25519 seed for DHT records; the public half locates them
      |- "cache"     key of what this machine stores outside blocks (journal batches in LMDB)
      |- "names"     key of the directory-entry name hash
      `- "read" + e  read_secret[e]: content keys of key epoch e

A `ReadCapability` holds no seed: it can open and check everything of its epoch, and sign nothing.
"""

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from bitdustfs.core.hashing import tagged
from bitdustfs.errors import Forged

SECRET_SIZE = 32
NODE_ID_SIZE = 20


def derive(secret: bytes, purpose: bytes, salt: bytes = b"") -> bytes:
    """32 bytes for one purpose (at most 16 ASCII bytes) from a 32-byte secret.

    RFC 7693 keyed BLAKE2b.
    """
    return blake2b(key=secret, person=purpose, salt=salt, digest_size=32).digest()


def signed_bytes(kind: str, body: bytes) -> bytes:
    """What a signature of `kind` over `body` covers."""
    return b"bitdust/1/" + kind.encode() + b"\0" + tagged("sign", body)


def sign(key: SigningKey, kind: str, body: bytes) -> bytes:
    """The 64-byte Ed25519 signature of `body` as a record of `kind` (RFC 8032)."""
    return key.sign(signed_bytes(kind, body)).signature


def verify(public: bytes, kind: str, body: bytes, signature: bytes) -> None:
    """Raises Forged unless `signature` is `public`'s for exactly these bytes and this kind."""
    try:
        VerifyKey(public).verify(signed_bytes(kind, body), signature)
    except (BadSignatureError, ValueError, TypeError):
        raise Forged(f"the signature of a {kind} is wrong") from None


def node_id(public: bytes) -> bytes:
    """The 20-byte id of a node: BLAKE2b-160 of its Ed25519 public key."""
    return blake2b(public, digest_size=NODE_ID_SIZE, person=b"bitdust-node").digest()


@dataclass(frozen=True)
class ReadCapability:
    """Enough to find, open and check a vault's content of key epochs up to `epoch`; cannot
    write.
    """

    vault_id: bytes
    record_public: bytes
    epoch: int
    read_secret: bytes

    @cached_property
    def content_key(self) -> bytes:
        """The key from which this epoch's block keys are made."""
        return derive(self.read_secret, b"content")

    @cached_property
    def record_seal_key(self) -> bytes:
        """Opens the DHT vault record. DHT nodes know record_public but not the vault id."""
        return tagged("vault record seal", self.vault_id, self.record_public)

    @cached_property
    def read_proof_public(self) -> bytes:
        """What suppliers may be told so that holders of this capability can prove themselves."""
        return self.read_proof_key.verify_key.encode()

    @cached_property
    def read_proof_key(self) -> SigningKey:
        return SigningKey(derive(self.read_secret, b"read-proof"))


@dataclass(frozen=True)
class VaultKey:
    """The owner's 32 secret bytes. Whoever holds them owns the vault."""

    secret: bytes

    def __post_init__(self) -> None:
        if len(self.secret) != SECRET_SIZE:
            raise ValueError("a vault key is exactly 32 bytes")

    def __repr__(self) -> str:
        return f"VaultKey(vault={self.vault_id.hex()[:12]}…)"

    @cached_property
    def signing(self) -> SigningKey:
        return SigningKey(derive(self.secret, b"sign"))

    @cached_property
    def vault_id(self) -> bytes:
        return self.signing.verify_key.encode()

    @cached_property
    def record(self) -> SigningKey:
        return SigningKey(derive(self.secret, b"record"))

    @cached_property
    def cache_key(self) -> bytes:
        return derive(self.secret, b"cache")

    @cached_property
    def name_key(self) -> bytes:
        """The key of the directory-entry name hash; every root carries it sealed, for readers."""
        return derive(self.secret, b"names")

    def read_secret(self, epoch: int) -> bytes:
        """The secret that content keys of key epoch `epoch` come from."""
        return derive(self.secret, b"read", epoch.to_bytes(8, "big"))

    def capability(self, epoch: int = 0) -> ReadCapability:
        """The read-only capability of one key epoch."""
        return ReadCapability(
            self.vault_id, self.record.verify_key.encode(), epoch, self.read_secret(epoch)
        )
