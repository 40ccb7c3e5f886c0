"""`mount.bitdust [VAULT] MOUNTPOINT`: mounts a vault, in the background unless told otherwise.

VAULT is a key file ("none" or nothing for the default one). The command returns when the folder is
there; its exit code tells whether it is. `umount`, `fusermount3 -u` and SIGTERM all end in a flush
and, as far as suppliers can be reached, in everything published.
"""

import argparse
import logging
import os
import sys
import traceback
from pathlib import Path

import trio

from bitdustfs import config
from bitdustfs.cli.cmd_key import load_key
from bitdustfs.errors import BitdustError, UsageError
from bitdustfs.mount.process import MountOptions, run_mount
from bitdustfs.net.addresses import check_address
from bitdustfs.net.control import dead_mount
from bitdustfs.units import parse_size

OPTIONS = """mount options (-o, comma-separated):
  key=FILE               the key file
  bootstrap=HOST:PORT    a supplier's address, if none is remembered here (repeatable)
  ro                     look only
  allow_other            let other users of this machine in, by the files' permissions
  cache=SIZE             disk space for what suppliers hold already (10G)
  durability=local       fsync returns when this machine has it (default)
  durability=published   fsync returns when the suppliers have it
  take-over              mount although another machine holds the vault; it turns read-only
  foreground             stay in the terminal"""

#: what mount(8) and fstab add and what means nothing to us
IGNORED = {"rw", "defaults", "auto", "noauto", "user", "users", "nouser", "owner", "group", "nofail",
           "_netdev", "nodev", "nosuid", "exec", "suid", "dev", "atime", "relatime", "norelatime",
           "strictatime", "diratime", "nodiratime", "lazytime", "nolazytime", "async"}  # fmt: skip
#: what the kernel does for us
KERNEL = {"noexec", "noatime", "sync", "dirsync"}


def add_arguments(parser: argparse.ArgumentParser, helper: bool = False) -> None:
    """`helper`: as mount(8) calls it, for whom -f means: do not really mount."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = OPTIONS
    parser.add_argument("what", nargs="+", metavar="[VAULT] MOUNTPOINT")
    parser.add_argument("-o", action="append", default=[], metavar="OPTS", dest="options")
    if helper:
        parser.add_argument("-f", action="store_true", dest="fake", help="check, but do not mount")
    else:
        parser.add_argument("-f", action="store_true", dest="foreground", help="as -o foreground")
    parser.set_defaults(foreground=False, fake=False)
    parser.add_argument("-n", "-s", "-v", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("-t", help=argparse.SUPPRESS)
    parser.set_defaults(run=run)


def parse_options(args: argparse.Namespace) -> MountOptions:
    """The options of a command line. Raises UsageError for what is not known."""
    if len(args.what) > 2:
        raise UsageError("name at most a vault's key file and a mountpoint")
    mountpoint = Path(os.path.realpath(args.what[-1]))
    if dead_mount(mountpoint):
        raise UsageError(
            f"a dead mount is at {mountpoint}: its process ended; clear it away with "
            f"bitdust unmount {mountpoint}, then mount again"
        )
    options = MountOptions(mountpoint, foreground=args.foreground)
    key = args.what[0] if len(args.what) == 2 else "none"
    if key not in ("none", "bitdust"):
        options.key_path = Path(key)
    for word in ",".join(args.options).split(","):
        name, _, value = word.partition("=")
        if name == "key":
            options.key_path = Path(value)
        elif name == "bootstrap":
            options.bootstrap.append(check_address(value))
        elif name == "cache":
            options.cache = parse_size(value)
        elif name == "durability" and value in ("local", "published"):
            options.published = value == "published"
        elif word == "ro":
            options.read_only = True
        elif word == "take-over":
            options.take_over = True
        elif word == "allow_other":
            options.allow_other = True
        elif word == "foreground":
            options.foreground = True
        elif word in KERNEL:
            options.kernel.add(word)
        elif word and word not in IGNORED and not word.startswith(("x-", "comment=")):
            raise UsageError(f"mount option {word!r} is not known; see mount.bitdust --help")
    if not mountpoint.is_dir():
        raise UsageError(f"{mountpoint} is not a folder; make it first")
    if os.path.ismount(mountpoint):
        raise UsageError(f"something is mounted at {mountpoint} already")
    return options


def run(args: argparse.Namespace) -> int:
    """Mounts; returns once the mount works (or, in the foreground, once it has ended)."""
    options = parse_options(args)
    key = load_key(options.key_path)
    if args.fake:
        return 0
    if options.foreground:
        trio.run(run_mount, options, key, _warn)
        return 0
    return _in_background(options, key)


def _warn(message: str) -> None:
    """The mount works, but not as was asked for."""
    if message:
        print(f"warning: {message}", file=sys.stderr)


def _in_background(options, key) -> int:  # type: ignore[no-untyped-def]
    """Forks before anything is opened; the parent waits for "ok" and a warning, or the error."""
    read_end, write_end = os.pipe()
    if os.fork():
        os.close(write_end)
        with os.fdopen(read_end) as pipe:
            answer = pipe.read()
        verdict, _, message = answer.partition("\n")
        if verdict == "ok":
            _warn(message)
            return 0
        raise BitdustError(answer.strip() or "the mount process died; see its log")
    os.close(read_end)
    os.setsid()
    code = 1
    try:
        report = os.fdopen(write_end, "w")
        try:
            _detach(key.vault_id)
        except (OSError, BitdustError) as error:
            report.write(f"the log cannot be written: {error}\n")
            report.close()
            raise

        def ready(message: str) -> None:
            report.write(f"ok\n{message}")
            report.close()

        code = _child(options, key, ready, report)
    finally:
        os._exit(code)


def _child(options, key, ready, report) -> int:  # type: ignore[no-untyped-def]
    try:
        trio.run(run_mount, options, key, ready)
        return 0
    except BaseException as error:
        cause: BaseException = error
        while isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        if isinstance(cause, BitdustError):
            logging.error("%s", cause)
        else:
            traceback.print_exc()
        if not report.closed:
            report.write(f"{cause or type(cause).__name__}\n")
            report.close()
        return 1


def _detach(vault: bytes) -> None:
    """Standard streams to the vault's log file; the folder we were started in is let go."""
    logs = config.home() / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    log = os.open(logs / f"{vault.hex()[:16]}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDONLY)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(null)
    os.close(log)
    os.chdir("/")
