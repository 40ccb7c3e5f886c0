"""Questions of a guided command: an option answers first, then a person, then what is proposed."""

import sys

from bitdustfs.errors import UsageError


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
