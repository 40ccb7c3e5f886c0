"""The voter's side of the root register: a pure state machine, one per vault at every voter.

Paxos-like (Lamport, "Paxos made simple", 2001), one register, values ordered by (ballot, seq):

    prepare(c)    the ballot of c > promised, or c again: promise it, answer what was accepted
    accept(r)     r.ballot >= promised and (ballot, seq) above the stored one: store, promise
                  the same bytes again succeed; anything lower is refused
    heed(c)       whatever else a writer asks: as prepare, but the lease is not asked about

A promise is shown as the signed claim that it was given to, so that nobody has to believe a voter:
a refusal carries the higher claim, and proves by it that another machine was there.

No number is above a ceiling that rises with time. A thief of the vault's key would else claim the
highest ballot that can be written, and nobody could ever claim another one above it. The ceiling
is about the same at all voters: whoever was told less refuses nobody whom others took.

The lease is a courtesy between machines of one owner, not a safety argument: safety rests on
ballots.
"""

from dataclasses import dataclass, replace

from bitdustfs.core.records import Ballot, Root, family_records, root_records
from bitdustfs.errors import Refused

#: of lineage, generation, seq and epoch: no vault gets so far one by one, at any time, nor so fast
CEILING_LEAST, CEILING_RATE = 1 << 40, 1 << 16
NO_CEILING = (1 << 63) - 1


def ceiling_at(time: float) -> int:
    """The highest number that a voter takes at a time (Unix seconds)."""
    return max(CEILING_LEAST, int(time) * CEILING_RATE)


@dataclass(frozen=True)
class Acceptor:
    """What one voter remembers, synced to disk before it answers.

    `claim`, `root`, `family`: signed bytes. No claim: the root is what proves the promise.
    `ceiling`: the highest number that is taken just now.
    """

    promised: Ballot | None = None
    claim: bytes = b""
    accepted: tuple[Ballot, int] | None = None
    root: bytes | None = None
    family: bytes | None = None
    family_epoch: int = -1
    ceiling: int = NO_CEILING

    def prepare(self, ballot: Ballot, claim: bytes, lease_live: bool) -> "Acceptor":
        """The state after promising the ballot of a signed claim, or Refused.

        `lease_live`: another machine renewed within the lease and nobody asked to take over.
        """
        promised = self.promised
        self._check(ballot, claim)
        if promised is not None and ballot.machine != promised.machine and lease_live:
            raise Refused("lease-held", promised.machine.hex()[:8])
        return replace(self, promised=ballot, claim=claim)

    def heed(self, ballot: Ballot, claim: bytes) -> "Acceptor":
        """The state after a request of the claim's holder that is not about the register.

        Raises Refused for a lower claim: the fence for put, delete and stand-down.
        """
        self._check(ballot, claim)
        return replace(self, promised=ballot, claim=claim)

    def _check(self, ballot: Ballot, claim: bytes) -> None:
        promised = self.promised
        # a copy of a machine claims the same ballots as the machine, and is not the machine
        copy = ballot == promised and self.claim not in (b"", claim)
        if promised is not None and (ballot < promised or copy):
            raise self._fenced(promised)
        self._check_numbers(ballot)

    def _check_numbers(self, ballot: Ballot, seq: int = 0, epoch: int = 0) -> None:
        """Raises Refused where nothing could come after this any more, or not often enough."""
        if max(ballot.lineage, ballot.generation, seq, epoch) > self.ceiling:
            raise Refused("malformed", "numbers that are so high leave no room for others")

    def _fenced(self, promised: Ballot) -> Refused:
        return Refused("fenced", f"ballot {promised.generation} is promised already", self.claim)

    def accept(self, root: Root, raw: bytes, family: bytes, family_epoch: int) -> "Acceptor":
        """The state after storing a root whose signatures were verified, or Refused."""
        if self.promised is not None and root.ballot < self.promised:
            raise self._fenced(self.promised)
        if raw != self.root and self.accepted is not None and root.order <= self.accepted:
            raise Refused("stale", "a root at least as new is accepted already")
        self._check_numbers(root.ballot, root.seq, family_epoch)
        # of another ballot: the change of the family never came to a majority, and was dropped
        same = self.accepted is not None and root.ballot == self.accepted[0]
        if same and family_epoch < self.family_epoch:
            raise Refused("stale", f"family epoch {self.family_epoch} is known already")
        claim = self.claim if root.ballot == self.promised else b""
        return Acceptor(root.ballot, claim, root.order, raw, family, family_epoch, self.ceiling)


def remembered(promised: Ballot | None, claim: bytes, root: bytes, family: bytes) -> Acceptor:
    """The state out of what a voter kept; empty bytes for what there is not.

    The bytes were verified before they were kept. A promise without a claim is not heeded.
    """
    if not claim:
        promised = None
    if not root:
        return Acceptor(promised, claim)
    opened = root_records.peek_untrusted(root)
    epoch = family_records.peek_untrusted(family).epoch
    return Acceptor(promised or opened.ballot, claim, opened.order, root, family, epoch)
