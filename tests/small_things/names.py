"""Names, making and removing, links, renaming."""

import os
import socket
import stat
import threading

from small_things import CASES, case, kind, made, outcome, run

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
