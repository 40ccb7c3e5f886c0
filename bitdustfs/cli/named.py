"""What commands print of a vault: with the names that this machine's owner gave."""

from contextlib import suppress
from functools import cache

from bitdustfs.cache.nicknames import Nicknames
from bitdustfs.config import names_path
from bitdustfs.errors import LocalError
from bitdustfs.plain import complain, say


@cache
def names() -> Nicknames:
    """This machine's names, read once a command."""
    return Nicknames(names_path())


def say_named(text: str) -> None:
    """One line, with a name before each key that has one."""
    say(names().dress(text))


def say_verdict(verdict: str) -> None:
    """The line that answers whether data is safe."""
    tone = "good" if verdict.startswith("safe") else "bad" if "NOT" in verdict else "fair"
    say(names().dress(verdict), tone="fair" if verdict.startswith("NOT safe yet") else tone)


def complain_named(text: str) -> None:
    """The same on standard error; where there is no folder for names, without them."""
    with suppress(LocalError):
        text = names().dress(text)
    complain(text)
