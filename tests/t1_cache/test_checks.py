"""What `bitdust doctor` sees of a machine: each fault is found, and what to do about it is said."""

import os
import socket
import time
from types import SimpleNamespace

import pytest

from bitdustfs.cache import keyfile
from bitdustfs.cache.machine import note_own_supplier, own_supplier_folders
from bitdustfs.core.keys import VaultKey
from bitdustfs.errors import LocalError
from bitdustfs.system import fuse_checks, homecheck, programs, resources, running
from bitdustfs.system.diagnosis import diagnosis_of, ok, warning, wrong
from bitdustfs.system.doctor import all_checks, diagnose, wants_others

USER = 1000


@pytest.fixture
def home(tmp_path, monkeypatch):
    folder = tmp_path / "home"
    folder.mkdir(mode=0o700)
    monkeypatch.setenv("BITDUST_HOME", str(folder))
    return folder


def verdicts(findings):
    return [(finding.check, finding.verdict) for finding in findings]


def only(findings):
    [finding] = findings
    return finding


def test_the_worst_verdict_is_that_of_all():
    good, fair, bad = ok("a", "x"), warning("b", "y", "z"), wrong("c", "y", "z")
    assert diagnosis_of("1", [good]).verdict == "ok"
    assert diagnosis_of("1", [fair, good]).verdict == "warning"
    assert diagnosis_of("1", [fair, bad, good]).verdict == "wrong"


def test_a_check_that_fails_is_a_finding():
    def fails():
        raise OSError(5, "Input/output error")
        yield

    assert verdicts(diagnose([("disk", fails)]).findings) == [("disk", "wrong")]

    def buggy():
        raise LocalError("damaged")
        yield

    assert only(diagnose([("state", buggy)]).findings).said.endswith("damaged")


def test_an_old_interpreter_and_missing_packages_are_named():
    assert only(programs.check_python((3, 10, 1))).verdict == "wrong"
    assert only(programs.check_python((3, 11, 0))).verdict == "ok"
    assert programs.lacking("no-such-package>=1.0") == "no-such-package is missing"
    assert programs.lacking("trio>=999.1").startswith("trio ")
    assert programs.lacking("trio>=0.2") == programs.lacking("trio") == ""


def test_fuse_that_a_user_cannot_use_is_named(tmp_path):
    device = tmp_path / "fuse"
    assert "modprobe" in only(fuse_checks.check_device(USER, device)).todo
    device.touch()
    assert only(fuse_checks.check_device(0, device)).verdict == "ok"
    missing = only(fuse_checks.check_fusermount(USER, lambda name: None))
    assert missing.verdict == "wrong" and missing.todo == "apt install fuse3"
    assert only(fuse_checks.check_fusermount(0, lambda name: None)).verdict == "warning"
    tool = tmp_path / "fusermount3"
    tool.touch(mode=0o755)
    assert only(fuse_checks.check_fusermount(USER, lambda name: str(tool))).verdict == "wrong"
    assert only(fuse_checks.check_fusermount(0, lambda name: str(tool))).verdict == "ok"


def test_allow_other_is_wrong_only_where_it_is_wanted(tmp_path):
    conf, fstab = tmp_path / "conf", tmp_path / "fstab"
    conf.write_text("#user_allow_other\n")
    assert only(fuse_checks.check_allow_other(USER, conf, fstab)).verdict == "ok"
    fstab.write_text(f"bitdust {tmp_path} bitdust noauto,allow_other 0 0\n")
    found = only(fuse_checks.check_allow_other(USER, conf, fstab))
    assert found.verdict == "wrong" and found.todo.endswith(f"tee -a {conf}")
    conf.write_text("user_allow_other\n")
    assert only(fuse_checks.check_allow_other(USER, conf, fstab)).verdict == "ok"
    assert only(fuse_checks.check_allow_other(0, tmp_path / "none", fstab)).verdict == "ok"


def test_lines_of_fstab_are_looked_at(tmp_path):
    fstab, sbin = tmp_path / "fstab", tmp_path / "sbin"
    folder = tmp_path / "my vault"
    fstab.write_text(
        "# bitdust /no bitdust defaults\n/dev/sda1 / ext4 defaults 0 1\n"
        f"bitdust {str(folder).replace(' ', chr(92) + '040')} bitdust noauto 0 0\n"
    )
    found = list(fuse_checks.check_fstab(fstab, (sbin,)))
    assert verdicts(found) == [("fstab", "wrong"), ("fstab", "wrong"), ("fstab", "warning")]
    assert "mount.bitdust" in found[0].said and f"{folder}, which is no folder" in found[1].said
    folder.mkdir()
    sbin.mkdir()
    (sbin / "mount.bitdust").touch(mode=0o755)
    fstab.write_text(fstab.read_text().replace("noauto", "noauto,_netdev,nofail"))
    assert verdicts(fuse_checks.check_fstab(fstab, (sbin,))) == [("fstab", "ok")]
    assert list(fuse_checks.check_fstab(tmp_path / "none", (sbin,))) == []


def test_a_clock_that_is_behind_is_seen_by_what_was_written_here(home):
    (home / "machine").touch()
    now = time.time()
    check = resources.check_clock
    assert only(check(home, lambda: True, lambda: now - 86400)).verdict == "wrong"
    assert only(check(home, lambda: True, lambda: now)).verdict == "ok"
    assert only(check(home, lambda: None, lambda: now)).verdict == "ok"
    assert only(check(home, lambda: False, lambda: now)).verdict == "warning"
    assert resources.clock_synchronised() in (True, False, None)


def test_disks_that_are_full_or_forget_are_named(tmp_path, monkeypatch):
    assert verdicts(resources.check_disk("cache", tmp_path, kind="ext4")) == [("cache", "ok")]
    assert ("cache", "wrong") in verdicts(resources.check_disk("cache", tmp_path, kind="nfs4"))
    assert ("cache", "warning") in verdicts(resources.check_disk("cache", tmp_path, kind="tmpfs"))

    def disk(free, files=10**6):
        told = SimpleNamespace(f_bavail=free, f_frsize=1 << 20, f_files=10**6, f_favail=files)
        monkeypatch.setattr(resources.os, "statvfs", lambda folder: told)
        return only(resources.check_disk("cache", tmp_path, kind="ext4"))

    assert disk(10).verdict == "wrong"
    assert disk(100).verdict == "warning"
    assert disk(1000, files=5).todo.startswith("df -i")
    assert disk(1000).verdict == "ok"


def test_the_kind_of_a_file_system_is_that_of_the_kernels_table(tmp_path):
    device = os.stat(tmp_path).st_dev
    line = f"1 2 {os.major(device)}:{os.minor(device)} / /x rw,noatime - nfs4 server:/x rw"
    assert resources.file_system_of(tmp_path, ["1 2 0:1 / / rw - proc proc rw", line]) == "nfs4"
    assert resources.file_system_of(tmp_path, ["short"]) == ""


def test_a_home_that_others_may_see_and_bad_keys_are_named(home):
    assert only(homecheck.check_home(home, os.geteuid())).verdict == "ok"
    home.chmod(0o755)
    assert only(homecheck.check_home(home, os.geteuid())).todo == f"chmod 700 {home}"
    assert only(homecheck.check_home(home, os.geteuid() + 1)).verdict == "wrong"
    assert "bitdust setup" in only(homecheck.check_keys(home)).todo
    key = home / "keys" / "vault.key"
    keyfile.save(key, VaultKey(b"k" * 32))
    assert only(homecheck.check_keys(home)).verdict == "ok"
    key.chmod(0o644)
    assert only(homecheck.check_keys(home)).todo == f"run: chmod 600 {key}"
    key.chmod(0o600)
    text = key.read_text()
    key.write_text(text.replace(text[30], "0" if text[30] != "0" else "1", 1))
    found = only(homecheck.check_keys(home))
    assert found.verdict == "wrong" and "24 words" in found.todo


def test_a_broken_configuration_is_named_with_its_line(home):
    assert list(homecheck.check_config()) == [] and not wants_others()
    (home / "config.toml").write_text("[mount]\nallow_other = true\n")
    assert only(homecheck.check_config()).verdict == "ok" and wants_others()
    (home / "config.toml").write_text("[supplier]\n\nspace = true\n")
    assert f"{home}/config.toml:3: space: " in only(homecheck.check_config()).said
    assert not wants_others()


def test_a_locked_key_is_not_asked_for_its_passphrase(home, monkeypatch):
    monkeypatch.setattr(keyfile, "OPS", 1)
    monkeypatch.setattr(keyfile, "MEMORY", 8 << 20)
    keyfile.save(home / "keys" / "vault.key", VaultKey(b"k" * 32), "secret")
    found = only(homecheck.check_keys(home))
    assert found.verdict == "ok" and "passphrase" in found.said


def test_errors_of_the_last_day_are_shown(home):
    (home / "logs").mkdir()
    log, now = home / "logs" / "0011.log", time.mktime((2026, 11, 26, 12, 0, 0, 0, 0, -1))
    log.write_text("2026-11-24 12:00:00,000 ERROR x: old\n2026-11-26 11:00:00,000 INFO x: y\n")
    assert only(homecheck.check_logs(home, now)).verdict == "ok"
    with log.open("a") as file:
        file.write("2026-11-26 11:30:00,000 CRITICAL x: it broke\n    Traceback\n")
    found = only(homecheck.check_logs(home, now))
    assert found.verdict == "warning" and "1 errors" in found.said and "it broke" in found.said


def test_a_port_that_somebody_has_is_named():
    for kind, name in ((socket.SOCK_STREAM, "TCP"), (socket.SOCK_DGRAM, "UDP")):
        with socket.socket(socket.AF_INET, kind) as held:
            held.bind(("127.0.0.1", 0))
            if kind is socket.SOCK_STREAM:
                held.listen()
            listen = f"127.0.0.1:{held.getsockname()[1]}"
            assert running.port_taken(listen).startswith(name)
        assert running.port_taken(listen) == ""


def test_folders_of_suppliers_are_remembered_as_long_as_they_are_there(home, tmp_path):
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    (shelf / "node.key").touch()
    note_own_supplier(b"a" * 32, shelf)
    note_own_supplier(b"b" * 32, tmp_path / "gone")
    note_own_supplier(b"c" * 32)
    assert own_supplier_folders() == [shelf]


def test_every_check_runs_here(home):
    """On whatever machine the tests run: what is found may be anything, and is said in full."""
    found = diagnose(all_checks([home / "none"]))
    assert {name for name, _ in all_checks()} - {f.check for f in found.findings} <= {
        "fstab", "limits", "config"
    }  # fmt: skip
    assert all(f.said and (f.todo or f.verdict == "ok") for f in found.findings)
    assert any("no supplier ever ran in" in f.said for f in found.findings)
