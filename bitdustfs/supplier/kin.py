"""What a guard works with: sessions with its kin, its own shelf, and what one round told."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import trio

from bitdustfs.core.erasure import Buffer
from bitdustfs.core.records import Family, Member
from bitdustfs.errors import Unreachable
from bitdustfs.net import wire
from bitdustfs.net.supplier import Supplier
from bitdustfs.supplier.keeper import Keeper

#: (vault, member): a session in the member role
MemberConnect = Callable[[bytes, Member], Supplier]


class OwnShelf:
    """Takes what Fill places, into this supplier's own shelf."""

    def __init__(self, keeper: Keeper, vault: bytes) -> None:
        self._keeper, self._vault = keeper, vault

    async def put(
        self,
        block: bytes,
        position: int,
        claim: bytes,
        header: bytes,
        chunks: bytes,
        payload: Buffer,
    ) -> None:
        """Checked and kept; no claim is asked for."""
        request = wire.Put(block, position, claim, header, chunks)
        work = partial(self._keeper.keep, self._vault, request, payload)
        await trio.to_thread.run_sync(work)


class NotAsked(Supplier):
    """One that did not answer in this round: it is not dialled again before the next."""

    def __init__(self, node: bytes) -> None:
        self.node = node

    async def call(self, request: wire.Request, payload: Buffer = b"") -> tuple[wire.Reply, Buffer]:
        """Never answered."""
        await trio.lowlevel.checkpoint()
        raise Unreachable("it did not answer a moment ago")


@dataclass(frozen=True)
class Round:
    """What one round of questions saw of one family.

    `answers`: of those that answered. `standing`: reserve -> the position that it stands in for, as
    far as that is believed; also of those that did not answer this time, and are not away for long.
    `unproven`: reserves that say so, and have shown no warrant yet. `unasked`: those that were not
    dialled, for what is allowed was spent (dials.py): nothing is known of them.
    """

    family: Family
    answers: dict[bytes, wire.KinIs] = field(default_factory=dict)
    standing: dict[bytes, int] = field(default_factory=dict)
    unproven: set[bytes] = field(default_factory=set)
    unasked: set[bytes] = field(default_factory=set)

    def leaving(self, node: bytes) -> bool:
        """Whether a node answers, and says that it leaves."""
        return node in self.answers and bool(self.answers[node].leaving)

    def there(self, node: bytes) -> bool:
        """Whether a node answers, and means to stay."""
        return node in self.answers and not self.answers[node].leaving

    def copies(self) -> dict[int, bytes]:
        """Position -> a reserve that answers and has a copy of it, or a part."""
        return {p: node for node, p in self.standing.items() if node in self.answers}

    def staying(self, position: int) -> list[bytes]:
        """The reserves that stand in for a position, and do not leave; in the order of the
        bench.
        """
        nodes = [m.node for m in self.family.bench if self.standing.get(m.node) == position]
        return [node for node in nodes if not self.leaving(node)]

    def has_all(self, node: bytes) -> bool:
        """Whether a stand-in answers, has all that can be had, and showed a warrant."""
        answer = self.answers.get(node)
        return answer is not None and answer.complete and node not in self.unproven
