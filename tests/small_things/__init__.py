"""Small things that broke other file systems. Each is done in a fresh folder, and says what it saw.

What is asked is what users of S3QL, gocryptfs, CryFS, rclone, JuiceFS, restic and others reported.
`CASES` has all of them by name, once the modules of this package are imported.
"""

import errno
import os
import stat
import subprocess

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
