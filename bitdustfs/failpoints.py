"""Named places where a test stops this process, or makes its disk fail. Idle unless asked for.

    BITDUST_FAILPOINTS="fragment-put=kill@3;block-append=enospc@5+"

stops the process (SIGKILL) when it reaches `fragment-put` for the third time, and lets every
`block-append` from the fifth on fail as a full disk does. Actions: kill, enospc, eio.
"""

import errno
import os
import signal
from collections.abc import Mapping

#: where a mount writes to its disk, and the other durable steps it takes
MOUNT_WRITES = ("block-append", "block-sync", "block-close", "state-commit", "state-sync")
MOUNT_STEPS = (
    "state-committed", "header-record", "header-recorded", "fragment-put", "fragment-acked",
    "leaf-write", "checkpoint-commit", "checkpoint-committed", "root-propose", "root-proposed",
    "root-accept", "root-accepted", "root-published", "family-settle", "evict", "evicted",
    "condemn", "condemned", "death-told", "claimed", "followed", "snapshot-mark", "snapshot-marked",
)  # fmt: skip
SEAT_STEPS = ("seat-step", "seat-stepped")  #: the same, where this machine has a seat
#: where a supplier writes to its disk
SHELF_WRITES = (
    "shelf-write", "shelf-sync", "shelf-rename", "shelf-index", "shelf-register", "shelf-kill",
    "shelf-past", "shelf-revive",
)  # fmt: skip
#: what a supplier did durably, and nobody has heard of yet
SHELF_STEPS = (
    "shelf-registered", "shelf-indexed", "shelf-killed", "shelf-pasted", "shelf-revived",
)  # fmt: skip

ACTIONS = {"kill": 0, "enospc": errno.ENOSPC, "eio": errno.EIO}


class FaultPlan:
    """What is to happen at each point: (action, first visit, whether also at all later ones)."""

    def __init__(self, text: str) -> None:
        self._actions: dict[str, tuple[int, int, bool]] = {}
        self._visits: dict[str, int] = {}
        for part in filter(None, text.split(";")):
            name, _, rest = part.partition("=")
            action, _, visit = rest.partition("@")
            writes = name in (*MOUNT_WRITES, *SHELF_WRITES)
            known = writes or name in (*MOUNT_STEPS, *SEAT_STEPS, *SHELF_STEPS)
            if not known or action not in ACTIONS or (ACTIONS[action] and not writes):
                raise ValueError(f"BITDUST_FAILPOINTS: {part!r} names no such point or action")
            number = int(visit.rstrip("+") or 1)
            self._actions[name] = (ACTIONS[action], number, visit.endswith("+"))

    def visit(self, name: str) -> None:
        """Counts; does what was asked for."""
        planned = self._actions.get(name)
        if planned is None:
            return
        code, number, onwards = planned
        count = self._visits[name] = self._visits.get(name, 0) + 1
        if count == number or (onwards and count > number):
            if not code:
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(code, os.strerror(code))


def planned(environment: Mapping[str, str]) -> FaultPlan | None:
    """The plan in the environment, if any."""
    text = environment.get("BITDUST_FAILPOINTS", "")
    return FaultPlan(text) if text else None


plan = planned(os.environ)


def reach(name: str) -> None:
    """A durable step called `name` is about to be taken. May raise OSError, or not return."""
    if plan is not None:
        plan.visit(name)
