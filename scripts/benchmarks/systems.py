"""File systems that scenes work on: how each is set up, mounted, brought to rest, and ended."""

import os
import shutil
import sys
from abc import ABC, abstractmethod
from pathlib import Path

from benchmarks import janitor
from benchmarks.running import Server, environment, run
from benchmarks.settings import Failed, Settings

PASSWORD = "benchmark"
MOUNTING = 60.0  #: seconds until a mount must be there


class System(ABC):
    """One file system for one scene of one round. The order of calls: start, settle, close.

    `close` is called whatever `start` came to. Everything of it lies in the folder it is given.
    """

    name: str  #: in options and results
    title: str  #: for people

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings
        self.mountpoint = folder / "mnt"

    @classmethod
    def missing(cls) -> str:
        """Why it cannot be used on this machine; "" where it can."""
        return ""

    @classmethod
    def version(cls) -> str:
        return ""

    @property
    def environment(self) -> dict[str, str]:
        """Of processes that work in it."""
        return environment()

    @abstractmethod
    def start(self) -> None:
        """Makes an empty one. From then on programs can work in `mountpoint`. Raises Failed."""

    def settle(self) -> None:
        """Returns once nothing is left to be done in the background. Raises Failed."""
        run(["sync"], self.settings.limit)

    @abstractmethod
    def close(self) -> None:
        """Unmounts; what was written may be lost."""


class Plain(System):
    """A plain folder: what this machine's own file system does."""

    name, title = "plain", "plain folder"

    def start(self) -> None:
        self.mountpoint.mkdir(parents=True)

    def close(self) -> None:
        pass


class Served(System):
    """A file system whose process stays in the foreground."""

    def start(self) -> None:
        self.mountpoint.mkdir(parents=True)
        words = self.prepare()
        self._server = Server(words, self.folder / "log", environment())
        self._server.wait_mounted(self.mountpoint, MOUNTING)

    @abstractmethod
    def prepare(self) -> list[object]:
        """Makes what is to be mounted; the command that mounts it."""

    def close(self) -> None:
        for place in janitor.mounts_under(self.folder):
            janitor.detach(place)
        if hasattr(self, "_server"):
            self._server.end()


class Floor(Served):
    """See floor.py."""

    name, title = "floor", "floor (pyfuse3, in memory)"

    def prepare(self) -> list[object]:
        return [*python("benchmarks.floor"), self.mountpoint]


class Gocryptfs(Served):
    """As it comes: AES-GCM, names encrypted, on this machine's disk."""

    name, title = "gocryptfs", "gocryptfs"

    @classmethod
    def missing(cls) -> str:
        return "" if shutil.which("gocryptfs") else "gocryptfs is not installed"

    @classmethod
    def version(cls) -> str:
        return run(["gocryptfs", "-version"], 10).partition(";")[0]

    def prepare(self) -> list[object]:
        kept, password = self.folder / "kept", self.folder / "password"
        kept.mkdir()
        password.write_text(PASSWORD)
        common = ["gocryptfs", "-q", "-passfile", password]
        run([*common, "-scryptn", 10, "-init", kept], self.settings.limit)
        return [*common, "-fg", kept, self.mountpoint]


class S3ql(Served):
    """With the backend local://, encrypted, without compression: of noise it would only cost."""

    name, title = "s3ql", "S3QL, local"

    @classmethod
    def missing(cls) -> str:
        tools = ("mkfs.s3ql", "mount.s3ql", "s3qlctrl")
        lacking = [tool for tool in tools if not shutil.which(tool)]
        return f"S3QL is not installed: there is no {', no '.join(lacking)}" if lacking else ""

    @classmethod
    def version(cls) -> str:
        """No tool of S3QL tells it, but its package does."""
        prefix = Path(os.path.realpath(shutil.which("mount.s3ql") or "")).parents[1]
        found = prefix.glob("lib/python3*/*-packages/s3ql-*-info")
        return "".join(path.name.rpartition(".")[0] for path in found)

    def prepare(self) -> list[object]:
        kept, cache, login = self.folder / "kept", self.folder / "cache", self.folder / "login"
        kept.mkdir()
        cache.mkdir()
        login.touch(mode=0o600)
        login.write_text(f"[local]\nstorage-url: local://\nfs-passphrase: {PASSWORD}\n")
        words = ["--authfile", login, "--cachedir", cache]
        answers = f"{PASSWORD}\n{PASSWORD}\n"
        run(["mkfs.s3ql", *words, f"local://{kept}"], self.settings.limit, stdin=answers)
        how = ["--fg", "--log", "none", "--compress", "none"]
        return ["mount.s3ql", *words, *how, f"local://{kept}", self.mountpoint]

    def settle(self) -> None:
        run(["s3qlctrl", "flushcache", self.mountpoint], self.settings.limit)
        super().settle()


def python(module: str) -> list[object]:
    """The words that run a module of ours."""
    return [sys.executable, "-m", module]


def check_room(folder: Path, needed: int) -> None:
    """Raises Failed where `folder` has less than `needed` bytes of room."""
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    if free < needed:
        raise Failed(
            f"{folder} has room for {free >> 30} GiB and {(needed >> 30) + 1} are needed: name "
            "another folder with --dir, or smaller sizes"
        )
