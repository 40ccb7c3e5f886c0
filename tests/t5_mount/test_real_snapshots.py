"""Snapshots on real mounts: made, looked at with ordinary tools, deleted, seen elsewhere."""

import argparse
import errno
import json
import os
import random
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import real_input

from bitdustfs.cli import cmd_vault
from bitdustfs.cli.cmd_vault import parse_order
from bitdustfs.cli.cmd_versions import put_in_place
from bitdustfs.cli.schedule_words import parse_schedule
from bitdustfs.core.policy import read_policy
from bitdustfs.core.schedule import OFF, USUAL
from bitdustfs.errors import UsageError

LIMIT = 120  #: seconds that cp, find or diff may take


def run(*words):
    return subprocess.run(
        [*map(str, words)], check=True, timeout=LIMIT, capture_output=True, text=True
    ).stdout


def same(one, other):
    run("diff", "-r", "--no-dereference", "--exclude=fifo", one, other)
    assert real_input.manifest(one) == real_input.manifest(other)


def refused(code, function, *words):
    with pytest.raises(OSError) as caught:
        function(*words)
    assert caught.value.errno == code


@pytest.mark.slow
def test_a_snapshot_shows_all_as_it_was_also_after_kill_and_elsewhere(world, tmp_path):
    mnt, source = world.mountpoint, tmp_path / "source"
    real_input.make_all(source, 1_000_000, whole=False)
    world.mount()
    run("cp", "-a", source, mnt / "tree")
    with open(mnt / "tree" / "pending", "wb") as file:  # in the kernel's pages alone
        file.write(b"p" * 100_000)
    shutil.copy2(mnt / "tree" / "pending", source / "pending")
    run("touch", "-r", mnt / "tree" / "pending", source / "pending")
    run("touch", "-r", mnt / "tree", source)
    assert "published" in world.run("snapshot", "create", mnt, "one").stdout
    past = mnt / ".snapshots" / "one"
    same(source, past / "tree")
    assert ".snapshots" not in os.listdir(mnt)
    assert os.listdir(mnt / ".snapshots") == ["one"]
    shutil.rmtree(mnt / "tree")
    (mnt / "later").write_bytes(random.Random(1).randbytes(2_000_000))
    world.run("sync", mnt)
    world.kill_mount()
    world.mount()
    same(source, past / "tree")
    run("cp", "-a", past / "tree", tmp_path / "copied")
    same(source, tmp_path / "copied")
    assert not (past / "later").exists()
    said = world.run("verify", mnt).stdout
    assert "nothing is wrong" in said and "1 snapshots were walked" in said
    world.run("unmount", mnt)
    bootstrap = world.move_to("two")
    world.mount(bootstrap)
    same(source, past / "tree")
    assert run("find", mnt / ".snapshots", "-name", "pending").count("pending") == 1
    world.run("snapshot", "delete", mnt, "one", "--yes")
    assert not past.exists()
    assert json.loads(world.run("snapshot", "list", mnt, "--json").stdout)["snapshots"] == []
    world.run("unmount", mnt)


@pytest.mark.slow
@pytest.mark.parametrize(
    "point",
    ["leaf-write", "checkpoint-committed", "snapshot-mark", "snapshot-marked", "root-accept"],
)
def test_a_mount_killed_while_it_makes_a_snapshot_has_it_whole_or_not_at_all(world, point, long):
    if not long and point in ("leaf-write", "checkpoint-committed"):
        pytest.skip("only with --long: test_crash comes by here, too")
    mnt, content = world.mountpoint, random.Random(5).randbytes(700_000)
    world.mount()
    (mnt / "file").write_bytes(content)
    world.run("sync", mnt)
    world.run("unmount", mnt)
    world.mount(environment={"BITDUST_FAILPOINTS": f"{point}=kill@1"})
    (mnt / "file").write_bytes(content[::-1])
    assert world.run("snapshot", "create", "one", check=False).returncode
    world.detach()
    world.mount()
    assert (mnt / "file").read_bytes() == content[::-1]
    kept = json.loads(world.run("snapshot", "list", "--json").stdout)["snapshots"]
    assert bool(kept) is (point in ("snapshot-marked", "root-accept")), kept
    if kept:
        assert (mnt / ".snapshots" / "one" / "file").read_bytes() == content[::-1]
    (mnt / "file").unlink()
    world.run("snapshot", "create", "two")
    world.run("unmount", mnt)
    world.mount(world.move_to("two"))
    assert os.listdir(mnt / ".snapshots") == ["one", "two"][not kept :]
    assert os.listdir(mnt / ".snapshots" / "two") == []
    if kept:
        assert (mnt / ".snapshots" / "one" / "file").read_bytes() == content[::-1]
    assert "nothing is wrong" in world.run("verify", mnt).stdout
    world.run("unmount", mnt)


def test_nothing_of_a_snapshot_can_be_changed(world):
    mnt = world.mountpoint
    world.mount()
    (mnt / "folder").mkdir()
    (mnt / "folder" / "file").write_bytes(b"then")
    os.setxattr(mnt / "folder" / "file", "user.word", b"then")
    world.run("snapshot", "create", "one")
    (mnt / "folder" / "file").write_bytes(b"now, and longer")
    with open(mnt / "offset", "wb", buffering=0) as file:
        file.write(b"x")
        assert os.pwrite(file.fileno(), b".snapshots", 1) == 10
        os.fsync(file.fileno())
    (mnt / "offset").unlink()
    os.setxattr(mnt / "folder" / "file", "user.word", b"now")
    past = mnt / ".snapshots" / "one" / "folder"
    assert (past / "file").read_bytes() == b"then"
    assert os.getxattr(past / "file", "user.word") == b"then"
    assert (past / "file").stat().st_ino != (mnt / "folder" / "file").stat().st_ino
    for function, *words in (
        (open, past / "file", "r+b"),
        (open, past / "file", "wb"),
        (open, past / "new", "wb"),
        (os.mkdir, past / "new"),
        (os.unlink, past / "file"),
        (os.rmdir, past),
        (os.rename, past / "file", mnt / "file"),
        (os.rename, mnt / "folder" / "file", past / "new"),
        (os.rename, mnt / "folder", mnt / ".snapshots"),
        (os.link, past / "file", mnt / "linked"),
        (os.symlink, "x", past / "new"),
        (os.chmod, past / "file", 0o600),
        (os.truncate, past / "file", 0),
        (os.utime, past / "file"),
        (os.setxattr, past / "file", "user.word", b"other"),
        (os.mkdir, mnt / ".snapshots" / "new"),
        (os.rmdir, mnt / ".snapshots"),
    ):
        refused(errno.EROFS, function, *words)
    refused(errno.EEXIST, os.mkdir, mnt / ".snapshots")
    assert (past / "file").read_bytes() == b"then"
    assert (mnt / "folder" / "file").read_bytes() == b"now, and longer"
    held = os.open(past, os.O_RDONLY)
    try:
        said = world.run("snapshot", "create", "one", check=False)
        assert said.returncode == 1 and "one already" in said.stderr
        shown = json.loads(world.run("snapshot", "show", "one", "--json").stdout)
        assert shown["name"] == "one" and shown["inodes"] == 3
        world.run("snapshot", "delete", "one", "--yes")
        refused(errno.ESTALE, os.listdir, held)
    finally:
        os.close(held)
    refused(errno.ENOENT, os.stat, past)
    world.run("snapshot", "create", "one")
    assert (past / "file").read_bytes() == b"now, and longer"
    world.run("unmount", mnt)


def test_a_deleted_file_and_folder_come_back_and_versions_are_told(world):
    mnt = world.mountpoint
    world.mount()
    folder = mnt / "folder"
    folder.mkdir()
    (folder / "letter").write_bytes(b"first")
    world.run("snapshot", "create", "one")
    world.run("snapshot", "create", "two")
    (folder / "letter").write_bytes(b"second version")
    os.utime(folder / "letter", (1_000_000_000, 1_000_000_000))
    os.chmod(folder / "letter", 0o640)
    world.run("snapshot", "create", "three")
    shutil.rmtree(folder)
    world.run("snapshot", "create", "four")
    told = json.loads(world.run("versions", folder / "letter", "--json").stdout)
    assert [(v["snapshot"], v["size"]) for v in told] == [("two", 5), ("three", 14)]
    said = world.run("undelete", folder / "letter", check=False)
    assert said.returncode == 2 and "undelete that folder" in said.stderr
    assert "snapshot three" in world.run("undelete", folder).stdout
    assert (folder / "letter").read_bytes() == b"second version"
    status = (folder / "letter").stat()
    assert (status.st_mtime, status.st_mode & 0o777) == (1_000_000_000, 0o640)
    assert world.run("undelete", folder, check=False).returncode == 2
    (folder / "letter").unlink()
    world.run("undelete", folder / "letter", "--from", "one")
    assert (folder / "letter").read_bytes() == b"first"
    assert os.listdir(folder) == ["letter"]
    world.run("unmount", mnt)


def test_a_vault_is_mounted_as_it_was_at_a_name_and_at_a_time(world):
    mnt = world.mountpoint
    world.mount()
    (mnt / "file").write_bytes(b"then")
    world.run("snapshot", "create", "one")
    made = json.loads(world.run("snapshot", "show", "one", "--json").stdout)["made"]
    (mnt / "file").write_bytes(b"now")
    (mnt / "later").write_bytes(b"now")
    said = world.run("snapshot", "schedule", mnt, "usual", "hourly=3").stdout
    assert "hourly=3 " in said and "daily=30 " in said
    world.run("unmount", mnt)
    moment = datetime.fromtimestamp(int(made) + 1, UTC).isoformat()
    for at in ("one", moment):
        world.mount(f"at={at}")
        assert os.listdir(mnt) == ["file"] and (mnt / "file").read_bytes() == b"then"
        refused(errno.EROFS, (mnt / "file").write_bytes, b"x")
        assert "nothing is wrong" in world.run("verify", mnt).stdout
        world.run("unmount", mnt)
    for at in ("two", "2001-01-01"):
        done = world.mount(f"at={at}", check=False)
        assert done.returncode and "snapshot" in done.stderr
    world.mount()
    assert (mnt / "later").read_bytes() == b"now"
    told = json.loads(world.run("snapshot", "schedule", "--json").stdout)
    assert told["on"] and told["hourly"] == 3 and told["share"] == 20
    world.run("unmount", mnt)


def test_words_of_a_schedule():
    assert parse_schedule([], OFF) == OFF
    assert parse_schedule(["hourly=5", "share=0"], USUAL) == replace(USUAL, hourly=5, share=0)
    assert parse_schedule(["off"], USUAL) == OFF
    for word in ("hourly", "hourly=x", "hourly=-1", "hourly=1001", "share=101", "on", "yearly=1"):
        with pytest.raises(UsageError):
            parse_schedule([word], USUAL)
    parser = argparse.ArgumentParser()
    cmd_vault.add_arguments(parser)

    def words(*more):
        order = parse_order(
            parser.parse_args(["create", "--bootstrap", "h:1", "--space", "1G", *more])
        )
        return read_policy(order.words).schedule

    assert words() == OFF and words("--schedule", "usual") == USUAL
    assert words("--schedule", "off") == OFF
    assert words("--schedule", "daily=7") == replace(OFF, daily=7)


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_undelete_replaces_nothing_that_came_meanwhile(tmp_path, kind):
    copied, path = tmp_path / "copied", tmp_path / "path"
    if kind == "folder":
        copied.mkdir()
        path.mkdir()
    else:
        copied.write_bytes(b"old") if kind == "file" else copied.symlink_to("old")
        path.write_bytes(b"new")
    with pytest.raises(FileExistsError):
        put_in_place(copied, path)
    assert path.is_dir() or path.read_bytes() == b"new"
    put_in_place(copied, tmp_path / "free")
    assert os.path.lexists(tmp_path / "free")
