"""k-of-n systematic Reed-Solomon over GF(256), bit-identical through zfec or ISA-L.

zfec is the reference (Rizzo, "Effective erasure codes for reliable computer communication
protocols", 1997; polynomial 0x11D). ISA-L, where `libisal.so.2` is installed, computes the same
fragments about twenty times faster: its matrix is read off zfec by encoding unit vectors.

Fragment i < k is slice i itself. All buffers of one call have the same length.
"""

import ctypes
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import zfec

from bitdustfs.units import GROUP_MAX

Buffer: TypeAlias = bytes | bytearray | memoryview


@lru_cache(maxsize=1)
def _isal() -> Any:
    """The ISA-L library, or None where it is not installed."""
    try:
        library = ctypes.CDLL("libisal.so.2")
    except OSError:
        return None
    pointer, integer = ctypes.c_void_p, ctypes.c_int
    library.ec_init_tables.argtypes = [integer, integer, pointer, pointer]
    library.ec_encode_data.argtypes = [integer, integer, integer, pointer, pointer, pointer]
    library.gf_invert_matrix.argtypes = [pointer, pointer, integer]
    library.ec_init_tables.restype = library.ec_encode_data.restype = None
    return library


def accelerated() -> bool:
    """Whether ISA-L is in use."""
    return _isal() is not None


class ErasureCode:
    """The code of one group. `accelerate=False` keeps to zfec, for comparison."""

    def __init__(self, k: int, n: int, accelerate: bool = True) -> None:
        if not 1 <= k <= n <= GROUP_MAX:
            raise ValueError(f"erasure code {k}/{n}: needs 1 <= k <= n <= {GROUP_MAX}")
        self.k, self.n = k, n
        self._library: Any = _isal() if accelerate else None

    def parity(self, slices: Sequence[Buffer]) -> list[Buffer]:
        """Fragments k..n-1 of the k slices."""
        return self._encode(slices, range(self.k, self.n))

    def rebuild(self, have: Mapping[int, Buffer], want: Sequence[int]) -> list[Buffer]:
        """The wanted fragments (any positions) from any k others, by position."""
        if len(have) < self.k:
            raise ValueError(f"{len(have)} fragments given, {self.k} needed")
        chosen = tuple(sorted(have)[: self.k])  # prefers slices: fewer rows to compute
        if self._library is not None:
            rows = _decoding_rows(self.k, self.n, chosen, tuple(want))
            return self._multiply(rows, len(want), [have[i] for i in chosen])
        slices = self._slices(have, chosen)
        parity = [i for i in want if i >= self.k]
        made = dict(zip(parity, self._encode(slices, parity), strict=True))
        return [slices[i] if i < self.k else made[i] for i in want]

    def _slices(self, have: Mapping[int, Buffer], chosen: tuple[int, ...]) -> list[Buffer]:
        """All k slices by zfec, which wants each slice that is there in its own place."""
        order: list[int] = [-1] * self.k
        parity = [i for i in chosen if i >= self.k]
        for i in chosen:
            if i < self.k:
                order[i] = i
        order = [i if i >= 0 else parity.pop(0) for i in order]
        decoded: list[Buffer] = zfec.Decoder(self.k, self.n).decode([have[i] for i in order], order)
        return decoded

    def _encode(self, slices: Sequence[Buffer], rows: Sequence[int]) -> list[Buffer]:
        if len(slices) != self.k or len({len(s) for s in slices}) != 1:
            raise ValueError("encoding needs k slices of one length")
        if not rows:
            return []
        if self._library is None:
            made: list[Buffer] = zfec.Encoder(self.k, self.n).encode(list(slices), tuple(rows))
            return made
        matrix = _matrix(self.k, self.n)
        coefficients = b"".join(matrix[i * self.k : (i + 1) * self.k] for i in rows)
        return self._multiply(coefficients, len(rows), slices)

    def _multiply(self, rows: bytes, count: int, sources: Sequence[Buffer]) -> list[Buffer]:
        """`count` output buffers: the matrix `rows` (count x k) times the k sources."""
        length, k, library = len(sources[0]), self.k, self._library
        if any(len(s) != length for s in sources):
            raise ValueError("fragments of different lengths")
        tables = ctypes.create_string_buffer(32 * k * count)
        library.ec_init_tables(k, count, rows, tables)
        outputs = [bytearray(length) for _ in range(count)]
        pinned = [_pinned(buffer) for buffer in (*sources, *outputs)]
        addresses = [address for _, address in pinned]
        data = (ctypes.c_void_p * k)(*addresses[:k])
        code = (ctypes.c_void_p * count)(*addresses[k:])
        library.ec_encode_data(length, k, count, tables, data, code)
        return list(outputs)


def _pinned(source: Buffer) -> tuple[Any, int]:
    """(what keeps the bytes where they are, their address). Copies only read-only views.

    Not by ctypes.cast: its result refers to itself, and a whole block would live until the next
    garbage collection.
    """
    if isinstance(source, memoryview) and source.readonly:
        source = bytes(source)
    if isinstance(source, bytes):
        pointer = ctypes.c_char_p(source)
        return pointer, ctypes.c_void_p.from_buffer(pointer).value or 0
    array = (ctypes.c_char * len(source)).from_buffer(source)
    return array, ctypes.addressof(array)


@lru_cache(maxsize=64)
def _matrix(k: int, n: int) -> bytes:
    """zfec's n x k generator matrix, row-major, read off by encoding the k unit vectors."""
    units = [bytes(1 if i == j else 0 for j in range(k)) for i in range(k)]
    rows = zfec.Encoder(k, n).encode(units, tuple(range(n)))
    return b"".join(bytes(row) for row in rows)


@lru_cache(maxsize=256)
def _decoding_rows(k: int, n: int, chosen: tuple[int, ...], want: tuple[int, ...]) -> bytes:
    """The len(want) x k matrix that makes the wanted fragments from the chosen ones."""
    matrix = _matrix(k, n)
    square = ctypes.create_string_buffer(
        b"".join(matrix[i * k : (i + 1) * k] for i in chosen), k * k
    )
    inverse = ctypes.create_string_buffer(k * k)
    if _isal().gf_invert_matrix(square, inverse, k) != 0:
        raise ValueError("these fragments do not determine the block")
    inverted = inverse.raw
    rows = bytearray()
    for i in want:
        row = matrix[i * k : (i + 1) * k]
        for column in range(k):
            value = 0
            for j in range(k):
                value ^= _gf_multiply(row[j], inverted[j * k + column])
            rows.append(value)
    return bytes(rows)


def _gf_multiply(a: int, b: int) -> int:
    """Product in GF(256) modulo 0x11D."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a = (a << 1) ^ (0x11D if a & 0x80 else 0)
        b >>= 1
    return product
