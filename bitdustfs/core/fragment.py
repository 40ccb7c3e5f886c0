"""Fragments: one position's share of a block, provable on its own.

    fragment   = header (signed, the same in all n) + leaf hashes (32 bytes a 64 KiB leaf) + payload
    frag_hash i = H("frag", vault, block, i u16, length u32, leaf hashes)

The header carries frag_hash for every position, so any fragment proves itself, and whoever has k of
them can make the others and check them bit for bit, without the key.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from nacl.signing import SigningKey

from bitdustfs.core.erasure import Buffer, ErasureCode
from bitdustfs.core.hashing import HASH_SIZE, digest, tagged
from bitdustfs.core.records import FORMAT, Ballot, BlockHeader, Features, Place, seal_record
from bitdustfs.core.spans import leaf_count, slice_length
from bitdustfs.errors import Forged, Malformed
from bitdustfs.units import LEAF_SPAN


@dataclass(frozen=True)
class Fragment:
    """One fragment's own part: its leaf hashes, concatenated, and its payload."""

    position: int
    leaves: bytes
    payload: Buffer

    def __len__(self) -> int:
        return len(self.payload)


def leaf_hashes(payload: Buffer) -> bytes:
    """The concatenated hashes of the payload's leaves."""
    view = memoryview(payload)
    return b"".join(digest(view[at : at + LEAF_SPAN]) for at in range(0, len(view), LEAF_SPAN))


def fragment_hash(vault: bytes, block: bytes, position: int, length: int, leaves: bytes) -> bytes:
    """What the header says of one fragment."""
    return tagged(
        "frag", vault, block, position.to_bytes(2, "big"), length.to_bytes(4, "big"), leaves
    )


def encode_block(content: Buffer, code: ErasureCode) -> list[Fragment]:
    """The n fragments of a block. `content` is padded with zeros to k equal slices."""
    per_slice = slice_length(len(content), code.k)
    if len(content) != per_slice * code.k:
        padded = bytearray(per_slice * code.k)
        padded[: len(content)] = content
        content = padded
    view = memoryview(content)
    slices: list[Buffer] = [view[i * per_slice : (i + 1) * per_slice] for i in range(code.k)]
    payloads = [*slices, *code.parity(slices)]
    return [Fragment(i, leaf_hashes(p), p) for i, p in enumerate(payloads)]


def sign_header(
    key: SigningKey,
    fragments: Sequence[Fragment],
    *,
    block: bytes,
    group: int,
    k: int,
    key_epoch: int,
    length: int,
    directory: Place,
    ballot: Ballot,
    seq: int,
) -> bytes:
    """The signed header of a block whose n fragments are given."""
    vault = key.verify_key.encode()
    hashes = tuple(fragment_hash(vault, block, f.position, len(f), f.leaves) for f in fragments)
    body = BlockHeader(
        FORMAT,
        Features(),
        vault,
        block,
        group,
        k,
        len(fragments),
        key_epoch,
        length,
        directory,
        ballot,
        seq,
        hashes,
    )
    return seal_record(key, "block", body)


def check_leaves_untrusted(header: BlockHeader, position: int, leaves: bytes) -> int:
    """Raises Malformed or Forged unless these are the leaf hashes the header vouches for.

    Returns the fragment's length in bytes.
    """
    length = slice_length(header.length, header.k)
    if not 0 <= position < header.n or len(leaves) != leaf_count(length) * HASH_SIZE:
        raise Malformed("a fragment's position or leaf hashes do not fit its block")
    expected = header.fragments[position]
    if fragment_hash(header.vault, header.block, position, length, leaves) != expected:
        raise Forged("a fragment's leaf hashes do not match its signed header")
    return length


def check_range_untrusted(leaves: bytes, start: int, length: int, data: Buffer) -> None:
    """Raises Forged unless `data`, at `start` (on a leaf boundary), matches the leaf hashes.

    `length` is the whole fragment's; `data` ends on a leaf boundary or at the fragment's end.
    """
    view = memoryview(data)
    stop = start + len(view)
    if start % LEAF_SPAN or (stop % LEAF_SPAN and stop != length) or stop > length:
        raise Malformed("a fragment range is not made of whole leaves")
    for at in range(start, stop, LEAF_SPAN):
        index = at // LEAF_SPAN * HASH_SIZE
        leaf = view[at - start : at - start + LEAF_SPAN]
        if digest(leaf) != leaves[index : index + HASH_SIZE]:
            raise Forged(f"leaf {at // LEAF_SPAN} of a fragment does not match its hash")


def check_fragment_untrusted(
    header: BlockHeader, position: int, leaves: bytes, payload: Buffer
) -> None:
    """Raises Malformed or Forged unless the whole fragment is the one the header vouches for."""
    length = check_leaves_untrusted(header, position, leaves)
    if len(payload) != length:
        raise Malformed("a fragment's payload has the wrong length")
    check_range_untrusted(leaves, 0, length, payload)
