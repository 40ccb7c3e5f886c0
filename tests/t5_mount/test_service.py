"""Mounts and suppliers as services: what systemd hears of them, SIGHUP, ends by SIGTERM."""

import os
import signal
import socket
import subprocess
import sys

import pytest

LIMIT = 60
PROGRAM = "import sys; from bitdustfs.cli.main import {0}; sys.exit({0}())"


class Manager:
    """Runs a service as systemd does with Type=notify, and hears what it says."""

    def __init__(self, home, where, function, *words):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(where))
        self.socket.settimeout(LIMIT)
        self.log = (where.parent / "journal").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(function), *map(str, words)],
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

    def run(*words):
        made.append(Manager(*words))
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
    config.write_text(config.read_text().replace("50M", "60M") + 'bootstrap = ["127.0.0.1:4999"]\n')
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
    assert "bootstrap has changed in config.toml: that needs a restart" in supplier.journal()
