"""How a running process answers commands, over the Unix socket that control.py describes."""

import logging
from pathlib import Path

import msgspec
import trio

from bitdustfs.errors import BitdustError
from bitdustfs.net.control import (
    COMMAND_MAX,
    Answerer,
    C,
    Commands,
    Failure,
    Say,
    Statement,
    address_of,
)

log = logging.getLogger(__name__)

LAST_WORD = 1.0  #: seconds that the last statement may take when the process is ending
CLIENTS_WAITING = 8  #: connections that the kernel queues


async def serve(
    path: Path,
    commands: Commands[C],
    handle: Answerer[C],
    task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listens at `path` and has `handle` answer, until cancelled. Started once it listens.

    What `handle` raises becomes a Failure. A bug in it ends neither the process nor the listening.
    """
    path.unlink(missing_ok=True)
    listening = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)

    async def converse(stream: trio.SocketStream) -> None:
        async with stream:
            await _converse(stream, commands, handle)

    try:
        with address_of(path) as address:
            await listening.bind(address)
        path.chmod(0o600)
        listening.listen(CLIENTS_WAITING)
        await trio.serve_listeners(
            converse, [trio.SocketListener(listening)], task_status=task_status
        )
    finally:
        path.unlink(missing_ok=True)


async def _converse(stream: trio.SocketStream, commands: Commands[C], handle: Answerer[C]) -> None:
    async def say(statement: Statement) -> None:
        await stream.send_all(msgspec.json.encode(statement) + b"\n")

    try:
        answer = await _answer(stream, commands, handle, say)
        with trio.move_on_after(LAST_WORD, shield=True):  # also when the process ends meanwhile
            await say(answer)
    except trio.BrokenResourceError:
        log.info("whoever gave a command did not wait for the answer")


async def _answer(
    stream: trio.SocketStream, commands: Commands[C], handle: Answerer[C], say: Say
) -> Statement:
    """The last statement. Raises BrokenResourceError when the client is gone."""
    try:
        return await handle(commands.decode_untrusted(await _line(stream)), say)
    except Exception as error:
        cause = _only(error)
        if isinstance(cause, BitdustError):
            return Failure(error=_encodable(str(cause)))
        if isinstance(cause, trio.BrokenResourceError):
            raise cause from None
        log.exception("a command failed by our own fault")
        return Failure(error=_encodable(f"a bug of bitdustfs, see its log: {cause!r}"))


async def _line(stream: trio.SocketStream) -> bytes:
    """What the client sends, up to the end of its first line, or a little more than allowed."""
    data = bytearray()
    while len(data) <= COMMAND_MAX and b"\n" not in data:
        more = await stream.receive_some(COMMAND_MAX)
        if not more:
            break
        data += more
    return bytes(data.partition(b"\n")[0])


def _only(error: BaseException) -> BaseException:
    """The one error in nested groups of one, or the group as it is."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _encodable(text: str) -> str:
    """Names of files need not be UTF-8; JSON is."""
    return text.encode(errors="replace").decode()
