"""Extents: what is sealed opens again, in its own place only, and nothing else ever opens."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdustfs.core.hashing import digest
from bitdustfs.core.sealing import Kind, Sealer, Suite, compress, decompress_untrusted, overhead
from bitdustfs.errors import Forged, Malformed
from bitdustfs.units import EXTENT_MAX

VAULT, BLOCK = bytes(32), bytes(16)
SEALER = Sealer(b"k" * 32, VAULT, BLOCK, 0)


@given(st.binary(max_size=5000), st.sampled_from(Suite), st.sampled_from(Kind))
def test_sealed_bytes_open_to_the_plaintext(plain, suite, kind):
    sealed = SEALER.seal(suite, 7, kind, plain)
    assert SEALER.open_untrusted(sealed, digest(sealed), 7, kind) == plain


@pytest.mark.parametrize("suite", Suite)
def test_incompressible_extent_grows_by_the_stated_overhead(suite):
    plain = os.urandom(EXTENT_MAX)
    assert len(SEALER.seal(suite, 0, Kind.DATA, plain)) == EXTENT_MAX + overhead(suite)


@pytest.mark.parametrize(
    "other, ordinal, kind",
    [
        (SEALER, 8, Kind.DATA),
        (SEALER, 7, Kind.LEAF),
        (Sealer(b"k" * 32, VAULT, b"x" * 16, 0), 7, Kind.DATA),
        (Sealer(b"k" * 32, b"v" * 32, BLOCK, 0), 7, Kind.DATA),
        (Sealer(b"j" * 32, VAULT, BLOCK, 0), 7, Kind.DATA),
    ],
)
def test_an_extent_opens_in_its_own_place_only(other, ordinal, kind):
    sealed = SEALER.seal(Suite.AEGIS256, 7, Kind.DATA, b"photo" * 100)
    with pytest.raises(Forged):
        other.open_untrusted(sealed, digest(sealed), ordinal, kind)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_any_flipped_byte_is_detected(at, change):
    sealed = bytearray(SEALER.seal(Suite.AEGIS256, 0, Kind.DATA, b"family photos" * 50))
    expected = digest(sealed)
    sealed[at % len(sealed)] ^= change
    with pytest.raises(Forged):
        SEALER.open_untrusted(bytes(sealed), expected, 0, Kind.DATA)
    with pytest.raises(Malformed):  # and by the cipher, when no reference names it
        SEALER.open_unreferenced_untrusted(bytes(sealed), 0, Kind.DATA)


@given(st.binary(max_size=300))
def test_garbage_raises_malformed_only(data):
    with pytest.raises(Malformed):
        SEALER.open_untrusted(data, digest(data), 0, Kind.DATA)


def test_a_decompression_bomb_is_refused():
    bomb = compress(bytes(EXTENT_MAX * 4))
    assert len(bomb) < 1000
    with pytest.raises(Malformed):
        decompress_untrusted(bomb, limit=EXTENT_MAX)


def test_nonces_are_never_repeated():
    sealed = {SEALER.seal(Suite.AEGIS256, 0, Kind.DATA, b"same") for _ in range(100)}
    assert len(sealed) == 100
