"""Programs that people use, on a mount."""

import fcntl
import mmap
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

LIMIT = 300  #: seconds any one program may take


def sh(command, cwd=None, check=True):
    done = subprocess.run(
        command, shell=True, cwd=cwd, timeout=LIMIT, capture_output=True, text=True, check=False
    )
    if check:
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_git_clones_checks_and_collects(world, tmp_path):
    source = tmp_path / "repository"
    shutil.copytree(Path(os.__file__).parent / "email", source)
    identity = "-c user.name=n -c user.email=e@example.org"
    sh(f"git init -q . && git add -A && git {identity} commit -qm first", cwd=source)
    for number in range(5):
        (source / "changing").write_text(str(number) * 10_000)
        sh(f"git add -A && git {identity} commit -qm {number}", cwd=source)
    world.mount()
    sh(f"git clone -q --no-local {source} clone", cwd=world.mountpoint)
    clone = world.mountpoint / "clone"
    sh("git fsck --full --strict && git gc -q --aggressive --prune=now && git fsck", cwd=clone)
    (clone / "changing").write_text("changed here")
    sh(f"git {identity} commit -qam here && git checkout -q HEAD~3 && git checkout -q -", cwd=clone)
    world.run("unmount", world.mountpoint)
    world.mount(world.move_to("two"))
    assert sh("git status --porcelain && git fsck", cwd=clone) == ""
    assert (clone / "changing").read_text() == "changed here"


TRANSACTIONS = """
import sqlite3, sys
database, mode = sys.argv[1:]
connection = sqlite3.connect(database, isolation_level=None)
connection.execute(f"pragma journal_mode={mode}")
connection.execute("pragma synchronous=extra")  # as full, and the unlinked journal is synced
connection.execute("create table if not exists t (n integer primary key, filler blob)")
for n in range(1_000_000):
    connection.execute("begin")
    connection.execute("insert into t (filler) values (randomblob(3000))")
    connection.execute("insert into t (filler) values (randomblob(10))")
    connection.execute("commit")
    print(n, flush=True)
"""


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_sqlite_survives_kill_9_of_the_mount(world, mode):
    committed = -1
    for _ in range(2):
        world.mount()
        database = world.mountpoint / "data.sqlite"
        writer = subprocess.Popen(
            [sys.executable, "-c", TRANSACTIONS, str(database), mode],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        before = committed
        deadline = time.monotonic() + 60
        while committed < before + 25:
            assert time.monotonic() < deadline, "SQLite makes no progress"
            committed = before + 1 + int(writer.stdout.readline())
        os.kill(world.mount_pid(), signal.SIGKILL)
        rest = writer.communicate(timeout=60)[0].split()
        if mode == "delete":
            # SQLite says that a transaction is committed also when it cannot open the folder to
            # sync the journal's removal: the last one after the kill was perhaps not synced
            rest = rest[:-1]
        committed = max([committed, *(before + 1 + int(line) for line in rest)])
        world.detach()
        world.mount()
        with sqlite3.connect(database) as connection:
            assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
            rows = connection.execute("select count(*) from t").fetchone()[0]
        connection.close()
        assert rows % 2 == 0 and rows >= 2 * (committed + 1)
        committed = rows // 2 - 1
        world.run("unmount", world.mountpoint)


def test_rsync_there_and_back_has_nothing_to_do_the_second_time(world, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(Path(os.__file__).parent / "json", source / "json", symlinks=True)
    os.link(source / "json" / "decoder.py", source / "linked.py")
    os.symlink("json", source / "symlink")
    os.setxattr(source / "linked.py", "user.comment", b"kept")
    os.utime(source / "linked.py", ns=(1, 1_500_000_000_123_456_789))
    world.mount()
    sh(f"rsync -aHAX {source}/ {world.mountpoint}/copy/")
    assert sh(f"rsync -aHAXi {source}/ {world.mountpoint}/copy/") == ""
    sh(f"rsync -aHAX {world.mountpoint}/copy/ {tmp_path}/back/")
    assert sh(f"rsync -aHAXic {source}/ {tmp_path}/back/") == ""


def test_tar_in_and_out_and_a_program_built_in_parallel(world, tmp_path):
    world.mount()
    library = Path(os.__file__).parent
    sh(f"tar -C {library} -cf - json email logging | tar -xpf -", cwd=world.mountpoint)
    for name in ("json", "email", "logging"):
        sh(f"diff -r {library / name} {world.mountpoint / name}")
    build = world.mountpoint / "build"
    build.mkdir()
    names = [f"part{i}" for i in range(12)]
    for name in names:
        (build / f"{name}.c").write_text(f"int {name}(void) {{ return 1; }}\n")
    calls = "+".join(f"{name}()" for name in names)
    declared = "".join(f"int {name}(void);\n" for name in names)
    (build / "main.c").write_text(f"{declared}int main(void) {{ return {calls} == 12 ? 0 : 1; }}\n")
    objects = " ".join(f"{name}.o" for name in [*names, "main"])
    (build / "Makefile").write_text(f"program: {objects}\n\tcc -o $@ $^\n%.o: %.c\n\tcc -c $<\n")
    sh("make -j2 && ./program && make -q", cwd=build)


def a_wheel(folder):
    """A package to install, with nothing to download."""
    path = folder / "here-1.0-py3-none-any.whl"
    info = "here-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("here/__init__.py", "answer = 42\n")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: here\nVersion: 1.0\n")
        tag = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{info}/WHEEL", tag)
        wheel.writestr(f"{info}/RECORD", "")
    return path


def test_a_virtual_environment_made_filled_by_pip_and_run_from_the_mount(world, tmp_path):
    world.mount()
    folder = world.mountpoint / "venv"
    sh(f"{sys.executable} -m venv {folder}")
    sh(f"{folder}/bin/python -m pip install --no-index --quiet {a_wheel(tmp_path)}")
    assert sh(f"{folder}/bin/python -c 'import here; print(here.answer)'") == "42\n"
    cached = sh(f"{folder}/bin/python -c 'import here; print(here.__cached__)'").strip()
    assert Path(cached).is_relative_to(folder) and Path(cached).exists()
    assert "here" in sh(f"{folder}/bin/python -m pip list --disable-pip-version-check")


def test_mmap_writers_and_readers_agree(world):
    world.mount()
    path = world.mountpoint / "mapped"
    rng = random.Random(1)
    model = bytearray(rng.randbytes(3_000_000))
    path.write_bytes(model)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        for _ in range(300):
            at, size = rng.randrange(2_900_000), rng.randrange(1, 20_000)
            data = rng.randbytes(size)
            if rng.random() < 0.5:
                mapping[at : at + size] = data
            else:
                os.pwrite(file.fileno(), data, at)
            model[at : at + size] = data
            at = rng.randrange(2_900_000)
            assert os.pread(file.fileno(), 1000, at) == model[at : at + 1000]
        mapping.flush()
    world.run("unmount", world.mountpoint)
    world.mount(world.move_to("two"))
    assert path.read_bytes() == model


HOLD = """
import fcntl, sys
file = open(sys.argv[1], "r+")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_flock_holds_between_processes(world):
    world.mount()
    path = world.mountpoint / "lock"
    path.touch()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout.readline() == "held\n"
    with open(path, "r+") as file:
        with pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        holder.communicate("", timeout=30)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
