"""The error tree. Each class says whose fault it is.

Each message is a sentence that says what to do.

`fuse/errno_table.py` maps these to errno, `cli/main.py` to exit codes; nothing else decides either.
"""

import errno
import os


class BitdustError(Exception):
    """Anything bitdustfs reports on purpose. `str(error)` is a sentence for the user."""


class UsageError(BitdustError):
    """The user asked for something that cannot be: wrong words, wrong place, wrong option."""


class KeyFileError(UsageError):
    """A key file or its words are missing, damaged, unreadable, or locked by another passphrase."""


class LocalError(BitdustError):
    """This machine's disk or state is at fault."""


class StateLocked(LocalError):
    """Another process uses this state folder or shelf."""


class StateForeign(LocalError):
    """A state folder or shelf lacks its identity marker, or carries another identity."""


class DiskFull(LocalError):
    """This machine has no room for what must be stored."""


class FsError(BitdustError):
    """A POSIX answer: the calling program asked for something the file system refuses.

    `errno` is the code that the program gets.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.errno = code

    def __str__(self) -> str:
        return os.strerror(self.errno)


class NoSpace(FsError):
    """The vault's contracts or the local cache leave no room for these bytes."""

    def __init__(self) -> None:
        super().__init__(errno.ENOSPC)


class Malformed(BitdustError):
    """Bytes from a peer or a disk do not parse, or break a bound.

    The only error of `..._untrusted`.
    """


class Forged(Malformed):
    """Well-formed bytes whose signature or hash is wrong."""


class Unavailable(BitdustError):
    """Fewer honest holders answered in time than are needed. Nothing is lost by that; retry
    later.
    """


class PeerError(BitdustError):
    """A peer, or the way to it, is at fault."""


class Unreachable(PeerError):
    """No connection to the peer. Nothing was done; retry when it is back."""


class DeadlineExceeded(PeerError):
    """The peer did not answer in time. The request may or may not have been carried out."""


class ProtocolViolation(PeerError):
    """The peer sent what the protocol does not allow; the connection was closed."""


class WrongPeer(PeerError):
    """The node that answered at this address does not hold the expected key."""


class Refused(PeerError):
    """The peer understood and said no: `code` is one of `Refused.CODES`.

    `proof`: with "fenced", the signed claim of the higher ballot, as the peer says.
    """

    CODES = (
        "unknown-vault",  # no contract with this vault here
        "unauthorised",  # the session's role may not do this
        "not-found",  # no such fragment here
        "quota",  # the contract's space is used up
        "retained",  # what was deleted is kept for the contract's retention, and takes the room
        "no-space",  # the supplier cannot donate that much, or its disk is full
        "conflict",  # another header was accepted for this block id before
        "forged",  # signature or hash wrong
        "malformed",  # a field breaks its bound
        "fenced",  # a higher ballot is promised
        "lease-held",  # another machine holds the lease
        "stale",  # a higher root or family is already accepted
        "dead",  # the block was deleted by its owner
        "damaged",  # the fragment is here but its bytes no longer match
        "busy",  # too much at once; retry later
        "failed",  # the supplier's own fault (disk, bug)
    )

    def __init__(self, code: str, detail: str = "", proof: bytes = b"") -> None:
        super().__init__(f"refused ({code}){': ' + detail if detail else ''}")
        self.code = code
        self.detail = detail
        self.proof = proof


class LeaseHeld(BitdustError):
    """Another machine has this vault mounted for writing."""


class Superseded(BitdustError):
    """Another machine took the vault over; this one's unpublished work is kept, read-only."""
