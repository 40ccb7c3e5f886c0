"""`bitdust swarm DIR`: a network of local suppliers, to try things out and to test.

Each is a process of its own, forked from this one: what all of them run is loaded once.
"""

import argparse
import logging
import os
import random
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import trio

from bitdustfs.cache.folder import write_durably
from bitdustfs.cli.main import make_parser, run
from bitdustfs.errors import LocalError, UsageError
from bitdustfs.net.dht.discover import find_suppliers, joined
from bitdustfs.plain import say
from bitdustfs.units import parse_size

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
PORTS = range(10_000, 32_768)  #: below those that Linux gives to connections (ip(7))
TRIED = 100  #: of them
START_DEADLINE = 60.0  #: seconds until all suppliers must answer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", type=Path, help="folder for all of it")
    parser.add_argument("--suppliers", type=int, default=7, help="how many (7)")
    parser.add_argument("--space", default="20G", help="what each donates (20G)")
    parser.add_argument("--stop", action="store_true", help="stop those that run")
    parser.set_defaults(run=run_swarm)


def run_swarm(args: argparse.Namespace) -> int:
    """Starts those not running, returns once all are up; or stops all."""
    if not 1 <= args.suppliers <= 64:
        raise UsageError("a swarm has 1 to 64 suppliers")
    folder: Path = args.dir.absolute()
    if args.stop:
        for each in sorted(folder.glob("supplier-*")):
            stop(each)
        return 0
    folder.mkdir(parents=True, exist_ok=True)
    homes = [folder / f"supplier-{i}" for i in range(args.suppliers)]
    for each in homes:
        each.mkdir(exist_ok=True)
    suppliers = make_parser({"supplier"})
    with ExitStack() as held:
        for each in homes:
            if not (each / "address").exists():
                _keep_address(each, held.enter_context(held_port()))
        for each in homes:
            if not running(each):
                bootstrap = address_of(homes[0 if each != homes[0] else -1])
                words = supplier_words(each, args.space, bootstrap)
                start(each, suppliers.parse_args(words), held.close)
        for each in homes:
            _wait_until_up(each)
    addresses = [address_of(each) for each in homes]
    trio.run(_wait_until_known, addresses)
    write_durably(folder / "bootstrap", addresses[0].encode())
    write_durably(folder / "addresses", "\n".join(addresses).encode())
    say(f"{len(homes)} suppliers are up; join by {addresses[0]}")
    return 0


def address_of(home: Path) -> str:
    """The supplier's address, chosen once and kept, so that a restart is found again."""
    return (home / "address").read_text().strip()


def _keep_address(home: Path, port: int) -> None:
    write_durably(home / "address", f"{HOST}:{port}".encode())


@contextmanager
def held_port() -> Iterator[int]:
    """A port of TCP and UDP that nobody has, nor gets meanwhile but whom it is given to.

    No other `held_port` chooses it as long as this one has it bound, and the kernel gives it to no
    connection. A supplier may listen there all the same: it allows addresses to be used again, and
    from then on this one does.
    """
    for port in random.sample(PORTS, TRIED):
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind((HOST, port))
                udp.bind((HOST, port))
            except OSError:
                continue
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            udp.close()
            yield port
            return
    raise LocalError(f"none of {TRIED} ports on {HOST} is free")


def running(home: Path) -> int:
    """The pid of the supplier in `home`, or 0, also when another program got that pid."""
    try:
        pid, began = map(int, (home / "pid").read_text().split())
    except (OSError, ValueError):
        return 0
    return pid if _began(pid) == began else 0


def _began(pid: int) -> int:
    """When a process was started, in clock ticks since boot; 0 where none runs (proc(5))."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if words[0] == "Z" else int(words[19])


def supplier_words(home: Path, space: str, bootstrap: str) -> list[str]:
    """The command of the supplier in `home`; it donates no more than is free there."""
    space = str(min(parse_size(space), shutil.disk_usage(home).free * 9 // 10))
    return [
        "supplier", "run", "--dir", str(home), "--space", space, "--listen", address_of(home),
        "--bootstrap", bootstrap, "--for", "anyone", "--log", str(home / "log"),
    ]  # fmt: skip


def start(home: Path, supplier: argparse.Namespace, let_go: Callable[[], None]) -> None:
    """Starts one supplier, detached, in `home`, logging to home/log. It has a BITDUST_HOME of its
    own: it plays another machine, so that it is no own one of ours.

    `let_go` closes what is open here; the supplier has no use for it.
    """
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        write_durably(home / "pid", f"{pid} {_began(pid)}".encode())
        return
    code = 1
    try:
        os.setsid()
        os.chdir(home)
        let_go()
        file = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        for stream, fd in ((0, os.open(os.devnull, os.O_RDONLY)), (1, file), (2, file)):
            os.dup2(fd, stream)
        os.environ["BITDUST_HOME"] = str(home / "home")
        code = run(supplier.run, supplier)
    except BaseException:
        log.exception("the supplier in %s ended by a fault of ours", home)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def stop(home: Path) -> None:
    """Ends the supplier in `home`, if it runs, and waits until it is gone."""
    pid = running(home)
    if pid:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 20
        while running(home):
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)  # when it is our own child
            if time.monotonic() > deadline:
                raise LocalError(f"the supplier in {home} (process {pid}) does not stop")
            time.sleep(0.02)


async def _wait_until_known(addresses: list[str]) -> None:
    """Until every supplier can be found through the DHT, by whoever joins at either end of it."""
    deadline = trio.current_time() + START_DEADLINE
    for bootstrap in {addresses[0], addresses[-1]}:
        while missing := await unknown_by(bootstrap, addresses):
            if trio.current_time() > deadline:
                raise LocalError(
                    f"suppliers are up but {bootstrap} does not know them: {', '.join(missing)}"
                )
            await trio.sleep(0.1)


async def unknown_by(bootstrap: str, addresses: list[str]) -> list[str]:
    """Those of the suppliers at `addresses` that a newcomer who joins at `bootstrap` misses."""
    async with joined([bootstrap]) as dht:
        found = await find_suppliers(dht, 2 * len(addresses) + 64, 0)  # others may offer more
    return sorted(set(addresses) - set(found))


def _wait_until_up(home: Path) -> None:
    host, _, port = address_of(home).rpartition(":")
    deadline = time.monotonic() + START_DEADLINE
    while True:
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except OSError:
            if not running(home):
                raise LocalError(f"a supplier did not start; see {home / 'log'}") from None
            if time.monotonic() > deadline:
                raise LocalError(f"no answer from the supplier in {home}; see its log") from None
            time.sleep(0.05)
