"""A supplier's process as whoever runs it sees it: commands, its log, a terminal that goes away."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bitdustfs.cli.main import main

LIMIT = 60


@pytest.fixture
def running(tmp_path, monkeypatch, port):
    """A supplier's process, and its folder."""
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path / "home"))
    address = f"127.0.0.1:{port}"
    folder = tmp_path / "shelf"
    command = [sys.executable, "-m", "bitdustfs.cli.main", "supplier", "run", "--dir", str(folder)]
    command += ["--space", "100M", "--listen", address, "--log", str(folder / "log")]
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + LIMIT
        while not (folder / "control").exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        yield process, folder
        process.terminate()
        process.wait(LIMIT)


def test_a_supplier_is_asked_paused_and_survives_its_terminal(running, capsys):
    process, folder = running
    os.kill(process.pid, signal.SIGHUP)
    for words, said in (
        (["status"], "serving"),
        (["pause"], "paused"),
        (["resume"], "serving"),
        (["set", "--space", "50M"], "50.0 MiB donated: 0 B promised to 0 vaults"),
        (["customers"], "vault             promised"),
    ):
        assert main(["supplier", *words, "--dir", str(folder)]) == 0
        assert said in capsys.readouterr().out
    assert main(["supplier", "status", "--dir", str(folder), "--json"]) == 0
    assert '"space": 52428800' in capsys.readouterr().out
    assert main(["supplier", "status", "--dir", str(folder.parent)]) == 2
    assert "no supplier runs in" in capsys.readouterr().err
    assert "config.toml was read again" in (folder / "log").read_text()
    assert process.poll() is None


def test_a_supplier_s_own_key_does_not_go_to_swap(running):
    process, _ = running
    locked = re.search(r"VmLck:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    assert int(locked[1]) > 0
