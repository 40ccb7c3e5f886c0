"""`bitdust doctor` beside real mounts and suppliers: what runs is well, what died is named."""

import json
import os
import signal
import time
from importlib.util import find_spec

import pytest

from bitdustfs.cli.main import main
from bitdustfs.mount import client
from bitdustfs.system import running

LIMIT = 60


def findings(world, capsys):
    code = main(["doctor", "--json"])
    return code, json.loads(capsys.readouterr().out)


def about(found, check):
    return [f for f in found["findings"] if f["check"] == check]


def test_a_mount_and_suppliers_are_well_until_they_die(world, capsys, monkeypatch):
    monkeypatch.setenv("BITDUST_HOME", str(world.home))
    world.run("mount", world.mountpoint)
    (world.mountpoint / "file").write_text("kept")
    world.run("sync")
    _, found = findings(world, capsys)
    assert found["kind"] == "diagnosis" and not about(found, "ports")
    assert [f["verdict"] for f in about(found, "mounts")] == ["ok"], about(found, "mounts")
    pid = world.mount_pid()
    os.kill(pid, signal.SIGSTOP)
    for module in (running, client):
        monkeypatch.setattr(module, "ANSWERED_IN", 0.2)
    try:
        _, found = findings(world, capsys)
        code = main(["status", "--check"])
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "hangs: nothing is heard" in about(found, "mounts")[0]["said"]
    assert code == 1 and f"the mount at {world.mountpoint} hangs" in capsys.readouterr().err
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + LIMIT
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    code, found = findings(world, capsys)
    [dead] = about(found, "mounts")
    assert code == 3 and found["verdict"] == dead["verdict"] == "wrong"
    assert dead["todo"].startswith(f"bitdust unmount {world.mountpoint}")
    assert main(["doctor", "--quiet"]) == 3
    said = capsys.readouterr().out
    assert f"wrong    mounts       the mount at {world.mountpoint} is dead" in said
    assert "ok " not in said and "1 wrong" in said
    world.run("unmount", world.mountpoint, check=False)


def test_a_check_for_cron_and_figures_of_a_real_mount(world, capsys, monkeypatch):
    monkeypatch.setenv("BITDUST_HOME", str(world.home))
    assert main(["status", "--check"]) == 2
    world.run("mount", world.mountpoint)
    (world.mountpoint / "file").write_bytes(bytes(1 << 20))
    world.run("sync")
    world.wait_until_nothing_is_owed()
    capsys.readouterr()
    code = main(["status", "--check"])
    said = capsys.readouterr().out
    assert (code, said.count("\n")) == (0, 1) and said.startswith(f"{world.mountpoint}: "), said
    if find_spec("prometheus_client") is None:
        pytest.skip("prometheus_client is not installed")
    assert main(["metrics"]) == 0
    said = capsys.readouterr().out
    status = json.loads(world.run("status", "--json").stdout)
    labels = f'{{mountpoint="{world.mountpoint}",vault="{status["vault"][:16]}"}}'
    lines = dict(line.rsplit(" ", 1) for line in said.splitlines())
    assert float(lines[f"bitdust_mount_content_bytes{labels}"]) == status["live"] == 1 << 20
    assert said.count("\nbitdust_mount_supplier_online{") == 7
    file = world.root / "figures" / "bitdust.prom"
    file.parent.mkdir()
    assert main(["metrics", "--file", str(file)]) == 0 and "bitdust_mount_up" in file.read_text()
