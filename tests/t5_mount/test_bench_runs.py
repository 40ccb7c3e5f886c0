"""`scripts/bench` with real mounts: it measures, and leaves nothing behind, whatever happens."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
from benchmarks import janitor

SCRIPTS = Path(__file__).parents[2] / "scripts"
LIMIT = 60  #: seconds that a run has


def start(folder, *words, systems=("floor", "plain")):
    """A run in `folder`: on the floor, beside a plain folder, unless other systems are named."""
    command = [sys.executable, "-m", "benchmarks", "--dir", str(folder)]
    paths = [str(SCRIPTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [*command, "--systems", *systems, *map(str, words)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def until(happened):
    give_up = time.monotonic() + LIMIT
    while not happened():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def left_in(folder):
    """What lies there, what is mounted there, and what runs there, of a run."""
    there = [path for path in folder.iterdir() if path.name.startswith(janitor.PREFIX)]
    return [*there, *janitor.mounts_under(folder), *servers_in(folder)]


def servers_in(folder):
    """Processes that have something below `folder` among their arguments."""
    return [pid for path in folder.glob("*") for pid in janitor.processes_under(path)]


def test_a_vault_with_suppliers_of_its_own_is_measured_and_cleared_away(tmp_path):
    words = ("--rows", "write", "read-published", "--quick", "--json", tmp_path / "now.json")
    run = start(tmp_path, *words, systems=["bitdustfs"])
    _, complained = run.communicate(timeout=LIMIT)
    assert run.returncode == 0, complained
    figures = json.loads((tmp_path / "now.json").read_text())["figures"]
    assert {figure["row"] for figure in figures} == {"write", "read-published"}
    assert left_in(tmp_path) == []


def test_a_run_measures_every_system_and_leaves_nothing(tmp_path):
    rows = ("write", "read-warm", "create", "stat", "unlink")
    words = ("--rows", *rows, "--big", 2, "--files", 20, "--rounds", 2)
    files = ("--json", tmp_path / "now.json", "--plot", tmp_path / "now.svg")
    run = start(tmp_path, *words, *files)
    said, complained = run.communicate(timeout=LIMIT)
    assert run.returncode == 0, complained
    figures = json.loads((tmp_path / "now.json").read_text())["figures"]
    measured = {(figure["row"], figure["system"]) for figure in figures}
    assert measured == {(row, system) for row in rows for system in ("floor", "plain")}
    assert all(len(figure["rounds"]) == 2 and figure["median"] > 0 for figure in figures)
    assert "sequential write" in said
    ElementTree.parse(tmp_path / "now.svg")
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_nothing(number, tmp_path):
    run = start(tmp_path, "--rows", "create", "--files", 1_000_000)
    until(lambda: janitor.mounts_under(tmp_path) and len(servers_in(tmp_path)) >= 3)
    run.send_signal(number)
    run.communicate(timeout=LIMIT)
    until(lambda: left_in(tmp_path) == [])


def test_a_mount_that_hangs_costs_its_own_figures_only(tmp_path):
    words = ("--rows", "write", "create", "--big", 1, "--files", 1000, "--limit", 6)
    run = start(tmp_path, *words, "--rounds", 1, "--json", tmp_path / "now.json")
    until(lambda: len(list(tmp_path.glob("*/*/*/mnt/small/*"))) > 10)
    (served,) = [
        pid for pid in servers_in(tmp_path)
        if b"benchmarks.floor" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    ]  # fmt: skip
    os.kill(served, signal.SIGSTOP)
    run.communicate(timeout=LIMIT)
    assert run.returncode == 1
    said = json.loads((tmp_path / "now.json").read_text())
    assert [(figure["row"], figure["system"]) for figure in said["figures"]] == [
        ("write", "floor"), ("write", "plain"), ("create", "plain"),
    ]  # fmt: skip
    (failure,) = said["failures"]
    assert "create" in failure
    assert "took more than 6 s" in failure
    assert left_in(tmp_path) == []
