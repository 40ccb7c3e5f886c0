"""What a mount or a supplier says of itself, judged: is anything to be done by somebody?"""

from bitdustfs.mount.statements import Status
from bitdustfs.system.diagnosis import OK, WARNING, WRONG, Grade


def judged(status: Status) -> Grade:
    """wrong: data is not safe and does not become so by itself, or cannot be read, or the mount is
    read-only without being asked to be. warning: it may become so. What is being published is ok.
    """
    if status.judged in ("unsafe", "unreadable") or status.may_lose < 0 or status.message:
        return WRONG
    stalled = status.judged == "pending" and status.to_send > 0 and status.seconds_left is None
    if status.judged == "thin" or stalled or status.warnings:
        return WARNING
    return OK


def worst(verdicts: "list[Grade]") -> Grade:
    """Of all of them; of none ok."""
    return WRONG if WRONG in verdicts else WARNING if WARNING in verdicts else OK
