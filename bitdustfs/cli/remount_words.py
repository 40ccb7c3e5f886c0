"""`-o remount,...`: the words that a mount which is there takes."""

from collections.abc import Sequence
from typing import NamedTuple

from bitdustfs.mount.remount import WORD_FLAGS

REMOUNT = "remount"
#: what mount(8) finds of a FUSE mount in the kernel's table, and repeats
OF_THE_TABLE = (
    "allow_other",
    "default_permissions",
    "user_id=",
    "group_id=",
    "max_read=",
    "fsname=",
    "subtype=",
)


class RemountWords(NamedTuple):
    """What is asked for. `rest`: the words that are not about remounting."""

    read_only: bool
    kernel: frozenset[str]
    rest: tuple[str, ...]


def parse_remount(options: Sequence[str]) -> RemountWords | None:
    """The words of `-o`; None where none of them is `remount`. The last one of a kind counts."""
    words = ",".join(options).split(",")
    if REMOUNT not in words:
        return None
    read_only, kernel, rest = False, set(), []
    for word in words:
        if word in ("ro", "rw"):
            read_only = word == "ro"
        elif word in WORD_FLAGS:
            kernel.add(word)
        elif word in ("exec", "async"):
            kernel.discard({"exec": "noexec", "async": "sync"}[word])
        elif word != REMOUNT and not word.startswith(OF_THE_TABLE):
            rest.append(word)
    return RemountWords(read_only, frozenset(kernel), tuple(rest))
