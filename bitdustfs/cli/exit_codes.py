"""What exit codes mean: the one table. README shows it, `bitdust --help` ends with it."""

from enum import IntEnum


class Exit(IntEnum):
    """One exit code of a command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    FAULTS = 3
    UNSEEN = 4
    MOUNT_FAILED = 32
    INTERRUPTED = 130
    UNHEARD = 141


MEANINGS = {
    Exit.DONE: "done; sync, unmount: all that this machine wrote is published",
    Exit.FAILED: "it failed, for a reason outside (network, suppliers, disk); it is said which",
    Exit.USAGE: "it cannot be: wrong words, no key file, nothing mounted there, or something else",
    Exit.FAULTS: "verify, doctor, status --check: something is wrong; "
    "rebuild: some supplier lacks something, or something is lost; sync --for: something still "
    "waits; snapshot: only this machine has it yet",
    Exit.UNSEEN: "verify: nothing is wrong with what was looked at, but not everything could be; "
    "doctor, status --check: warnings only",
    Exit.MOUNT_FAILED: "mount.bitdust: it failed for a reason outside; what is 2 above is 1 there",
    Exit.INTERRUPTED: "Ctrl-C; it is said what goes on",
    Exit.UNHEARD: "nobody reads what is printed any more",
}


#: of what doctor and status --check find
CODES = {"ok": Exit.DONE, "warning": Exit.UNSEEN, "wrong": Exit.FAULTS}


def table() -> str:
    """The table as README has it, a line each."""
    rows = (f"| {code.value} | {MEANINGS[code]} |" for code in Exit)
    return "\n".join(("| code | meaning |", "|---|---|", *rows))
