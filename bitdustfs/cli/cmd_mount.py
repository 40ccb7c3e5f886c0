"""`mount.bitdust [VAULT] MOUNTPOINT`: mounts a vault, in the background unless told otherwise.

VAULT is a key file ("none" or nothing for the default one). The command returns when the folder is
there; its exit code tells whether it is. `umount`, `fusermount3 -u` and SIGTERM all end in a flush
and, as far as suppliers can be reached, in everything published.
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path

import trio

from bitdustfs import config
from bitdustfs.cli.accounts import become, id_of, user_of
from bitdustfs.cli.cmd_key import load_key
from bitdustfs.cli.named import complain_named
from bitdustfs.cli.remount_words import RemountWords, parse_remount
from bitdustfs.core.bandwidth import parse_bandwidth
from bitdustfs.errors import UsageError
from bitdustfs.mount.mount_config import with_configured
from bitdustfs.mount.mountable import check_mountable
from bitdustfs.mount.needed import need_pyfuse3
from bitdustfs.mount.options import MountOptions
from bitdustfs.mount.remains import clear_dead
from bitdustfs.mount.remount import remount
from bitdustfs.net.addresses import check_address
from bitdustfs.plain import complain, set_log_level
from bitdustfs.rebuild.audit import DAILY_MIN
from bitdustfs.units import format_size, parse_size

OPTIONS = """mount options (-o, comma-separated):
  key=FILE               the key file
  bootstrap=HOST:PORT    a supplier's address, if none is remembered here (repeatable)
  ro                     look only
  at=NAME, at=TIME       look only, at the snapshot of a name, or at the last one made until a time
                         (2026-11-24T18:00, of this machine's time zone; with a Z behind it, UTC)
  allow_other            let other users of this machine in, by the files' permissions
  cache=SIZE             disk space for what suppliers hold already (10G)
  audits=SIZE            what checks of suppliers may fetch in a day (80M)
  bandwidth=SIZE         bytes a second that all traffic may take, each way (no bound);
                         up:1M/down:8M each its own; up:200K@8-23 only from 8 to 23 h
  metered=pause          uploads, rebuilding and audits wait on a connection that is metered, as
                         NetworkManager says (default); metered=ignore
  durability=local       fsync returns when this machine has it (default)
  durability=published   fsync returns when the suppliers have it
  lan=off                look for no suppliers in this machine's networks (on)
  take-over              mount although another machine holds the vault; it turns read-only
  uid=USER  gid=GROUP    show all files as theirs, by name or number
  setuid=USER            mount as this user, by the user's own home and key; only root can say it
  foreground             stay in the terminal
  remount                turn a mount that is there into one with ro or with rw; as root"""

#: what mount(8) and fstab add and what means nothing to us
IGNORED = {
    "rw",
    "defaults",
    "auto",
    "noauto",
    "nouser",
    "owner",
    "group",
    "nofail",
    "_netdev",
    "nodev",
    "nosuid",
    "exec",
    "noatime",
    "norelatime",
    "nostrictatime",
    "nodiratime",
    "nolazytime",
    "async",
}
#: what the kernel does for us
KERNEL = {"noexec", "sync", "dirsync"}
NO_ATIME = "a vault does not record when files are read, and is mounted with noatime"
NO_TRUST = "a vault is always mounted with nosuid and nodev"
#: what is asked for in vain, and why
REFUSED = {
    "atime": NO_ATIME,
    "relatime": NO_ATIME,
    "strictatime": NO_ATIME,
    "diratime": NO_ATIME,
    "lazytime": NO_ATIME,
    "suid": NO_TRUST,
    "dev": NO_TRUST,
}


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
    source = args.what[0] if len(args.what) == 2 else "bitdust"
    key_path = config.default_key_path()
    if source not in ("none", "bitdust"):
        key_path = Path(os.path.realpath(source))
        source = str(key_path)  # as mount(8) has it, that compares it with what is mounted
    options = MountOptions(mountpoint, key_path, source, foreground=args.foreground)
    words = ",".join(args.options).split(",")
    options = replace(options, said=frozenset(word.partition("=")[0] for word in words if word))
    for word in words:
        options = with_word(options, word)
    return options


def with_word(options: MountOptions, word: str) -> MountOptions:
    """The same with one word of -o. Raises UsageError."""
    name, _, value = word.partition("=")
    match name:
        case "key":
            return replace(options, key_path=Path(value))
        case "at" if value:
            return replace(options, at=value, read_only=True)
        case "bootstrap":
            return replace(options, bootstrap=(*options.bootstrap, check_address(value)))
        case "cache":
            return replace(options, cache=parse_size(value))
        case "audits":
            audits = parse_size(value)
            if audits < DAILY_MIN:
                raise UsageError(f"audits={value}: {format_size(DAILY_MIN)} a day is the least")
            return replace(options, audits=audits)
        case "bandwidth":
            return replace(options, bandwidth=parse_bandwidth(value))
        case "uid" | "gid":
            return replace(options, owner=options.owner._replace(**{name: id_of(name, value)}))
        case "setuid" | "user" | "users":  # become did it; mount(8) says who mounts
            return options
        case "metered" if value in ("pause", "ignore"):
            return replace(options, metered=value == "pause")
        case "durability" if value in ("local", "published"):
            return replace(options, published=value == "published")
        case "lan" if value in ("on", "off"):
            return replace(options, lan=value == "on")
    match word:
        case "ro":
            return replace(options, read_only=True)
        case "take-over":
            return replace(options, take_over=True)
        case "allow_other":
            return replace(options, allow_other=True)
        case "foreground":
            return replace(options, foreground=True)
    if word in KERNEL:
        return replace(options, kernel=options.kernel | {word})
    if word in REFUSED:
        raise UsageError(f"leave out the mount option {word}: {REFUSED[word]}")
    if not word or word in IGNORED or word.startswith(("x-", "X-", "comment=")):
        return options
    raise UsageError(f"mount option {word!r} is not known; see mount.bitdust --help")


def run(args: argparse.Namespace) -> int:
    """Mounts; returns once the mount works (or, in the foreground, once it has ended)."""
    become(user_of(args.options))
    if (words := parse_remount(args.options)) is not None:
        return run_remount(args, words)
    options = with_configured(parse_options(args))
    set_log_level(options.log)
    need_pyfuse3()
    check_mountable(options, os.geteuid())
    default = config.default_key_path()
    if options.key_path == default and not default.exists():
        raise UsageError(
            f"nothing is set up here: there is no key at {default}; run bitdust setup, or name a "
            "key file: mount.bitdust KEYFILE FOLDER"
        )
    key = load_key(options.key_path)
    if config.unfounded_path(key.vault_id).exists():
        raise UsageError(
            f"there is no vault of the key at {options.key_path} as yet: bitdust vault create "
            "makes it, once it is known who keeps it (bitdust setup says what comes next)"
        )
    if args.fake:
        return 0
    if said := clear_dead(options.mountpoint, key.vault_id):
        complain_named(said)
    # here: these need pyfuse3, and commands that never mount take words of this module
    from bitdustfs.mount.background import mount_in_background
    from bitdustfs.mount.process import run_mount

    if options.foreground:
        trio.run(run_mount, options, key, _warn, complain)
    else:
        _warn(mount_in_background(options, key, complain))
    return 0


def run_remount(args: argparse.Namespace, words: RemountWords) -> int:
    """Turns a mount that is there read-only or writable. Raises UsageError for a wrong word."""
    mountpoint = Path(os.path.realpath(args.what[-1]))
    before = MountOptions(mountpoint, config.default_key_path())
    asked = before
    for word in words.rest:
        asked = with_word(asked, word)
    if asked != before:
        _warn("remounting changes ro, rw and what the kernel heeds; the rest stays as mounted")
    if not args.fake:
        remount(mountpoint, words.read_only, words.kernel)
    return 0


def _warn(message: str) -> None:
    """The mount works, but not as was asked for."""
    if message:
        complain(f"warning: {message}")
