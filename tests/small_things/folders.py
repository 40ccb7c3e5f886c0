"""Folders, locks, and programs that people use."""

import fcntl
import os
import shutil
import subprocess
from contextlib import ExitStack

from small_things import case, made, outcome, run

# -- folders


@case
def a_folder_listed_while_it_changes(folder):
    for number in range(300):
        made(folder, f"f{number}", b"")
    seen = set()
    with os.scandir(folder) as entries:
        for at, entry in enumerate(entries):
            seen.add(entry.name)
            if at == 50:
                for number in range(100, 150):
                    (folder / f"f{number}").unlink()
                    made(folder, f"g{number}", b"")
    kept = {f"f{n}" for n in (*range(100), *range(150, 300))}
    return kept <= seen, len(os.listdir(folder))


@case
def removing_while_listing(folder):
    for number in range(500):
        made(folder, str(number), b"")
    return run(folder.parent, "rm", "-r", folder.name)[0], folder.exists()


@case
def find_by_kind_and_size(folder):
    (folder / "d").mkdir()
    made(folder, "small", b"x")
    made(folder, "large", b"x" * 5000)
    os.symlink("small", folder / "link")
    return [
        sorted(run(folder, "find", ".", *words)[1].split())
        for words in (
            ("-type", "d"),
            ("-type", "l"),
            ("-type", "f", "-size", "+4000c"),
            ("-empty",),
        )
    ]


@case
def two_thousand_files_are_two_thousand(folder):
    for number in range(2000):
        made(folder, f"file {number}", b"%d" % number)
    names = os.listdir(folder)
    return len(names), len(set(names)), (folder / "file 1234").read_bytes()


@case
def inode_numbers_are_those_of_readdir(folder):
    made(folder, "a")
    (folder / "d").mkdir()
    with os.scandir(folder) as entries:
        return all(entry.inode() == os.lstat(entry.path).st_ino for entry in entries)


@case
def dot_and_dot_dot(folder):
    (folder / "d").mkdir()
    return os.path.samefile(folder / "d" / "..", folder), run(folder, "ls", "-fa", "d")[0]


# -- locks


@case
def flock_keeps_a_second_one_out(folder):
    made(folder)
    with open(folder / "file") as one, open(folder / "file") as two:
        fcntl.flock(one, fcntl.LOCK_EX)
        refused = outcome(fcntl.flock, two, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(one, fcntl.LOCK_UN)
        return refused, outcome(fcntl.flock, two, fcntl.LOCK_EX | fcntl.LOCK_NB)


@case
def a_lock_of_a_range(folder):
    path = made(folder)
    with open(path, "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 10, 0)
        code = (
            "import fcntl,sys\nfile = open(sys.argv[1], 'r+b')\nfor at in (5, 20):\n try:\n"
            "  fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 5, at); print('had')\n"
            " except OSError: print('refused')\n"
        )
        return run(folder, "python3", "-c", code, str(path))[1]


# -- programs


@case
def tar_and_back(folder):
    (folder / "in" / "deep").mkdir(parents=True)
    made(folder / "in" / "deep", "a", b"x" * 70_000)
    os.symlink("deep/a", folder / "in" / "link")
    os.link(folder / "in" / "deep" / "a", folder / "in" / "hard")
    run(folder, "tar", "cf", "t.tar", "in")
    (folder / "out").mkdir()
    run(folder, "tar", "xf", "t.tar", "-C", "out")
    return run(folder, "diff", "-r", "in", "out/in"), os.stat(folder / "out/in/hard").st_nlink


@case
def rsync_twice_copies_nothing_the_second_time(folder):
    if shutil.which("rsync") is None:
        return None
    (folder / "in").mkdir()
    for number in range(20):
        made(folder / "in", str(number), b"%d" % number * 1000)
    run(folder, "rsync", "-a", "in/", "out/")
    return run(folder, "rsync", "-ai", "in/", "out/"), run(folder, "diff", "-r", "in", "out")


@case
def sed_in_place(folder):
    made(folder, content=b"one two\n")
    run(folder, "sed", "-i", "s/two/three/", "file")
    return (folder / "file").read_bytes(), os.listdir(folder)


@case
def git_commits_and_is_sound(folder):
    if shutil.which("git") is None:
        return None
    made(folder)
    name = ("-c", "user.name=n", "-c", "user.email=e@x", "-c", "init.defaultBranch=m")
    run(folder, "git", *name, "init", "-q")
    run(folder, "git", *name, "add", ".")
    done = run(folder, "git", *name, "commit", "-qm", "first")[0]
    return done, run(folder, "git", "fsck", "--strict")[0], run(folder, "git", "status", "-s")[1]


@case
def dd_with_holes_and_du(folder):
    run(folder, "dd", "if=/dev/zero", "of=file", "bs=1", "count=1", "seek=10000000")
    blocks = int(run(folder, "du", "-k", "file")[1].split()[0])
    return (folder / "file").stat().st_size, blocks < 1000


@case
def truncate_and_fallocate(folder):
    return run(folder, "truncate", "-s", "5G", "file")[0], (folder / "file").stat().st_size


@case
def split_and_cat(folder):
    content = bytes(range(256)) * 1000
    made(folder, content=content)
    run(folder, "split", "-b", "10000", "file", "part.")
    run(folder, "sh", "-c", "cat part.* > whole")
    return (folder / "whole").read_bytes() == content


@case
def a_script_is_run(folder):
    path = made(folder, "script", b"#!/bin/sh\necho it runs\n")
    path.chmod(0o755)
    return run(folder, "./script")


@case
def a_running_program_is_not_overwritten(folder):
    shutil.copy(shutil.which("sleep"), folder / "program")
    with subprocess.Popen([folder / "program", "5"]) as running:
        found = outcome(os.open, folder / "program", os.O_WRONLY)
        running.kill()
    return found


@case
def many_open_files(folder):
    with ExitStack() as stack:
        files = [stack.enter_context(open(folder / str(n), "w+b")) for n in range(200)]
        for number, file in enumerate(files):
            file.write(b"%d" % number)
        for file in files:
            file.flush()
        return sum(int((folder / str(n)).read_bytes()) for n in range(200))
