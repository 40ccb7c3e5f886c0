"""Erasure coding and fragments: any k make all n, ISA-L and zfec agree, every lie is named."""

import gc
import random
import weakref
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey

from bitdustfs.core.erasure import ErasureCode, accelerated
from bitdustfs.core.fragment import (
    check_fragment_untrusted,
    check_range_untrusted,
    encode_block,
    sign_header,
)
from bitdustfs.core.records import Ballot, Place, open_header_untrusted
from bitdustfs.core.spans import chunk_count, locate, slice_length, widen
from bitdustfs.errors import Forged, Malformed
from bitdustfs.units import CHUNK_SIZE

CODES = [(1, 1), (1, 2), (2, 3), (2, 4), (4, 7), (2, 7), (6, 10), (10, 18)]
KEY = SigningKey(b"s" * 32)
BLOCK = b"b" * 16


def block_of(length, k=4, n=7):
    content = random.Random(length).randbytes(length)
    fragments = encode_block(content, ErasureCode(k, n))
    raw = sign_header(
        KEY, fragments, block=BLOCK, group=0, k=k, key_epoch=0, length=length,
        directory=Place(BLOCK, 0, 0, 1, bytes(32)), ballot=Ballot(1, bytes(16)), seq=1,
    )  # fmt: skip
    return content, fragments, open_header_untrusted(raw, KEY.verify_key.encode())


@pytest.mark.parametrize("k, n", CODES)
def test_isal_and_zfec_make_identical_fragments(k, n):
    assert accelerated(), "libisal.so.2 is missing; scripts/setup installs it"
    slices = [random.Random(i).randbytes(4096) for i in range(k)]
    fast, reference = ErasureCode(k, n), ErasureCode(k, n, accelerate=False)
    parity = [bytes(p) for p in fast.parity(slices)]
    assert parity == [bytes(p) for p in reference.parity(slices)]
    everything = [*slices, *parity]
    for chosen in list(combinations(range(n), k))[:: max(1, n)]:
        have = {i: everything[i] for i in chosen}
        for code in (fast, reference):
            assert [bytes(f) for f in code.rebuild(have, range(n))] == everything


def test_every_choice_of_k_fragments_rebuilds_the_block():
    content, fragments, header = block_of(100_000)
    code = ErasureCode(4, 7)
    for chosen in combinations(range(7), 4):
        slices = code.rebuild({i: fragments[i].payload for i in chosen}, range(4))
        assert b"".join(slices)[: header.length] == content


@pytest.mark.parametrize("length", [1, 63, 64, 4 * CHUNK_SIZE, 4 * CHUNK_SIZE + 1, 1_000_003])
def test_every_fragment_proves_itself(length):
    _, fragments, header = block_of(length)
    for fragment in fragments:
        check_fragment_untrusted(header, fragment.position, fragment.chunks, fragment.payload)


def test_a_changed_fragment_names_its_holder():
    _, fragments, header = block_of(1_000_003)
    for fragment in fragments:
        payload = bytearray(fragment.payload)
        payload[len(payload) // 2] ^= 1
        with pytest.raises(Forged):
            check_fragment_untrusted(header, fragment.position, fragment.chunks, payload)
    with pytest.raises(Malformed):  # another position's honest fragment is a lie here
        check_fragment_untrusted(header, 0, fragments[1].chunks, fragments[1].payload)


def test_a_changed_leaf_is_named_in_a_range():
    _, fragments, _ = block_of(1_000_003)
    fragment = fragments[2]
    start, stop = widen(70_000, 70_010, len(fragment))
    data = bytearray(fragment.payload[start:stop])
    check_range_untrusted(fragment.chunks, start, len(fragment), data)
    data[-1] ^= 1
    with pytest.raises(Forged):
        check_range_untrusted(fragment.chunks, start, len(fragment), data)


def test_a_header_of_another_key_is_refused():
    _, fragments, _ = block_of(100)
    other = SigningKey(b"o" * 32)
    raw = sign_header(
        other, fragments, block=BLOCK, group=0, k=4, key_epoch=0, length=100,
        directory=Place(BLOCK, 0, 0, 1, bytes(32)), ballot=Ballot(1, bytes(16)), seq=1,
    )  # fmt: skip
    with pytest.raises(Forged):
        open_header_untrusted(raw, KEY.verify_key.encode())


@given(st.integers(0, 1 << 24), st.integers(1, 64), st.data())
def test_pieces_tile_the_range(block_length, k, data):
    per_slice = slice_length(block_length, k)
    assert per_slice * k >= block_length
    offset = data.draw(st.integers(0, block_length))
    length = data.draw(st.integers(0, block_length - offset))
    at = offset
    for piece in locate(offset, length, per_slice):
        assert piece.position * per_slice + piece.start == at
        assert 0 <= piece.start < piece.stop <= per_slice
        at += piece.stop - piece.start
    assert at == offset + length


@given(st.integers(1, 1 << 22), st.data())
def test_widened_ranges_are_whole_leaves(length, data):
    start = data.draw(st.integers(0, length - 1))
    stop = data.draw(st.integers(start + 1, length))
    low, high = widen(start, stop, length)
    assert low <= start and stop <= high <= length
    assert low % CHUNK_SIZE == 0 and (high % CHUNK_SIZE == 0 or high == length)
    assert chunk_count(length) * CHUNK_SIZE >= length


def test_encoding_leaves_no_block_waiting_for_the_garbage_collector():
    class Watched(bytearray):
        pass

    gc.collect()
    gc.disable()
    try:
        sources = [Watched(4096) for _ in range(4)]
        watches = [weakref.ref(source) for source in sources]
        ErasureCode(4, 7).parity(sources)
        del sources
        assert [watch() for watch in watches] == [None] * 4
    finally:
        gc.enable()


def test_a_fragment_takes_the_bytes_that_the_documents_say():
    """docs/format.md: 4/7, a block of 14,811,204 bytes."""
    length, block = 14_811_204, b"b" * 16
    fragments = encode_block(bytes(length), ErasureCode(4, 7))
    header = sign_header(
        KEY, fragments, block=block, group=0, k=4, key_epoch=0, length=length,
        directory=Place(block, 112, 14_700_000, 15_000, bytes(32)),
        ballot=Ballot(3, b"m" * 16), seq=7,
    )  # fmt: skip
    first = fragments[0]
    assert (len(first), len(first.chunks), len(header)) == (3_702_848, 1_824, 460)
    assert 8 + len(header) + len(first.chunks) + len(first) == 3_705_140
