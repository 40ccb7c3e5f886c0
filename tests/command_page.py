"""docs/commands.md: what every command does with a wrong word, no network, no mount, and Ctrl-C.

Each cell is what the command itself printed and ended with, in that situation:

    a wrong word    in a home with a key, and with a supplier that answers
    no network      what dials by itself: in a network namespace where nothing is up; what asks a
                    mount: of one that nobody answers any more, with work that is not published
    no mount        nothing is mounted
    Ctrl-C          typed at a terminal, once the command waits: for a mount, a supplier or a peer
                    that took the connection and says nothing, or for whoever is to answer

`python tests/command_page.py` writes the page; a test holds it.
"""

import ctypes
import io
import os
import pty
import re
import select
import signal
import socket
import sys
import tempfile
import time
import traceback
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
for folder in ("tests", "tests/t4_volume"):
    sys.path.insert(0, str(ROOT / folder))

import trio  # noqa: E402
from one_home import MOUNTPOINT  # noqa: E402
from spoken import PATIENCE, spoken  # noqa: E402
from vault_states import STATES  # noqa: E402

from bitdustfs.cache import keyfile  # noqa: E402
from bitdustfs.cache.folder import write_durably  # noqa: E402
from bitdustfs.cache.machine import note_own_supplier  # noqa: E402
from bitdustfs.cli import main as commands  # noqa: E402
from bitdustfs.cli import named  # noqa: E402
from bitdustfs.cli.cmd_swarm import held_port  # noqa: E402
from bitdustfs.cli.pages import PAGES  # noqa: E402
from bitdustfs.config import peers_path  # noqa: E402
from bitdustfs.core.keys import VaultKey  # noqa: E402
from bitdustfs.mount import unmount  # noqa: E402
from bitdustfs.mount.mountpoint import socket_path  # noqa: E402
from bitdustfs.net.control import address_of  # noqa: E402
from bitdustfs.supplier.nodekey import node_key  # noqa: E402

PAGE = ROOT / "docs" / "commands.md"
LIMIT = 60
AGAIN = 0.1  #: seconds
KEY = VaultKey(b"c" * 32)
PEER = "127.0.0.1:9"  #: nobody is there: the port of `discard`
NEWNET, NEWUSER = 0x40000000, 0x10000000  #: unshare(2)
FIRST = ("status", "suppliers", "vault set")  #: whose first line says most
ALONE = "nobody there, new work"  #: the state of a mount without a network
NEVER = "-"
OF_A_PATH = ("versions", "undelete", "pin", "unpin")  #: what is in a mount is named, not the mount
HEAD = """\
# What commands do when something is missing

The number is the exit code ([table](../README.md#everyday-use)); what stands behind it is the last
line that the command prints. `python tests/command_page.py` makes this page by running every
command, and `tests/t5_mount/test_command_page.py` holds it.

- *A wrong word*: one that is likely; every command also ends with 2 at an option that it does not
  know.
- *No network*: a command that asks a mount is answered all the same; here the mount has work that
  is not published, and nobody answers it. A dash: it uses none.
- *No mount*: where nothing is mounted. A dash: it asks none.
- *Ctrl-C* was typed while the command waited. A command that waits for nothing has the sentence all
  the same.

| command | a wrong word | no network | no mount | Ctrl-C | nothing undoes |
|---|---|---|---|---|---|
"""


class Row(NamedTuple):
    """One command. `wrong`: words that are refused. `dials`: what is to fail without a network, or
    behind "=" what is so and tried elsewhere.

    `asks`: words behind the mountpoint, of a command that asks a mount; "there": a name in it.
    `waits`: (for whom, words): mount, supplier or peer, or what a terminal shows when it waits.
    """

    wrong: str = "--nonsense"
    dials: str | None = None
    asks: str | None = None
    waits: tuple[str, str] | None = None


ROWS = {
    "setup": Row("--new --restore", f"--yes --new --words-later --donate 0 --supplier {PEER} "
                 "--ecc 1/1 --mount mnt --no-install", None, ("have the 24 words", "")),
    "vault create": Row("--ecc 9/4", f"--key k --ecc 1/1 --supplier {PEER}", None,
                        ("peer", "--key k --ecc 1/1 --supplier PEER")),
    "vault codes": Row("x"),
    "vault set": Row("nonsense=1", None, "", ("mount", "")),
    "vault refound": Row("--bootstrap nowhere --yes", "--yes", None,
                         ("peer", "--yes --bootstrap PEER")),
    "vault rewind": Row("--to yesterday", "", None, ("peer", "--bootstrap PEER")),
    "vault recover": Row("--supplier nowhere", "", None, ("peer", "--supplier PEER")),
    "vault delete": Row("--bootstrap nowhere", "--yes", None, ("peer", "--yes --bootstrap PEER")),
    "list": Row(waits=("mount", "")),
    "key show": Row("--key missing"),
    "key words": Row("--key missing"),
    "key restore": Row("--key home/keys/vault.key", waits=("Type the 24 words", "--key new")),
    "key protect": Row("--key missing", waits=("passphrase: ", "")),
    "mount": Row("missing", "mnt", None, ("peer", "mnt -o bootstrap=PEER")),
    "status": Row(asks="", waits=("mount", "")),
    "suppliers": Row(asks="", waits=("mount", "")),
    "rebuild": Row(asks="", waits=("mount", "")),
    "sync": Row("--for 5x", None, "", ("mount", "")),
    "unmount": Row(asks="", waits=("mount", "")),
    "snapshot create": Row(asks="then", waits=("mount", "then")),
    "snapshot list": Row(asks="", waits=("mount", "")),
    "snapshot show": Row(asks="then", waits=("mount", "then")),
    "snapshot delete": Row(asks="then --yes", waits=("mount", "then --yes")),
    "snapshot schedule": Row("hourly=x", None, "", ("mount", "")),
    "versions": Row(asks="there", waits=("mount", "there")),
    "undelete": Row(asks="there", waits=("mount", "there")),
    "pin": Row("missing",
               "= 3: it is pinned; what is not here is brought once suppliers are back", "."),
    "unpin": Row("missing", None, "there", ("mount", "there")),
    "pins": Row(asks="", waits=("mount", "")),
    "verify": Row("--sample 500%", None, "", ("mount", "")),
    "invite": Row("--for 5x", waits=("supplier", "")),
    "join": Row("x", "= 0: it prints a line to be passed back (`t6_hosts/test_joining.py`)"),
    "friends": Row("--forget nobody", "= 0: who is not reached is shown as away"),
    "name": Row("nobody-known Anna"),
    "supplier run": Row("--dir s --space 1G --listen 127.0.0.1:80",
                        "= it runs on; its log and `supplier status` say that nobody gets in",
                        waits=("announced at", "--dir s --space 1G --listen 127.0.0.1:PORT "
                               "--no-lan --no-port-mapping")),
    "supplier invite": Row("--days 0"),
    "supplier replace": Row("x", None, "0", ("mount", "0")),
    "supplier forgive": Row("a b c", None, "", ("mount", "")),
    "supplier status": Row("--dir missing", waits=("supplier", "")),
    "supplier pause": Row("--dir missing", waits=("supplier", "")),
    "supplier resume": Row("--dir missing", waits=("supplier", "")),
    "supplier set": Row("--space 5x", waits=("supplier", "--space 1G")),
    "supplier customers": Row("--dir missing", waits=("supplier", "")),
    "supplier leave": Row("--dir missing", waits=("supplier", "--dir shelf")),
    "doctor": Row(waits=("mount", "")),
    "dashboard": Row("--listen nowhere", waits=("http://", "--no-open")),
    "metrics": Row("--serve nowhere", waits=("mount", "")),
    "install": Row("--mount missing"),
    "uninstall": Row(),
    "completion": Row("tcsh"),
    "manual": Row(""),
    "swarm": Row("swarm --suppliers 99"),
}  # fmt: skip


class Ended(NamedTuple):
    """How a command ended. `printed`: all of it, in order."""

    code: int
    printed: str

    def cell(self, home: Path, first: bool = False) -> str:
        lines = [line for line in plain(self.printed).splitlines() if line.strip()]
        last = lines[0 if first else -1].strip() if lines else "it prints nothing"
        last = re.sub(r"^(\^C)*(2\S+ \S+ [A-Z]+ [a-z.]+: )?", "", last)  # and as a log begins
        last = re.sub(r"^bitdust[a-z ]*: (error: )?", "", last.replace(f"{home}/", ""))
        last = last.replace(str(home), ".")
        last = re.sub(r"\b[0-9a-f]{16}\b", "0123456789abcdef", last)
        last = re.sub(r"\b\d+ s ago", "1 s ago", last)
        last = re.sub(r" \(choose from .*\)", "", last)  # each Python writes that otherwise
        last = re.sub(r"[\d.]+ [KM]?i?B only here", "60.0 MiB only here", last)
        last = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:4000", last)
        return f"{self.code}: {last}".replace("|", "or")


def plain(printed: str) -> str:
    """Without what moves a cursor."""
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", printed).replace("\r", "\n")


def prepare(home: Path, keyed: bool = True) -> Path:
    """A home with a key, an address of one supplier, and a supplier of its own; where one types."""
    os.environ["BITDUST_HOME"] = str(home / "home")
    if keyed:
        keyfile.save(home / "home" / "keys" / "vault.key", KEY)
    write_durably(peers_path(KEY.vault_id), PEER.encode())
    shelf = home / "shelf"
    shelf.mkdir()
    note_own_supplier(node_key(shelf).verify_key.encode(), shelf)
    (home / "mnt").mkdir()
    os.chdir(home)
    named.names.cache_clear()
    return home


def child(words: list[str], alone: bool = False) -> tuple[int, int]:
    """Runs a command at a terminal of its own; its pid and the other end of the terminal.

    `alone`: in a network namespace where nothing is up.
    """
    sys.stdout.flush()
    pid, terminal = pty.fork()
    if pid:
        return pid, terminal
    code = 70
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, stream in enumerate(
            ("stdin", "stdout", "stderr")
        ):  # what it had may have seeked
            setattr(sys, stream, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
        os.environ.update({"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "400"})
        if alone and ctypes.CDLL(None).unshare(NEWNET | (NEWUSER if os.geteuid() else 0)):
            os._exit(71)
        unmount.take_away = None  # nothing is to be unmounted here
        code = commands.main(words)
    except SystemExit as ended:  # of argparse
        code = ended.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def hear(terminal: int, until: str = "", others: tuple[socket.socket, ...] = ()) -> str:
    """What is printed, up to the end, to a text, or until somebody else is spoken to."""
    heard, deadline = "", time.monotonic() + LIMIT
    while not (until and until in heard):
        ready, _, _ = select.select([terminal, *others], [], [], deadline - time.monotonic())
        assert ready, heard
        if terminal not in ready:
            return heard
        try:
            heard += (more := os.read(terminal, 65536).decode(errors="replace"))
        except OSError:  # how Linux says that nobody has the terminal any more
            break
        if not more:
            break
    return heard


def finish(pid: int, terminal: int, heard: str = "") -> Ended:
    """Waits for its end."""
    heard += hear(terminal)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return Ended(os.waitstatus_to_exitcode(status), heard)


def run(home: Path, words: str, name: str, alone: bool = False) -> str:
    """A cell."""
    return finish(*child([*name.split(), *words.split()], alone)).cell(home)


# -- Ctrl-C


def type_ctrl_c(pid: int, terminal: int, heard: str) -> Ended:
    """As a person does, who types it again: Python may miss it just before it reads a line."""
    deadline = time.monotonic() + LIMIT
    ended = os.pidfd_open(pid)
    while not select.select([ended], [], [], AGAIN)[0]:
        assert time.monotonic() < deadline, heard
        os.write(terminal, b"\x03")
    os.close(ended)
    return finish(pid, terminal, heard)


def interrupted(home: Path, name: str, row: Row) -> str:
    """A cell: Ctrl-C is typed once the command waits."""
    if row.waits is None:
        return f"130: interrupted; {PAGES[name].interrupted}"
    whom, words = row.waits
    with ExitStack() as held:
        silent: tuple[socket.socket, ...] = ()
        if whom == "mount":
            path = socket_path(MOUNTPOINT)
            (path.parent / "one.attached").write_bytes(os.fsencode(MOUNTPOINT))
            silent = (held.enter_context(listening(path)),)
        elif whom == "supplier":
            silent = (held.enter_context(listening(home / "shelf" / "control")),)
        elif whom == "peer":
            silent = tuple(held.enter_context(one) for one in peer())
            host, port = silent[0].getsockname()
            words = words.replace("PEER", f"{host}:{port}")
        where = str(MOUNTPOINT) if whom == "mount" and name in OF_A_PATH else ""
        words = f"{where}/{words}" if where else words
        if "PORT" in words:
            words = words.replace("PORT", str(held.enter_context(held_port())))
        pid, terminal = child([*name.split(), *words.split()])
        heard = hear(terminal, "" if silent else whom, silent)
        return type_ctrl_c(pid, terminal, heard).cell(home)


def listening(path: Path) -> socket.socket:
    """Takes connections, and says nothing."""
    made = socket.socket(socket.AF_UNIX)
    with address_of(path) as address:
        made.bind(address)
    made.listen()
    return made


def peer() -> list[socket.socket]:
    """The same by TCP and UDP."""
    tcp, udp = socket.create_server(("127.0.0.1", 0)), socket.socket(type=socket.SOCK_DGRAM)
    udp.bind(tcp.getsockname())
    return [tcp, udp]


# -- a mount that nobody answers


async def alone(folder: Path, name: str, words: str) -> Ended:
    """What a command ends with, of a mount with work that is not published, and no supplier."""
    unmount.SHORT_PATIENCE = PATIENCE
    async with STATES[ALONE](folder) as state:
        await state.vault.watch.round()
        async with spoken(state, folder) as mount:
            if name in OF_A_PATH:
                name, words = f"{name} {mount.mountpoint}/{words}", ""
                printed, complained = io.StringIO(), io.StringIO()
                with redirect_stdout(printed), redirect_stderr(complained):
                    code = await trio.to_thread.run_sync(commands.main, name.split())
                return Ended(int(code), printed.getvalue() + complained.getvalue())
            code, printed, complained = await mount.run(name, *words.split())
            return Ended(code, printed + complained)


def page() -> str:
    """All rows."""
    lines = []
    for name, row in ROWS.items():
        with tempfile.TemporaryDirectory() as folder:
            made = iter(range(9))

            def fresh(at=Path(folder), numbers=made, keyed=name != "setup") -> Path:
                home = at / str(next(numbers))
                home.mkdir()
                return prepare(home, keyed)

            cells = [run(fresh(), row.wrong, name)]
            if row.dials is not None and row.dials.startswith("="):
                cells.append(row.dials.removeprefix("= "))
            elif row.asks is not None:
                home = fresh() / "vault"
                home.mkdir()
                cells.append(
                    trio.run(partial(alone, home, name, row.asks)).cell(home, name in FIRST)
                )
            else:
                dials = row.dials is not None
                cells.append(run(fresh(), row.dials, name, alone=True) if dials else NEVER)
            asks = row.asks is not None
            there = (row.asks or "").replace("there", "mnt/there")
            cells.append(run(fresh(), there, name) if asks else NEVER)
            cells.append(interrupted(fresh(), name, row))
        os.chdir(ROOT)
        cells.append(PAGES[name].final)
        lines.append(f"| `{name}` | {' | '.join(cells)} |".replace("|  |", "| |"))
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1] if sys.argv[1:] else PAGE).write_text(page())
