"""`bitdust doctor` beside real mounts and suppliers: what runs is well, what died is named."""

import json
import os
import signal
import time

from bitdustfs.cli.main import main

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
