"""Attributes: modes, times, extended ones."""

import os
import subprocess

from small_things import CASES, case, kind, made, outcome, run

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
