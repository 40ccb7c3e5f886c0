"""A hundred small things that broke other file systems, on a mount and on a plain folder beside it.

Each case gets a fresh folder and says what it saw; both folders have to say the same. What is asked
is what users of S3QL, gocryptfs, CryFS, rclone, JuiceFS, restic and others reported of theirs.
"""

import errno
import fcntl
import mmap
import os
import shutil
import socket
import stat
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

CASES = {}


def case(function):
    CASES[function.__name__.replace("_", " ")] = function
    return function


def outcome(call, *words):
    """What a call returns, or the name of its error."""
    try:
        return call(*words)
    except OSError as error:
        return errno.errorcode[error.errno]


def run(folder, *words):
    """Exit code and output of a program in a folder."""
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    return done.returncode, done.stdout.replace(str(folder), "."), bool(done.stderr)


def made(folder, name="file", content=b"content"):
    path = folder / name
    path.write_bytes(content)
    return path


def kind(path):
    info = os.lstat(path)
    return stat.S_IFMT(info.st_mode), stat.S_IMODE(info.st_mode), info.st_size, info.st_nlink


# -- names


for name_of_case, name_bytes in {
    "a name of 255 bytes": b"n" * 255,
    "a name of 256 bytes": b"n" * 256,
    "a name that is no UTF-8": b"\xff\xfe\x80",
    "a name of one newline": b"\n",
    "a name with a backslash and quotes": b"\\\"'`$",
    "a name of blanks": b"   ",
    "a name that ends with a dot": b"dot.",
    "a name like a device of DOS": b"AUX.txt",
    "a name with control characters": bytes(range(1, 32)),
    "a name of an emoji": "\U0001f600".encode(),
    "three dots": b"...",
    "a name with a colon": b"C:file",
    "a name like an option": b"-rf",
}.items():

    def with_name(folder, name=name_bytes):
        path = os.path.join(os.fsencode(folder), name)

        def write():
            with open(path, "wb") as file:
                return file.write(b"x")

        return outcome(write), sorted(os.listdir(os.fsencode(folder)))

    CASES[name_of_case] = with_name


@case
def names_that_differ_in_case_are_two(folder):
    made(folder, "a", b"1")
    made(folder, "A", b"2")
    return sorted(os.listdir(folder)), (folder / "a").read_bytes()


@case
def composed_and_decomposed_letters_are_two_names(folder):
    made(folder, "\u00e9", b"1")
    made(folder, "e\u0301", b"2")
    return len(os.listdir(folder))


@case
def a_path_of_4096_bytes(folder):
    return outcome(os.stat, os.path.join(folder, *["d" * 200] * 21))


@case
def a_deep_tree(folder):
    path = folder
    for _ in range(60):
        path = path / "d"
        path.mkdir()
    made(path)
    return run(folder, "find", ".", "-type", "f"), run(folder, "rm", "-r", "d"), os.listdir(folder)


# -- making and removing


@case
def mkdir_twice(folder):
    (folder / "d").mkdir()
    return outcome(os.mkdir, folder / "d"), outcome(os.mkdir, made(folder))


@case
def rmdir_of_what_is_not_empty(folder):
    (folder / "d" / "e").mkdir(parents=True)
    return outcome(os.rmdir, folder / "d"), outcome(os.rmdir, folder / "d" / "e")


@case
def unlink_of_a_folder_and_rmdir_of_a_file(folder):
    (folder / "d").mkdir()
    return outcome(os.unlink, folder / "d"), outcome(os.rmdir, made(folder))


@case
def a_file_where_a_folder_is_needed(folder):
    made(folder)
    return outcome(os.stat, folder / "file" / "x"), outcome(os.mkdir, folder / "file" / "x")


@case
def a_slash_behind_a_file(folder):
    made(folder)
    return outcome(os.stat, f"{folder}/file/"), outcome(os.open, f"{folder}/new/", os.O_CREAT)


@case
def exclusive_creation(folder):
    made(folder)
    words = os.O_CREAT | os.O_EXCL | os.O_WRONLY
    os.symlink("nowhere", folder / "link")
    return outcome(os.open, folder / "file", words), outcome(os.open, folder / "link", words)


@case
def the_umask_and_the_mode(folder):
    before = os.umask(0o027)
    try:
        os.close(os.open(folder / "f", os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir(folder / "d", 0o777)
    finally:
        os.umask(before)
    return kind(folder / "f")[1], kind(folder / "d")[1]


@case
def links_count_folders(folder):
    for name in "abc":
        (folder / name).mkdir()
    before = os.stat(folder).st_nlink
    (folder / "a").rmdir()
    return before, os.stat(folder).st_nlink


@case
def a_folder_inherits_the_group_bit(folder):
    os.mkdir(folder / "d")
    os.chmod(folder / "d", 0o2775)
    os.mkdir(folder / "d" / "e")
    return kind(folder / "d" / "e")[1]


@case
def a_fifo_a_socket_and_a_device(folder):
    os.mkfifo(folder / "fifo", 0o600)
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(folder)
        try:
            listener.bind("socket")
        finally:
            os.chdir("/")
    found = [outcome(os.mknod, folder / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))]
    return [*found, *[kind(folder / n)[:2] for n in sorted(os.listdir(folder))]]


@case
def a_fifo_carries_bytes(folder):
    os.mkfifo(folder / "fifo")
    writer = threading.Thread(target=(folder / "fifo").write_bytes, args=(b"through",))
    writer.start()
    found = (folder / "fifo").read_bytes()
    writer.join()
    return found


# -- links


@case
def a_hard_link_is_the_same_file(folder):
    path = made(folder)
    os.link(path, folder / "other")
    (folder / "other").write_bytes(b"changed")
    same = os.path.samefile(path, folder / "other")
    path.unlink()
    return same, (folder / "other").read_bytes(), os.stat(folder / "other").st_nlink


@case
def a_hard_link_to_a_folder(folder):
    (folder / "d").mkdir()
    return outcome(os.link, folder / "d", folder / "e")


@case
def a_hard_link_to_a_symlink(folder):
    os.symlink("nowhere", folder / "link")
    os.link(folder / "link", folder / "other", follow_symlinks=False)
    return os.readlink(folder / "other"), os.lstat(folder / "link").st_nlink


@case
def symlinks_in_a_circle(folder):
    os.symlink("b", folder / "a")
    os.symlink("a", folder / "b")
    return outcome(os.stat, folder / "a"), outcome(os.open, folder / "a", os.O_RDONLY)


@case
def a_symlink_of_4095_bytes(folder):
    os.symlink("t" * 4095, folder / "long")
    return len(os.readlink(folder / "long")), os.lstat(folder / "long").st_size


@case
def an_empty_symlink(folder):
    return outcome(os.symlink, "", folder / "empty")


@case
def a_symlink_is_not_followed_on_request(folder):
    os.symlink("nowhere", folder / "link")
    return outcome(os.open, folder / "link", os.O_RDONLY | os.O_NOFOLLOW)


@case
def times_of_a_symlink(folder):
    os.symlink("nowhere", folder / "link")
    os.utime(folder / "link", ns=(10**18, 10**18 + 1), follow_symlinks=False)
    return os.lstat(folder / "link").st_mtime_ns


# -- renaming


@case
def a_rename_over_a_file(folder):
    made(folder, "a", b"1")
    made(folder, "b", b"2")
    os.rename(folder / "a", folder / "b")
    return os.listdir(folder), (folder / "b").read_bytes()


@case
def a_rename_over_an_open_file(folder):
    made(folder, "a", b"new")
    with open(made(folder, "b", b"old"), "rb") as file:
        os.rename(folder / "a", folder / "b")
        return file.read(), os.fstat(file.fileno()).st_nlink, (folder / "b").read_bytes()


@case
def renames_between_kinds(folder):
    for name in ("d", "full", "empty"):
        (folder / name).mkdir()
    made(folder / "full")
    made(folder)
    return [
        outcome(os.rename, folder / "d", folder / "file"),
        outcome(os.rename, folder / "file", folder / "d"),
        outcome(os.rename, folder / "d", folder / "full"),
        outcome(os.rename, folder / "d", folder / "empty"),
        outcome(os.rename, folder / "full", folder / "full" / "inside"),
        sorted(os.listdir(folder)),
    ]


@case
def a_rename_onto_another_name_of_the_same_file(folder):
    os.link(made(folder, "a"), folder / "b")
    os.rename(folder / "a", folder / "b")
    return sorted(os.listdir(folder))


@case
def a_renamed_folder_keeps_what_is_in_it(folder):
    (folder / "d").mkdir()
    with open(made(folder / "d"), "ab") as file:
        os.rename(folder / "d", folder / "e")
        file.write(b" and more")
    return (folder / "e" / "file").read_bytes(), outcome(os.stat, folder / "d")


@case
def a_rename_that_only_changes_the_case(folder):
    made(folder, "name")
    os.rename(folder / "name", folder / "NAME")
    return os.listdir(folder)


@case
def mv_exchanges_nothing_with_no_clobber(folder):
    made(folder, "a", b"1")
    made(folder, "b", b"2")
    run(folder, "mv", "-n", "a", "b")
    return sorted(os.listdir(folder)), (folder / "b").read_bytes()


# -- open files that lose their names


@case
def an_unlinked_file_can_be_read_and_written(folder):
    with open(made(folder), "r+b") as file:
        os.unlink(folder / "file")
        file.seek(0, 2)
        file.write(b" and more")
        file.flush()
        file.seek(0)
        return file.read(), os.fstat(file.fileno()).st_nlink, os.listdir(folder)


@case
def a_removed_folder_that_is_somebodys_place(folder):
    (folder / "d").mkdir()
    handle = os.open(folder / "d", os.O_RDONLY)
    try:
        os.rmdir(folder / "d")
        return outcome(os.listdir, handle), outcome(os.mkdir, "x", 0o777, dir_fd=handle)
    except TypeError:
        return None
    finally:
        os.close(handle)


@case
def an_unlinked_file_linked_again(folder):
    os.link(made(folder), folder / "second")
    with open(folder / "file", "rb"):
        os.unlink(folder / "file")
        os.link(folder / "second", folder / "third")
    return sorted(os.listdir(folder)), os.stat(folder / "third").st_nlink


@case
def truncated_while_open_elsewhere(folder):
    with open(made(folder, content=b"x" * 100_000), "rb") as file:
        os.truncate(folder / "file", 10)
        return file.read(), os.fstat(file.fileno()).st_size


# -- content


@case
def appending_from_two_handles(folder):
    with open(folder / "log", "ab", 0) as one, open(folder / "log", "ab", 0) as two:
        for number in range(20):
            (one if number % 2 else two).write(b"%d\n" % number)
    return (folder / "log").read_bytes()


@case
def writing_beyond_the_end(folder):
    with open(folder / "file", "wb") as file:
        file.seek(100_000)
        file.write(b"end")
    content = (folder / "file").read_bytes()
    return len(content), content.count(0)


@case
def a_file_cut_and_grown_again_has_zeros(folder):
    path = made(folder, content=b"x" * 10_000)
    os.truncate(path, 100)
    os.truncate(path, 10_000)
    return path.read_bytes().count(b"x"), path.stat().st_size


@case
def overlapping_writes(folder):
    handle = os.open(folder / "file", os.O_RDWR | os.O_CREAT)
    for at in (0, 4000, 2000, 4090, 131_000, 130_990):
        os.pwrite(handle, b"%6d" % at * 20, at)
    os.close(handle)
    return (folder / "file").read_bytes()


@case
def pread_past_the_end(folder):
    handle = os.open(made(folder), os.O_RDONLY)
    found = os.pread(handle, 10, 5), os.pread(handle, 10, 100)
    os.close(handle)
    return found


@case
def a_sparse_file_of_a_terabyte(folder):
    path = made(folder, content=b"")
    os.truncate(path, 1 << 40)
    with open(path, "rb") as file:
        file.seek((1 << 40) - 10)
        return file.read(), path.stat().st_size, path.stat().st_blocks < 100


@case
def a_size_that_nothing_can_have(folder):
    return outcome(os.truncate, made(folder), -1)


@case
def writing_where_one_may_only_read(folder):
    handle = os.open(made(folder), os.O_RDONLY)
    found = outcome(os.write, handle, b"x"), outcome(os.ftruncate, handle, 0)
    os.close(handle)
    return found


@case
def reading_where_one_may_only_write(folder):
    handle = os.open(made(folder), os.O_WRONLY)
    found = outcome(os.read, handle, 1)
    os.close(handle)
    return found


@case
def reading_a_folder_as_a_file(folder):
    handle = os.open(folder, os.O_RDONLY)
    found = outcome(os.read, handle, 1), outcome(os.open, folder, os.O_WRONLY)
    os.close(handle)
    return found


@case
def a_mapped_file_shared_with_its_writer(folder):
    path = made(folder, content=b"a" * 10_000)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[5000:5005] = b"12345"
        mapped.flush()
        os.pwrite(file.fileno(), b"67890", 6000)
        seen = bytes(mapped[6000:6005])
    return seen, (folder / "file").read_bytes()[5000:5005]


@case
def a_private_mapping_changes_nothing(folder):
    path = made(folder, content=b"a" * 5000)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
        mapped[:4] = b"copy"
    return path.read_bytes()[:4]


@case
def sendfile_and_copy_file_range(folder):
    source = os.open(made(folder, content=os.urandom(0) + b"s" * 300_000), os.O_RDONLY)
    target = os.open(folder / "target", os.O_WRONLY | os.O_CREAT)
    sent = os.sendfile(target, source, 0, 100_000)
    copied = os.copy_file_range(source, target, 200_000, 100_000)
    os.close(source)
    os.close(target)
    return sent, copied, (folder / "target").stat().st_size


@case
def direct_and_synchronous_writes(folder):
    handle = os.open(folder / "file", os.O_WRONLY | os.O_CREAT | os.O_DSYNC)
    os.write(handle, b"x" * 5000)
    os.close(handle)
    return (folder / "file").stat().st_size


@case
def eight_threads_write_one_file(folder):
    handle = os.open(folder / "file", os.O_RDWR | os.O_CREAT)

    def write(number):
        for at in range(20):
            os.pwrite(handle, bytes([number]) * 1000, (at * 8 + number) * 1000)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(handle)
    content = (folder / "file").read_bytes()
    return len(content), all(content[i * 1000] == i % 8 for i in range(160))


# -- attributes


@case
def times_to_the_nanosecond(folder):
    path = made(folder)
    os.utime(path, ns=(1_234_567_890_123_456_789, 987_654_321_987_654_321))
    return path.stat().st_mtime_ns


@case
def times_before_1970_and_after_2106(folder):
    path, found = made(folder), []
    for seconds in (-1_000_000, 0, 2**31, 2**32 + 5):
        os.utime(path, (seconds, seconds))
        found.append(path.stat().st_mtime)
    return found


@case
def a_write_moves_mtime_and_ctime(folder):
    path = made(folder)
    os.utime(path, (1000, 1000))
    with open(path, "ab") as file:
        file.write(b"x")
    return path.stat().st_mtime > 1000, path.stat().st_ctime > 1000


@case
def making_a_file_moves_its_folder(folder):
    os.utime(folder, (1000, 1000))
    made(folder)
    return os.stat(folder).st_mtime > 1000


@case
def a_chmod_moves_ctime_alone(folder):
    path = made(folder)
    os.utime(path, (1000, 1000))
    path.chmod(0o600)
    return path.stat().st_mtime, path.stat().st_ctime > 1000


@case
def all_modes(folder):
    path, found = made(folder), []
    for mode in (0, 0o777, 0o4755, 0o2755, 0o1777, 0o7777):
        path.chmod(mode)
        found.append(kind(path)[1])
    return found


@case
def a_write_takes_the_set_user_bit(folder):
    if os.geteuid() != 0:
        return None
    path = made(folder)
    os.chown(path, 65534, 65534)
    path.chmod(0o6755)
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
         "sh", "-c", f"echo x >> {path}"],
        capture_output=True, check=False,
    )  # fmt: skip
    return done.returncode, kind(path)[1]


@case
def a_chown_takes_the_set_user_bit(folder):
    path = made(folder)
    path.chmod(0o6755)
    return outcome(os.chown, path, 12345, 54321), kind(path)[1], path.stat().st_uid


@case
def statvfs_of_a_folder(folder):
    found = os.statvfs(folder)
    return found.f_namemax, found.f_bavail <= found.f_bfree <= found.f_blocks, found.f_bsize > 0


@case
def access_follows_the_mode(folder):
    path = made(folder)
    path.chmod(0o644)
    return os.access(path, os.X_OK), os.access(path, os.R_OK), os.access(folder / "no", os.F_OK)


# -- extended attributes


def attribute(folder, name, value=b"v"):
    path = made(folder)
    return outcome(os.setxattr, path, name, value), outcome(os.getxattr, path, name)


for name_of_case, words in {
    "an attribute of the user": ("user.a",),
    "an empty attribute": ("user.a", b""),
    "an attribute of the system": ("system.a",),
    "an attribute of no class": ("other.a",),
    "an attribute without a name": ("user.",),
    "an attribute name of 255 bytes": ("user." + "n" * 250,),
    "an attribute name of 256 bytes": ("user." + "n" * 251,),
    "an attribute of 3 KiB": ("user.large", b"v" * 3000),
}.items():

    def with_attribute(folder, words=words):
        return attribute(folder, *words)

    CASES[name_of_case] = with_attribute


@case
def attributes_made_replaced_and_removed(folder):
    path = made(folder)
    return [
        outcome(os.setxattr, path, "user.a", b"1", os.XATTR_REPLACE),
        outcome(os.setxattr, path, "user.a", b"1", os.XATTR_CREATE),
        outcome(os.setxattr, path, "user.a", b"2", os.XATTR_CREATE),
        outcome(os.setxattr, path, "user.a", b"3", os.XATTR_REPLACE),
        os.getxattr(path, "user.a"),
        outcome(os.removexattr, path, "user.a"),
        outcome(os.removexattr, path, "user.a"),
        os.listxattr(path),
    ]


@case
def attributes_of_a_symlink_and_a_folder(folder):
    os.symlink("nowhere", folder / "link")
    os.setxattr(folder, "user.a", b"folder")
    return (
        outcome(lambda: os.setxattr(folder / "link", "user.a", b"1", follow_symlinks=False)),
        os.getxattr(folder, "user.a"),
    )


@case
def cp_keeps_attributes_and_times(folder):
    path = made(folder)
    os.setxattr(path, "user.a", b"kept")
    os.utime(path, ns=(5, 6))
    run(folder, "cp", "-a", "file", "copy")
    return os.getxattr(folder / "copy", "user.a"), (folder / "copy").stat().st_mtime_ns


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


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder on a mount, and a plain one."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse, so nothing can be mounted")
    from world import World

    root = tmp_path_factory.mktemp("side by side")
    world, plain = World(root), root / "plain"
    plain.mkdir()
    try:
        world.start()
        world.create()
        world.mount()
        yield world.mountpoint, plain
    finally:
        world.close()


def test_promise_1_a_hundred_small_things_are_as_on_a_plain_folder(folders):
    assert len(CASES) >= 100
    wrong = []
    for name, function in CASES.items():
        seen = []
        for folder in folders:
            place: Path = folder / name.replace("/", " ")[:60]
            place.mkdir()
            seen.append(function(place))
        if seen[0] != seen[1]:
            wrong.append(f"{name}: {seen[0]!r} on the mount, {seen[1]!r} beside it")
    assert not wrong, "\n".join(wrong)
