"""How commands talk to a running mount: JSON lines over a Unix socket in this machine's home.

One request a connection: {"verb": ..., and what the verb takes}. Answers are lines; those with "progress"
come while it goes on, the last one has "ok" or "error".
"""

import errno
import hashlib
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import trio

from bitdustfs import config
from bitdustfs.errors import BitdustError, UsageError

log = logging.getLogger(__name__)
LINE_MAX = 64 * 1024

Say = Callable[[dict[str, Any]], Awaitable[None]]
Request = dict[str, Any]
Handler = Callable[[Request, Say], Awaitable[dict[str, Any]]]


def socket_path(mountpoint: Path) -> Path:
    """Where the mount at `mountpoint` listens. Short: Unix socket paths end at 107 bytes."""
    name = hashlib.blake2b(os.fsencode(mountpoint), digest_size=6).hexdigest()
    folder = config.home() / "run"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{name}.sock"


async def serve(path: Path, handle: Handler) -> None:
    """Answers requests until cancelled."""
    path.unlink(missing_ok=True)
    listening = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    try:
        await listening.bind(os.path.relpath(path))  # shorter, often: such paths end at 107 bytes
        path.chmod(0o600)
        listening.listen(8)

        async def one(stream: trio.SocketStream) -> None:
            async def say(line: dict[str, Any]) -> None:
                await stream.send_all(json.dumps(line).encode() + b"\n")

            try:
                request = json.loads(await stream.receive_some(LINE_MAX))
                try:
                    answer = await handle(dict(request), say)
                except BitdustError as error:
                    answer = {"error": str(error)}
                except trio.BrokenResourceError:
                    log.info("whoever asked for %s did not wait for the answer", request)
                    return
                except Exception as error:  # a bug there must not end the mount
                    log.exception("a request failed by our own fault")
                    answer = {"error": f"a bug of bitdustfs, see its log: {error!r}"}
                await say(answer)
            except (ValueError, trio.BrokenResourceError) as error:
                log.info("a control request ended early: %s", error)
            finally:
                await stream.aclose()

        await trio.serve_listeners(one, [trio.SocketListener(listening)])
    finally:
        path.unlink(missing_ok=True)


def dead_mount(path: Path) -> bool:
    """Whether a mount is there whose process has ended."""
    try:
        os.stat(path)
        os.listdir(path)
    except OSError as error:
        return error.errno == errno.ENOTCONN
    return False


def ask(mountpoint: Path, verb: str, **arguments: Any) -> Iterator[dict[str, Any]]:
    """The answers of the mount at `mountpoint`. Raises UsageError when none runs there."""
    absolute = Path(os.path.realpath(mountpoint))
    if dead_mount(absolute):
        raise UsageError(
            f"the mount at {absolute} is dead: its process ended; clear it away with "
            f"bitdust unmount {absolute}, then mount again: what was fsynced is kept"
        )
    nobody = f"no bitdust mount runs at {absolute} (as seen from this BITDUST_HOME)"
    yield from ask_at(socket_path(absolute), nobody, verb, **arguments)


def ask_at(path: Path, nobody: str, verb: str, **arguments: Any) -> Iterator[dict[str, Any]]:
    """The answers of whoever listens at a socket. Raises UsageError(`nobody`) when nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        try:
            connection.connect(os.path.relpath(path))  # shorter, often: such paths end at 107 bytes
        except OSError:
            raise UsageError(nobody) from None
        connection.sendall(json.dumps({"verb": verb, **arguments}).encode() + b"\n")
        with connection.makefile("r") as lines:
            for line in lines:
                answer = json.loads(line)
                if "error" in answer:
                    raise BitdustError(answer["error"])
                yield answer
