"""The socket by which commands talk to running processes: what is said, garbage, and early ends."""

import json
import socket
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from bitdustfs.errors import BitdustError, Malformed, Unavailable, UsageError
from bitdustfs.net.control import (
    COMMAND_MAX,
    Command,
    Commands,
    Completed,
    Progress,
    Statement,
    ask,
    converse,
)
from bitdustfs.net.listening import serve


class Count(Command, frozen=True, kw_only=True, tag="count"):
    to: int


class Greet(Command, frozen=True, kw_only=True, tag="greet"):
    name: str = ""


class Greeting(Statement, frozen=True, kw_only=True, tag="greeting"):
    text: str


COMMANDS = Commands(Count | Greet)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
NEARLY = st.fixed_dictionaries(
    {"verb": st.sampled_from(["count", "greet"]) | ANY_JSON},
    optional={"to": ANY_JSON, "name": ANY_JSON, "else": ANY_JSON},
)


def only_malformed(line):
    """Whatever comes, it is a command or Malformed."""
    try:
        command = COMMANDS.decode_untrusted(line)
    except Malformed:
        return
    match command:
        case Count(to=to):
            assert isinstance(to, int)
        case Greet(name=name):
            assert isinstance(name, str)


@given(st.binary(max_size=400))
def test_garbage_is_malformed(line):
    only_malformed(line)


@given(ANY_JSON | NEARLY)
def test_json_that_is_no_command_is_malformed(value):
    only_malformed(json.dumps(value).encode())


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"[" * COMMAND_MAX, b'{"verb":"count","to":' + b"[" * 60_000, b'{"verb":"go"}',
     b'{"verb":"count"}', b'{"verb":"count","to":"x"}', b'{"verb":"count","to":1,"more":2}',
     b'{"verb":"greet","name":"' + b"x" * COMMAND_MAX + b'"}', b'{"verb":"greet","name":"\xff"}'],
    ids=lambda line: line[:24].decode(errors="replace"),
)  # fmt: skip
def test_what_breaks_a_bound_is_malformed(line):
    with pytest.raises(Malformed):
        COMMANDS.decode_untrusted(line)


async def handle(command, say):
    match command:
        case Count(to=to) if to < 0:
            raise Unavailable("nobody counts down")
        case Count(to=to):
            for number in range(to):
                await say(Progress(done=number, total=to))
            return Completed()
        case Greet(name="nobody"):
            raise ZeroDivisionError
        case Greet(name="group"):
            raise ExceptionGroup("", [ExceptionGroup("", [Unavailable("all of one mind")])])
        case Greet(name=name):
            return Greeting(text=f"hello {name}")


@asynccontextmanager
async def served(path, handler=handle):
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, path, COMMANDS, handler)
        yield nursery
        nursery.cancel_scope.cancel()
    assert not path.exists()


async def asked(path, command, expected, watch=lambda progress: None):
    return await trio.to_thread.run_sync(ask, path, "nobody is there", command, expected, watch)


def talk(path, *chunks):
    """Raw bytes to the socket; the lines that come back."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        for chunk in chunks:
            connection.sendall(chunk)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as lines:
            return [json.loads(line) for line in lines]


async def test_progress_comes_first_and_then_the_answer(tmp_path):
    path = tmp_path / "control"

    heard = []
    async with served(path):
        assert path.stat().st_mode & 0o777 == 0o600
        assert await asked(path, Count(to=3), Completed, heard.append) == Completed()
        assert await asked(path, Greet(name="you"), Greeting) == Greeting(text="hello you")
    assert heard == [Progress(done=n, total=3) for n in range(3)]
    with pytest.raises(UsageError, match="nobody is there"):
        await asked(path, Greet(), Greeting)


async def test_a_socket_in_a_folder_of_a_long_name_is_found(tmp_path):
    path = tmp_path / ("a" * 100) / ("b" * 100) / "control"
    path.parent.mkdir(parents=True)
    async with served(path):
        assert await asked(path, Count(to=0), Completed) == Completed()


async def test_what_fails_is_a_sentence_and_a_bug_ends_nothing(tmp_path):
    path = tmp_path / "control"

    async with served(path):
        with pytest.raises(BitdustError, match="nobody counts down"):
            await asked(path, Count(to=-1), Completed)
        with pytest.raises(BitdustError, match="a bug of bitdustfs"):
            await asked(path, Greet(name="nobody"), Greeting)
        with pytest.raises(BitdustError, match="all of one mind"):
            await asked(path, Greet(name="group"), Greeting)
        with pytest.raises(Malformed, match="another version"):
            await asked(path, Greet(name="you"), Completed)
        assert await asked(path, Count(to=0), Completed) == Completed()


async def test_raw_lines_are_answered_whole_in_pieces_and_as_garbage(tmp_path):
    path = tmp_path / "control"

    async with served(path):
        for chunks in (
            [b'{"verb":"greet",', b'"name":"you"}\n'],
            [b'{"verb":"greet","name":"you"}'],
        ):
            [said] = await trio.to_thread.run_sync(talk, path, *chunks)
            assert said == {"kind": "greeting", "version": 1, "text": "hello you"}
        for garbage in (b"\xff\n", b"", b"nonsense\n", b"x" * 200, b'{"verb":"go"}\n'):
            [said] = await trio.to_thread.run_sync(talk, path, garbage)
            assert said["kind"] == "failure" and "no command" in said["error"]
        with pytest.raises(OSError):  # it does not read more than it must
            await trio.to_thread.run_sync(talk, path, b"x" * 100 * COMMAND_MAX)
        assert await asked(path, Count(to=1), Completed) == Completed()


async def test_who_does_not_wait_for_the_answer_harms_nobody(tmp_path):
    path = tmp_path / "control"

    async with served(path):
        for _ in range(3):
            left = converse(path, "", Count(to=100_000), Completed)
            assert await trio.to_thread.run_sync(next, left) == Progress(done=0, total=100_000)
            left.close()
        assert await asked(path, Count(to=1), Completed) == Completed()


async def test_an_end_without_an_answer_is_told(tmp_path):
    path = tmp_path / "control"

    async def forever(command, say):
        await say(Progress(done=0, total=1))
        await trio.sleep_forever()

    async with served(path, forever) as nursery:

        async def wait():
            with pytest.raises(BitdustError, match="ended before it answered"):
                await asked(path, Count(to=1), Completed, lambda progress: heard.set())

        async with trio.open_nursery() as waiting:
            heard = Heard()
            waiting.start_soon(wait)
            await heard.wait()
            nursery.cancel_scope.cancel()


async def test_the_last_word_is_said_although_the_process_ends(tmp_path):
    path = tmp_path / "control"
    heard = []

    async def handler(command, say):
        nursery.cancel_scope.cancel()
        return Greeting(text="farewell")

    async def wait():
        heard.append(await asked(path, Greet(), Greeting))

    async with trio.open_nursery() as waiting, served(path, handler) as nursery:
        waiting.start_soon(wait)
        await trio.sleep_forever()
    assert heard == [Greeting(text="farewell")]


class Heard:
    """An event that another thread sets."""

    def __init__(self):
        self._event, self._token = trio.Event(), trio.lowlevel.current_trio_token()

    def set(self):
        self._token.run_sync_soon(self._event.set)

    async def wait(self):
        await self._event.wait()


def test_silence_is_given_up_where_it_is_wanted(tmp_path):
    """Of whoever accepts a connection and says nothing, as of whoever accepts none."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(path))
        silent.listen(1)
        for _ in range(3):
            with pytest.raises(Unavailable, match="says nothing for"):
                ask(path, "nobody", Greet(), Completed, print, 0.05)
    with pytest.raises(UsageError, match="nobody"):
        ask(path, "nobody", Greet(), Completed, print, 0.05)
