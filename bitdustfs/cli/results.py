"""What commands that change something say to programs (`--json`), where no mount answers them.

A field may be added. One that is renamed, dropped or means something else needs another `version`
of its statement (net/control.py). Sizes are bytes; nodes and vaults are hexadecimal.
"""

import msgspec

from bitdustfs.net.control import Statement


class FounderLine(msgspec.Struct, frozen=True, kw_only=True):
    """One position of a family that was just founded."""

    position: int
    node: str
    address: str
    offers: int | None  #: bytes that it had to give; null: it was named, and not asked for that


class VaultMade(Statement, frozen=True, kw_only=True, tag="vault-made"):
    """There is a vault, and its key is in a file. Its words are not written down yet."""

    vault: str
    key: str  #: the key file
    k: int
    n: int
    space: int  #: bytes of content that it takes
    promise: int  #: bytes that each supplier promised
    suppliers: list[FounderLine]
    bears: list[str]  #: what may be lost, and what not: sentences


class VaultRecovered(Statement, frozen=True, kw_only=True, tag="vault-recovered"):
    """A tree was put together from blocks, and is published as a new root."""

    whole: bool  #: the tree itself was found: nothing is lost but what was not published
    blocks: int  #: that were found
    unreadable: int  #: blocks that more suppliers would help to read
    files: int  #: where it is not whole: that were put together
    unnamed: int  #: of these, those without a known name, in lost+found


class VaultRefounded(Statement, frozen=True, kw_only=True, tag="vault-refounded"):
    """The vault has a family again."""

    vault: str
    epoch: int
    suppliers: list[str]  #: their nodes, by position


class DeletionLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one supplier said when it was told that a vault ends."""

    node: str
    error: str  #: why it did not say that it deleted all, or ""
    retains: bool  #: it deletes all once the retention is over


class VaultDeleted(Statement, frozen=True, kw_only=True, tag="vault-deleted"):
    """A vault ends. Exit code 0: `done`; 1: it is to be run again."""

    vault: str
    done: bool  #: all were told, and its key here is gone unless it is `retained`
    retained: bool  #: some keep it until the retention is over; until then it can be rewound
    sure: bool  #: suppliers showed the newest list of those that keep it: there are no others
    suppliers: list[DeletionLine]


class UnmountSaid(Statement, frozen=True, kw_only=True, tag="unmounted"):
    """Nothing is mounted there any more. Exit code 0: `published`."""

    mountpoint: str
    dead: bool  #: it was a dead mount: its process had ended before
    published: bool  #: all that this machine wrote; false: or nobody can tell
    trouble: str  #: what is not published and why, the rest of a sentence; or ""
    verdict: str  #: is my data safe now? one line; empty where no mount was there to say it


class KeySaid(Statement, frozen=True, kw_only=True, tag="key"):
    """A key file. The key itself is not said."""

    vault: str  #: that it opens
    key: str  #: the file
    locked: bool  #: it needs a passphrase


class DealSaid(Statement, frozen=True, kw_only=True, tag="deal"):
    """What was agreed with a friend."""

    node: str
    gives: int  #: bytes that the friend keeps for me
    given: int  #: bytes that my supplier keeps for the friend
    settled: bool  #: the friend's supplier knows it, or comes to know it by itself
    answer: str  #: where not: the line to be passed back; else ""
    why: str  #: why the friend's supplier was not reached; or ""
