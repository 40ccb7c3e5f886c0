"""What a guard works with: its own shelf, and what one round of questions to its kin told."""

from dataclasses import dataclass, field
from functools import partial

import trio

from bitdustfs.core.erasure import Buffer
from bitdustfs.core.records import Ballot, Family
from bitdustfs.net import wire
from bitdustfs.supplier.service import SupplierService


class OwnShelf:
    """Takes what Fill places, into this supplier's own shelf."""

    def __init__(self, service: SupplierService, vault: bytes) -> None:
        self._service, self._vault = service, vault
        self.node = service.node.verify_key.encode()

    async def put(
        self,
        block: bytes,
        position: int,
        ballot: Ballot,
        header: bytes,
        chunks: bytes,
        payload: Buffer,
    ) -> None:
        """Checked and kept; no ballot is asked for."""
        request = wire.Put(block, position, ballot, header, chunks)
        work = partial(self._service.keep, self._vault, request, payload)
        await trio.to_thread.run_sync(work)


@dataclass
class Round:
    """What one round of pings saw of one family.

    `standing`: reserve -> the position that it stands in for, as far as that is believed; also of those
    that did not answer this time, and are not away for long.
    """

    family: Family
    answers: dict[bytes, wire.KinIs] = field(default_factory=dict)
    standing: dict[bytes, int] = field(default_factory=dict)

    def copies(self) -> dict[int, bytes]:
        """Position -> a reserve that answers and has a copy of it, or a part."""
        return {p: node for node, p in self.standing.items() if node in self.answers}

    def staying(self, position: int) -> list[bytes]:
        """The reserves that stand in for a position, and do not leave; in the order of the bench."""
        nodes = [m.node for m in self.family.bench if self.standing.get(m.node) == position]
        return [n for n in nodes if n not in self.answers or not self.answers[n].leaving]
