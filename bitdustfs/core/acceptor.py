"""The acceptor of the root register: a pure state machine, one per vault at every voter.

Paxos-like (Lamport, "Paxos made simple", 2001), one register, values ordered by (ballot, seq):

    prepare(b)    b > promised, or the holder again: promise b, answer what was accepted
    accept(r)     r.ballot >= promised and (ballot, seq) above the stored one: store, promise
                  the same bytes again succeed; anything lower is refused

The lease is a courtesy between machines of one owner, not a safety argument: safety rests on
ballots.
"""

from dataclasses import dataclass, replace

from bitdustfs.core.records import Ballot, Root
from bitdustfs.errors import Refused


@dataclass(frozen=True)
class Acceptor:
    """What one voter remembers, synced to disk before it answers. `root`, `family`: signed
    bytes.
    """

    promised: Ballot | None = None
    accepted: tuple[Ballot, int] | None = None
    root: bytes | None = None
    family: bytes | None = None
    family_epoch: int = -1

    def prepare(self, ballot: Ballot, lease_live: bool) -> "Acceptor":
        """The state after promising `ballot`, or Refused.

        `lease_live`: another machine renewed within the lease and nobody asked to take over.
        """
        promised = self.promised
        if promised is not None:
            if ballot < promised:
                raise Refused("fenced", f"ballot {promised.generation} is promised already")
            if ballot.machine != promised.machine and lease_live:
                raise Refused("lease-held", promised.machine.hex()[:8])
        return replace(self, promised=ballot)

    def accept(self, root: Root, raw: bytes, family: bytes, family_epoch: int) -> "Acceptor":
        """The state after storing a root whose signatures were verified, or Refused."""
        if self.promised is not None and root.ballot < self.promised:
            raise Refused("fenced", f"ballot {self.promised.generation} is promised already")
        if raw != self.root and self.accepted is not None and root.order <= self.accepted:
            raise Refused("stale", "a root at least as new is accepted already")
        # of another ballot: the change of the family never came to a majority, and was dropped
        same = self.accepted is not None and root.ballot == self.accepted[0]
        if same and family_epoch < self.family_epoch:
            raise Refused("stale", f"family epoch {self.family_epoch} is known already")
        return Acceptor(root.ballot, root.order, raw, family, family_epoch)

    def check_writer(self, ballot: Ballot) -> None:
        """Raises Refused unless `ballot` is the promised one: the fence for put and delete."""
        if ballot != self.promised:
            raise Refused("fenced", "another machine took this vault over")
