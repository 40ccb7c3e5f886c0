"""The boundary to one supplier, as its customer sees it.

Implementations: `memory.MemorySupplier` and `peer.PeerSupplier`; one contract suite holds both to
this page. What a caller must know when a call goes wrong, for every method:

- Each call ends by its own deadline, retries none, and raises a PeerError: Refused when the
  supplier said no, Unreachable when nothing was sent, DeadlineExceeded or ProtocolViolation when it
  may or may not have been carried out.
- Every call may be repeated: put, kill, prepare and accept of the same bytes again succeed.
- Cancelling a call loses its answer, not the connection; what was sent may still be carried out.
- Nothing returned is verified here beyond its shape. Whoever uses it checks signatures and hashes.
"""

from abc import ABC, abstractmethod

from bitdustfs.core.erasure import Buffer
from bitdustfs.core.records import Ballot
from bitdustfs.net.wire import CurrentIs, HeadIs, Listed, UsageIs


class Supplier(ABC):
    """One supplier, in the session of one vault. `node` is its 32-byte public key."""

    node: bytes

    @abstractmethod
    async def put(
        self, block: bytes, position: int, ballot: Ballot, header: bytes, leaves: bytes,
        payload: Buffer,
    ) -> None:  # fmt: skip
        """Returns once the fragment is synced at the supplier."""

    @abstractmethod
    async def head(self, block: bytes, position: int) -> HeadIs:
        """Signed header and leaf hashes of a fragment."""

    @abstractmethod
    async def read(self, block: bytes, position: int, offset: int, length: int) -> bytes:
        """Exactly `length` bytes (at most READ_MAX) of a fragment's payload."""

    @abstractmethod
    async def list(self, after: bytes = b"", limit: int = 1000) -> Listed:
        """Fragments kept, ordered by block id + position byte, after the key `after`."""

    @abstractmethod
    async def kill(self, record: bytes) -> None:
        """Deletes a block by its owner-signed block-dead record."""

    @abstractmethod
    async def promise(self, space: int, until: int) -> bytes:
        """The supplier's signed contract for `space` bytes until a Unix time."""

    @abstractmethod
    async def usage(self) -> UsageIs:
        """What is promised and used."""

    @abstractmethod
    async def prepare(self, claim: bytes, take_over: bool) -> CurrentIs:
        """Asks for the promise of a ballot; answers what is accepted."""

    @abstractmethod
    async def accept(self, root: bytes, family: bytes) -> None:
        """Stores a signed root and its family."""

    @abstractmethod
    async def current(self) -> CurrentIs:
        """What is promised and accepted."""

    @abstractmethod
    async def renew(self, ballot: Ballot) -> None:
        """Renews the lease of the ballot's holder."""

    @abstractmethod
    async def release(self, ballot: Ballot) -> None:
        """Ends the lease of the ballot's holder."""

    @abstractmethod
    async def ping(self) -> None:
        """Returns when the supplier answered."""

    async def aclose(self) -> None:
        """Ends connections, if any. Further calls may open them again."""
