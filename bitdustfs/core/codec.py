"""msgpack by typed msgspec structs.

One encoder (deterministic), decoders that raise Malformed only.
"""

from typing import Annotated, Generic, TypeVar

import msgspec

from bitdustfs.errors import Malformed

T = TypeVar("T")

U8 = Annotated[int, msgspec.Meta(ge=0, le=0xFF)]
U16 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
U32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]
U63 = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
#: Unix seconds, up to the end of the year 9999: beyond, a time cannot be shown
UnixTime = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799)]
Amount = Annotated[int, msgspec.Meta(ge=0, le=1 << 50)]  #: bytes; sums of many fit 63 bits
Hash = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Public = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]
BlockId = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Uid = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
NodeId = Annotated[bytes, msgspec.Meta(min_length=20, max_length=20)]

_encoder = msgspec.msgpack.Encoder(order="deterministic")
encode = _encoder.encode


class Decoder(Generic[T]):
    """Decodes one type from untrusted bytes; anything amiss is Malformed, named by `what`."""

    def __init__(self, kind: type[T], what: str, limit: int) -> None:
        self._decode = msgspec.msgpack.Decoder(kind).decode
        self._what, self._limit = what, limit

    def decode_untrusted(self, data: bytes | memoryview) -> T:
        """The value in `data`, or Malformed."""
        if len(data) > self._limit:
            raise Malformed(f"a {self._what} of {len(data)} bytes exceeds {self._limit}")
        try:
            return self._decode(data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise Malformed(f"a {self._what} does not parse: {error}") from None
