"""Mounts and suppliers as services: what systemd hears of them, SIGHUP, ends by SIGTERM."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from bitdustfs.system.unitfiles import Service, mount_unit, supplier_unit

LIMIT = 60
PROGRAM = "import sys; from bitdustfs.cli.main import {0}; sys.exit({0}())"


class Manager:
    """Runs a service as systemd does with Type=notify, and hears what it says."""

    def __init__(self, home, where, function, *words, under=()):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(where))
        self.socket.settimeout(LIMIT)
        self.log = (where.parent / "journal").open("w+")
        self.process = subprocess.Popen(
            [*under, sys.executable, "-c", PROGRAM.format(function), *map(str, words)],
            env={**os.environ, "BITDUST_HOME": str(home), "NOTIFY_SOCKET": str(where)},
            stderr=self.log,
        )  # fmt: skip

    def hear(self, word):
        """The rest of the datagram that begins so; status lines before it are passed over."""
        while True:
            said = self.socket.recv(8192).decode()
            if said.startswith(word):
                return said

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(LIMIT)
        self.socket.close()
        self.log.close()

    def journal(self):
        self.log.seek(0)
        return self.log.read()


@pytest.fixture
def managed(tmp_path):
    made = []

    def run(*words, **more):
        made.append(Manager(*words, **more))
        return made[-1]

    yield run
    for manager in made:
        manager.end()


def test_a_mount_is_ready_reloads_and_publishes_at_its_end(world, tmp_path, managed):
    words = ["mount_main", "bitdust", world.mountpoint, "-o", "foreground,audits=100M"]
    mount = managed(world.home, tmp_path / "notify", *words)
    assert "STATUS=NOT safe yet" in mount.hear("READY=1")
    (world.mountpoint / "file").write_text("written by a service")
    (world.home / "config.toml").write_text('[mount]\ncache = "1G"\naudits = "200M"\n')
    mount.process.send_signal(signal.SIGHUP)
    mount.hear("RELOADING=1")
    mount.hear("READY=1")
    (world.home / "config.toml").write_text("[mount]\ncache = true\n")
    mount.process.send_signal(signal.SIGHUP)
    mount.hear("RELOADING=1")
    mount.hear("READY=1")
    assert (world.mountpoint / "file").read_text() == "written by a service"
    mount.process.send_signal(signal.SIGTERM)
    assert "publishing" in mount.hear("STOPPING=1")
    assert mount.process.wait(LIMIT) == 0 and not os.path.ismount(world.mountpoint)
    journal = mount.journal()
    assert "new here: cache\n" in journal  # audits were said by -o
    assert f"{world.home}/config.toml:2: cache: write a size" in journal
    assert (
        world.mount(check=False).returncode == 2
    )  # a new one says what is wrong, and does not mount
    (world.home / "config.toml").unlink()
    world.mount()
    assert (world.mountpoint / "file").read_text() == "written by a service"


def test_a_service_with_wrong_words_ends_with_the_code_that_is_not_tried_again(
    world, tmp_path, managed
):
    words = ["mount_main", "bitdust", world.mountpoint, "-o", "foreground,nonsense"]
    assert managed(world.home, tmp_path / "first", *words).process.wait(LIMIT) == 1
    words = ["main", "supplier", "run", "--dir", tmp_path / "shelf"]
    assert managed(world.home, tmp_path / "second", *words).process.wait(LIMIT) == 2


def test_a_supplier_is_ready_reloads_and_stops(tmp_path, port, managed):
    home, shelf = tmp_path / "home", tmp_path / "shelf"
    home.mkdir()
    config = home / "config.toml"
    config.write_text(f'[supplier]\nspace = "50M"\nlisten = "127.0.0.1:{port}"\n')
    supplier = managed(home, tmp_path / "notify", "main", "supplier", "run", "--dir", shelf)
    assert "STATUS=offers 50.0 MiB at 127.0.0.1" in supplier.hear("READY=1")
    more = 'bootstrap = ["127.0.0.1:4999"]\nrelay = ["off"]\nthrough = ["127.0.0.1:4998"]\n'
    config.write_text(config.read_text().replace("50M", "60M") + more)
    supplier.process.send_signal(signal.SIGHUP)
    supplier.hear("RELOADING=1")
    supplier.hear("READY=1")
    asked = [sys.executable, "-m", "bitdustfs.cli.main", "supplier", "status", "--json", "--dir"]
    told = subprocess.run(
        [*asked, shelf], capture_output=True, text=True, timeout=LIMIT, check=True,
        env={**os.environ, "BITDUST_HOME": str(home)},
    )  # fmt: skip
    assert f'"space": {60 << 20}' in told.stdout
    supplier.process.send_signal(signal.SIGTERM)
    supplier.hear("STOPPING=1")
    assert supplier.process.wait(LIMIT) == 0
    for word in ("bootstrap", "relay", "through"):
        assert f"{word} has changed in config.toml: that needs a restart" in supplier.journal()


@pytest.fixture
def traced(tmp_path):
    """What records system calls, and where."""
    for tool in ("strace", "systemd-analyze"):
        if not shutil.which(tool):
            pytest.skip(f"this machine has no {tool}")
    return ["strace", "-f", "-qq", "-e", "signal=none", "-o", str(tmp_path / "calls")]


def calls_of(path):
    """Names of the system calls that were made."""
    return set(re.findall(r"^\d+\s+(\w+)\(", path.read_text(errors="replace"), re.MULTILINE))


def let_through(unit):
    """Names that the SystemCallFilter= of a unit names, its sets in full."""
    done = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager"], capture_output=True, text=True,
        timeout=LIMIT, check=True,
    )  # fmt: skip
    sets, name = {}, ""
    for line in done.stdout.splitlines():
        word = line.strip()
        if line.startswith("@"):
            sets[name := word] = set()
        elif word and not word.startswith("#"):
            sets[name].add(word)

    def whole(word):
        return set().union(*map(whole, sets[word])) if word in sets else {word}

    return set().union(*map(whole, re.search("SystemCallFilter=(.*)", unit)[1].split()))


def test_a_supplier_makes_only_calls_that_its_unit_lets_through(tmp_path, port, managed, traced):
    home, shelf = tmp_path / "home", tmp_path / "shelf"
    home.mkdir()
    words = ["main", "supplier", "run", "--dir", shelf, "--space", "50M", "--listen"]
    supplier = managed(home, tmp_path / "notify", *words, f"127.0.0.1:{port}", under=traced)
    supplier.hear("READY=1")
    order = [sys.executable, "-m", "bitdustfs.cli.main", "vault", "create", "--ecc", "1/1", "--key"]
    invited = subprocess.run(
        [*order[:3], "supplier", "invite", "--dir", shelf], capture_output=True, text=True,
        timeout=LIMIT, check=True, env={**os.environ, "BITDUST_HOME": str(home)},
    ).stdout.strip()  # fmt: skip
    subprocess.run(
        [*order, home / "k", "--supplier", f"127.0.0.1:{port}", "--invitation", invited, "--space",
         "16M", "--own"],
        timeout=LIMIT, check=False, env={**os.environ, "BITDUST_HOME": str(tmp_path / "owner")},
    )  # fmt: skip
    os.kill(int((shelf / "store" / "lock").read_text()), signal.SIGTERM)
    supplier.hear("STOPPING=1")
    assert supplier.process.wait(LIMIT) == 0
    made = calls_of(tmp_path / "calls")
    unit = supplier_unit(Service(["/bin/true"], home, shelf, "nobody"))
    text = (tmp_path / "calls").read_text(errors="replace")
    assert not re.search(
        r"PROT_WRITE\|PROT_EXEC|mprotect\([^)]*PROT_EXEC", text
    )  # memory is no code
    assert "accept4" in made and made <= let_through(unit), made - let_through(unit)


@pytest.mark.skipif(os.geteuid() != 0, reason="the unit of a user has no filter")
def test_a_mount_of_root_makes_only_calls_that_its_unit_lets_through(
    world, tmp_path, managed, traced
):
    words = ["mount_main", "bitdust", world.mountpoint, "-o", "foreground"]
    mount = managed(world.home, tmp_path / "notify", *words, under=traced)
    mount.hear("READY=1")
    (world.mountpoint / "file").write_bytes(os.urandom(1 << 20))
    world.run("sync")
    world.run("verify", "--sample", "10")
    (world.mountpoint / "file").unlink()
    world.run("unmount")
    mount.hear("STOPPING=1")
    assert mount.process.wait(LIMIT) == 0
    made = calls_of(tmp_path / "calls")
    unit = mount_unit(Service(["/bin/true"], world.home, world.mountpoint, "root"))
    assert "mount" in made and made <= let_through(unit), made - let_through(unit)
