"""BLAKE3 with a domain for each use (BLAKE3 paper, section 2.1; derive_key mode, section 2.3)."""

from functools import lru_cache

from blake3 import blake3

HASH_SIZE = 32


def digest(data: bytes | bytearray | memoryview) -> bytes:
    """The 32-byte BLAKE3 of bulk bytes: sealed extents and fragment chunks."""
    return blake3(data).digest()


@lru_cache(maxsize=64)
def _domain(kind: str) -> "blake3":
    return blake3(derive_key_context=f"bitdust/1 {kind}")


def tagged(kind: str, *parts: bytes | memoryview) -> bytes:
    """The 32-byte hash of `parts` in the domain `kind`.

    Each part is preceded by its length (u32 big endian), so no two lists of parts collide.
    """
    hasher = _domain(kind).copy()
    for part in parts:
        hasher.update(len(part).to_bytes(4, "big"))
        hasher.update(part)
    return hasher.digest()
