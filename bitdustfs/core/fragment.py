"""Fragments: one position's share of a block, provable on its own.

    fragment   = header (signed, the same in all n) + chunk hashes (32 bytes a 64 KiB chunk)
                 + payload
    frag_hash i = H("frag", vault, block, i u16, length u32, chunk hashes)

The header carries frag_hash for every position, so any fragment proves itself, and whoever has k of
them can make the others and check them bit for bit, without the key.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nacl.signing import SigningKey

from bitdustfs.core.erasure import Buffer, ErasureCode
from bitdustfs.core.hashing import HASH_SIZE, digest, tagged
from bitdustfs.core.records import FORMAT, Ballot, BlockHeader, Features, Place, seal_record
from bitdustfs.core.spans import chunk_count, slice_length
from bitdustfs.errors import Forged, Malformed
from bitdustfs.units import CHUNK_SIZE


@dataclass(frozen=True)
class Fragment:
    """One fragment's own part: its chunk hashes, concatenated, and its payload."""

    position: int
    chunks: bytes
    payload: Buffer

    def __len__(self) -> int:
        return len(self.payload)


def chunk_hashes(payload: Buffer) -> bytes:
    """The concatenated hashes of the payload's chunks."""
    view = memoryview(payload)
    return b"".join(digest(view[at : at + CHUNK_SIZE]) for at in range(0, len(view), CHUNK_SIZE))


def fragment_hash(vault: bytes, block: bytes, position: int, length: int, chunks: bytes) -> bytes:
    """What the header says of one fragment."""
    return tagged(
        "frag", vault, block, position.to_bytes(2, "big"), length.to_bytes(4, "big"), chunks
    )


def encode_block(content: Buffer, code: ErasureCode) -> list[Fragment]:
    """The n fragments of a block. `content` is padded with zeros to k equal slices."""
    return list(cut_fragments(content, code, range(code.n)).values())


def cut_fragments(
    content: Buffer, code: ErasureCode, positions: Iterable[int]
) -> dict[int, Fragment]:
    """Those of a block's fragments that are wanted; only these are computed and hashed."""
    per_slice = slice_length(len(content), code.k)
    if len(content) != per_slice * code.k:
        padded = bytearray(per_slice * code.k)
        padded[: len(content)] = content
        content = padded
    view = memoryview(content)
    slices: list[Buffer] = [view[i * per_slice : (i + 1) * per_slice] for i in range(code.k)]
    wanted = sorted(set(positions))
    parity = [position for position in wanted if position >= code.k]
    made: dict[int, Buffer] = dict(enumerate(slices))
    if parity:
        made |= zip(parity, code.rebuild(made, parity), strict=True)
    return {i: Fragment(i, chunk_hashes(made[i]), made[i]) for i in wanted}


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
    hashes = tuple(fragment_hash(vault, block, f.position, len(f), f.chunks) for f in fragments)
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


def check_chunks_untrusted(header: BlockHeader, position: int, chunks: bytes) -> int:
    """Raises Malformed or Forged unless these are the chunk hashes the header vouches for.

    Returns the fragment's length in bytes.
    """
    length = slice_length(header.length, header.k)
    if not 0 <= position < header.n or len(chunks) != chunk_count(length) * HASH_SIZE:
        raise Malformed("a fragment's position or chunk hashes do not fit its block")
    expected = header.fragments[position]
    if fragment_hash(header.vault, header.block, position, length, chunks) != expected:
        raise Forged("a fragment's chunk hashes do not match its signed header")
    return length


def check_range_untrusted(chunks: bytes, start: int, length: int, data: Buffer) -> None:
    """Raises Forged unless `data`, at `start` (on a chunk boundary), matches the chunk hashes.

    `length` is the whole fragment's; `data` ends on a chunk boundary or at the fragment's end.
    """
    view = memoryview(data)
    stop = start + len(view)
    if start % CHUNK_SIZE or (stop % CHUNK_SIZE and stop != length) or stop > length:
        raise Malformed("a fragment range is not made of whole chunks")
    for at in range(start, stop, CHUNK_SIZE):
        index = at // CHUNK_SIZE * HASH_SIZE
        chunk = view[at - start : at - start + CHUNK_SIZE]
        if digest(chunk) != chunks[index : index + HASH_SIZE]:
            raise Forged(f"chunk {at // CHUNK_SIZE} of a fragment does not match its hash")


def check_fragment_untrusted(
    header: BlockHeader, position: int, chunks: bytes, payload: Buffer
) -> None:
    """Raises Malformed or Forged unless the whole fragment is the one the header vouches for."""
    length = check_chunks_untrusted(header, position, chunks)
    if len(payload) != length:
        raise Malformed("a fragment's payload has the wrong length")
    check_range_untrusted(chunks, 0, length, payload)
