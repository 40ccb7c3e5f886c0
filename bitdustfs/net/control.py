"""How a command talks to a process that runs on the same machine: JSON lines over a Unix socket.

One command a connection. The client sends one line, a `Command`. The process answers with lines,
each a `Statement`: any number of `Progress` while it works, then exactly one last statement. The
last one is what the command asks for, or a `Failure`. Then the connection ends. A connection that
ends without a last statement means that the process died or was stopped: the command may or may not
have been carried out.

A command names itself by its field "verb", a statement by its field "kind". A statement also
carries the version of its definition. What commands there are, and what answers them, is not
defined here: a mount's are in mount/commands.py and mount/statements.py. The socket belongs to its
owner alone (mode 0600), and both ends check what they read all the same: what does not parse is
`Malformed`.

Here are the words and the client's side, which needs no event loop. Who answers is in listening.py.
"""

import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar, Union

import msgspec

from bitdustfs.errors import BitdustError, Malformed, Unavailable, UsageError
from bitdustfs.units import KIB, MIB

COMMAND_MAX = 64 * KIB  #: bytes of one command's line
STATEMENT_MAX = 4 * MIB  #: bytes of one statement's line


class Command(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="verb", forbid_unknown_fields=True,
    omit_defaults=True,
):  # fmt: skip
    """What a client wants. Each subclass sets its tag: the verb.

    A field that has its default is not sent: so a process of before that field understands whoever
    asks for nothing new. A field that it does not know it refuses: it could not heed it.
    """


class Statement(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """What a process says. Each subclass sets its tag, and another version when a field changes.

    A reader ignores fields that it does not know, so a field that is added changes no version.
    """

    version: int = 1


class Progress(Statement, frozen=True, kw_only=True, tag="progress"):
    """How far it is. `total` 0: nobody knows as yet. `what`: what is counted; may be empty."""

    done: int
    total: int
    what: str = ""
    unit: str = ""  #: "B" where bytes are counted


class Failure(Statement, frozen=True, kw_only=True, tag="failure"):
    """The last statement when the command failed. `error` is a sentence for the user."""

    error: str


class Completed(Statement, frozen=True, kw_only=True, tag="done"):
    """The last statement when there is nothing to tell but that it worked."""


C = TypeVar("C", bound=Command)
S = TypeVar("S", bound=Statement)
Say = Callable[[Progress], Awaitable[None]]
Answerer = Callable[[C, Say], Awaitable[Statement]]


class Commands(Generic[C]):
    """What one kind of process understands. `kinds`: a struct, or a union of structs."""

    def __init__(self, kinds: object) -> None:
        self._decoder = msgspec.json.Decoder(kinds)

    def decode_untrusted(self, line: bytes) -> C:
        """One line's command. Raises Malformed."""
        if len(line) > COMMAND_MAX:
            raise Malformed(f"a command of {len(line)} bytes exceeds {COMMAND_MAX}")
        try:
            command: C = self._decoder.decode(line)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise Malformed(f"this is no command that is known here: {error}") from None
        return command


def ask(
    path: Path,
    nobody: str,
    command: Command,
    expected: type[S],
    watch: Callable[[Progress], None],
    patience: float | None = None,
) -> S:
    """Gives a command to the process that listens at `path`; its last statement.

    `watch` hears of the progress. `patience`: seconds without a word after which it is given up,
    with Unavailable. Raises UsageError(`nobody`) when nobody listens, BitdustError
    with the process's own sentence when the command failed, and with another one when it answered
    nothing.
    """
    for statement in converse(path, nobody, command, expected, patience):
        if not isinstance(statement, Progress):
            return statement
        watch(statement)
    raise BitdustError("the process that was asked ended before it answered; its log may say why")


def converse(
    path: Path, nobody: str, command: Command, expected: type[S], patience: float | None = None
) -> Iterator[Progress | S]:
    """The statements as they come: as `ask`, for who does something else meanwhile.

    It ends without one of the type `expected` when the process ended.
    """
    decoder = msgspec.json.Decoder[Progress | Failure | S](
        Union[Progress, Failure, expected]  # noqa: UP007
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, _given_up(patience):
        connection.settimeout(patience)
        try:
            with address_of(path) as address:
                connection.connect(address)
        except (TimeoutError, BlockingIOError):  # nobody accepts: others wait there already
            raise TimeoutError from None
        except OSError:
            raise UsageError(nobody) from None
        connection.sendall(msgspec.json.encode(command) + b"\n")
        with connection.makefile("rb") as lines:
            while line := lines.readline(STATEMENT_MAX + 1):
                if len(line) <= STATEMENT_MAX and not line.endswith(b"\n"):
                    return  # the process ended in the middle of it
                yield _heard(line, decoder)


def _heard(line: bytes, decoder: msgspec.json.Decoder[Progress | Failure | S]) -> Progress | S:
    """A statement that is no failure. Raises Malformed, and BitdustError for a Failure."""
    if len(line) > STATEMENT_MAX:
        raise Malformed(f"the process that was asked says more than {STATEMENT_MAX} bytes at once")
    try:
        statement = decoder.decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Malformed(
            f"what the process that was asked says does not parse ({error}); "
            "does it run another version of bitdustfs?"
        ) from None
    if isinstance(statement, Failure):
        raise BitdustError(statement.error)
    return statement


@contextmanager
def _given_up(patience: float | None) -> Iterator[None]:
    """Silence becomes Unavailable."""
    try:
        yield
    except TimeoutError:
        raise Unavailable(f"the process that was asked says nothing for {patience:g} s") from None


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """The socket at `path`, by its folder's descriptor: a Unix socket's path ends at 107 bytes.

    Raises OSError.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
