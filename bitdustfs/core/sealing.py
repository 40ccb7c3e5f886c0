"""One extent sealed: compressed where it pays, encrypted, bound to its place.

    sealed = suite u8 | flags u8 | epoch u16 | nonce | AEAD ciphertext and tag
    nonce  = 32 random bytes (AEGIS-256) or 24 (XChaCha20-Poly1305), never a counter
    key    = H("extent key", content key of the epoch, block id, suite)
    AD     = format u8, suite u8, flags u8, epoch u16, vault id, block id, ordinal u32, kind u8

Sources: draft-irtf-cfrg-aegis-aead (AEGIS-256), draft-irtf-cfrg-xchacha (XChaCha20-Poly1305).
"""

import struct
import threading
from enum import IntEnum
from os import urandom

import zstandard
from nacl import bindings

from bitdustfs.core.erasure import Buffer
from bitdustfs.core.hashing import digest, tagged
from bitdustfs.errors import Forged, Malformed
from bitdustfs.units import KIB, META_EXTENT_MAX

FORMAT = 1
PREFIX = struct.Struct(">BBH")
ASSOCIATED = struct.Struct(">BBBH32s16sIB")
COMPRESSED = 0x01
SAMPLE = 4 * KIB  #: bytes tried before a large extent is compressed whole
WORTH = 0.94  #: compress when the result is at most this share of the plaintext


class Suite(IntEnum):
    """AEADs of format 1."""

    AEGIS256 = 1
    XCHACHA20 = 2


class Kind(IntEnum):
    """What a sealed extent holds; part of its associated data."""

    DATA = 1
    LEAF = 2
    INDEX = 3
    JOURNAL = 4
    DIRECTORY = 5
    ROOT = 6
    XATTR = 7
    RECORD = 8
    BATCH = 9


_NONCE = {Suite.AEGIS256: 32, Suite.XCHACHA20: 24}
_TAG = {Suite.AEGIS256: 32, Suite.XCHACHA20: 16}
_SEAL = {
    Suite.AEGIS256: bindings.crypto_aead_aegis256_encrypt,
    Suite.XCHACHA20: bindings.crypto_aead_xchacha20poly1305_ietf_encrypt,
}
_OPEN = {
    Suite.AEGIS256: bindings.crypto_aead_aegis256_decrypt,
    Suite.XCHACHA20: bindings.crypto_aead_xchacha20poly1305_ietf_decrypt,
}
_thread = threading.local()


def best_suite(has_aes: bool) -> Suite:
    """AEGIS-256 where the CPU has AES instructions, XChaCha20-Poly1305 elsewhere."""
    return Suite.AEGIS256 if has_aes else Suite.XCHACHA20


def overhead(suite: Suite) -> int:
    """Bytes that sealing adds to (compressed) plaintext."""
    return PREFIX.size + _NONCE[suite] + _TAG[suite]


class Sealer:
    """Seals and opens the extents of one block (or of one record, whose id takes the block's
    place).

    Thread-safe: holds nothing that changes.
    """

    def __init__(self, content_key: bytes, vault_id: bytes, block_id: bytes, epoch: int) -> None:
        self._content_key, self._vault, self._block = content_key, vault_id, block_id
        self._epoch = epoch
        self._keys: dict[Suite, bytes] = {}

    def _key(self, suite: Suite) -> bytes:
        key = self._keys.get(suite)
        if key is None:
            key = tagged("extent key", self._content_key, self._block, bytes([suite]))
            self._keys[suite] = key
        return key

    def _associated(self, suite: int, flags: int, ordinal: int, kind: Kind) -> bytes:
        return ASSOCIATED.pack(
            FORMAT, suite, flags, self._epoch, self._vault, self._block, ordinal, kind
        )

    def seal(self, suite: Suite, ordinal: int, kind: Kind, plain: bytes) -> bytes:
        """The sealed bytes of `plain` as extent number `ordinal` of this block."""
        body = compress(plain)
        flags = 0 if body is plain else COMPRESSED
        nonce = urandom(_NONCE[suite])
        sealed = _SEAL[suite](
            body, self._associated(suite, flags, ordinal, kind), nonce, self._key(suite)
        )
        return b"".join((PREFIX.pack(suite, flags, self._epoch), nonce, sealed))

    def open_untrusted(
        self, sealed: Buffer, expected_hash: bytes, ordinal: int, kind: Kind
    ) -> bytes:
        """The plaintext of bytes from a disk or a peer. Raises Malformed or Forged, nothing else.

        The hash from the reference is checked before anything is opened: not even a holder of the
        content key can have one extent taken for another.
        """
        if digest(sealed) != expected_hash:
            raise Forged("an extent's bytes do not match the hash in its reference")
        return self.open_unreferenced_untrusted(sealed, ordinal, kind)

    def open_unreferenced_untrusted(
        self,
        sealed: Buffer,
        ordinal: int,
        kind: Kind,
        limit: int = META_EXTENT_MAX,
    ) -> bytes:
        """As `open_untrusted`, for what no reference names: records sealed as a whole.

        `limit`: bytes of plaintext that are accepted.
        """
        view = memoryview(sealed)
        if len(view) < PREFIX.size:
            raise Malformed("a sealed extent is shorter than its prefix")
        suite_number, flags, epoch = PREFIX.unpack_from(view)
        if suite_number not in _NONCE or flags & ~COMPRESSED or epoch != self._epoch:
            raise Malformed("a sealed extent names an unknown suite, flag or key epoch")
        suite = Suite(suite_number)
        body_at = PREFIX.size + _NONCE[suite]
        if len(view) < body_at + _TAG[suite]:
            raise Malformed("a sealed extent is shorter than its nonce and tag")
        try:
            body = _OPEN[suite](
                bytes(view[body_at:]),
                self._associated(suite, flags, ordinal, kind),
                bytes(view[PREFIX.size : body_at]),
                self._key(suite),
            )
        except Exception as error:  # nacl raises its own CryptoError and TypeError, on any misfit
            raise Forged("an extent does not open with this vault's key") from error
        return decompress_untrusted(body, limit) if flags & COMPRESSED else body


def compress(plain: bytes) -> bytes:
    """`plain` itself (the same object) where zstd level 1 does not pay, else its zstd frame."""
    if len(plain) < 64:
        return plain
    compressor = getattr(_thread, "compressor", None)
    if compressor is None:
        compressor = _thread.compressor = zstandard.ZstdCompressor(level=1)
    if len(plain) > 4 * SAMPLE:
        middle = len(plain) // 2
        sample = plain[middle : middle + SAMPLE]
        if len(compressor.compress(sample)) > WORTH * SAMPLE:
            return plain
    packed: bytes = compressor.compress(plain)
    return packed if len(packed) <= WORTH * len(plain) else plain


def decompress_untrusted(packed: bytes, limit: int = META_EXTENT_MAX) -> bytes:
    """The content of a zstd frame that says its size and stays within `limit` bytes; or
    Malformed.
    """
    try:
        size = zstandard.frame_content_size(packed)
        if not 0 <= size <= limit:
            raise Malformed("a compressed extent announces more than an extent may hold")
        decompressor = getattr(_thread, "decompressor", None)
        if decompressor is None:
            decompressor = _thread.decompressor = zstandard.ZstdDecompressor()
        plain: bytes = decompressor.decompress(packed, max_output_size=limit)
    except zstandard.ZstdError as error:
        raise Malformed("a compressed extent does not unpack") from error
    return plain
