"""Names of snapshots: what may be one, and what one is called that was given none.

A name is a folder's name under `.snapshots`, and a word on a command line.
"""

from bitdustfs.errors import UsageError

NAME_BYTES_MAX = 128  #: of a name in UTF-8


def check_snapshot_name(name: str) -> bytes:
    """The name as its item has it. Raises UsageError, with what is wrong about it."""
    raw = name.encode(errors="surrogateescape")
    if not raw:
        raise UsageError("a snapshot needs a name")
    if len(raw) > NAME_BYTES_MAX:
        raise UsageError(f"a snapshot's name has at most {NAME_BYTES_MAX} bytes in UTF-8")
    if "/" in name or name.startswith((".", "-")):
        raise UsageError("a snapshot's name has no / and does not begin with . or -")
    if not name.isprintable():
        raise UsageError("a snapshot's name has no control characters, and is valid UTF-8")
    return raw
