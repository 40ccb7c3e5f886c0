"""Words that a user may get wrong: one sentence on standard error, an exit code, never a
traceback.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bitdustfs
from bitdustfs.cli.cmd_mount import with_word
from bitdustfs.cli.cmd_verify import parse_share
from bitdustfs.cli.main import run
from bitdustfs.cli.policy_words import parse_policy
from bitdustfs.errors import UsageError
from bitdustfs.mount.options import MountOptions
from bitdustfs.mount.places import control_folder
from bitdustfs.rebuild.allowance import last_pause

LIMIT = 60

LISTEN = "127.0.0.1:4000"
TABLE = "user_id=0,group_id=0,default_permissions,allow_other"


def bitdust(home, *words, stdin="", function="main"):
    program = f"import sys; from bitdustfs.cli.main import {function}; sys.exit({function}())"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        env={**os.environ, "BITDUST_HOME": str(home)}, timeout=LIMIT,
        capture_output=True, text=True,
        input=stdin, check=False,
    )  # fmt: skip


def test_a_bug_of_ours_is_not_called_a_wrong_word():
    def buggy(args):
        raise ValueError("a slice of another length")

    with pytest.raises(ValueError, match="slice"):
        run(buggy, argparse.Namespace(), failed=1)


def test_a_home_that_cannot_be_made_is_told_in_a_sentence():
    done = bitdust("/dev/null/home", "key", "show")
    assert done.returncode == 1 and done.stderr.startswith("bitdust: cannot make /dev/null/home")
    assert "set BITDUST_HOME" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "verb", ["status", "sync", "unmount", "verify", "rebuild", "snapshot", "pin"]
)
def test_a_command_that_asks_a_mount_loads_neither_an_event_loop_nor_what_a_vault_needs(verb):
    """They are typed often: with all of that each would take half a second."""
    program = f"import sys; from bitdustfs.cli.main import make_parser; make_parser({{{verb!r}}})"
    heavy = "{'trio', 'cryptography', 'kademlia', 'pyfuse3', 'lmdb', 'bitdustfs.vault.vaults'}"
    asked = f"{program}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", asked], timeout=LIMIT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


BAD = [
    (["supplier", "run", "--dir", "s", "--space", "1G", "--listen", LISTEN, "--for", "all"],
     "'all' is not a vault"),
    (["supplier", "invite", "--dir", "s"], "no supplier ever ran in s"),
    (["vault", "create", "--ecc", "1/1", "--supplier", LISTEN, "--invitation", "x"], "no token"),
    (["vault", "create", "--ecc", "1/1", "--supplier", LISTEN, "--invitation", "@x"], "token in x"),
    (["vault", "create", "--ecc", "9/4", "--bootstrap", "127.0.0.1:9"], "needs 1 <= k <= n"),
    (["vault", "create", "--space", "10X", "--bootstrap", "127.0.0.1:9"], "not a size"),
    (["vault", "create", "--space", "0", "--bootstrap", "127.0.0.1:9"], "at least"),
    (["vault", "create", "--bootstrap", "nowhere"], "write HOST:PORT"),
    (["vault", "create", "--bootstrap", "127.0.0.1:9"], "nobody answers at 127.0.0.1:9"),
    (["vault", "create", "--bootstrap", "127.0.0.1:9", "--policy", "margin=9"], "at most 3"),
    (
            ["vault", "create", "--bootstrap", "127.0.0.1:9", "--policy", "patience=9999999d"],
            "too much",
        ),
    (["vault", "create"], "--bootstrap"),
    (["vault", "create", "--friends"], "no friend joined yet"),
    (["vault", "delete", "--yes"], "no key file"),
    (["invite"], "no supplier ran here yet"),
    (["invite", "--for", "5x"], "no length of time"),
    (["invite", "--name", "\x1b[2J"], "a name has"),
    (["invite", "--dir", "s"], "no supplier ever ran in s"),
    (["join", "x"], "it is no invitation"),
    (["join", "@x"], "cannot be read"),
    (["friends"], "no supplier ran here yet"),
    (["vault", "create", "--key", "/dev/null/key", "--bootstrap", "127.0.0.1:9"], "/dev/null"),
    (["vault", "refound"], "nobody to answer; say --yes"),
    (["vault", "recover"], "no supplier's address"),
    (["vault", "rewind"], "--bootstrap HOST:PORT"),
    (["vault", "rewind", "--to", "yesterday"], "write for example"),
    (["vault", "create", "--retain", "2w", "--bootstrap", "127.0.0.1:9"], "retain=14d"),
    (["vault", "create", "--retain", "999d", "--bootstrap", "127.0.0.1:9"], "is too much"),
    (["key", "show", "--key", "missing"], "no key file"),
    (["key", "show", "--key", "/dev/null/key"], "cannot be read"),
    (["key", "restore", "--key", "new"], "24 words"),
    (["mount", "missing"], "not a folder"),
    (["mount", ".", "-o", "nonsense"], "'nonsense' is not known"),
    (["mount", "."], "-o bootstrap=HOST:PORT"),
    (["status", "."], "no bitdust mount runs"),
    (["unmount", "."], "no bitdust mount runs"),
    (["pins", "."], "no bitdust mount runs"),
    (["pin", "nothing"], "nothing is not there"),
    (["unpin", "/"], "no bitdust mount runs"),
    (["verify", ".", "--sample", "500%"], "no share"),
    (["supplier", "leave", "--dir", "."], "no supplier runs in"),
    (["supplier", "run", "--dir", "s", "--space", "1G", "--listen", "0.0.0.0:80"], "1024"),
    (
        ["supplier", "run", "--dir", "s", "--space", "1G", "--listen", "[fe80::1]:4000"],
        "--announce",
    ),
    (["supplier", "run", "--dir", "s", "--space", "1G", "--listen", "localhost:4000"], "0.0.0.0"),
    (["supplier", "run", "--dir", "s", "--space", "1G", "--listen", "127.0.0.1:80"], "1024"),
    (
            ["supplier", "run", "--dir", "s", "--space", "4000T", "--listen", LISTEN],
            "room for",
        ),
    (
        ["supplier", "run", "--dir", "s", "--space", "1G", "--listen", "127.0.0.1:4000",
         "--trash-days", "-5"],
        "--trash-days",
    ),
    (
            ["supplier", "run", "--dir", "/dev/null/s", "--space", "1G", "--listen", LISTEN],
            "/dev/null",
        ),
    (["swarm", "/dev/null/swarm"], "/dev/null"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "said"), BAD, ids=lambda value: " ".join(value)[:60])
def test_a_wrong_word_is_answered_by_a_sentence(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(bitdustfs.__file__).parents[1]))
    if words[:2] in (["mount", "."], *(["vault", v] for v in ("refound", "recover", "rewind"))):
        bitdust("home", "key", "restore", stdin=" ".join(["abandon"] * 23 + ["art"]))
    done = bitdust("home", *words)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()[-1]) < 400
    assert said in done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "policy"),
    [
        (["patience=48h", "margin=2"], {"patience": 172800, "margin": 2}),
        (["bandwidth=10M", "spread=host"], {"bandwidth": 10 << 20, "spread": 1}),
        (["retain=14d"], {"retain": 14 * 86400}),
        (["retain=0d"], {"retain": 0}),
    ],
)
def test_policies_are_read(words, policy):
    assert parse_policy(words) == policy
    for wrong in (
        "patience",
        "patience=",
        "patience=5",
        "margin=x",
        "bandwidth=-1",
        "spread=far",
        "=",
        "",
    ):
        with pytest.raises(UsageError):
            parse_policy([wrong])


def test_shares_are_read():
    assert parse_share("5%") == 0.05 and parse_share("100") == 1.0
    for wrong in ("", "x%", "101%", "-1"):
        with pytest.raises(UsageError):
            parse_share(wrong)


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("strictatime", "noatime"),
        ("relatime", "noatime"),
        ("suid", "nosuid and nodev"),
        ("dev", "nosuid and nodev"),
    ],
)
def test_what_a_mount_cannot_do_is_refused_and_named(tmp_path, word, why):
    options = MountOptions(tmp_path, tmp_path / "key")
    with pytest.raises(UsageError, match=f"leave out the mount option {word}: .*{why}"):
        with_word(options, word)


def test_audits_have_a_budget(tmp_path):
    options = MountOptions(tmp_path, tmp_path / "key")
    assert last_pause(options.audits) * 1450 > 86400 > last_pause(options.audits) * 1000
    assert with_word(options, "audits=10M").audits == 10 << 20
    with pytest.raises(UsageError, match=r"1\.0 MiB a day is the least"):
        with_word(options, "audits=10")


@pytest.mark.parametrize("word", ["noatime", "nodiratime", "nosuid", "nodev", "defaults", "async"])
def test_what_a_mount_does_anyway_may_be_said(tmp_path, word):
    options = MountOptions(tmp_path, tmp_path / "key")
    assert with_word(options, word) == options


def test_mount_8_and_fstab_may_say_what_they_always_say(world):
    """`mount -t bitdust`, as root, through a link in a folder of its own instead of /sbin."""
    done = bitdust(
        world.home, "none", world.mountpoint, "-f", "-n", "-o",
        "rw,noexec,nosuid,nodev,user,noatime,_netdev,nofail,x-systemd.automount,comment=photos",
        function="mount_main",
    )  # fmt: skip
    assert done.returncode == 0 and not os.path.ismount(world.mountpoint)  # -f: it only looked
    wrong = bitdust(world.home, world.mountpoint, "-o", "nonsense", function="mount_main")
    assert wrong.returncode == 1
    done = bitdust(
        world.home, "none", world.mountpoint, "-o", "rw,noexec,noatime", function="mount_main"
    )
    assert done.returncode == 0, done.stderr
    (world.mountpoint / "program").write_text("#!/bin/sh\n")
    os.chmod(world.mountpoint / "program", 0o755)
    with pytest.raises(PermissionError):
        subprocess.run([world.mountpoint / "program"], check=True)
    link = world.root / "link"
    link.symlink_to(world.mountpoint)
    assert (
        "published" in world.run("status", link).stdout
        or "local" in world.run("status", link).stdout
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may remount")
def test_a_mount_is_turned_read_only_and_writable_again(world):
    def remount(words, code):
        told = world.mount(f"remount,{words}", check=False)
        assert told.returncode == code, told.stderr
        return told.stderr

    assert "no bitdust mount runs" in remount("ro", 2)
    world.mount("noexec")
    file = world.mountpoint / "file"
    with file.open("w") as opened:
        opened.write("while it may be written")
        assert "open for writing there" in remount("ro", 1)
    assert remount("ro,noexec", 0) == ""
    assert os.getxattr(file, "user.bitdust.state") != b"dirty"
    with pytest.raises(OSError, match="Read-only file system"):
        file.write_text("now")
    flags = os.statvfs(world.mountpoint).f_flag
    wanted = os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC | os.ST_NOATIME
    assert flags & wanted == wanted
    # as mount(8) repeats what the kernel's table has
    assert remount(f"rw,exec,nosuid,nodev,noatime,{TABLE}", 0) == ""
    assert not os.statvfs(world.mountpoint).f_flag & (os.ST_RDONLY | os.ST_NOEXEC)
    file.write_text("again")
    assert "the rest stays as mounted" in remount("rw,cache=1G", 0)
    assert "'nonsense' is not known" in remount("rw,nonsense", 2)
    world.run("unmount", world.mountpoint)
    world.mount("ro")
    assert "began with -o ro" in remount("rw", 1)
    assert file.read_text() == "again"


def write_synced(path, content):
    with path.open("wb", buffering=0) as file:
        file.write(content)
        os.fsync(file.fileno())


def end_at_once(world):
    """kill -9; the dead mount stays."""
    pid = world.mount_pid()
    os.kill(pid, 9)
    wait_for_end_of(pid)


def wait_for_end_of(pid):
    deadline = time.monotonic() + LIMIT
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_dead_mount_is_told_and_cleared_and_what_it_left_is_said(world):
    world.mount()
    write_synced(world.mountpoint / "file", b"kept")
    end_at_once(world)
    told = world.run("status", world.mountpoint, check=False)
    assert told.returncode and "dead" in told.stderr and "bitdust unmount" in told.stderr
    told = world.run("unmount", world.mountpoint, "--json", check=False)
    assert told.returncode == 1 and "cleared away, but" in told.stderr
    said = json.loads(told.stdout)
    assert said["dead"] and not said["published"] and said["trouble"] in told.stderr
    for fact in ("not published", "is kept there", "by the next mount here", "memory only is lost"):
        assert fact in told.stderr
    assert not os.path.ismount(world.mountpoint)
    world.mount("take-over")
    assert (world.mountpoint / "file").read_bytes() == b"kept"
    world.run("sync", world.mountpoint)
    end_at_once(world)
    told = world.run("unmount", world.mountpoint)
    assert "cleared away and all that was on this machine's disk is published" in told.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may break the connection to the kernel")
def test_a_mount_that_the_kernel_dropped_publishes_and_is_heard(world):
    world.mount()
    write_synced(world.mountpoint / "file", b"kept")
    break_connection(world.mountpoint)
    told = world.run("unmount", world.mountpoint)
    assert "dead mount; it is cleared away and " in told.stdout and "published" in told.stdout
    world.mount()
    assert (world.mountpoint / "file").read_bytes() == b"kept"
    pid = world.mount_pid()
    break_connection(world.mountpoint)
    wait_for_end_of(pid)  # nobody is there to be asked; its vault's state is
    told = world.run("unmount", world.mountpoint)
    assert "dead mount; it is cleared away and all that" in told.stdout


def break_connection(mountpoint):
    """As an administrator does where a mount hangs."""
    number = os.minor(os.stat(mountpoint).st_dev)
    with control_folder() as folder:
        fd = os.open(f"{number}/abort", os.O_WRONLY, dir_fd=folder)
        os.write(fd, b"1")
        os.close(fd)


@pytest.mark.slow
def test_unmount_ends_the_mount_also_when_too_few_suppliers_are_there(world):
    world.mount()
    for number in range(4):
        world.stop_supplier(number)
    (world.mountpoint / "file").write_text("kept here")
    told = world.run("sync", world.mountpoint, check=False)
    assert told.returncode == 1 and "3 of 7 suppliers answer and 4 are needed" in told.stderr
    told = world.run("unmount", world.mountpoint, check=False)
    assert told.returncode == 1 and "is unmounted, but" in told.stderr
    assert not os.path.ismount(world.mountpoint)
    world.start()
    world.mount()
    assert (world.mountpoint / "file").read_text() == "kept here"
    assert "published" in world.run("sync", world.mountpoint).stdout


def test_a_long_home_and_a_mountpoint_that_is_not_utf8_mount_and_are_told(world):
    home = world.root / ("h" * 60) / ("i" * 60)
    home.parent.mkdir()
    shutil.move(world.home, home)
    world.home = home
    world.mountpoint = Path(os.fsdecode(os.fsencode(world.root) + b"/caf\xe9"))
    world.mountpoint.mkdir()
    strict = {"PYTHONIOENCODING": "utf-8:strict"}
    world.mount(environment=strict)
    assert os.path.ismount(world.mountpoint)
    (world.mountpoint / "file").write_text("x")
    for verb in ("status", "sync", "unmount"):
        told = subprocess.run(
            [sys.executable, "-m", "bitdustfs.cli.main", verb, world.mountpoint], timeout=LIMIT,
            env={**os.environ, **strict, "BITDUST_HOME": str(home)}, capture_output=True,
            check=True,
        )  # fmt: skip
        assert b"Traceback" not in told.stderr
    verdict, said = told.stdout.splitlines()
    assert verdict == b"safe: everything is on 7 of 7 suppliers, 3 may be lost"
    assert said == os.fsencode(world.mountpoint) + b" is unmounted and published"
