"""What verify found: counts, faults, and what could not be looked at.

What cannot be looked at, because whoever has it does not answer, is no fault, and is said as well:
not having looked is not the same as nothing being wrong.
"""

from dataclasses import dataclass, field

from bitdustfs.vault.account import verdict

FAULTS_SHOWN = 50


@dataclass
class Report:
    """What was found. `faults` are sentences; nothing that was looked at is wrong when there are
    none. `unseen`: what could not be looked at, sentences.
    """

    items: int = 0
    inodes: int = 0
    blocks: int = 0
    extents_checked: int = 0
    chunks_checked: int = 0
    margin: int | None = None  #: suppliers that the thinnest block at the suppliers may still lose
    snapshots: int = 0  #: whose trees could be read to their ends
    unsent: int = 0  #: blocks that are only on this machine as yet
    faults: list[str] = field(default_factory=list)
    more_faults: int = 0
    unseen: list[str] = field(default_factory=list)
    owed: list[str] = field(default_factory=list)  #: what is still to be sent, and to whom
    proved: list[str] = field(default_factory=list)  #: what audits showed, where a sample is taken
    verdict: str = ""  #: what follows from it

    def checked(
        self,
        *,
        items: int = 0,
        extents: int = 0,
        chunks: int = 0,
        unsent: int = 0,
        snapshots: int = 0,
    ) -> None:
        """So many more were looked at (or, `unsent`, are only here as yet)."""
        self.items += items
        self.extents_checked += extents
        self.chunks_checked += chunks
        self.unsent += unsent
        self.snapshots += snapshots

    def walked(self, inodes: int, blocks: int) -> None:
        """How much the tree holds."""
        self.inodes, self.blocks = inodes, blocks

    def may_lose(self, margin: int) -> None:
        """Some block at the suppliers survives the loss of so many more of them."""
        self.margin = margin if self.margin is None else min(self.margin, margin)

    def to_send(self, sentence: str) -> None:
        """Something is not at a supplier yet, and will be."""
        self.owed.append(sentence)

    def audited(self, sentence: str) -> None:
        """Audits showed something of what was not fetched."""
        self.proved.append(sentence)

    def not_seen(self, sentence: str) -> None:
        """Something could not be looked at."""
        self.unseen.append(sentence)

    def conclude(self, local_only: bool, sample: float, published: bool) -> None:
        """Everything was looked at that could be. `published`: whether all that is here is."""
        found, unsent = len(self.faults) + self.more_faults, bool(self.unsent) or not published
        self.verdict = verdict(found, len(self.unseen), unsent, local_only, sample)

    def fault(self, sentence: str) -> None:
        if len(self.faults) < FAULTS_SHOWN:
            self.faults.append(sentence)
        else:
            self.more_faults += 1
