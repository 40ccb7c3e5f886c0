"""Questions: an option answers first, then a person, then, where it guides, what is proposed."""

import argparse
import sys

from bitdustfs.errors import UsageError
from bitdustfs.plain import complain


def add_yes(parser: argparse.ArgumentParser) -> None:
    """An option of every command that nothing undoes."""
    parser.add_argument("--yes", action="store_true", help="it is meant: do not ask")


def meant(yes: bool, what: str, word: str) -> bool:
    """Whether `what` nothing undoes is meant: --yes says so, or a person types the `word`.

    The question goes to standard error: a program may read what is printed. Raises UsageError
    where nobody answers.
    """
    if yes:
        return True
    complain(what)
    complain(f"Type {word} to go on:")
    typed = sys.stdin.readline()
    if not typed:
        raise UsageError("there is nobody to answer; say --yes if it is meant")
    if typed.strip().lower() == word:
        return True
    complain("nothing was changed")
    return False


class Asking:
    """`yes`: whatever is proposed is taken. Without a terminal nothing is waited for."""

    def __init__(self, yes: bool) -> None:
        self._yes = yes

    @property
    def _silent(self) -> bool:
        return self._yes or not sys.stdin.isatty()

    def value(self, said: str | None, option: str, question: str, proposed: str) -> str:
        """What an option says, else what is typed, else what is proposed. Raises UsageError."""
        if said is not None:
            return said
        self._check(option)
        if self._silent:
            return proposed
        return input(f"{question} [{proposed}] ").strip() or proposed

    def choose(self, said: bool | None, option: str, question: str, proposed: bool = True) -> bool:
        """The same of yes or no."""
        if said is not None:
            return said
        self._check(option)
        if self._silent:
            return proposed
        while True:
            typed = input(f"{question} [{'Y/n' if proposed else 'y/N'}] ").strip().lower()
            if typed in ("", "y", "yes", "n", "no"):
                return proposed if not typed else typed.startswith("y")

    def answer(self, question: str) -> str:
        """What is typed. For what no option can say: see need_terminal."""
        return input(question)

    def need_terminal(self, otherwise: str) -> None:
        """Raises UsageError where nobody can be asked."""
        if not sys.stdin.isatty():
            raise UsageError(f"there is no terminal; say {otherwise}")

    def _check(self, option: str) -> None:
        if not self._yes and not sys.stdin.isatty():
            raise UsageError(f"there is nobody to answer; say {option}, or --yes for all proposals")
