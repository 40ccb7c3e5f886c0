"""What `bitdust doctor` finds, typed. `doctor --json` prints a Diagnosis: fields may be added."""

from typing import Literal

import msgspec

from bitdustfs.net.control import Statement

Grade = Literal["ok", "warning", "wrong"]

OK: Grade = "ok"
WARNING: Grade = "warning"
WRONG: Grade = "wrong"


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was looked at."""

    check: str  #: which look it was: one word that stays the same
    verdict: Grade  #: ok, warning or wrong: something does not work, or is in danger
    said: str  #: what is so, a sentence without its end
    todo: str = ""  #: what to do about it, mostly a command; "" where nothing is to be done


class Diagnosis(Statement, frozen=True, kw_only=True, tag="diagnosis"):
    """All that was looked at, in its order."""

    verdict: Grade  #: the worst one
    program: str  #: version of bitdustfs
    findings: list[Observation]


def ok(check: str, said: str) -> Observation:
    """Nothing is to be done."""
    return Observation(check=check, verdict=OK, said=said)


def warning(check: str, said: str, todo: str) -> Observation:
    """It works, but not as well, or not for long."""
    return Observation(check=check, verdict=WARNING, said=said, todo=todo)


def wrong(check: str, said: str, todo: str) -> Observation:
    """Something does not work, or is in danger."""
    return Observation(check=check, verdict=WRONG, said=said, todo=todo)


def diagnosis_of(program: str, findings: list[Observation]) -> Diagnosis:
    """The worst verdict is that of all."""
    there = {finding.verdict for finding in findings}
    worst = WRONG if WRONG in there else WARNING if WARNING in there else OK
    return Diagnosis(verdict=worst, program=program, findings=findings)
