"""The entry points `bitdust` and `mount.bitdust`: words to verbs, errors to sentences and codes.

What exit codes mean is in exit_codes.py, what stands below each help in pages.py.
"""

import argparse
import io
import logging
import sys
from collections.abc import Callable, Collection
from importlib import import_module
from typing import NamedTuple

import bitdustfs
from bitdustfs.cache.secrecy import forbid_dumps
from bitdustfs.cli.exit_codes import Exit, table
from bitdustfs.cli.named import complain_named
from bitdustfs.cli.pages import epilog, interrupted
from bitdustfs.errors import BitdustError, LocalError, UsageError
from bitdustfs.mount.cpu import keep_large_buffers
from bitdustfs.net.loglines import FewLines
from bitdustfs.plain import complain, log_plainly


class Verb(NamedTuple):
    """One word after `bitdust`. What the function `arguments` of its module sets as `run` carries
    it out.

    The module is imported only for the verb that is used: all of them take a second.
    """

    name: str
    module: str
    text: str
    arguments: str = "add_arguments"


VERBS = (
    Verb("setup", "cmd_setup", "a guided start: a key, space for others, a vault, a folder"),
    Verb("vault", "cmd_vault", "make a vault, change its policy, recover or refound it"),
    Verb("list", "cmd_list", "vaults, keys, mounts and contracts of this machine"),
    Verb("key", "cmd_key", "show, write down, restore or protect the key"),
    Verb("mount", "cmd_mount", "mount a vault at a folder (as mount.bitdust)"),
    Verb("status", "cmd_status", "how safe a mount's content is, and who keeps it", "add_status"),
    Verb("suppliers", "cmd_status", "who keeps a vault, and how well", "add_suppliers"),
    Verb(
        "rebuild",
        "cmd_rebuild",
        "make what suppliers lack again, now, and replace those to be replaced",
    ),
    Verb(
        "sync",
        "cmd_sync",
        "publish everything written so far; returns when that is done",
    ),
    Verb("unmount", "cmd_unmount", "publish, then unmount; returns when all is safe"),
    Verb("snapshot", "cmd_snapshot", "keep the vault as it is now, list and delete what is kept"),
    Verb("versions", "cmd_versions", "what a path was in each snapshot", "add_versions"),
    Verb("undelete", "cmd_versions", "bring back a path that a snapshot has", "add_undelete"),
    Verb("verify", "cmd_verify", "is everything there, here and at the suppliers?"),
    Verb(
        "pin", "cmd_pin", "keep a folder on this machine, to be read without a network", "add_pin"
    ),
    Verb("unpin", "cmd_pin", "keep it only while the cache has room", "add_unpin"),
    Verb("pins", "cmd_pin", "what is pinned here, and how much of it is here", "add_pins"),
    Verb("invite", "cmd_invite", "one line by which a friend joins: you keep data for each other"),
    Verb("join", "cmd_join", "come by a friend's invitation"),
    Verb("friends", "cmd_friends", "your friends: what each keeps for you, and you for each"),
    Verb("name", "cmd_name", "names for suppliers, vaults and machines, beside their keys"),
    Verb("supplier", "cmd_supplier", "keep fragments for others"),
    Verb("doctor", "cmd_doctor", "everything here that can be wrong, and what to do about it"),
    Verb("dashboard", "cmd_dashboard", "a page in your browser: is my data safe, and who keeps it"),
    Verb("metrics", "cmd_metrics", "figures for Prometheus"),
    Verb("install", "cmd_install", "have systemd start mounts and suppliers", "add_install"),
    Verb("uninstall", "cmd_install", "take away what install wrote", "add_uninstall"),
    Verb("completion", "cmd_manual", "what completes commands in a shell", "add_completion"),
    Verb("manual", "cmd_manual", "write man pages", "add_manual"),
    Verb("swarm", "cmd_swarm", "a network of local suppliers, to try things out"),
)
ALL = frozenset(verb.name for verb in VERBS)


def main(arguments: list[str] | None = None) -> int:
    """`bitdust VERB ...`; the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    used = next((word for word in words if not word.startswith("-")), "")
    args = make_parser({used}).parse_args(words)
    return run(args.run, args)


def make_parser(used: Collection[str] = ALL) -> argparse.ArgumentParser:
    """The words of `bitdust`, with the arguments of the verbs that are `used`."""
    parser = argparse.ArgumentParser(
        prog="bitdust", description=bitdustfs.__doc__, epilog=f"exit codes:\n\n{table()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"bitdustfs {bitdustfs.__version__}")
    verbs = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for verb in VERBS:
        if verb.name not in used:
            verbs.add_parser(verb.name, help=verb.text)
            continue
        module = import_module(f"bitdustfs.cli.{verb.module}")
        made = verbs.add_parser(verb.name, help=verb.text, description=module.__doc__)
        getattr(module, verb.arguments)(made)
        _add_examples(made, verb.name)
    return parser


def _add_examples(parser: argparse.ArgumentParser, name: str) -> None:
    """Below the help of a command, or of each that it has."""
    verbs = [a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for choices in verbs:
        for word, made in choices.items():
            _add_examples(made, f"{name} {word}")
    if not verbs:
        parser.epilog = "\n\n".join(filter(None, (parser.epilog, epilog(name))))
        parser.formatter_class = argparse.RawDescriptionHelpFormatter
        parser.set_defaults(name=name)


def mount_main(arguments: list[str] | None = None) -> int:
    """`mount.bitdust [VAULT] MOUNTPOINT [-o OPTS]`, also as mount(8) calls it."""
    cmd_mount = import_module("bitdustfs.cli.cmd_mount")
    parser = argparse.ArgumentParser(prog="mount.bitdust", description=cmd_mount.__doc__)
    cmd_mount.add_arguments(parser, helper=True)
    parser.set_defaults(name="mount")
    try:
        args = parser.parse_args(arguments)
    except SystemExit as ended:  # mount(8) takes 2 for an error of the system
        return Exit.FAILED if ended.code else Exit.DONE
    return run(args.run, args, failed=Exit.MOUNT_FAILED, usage=Exit.FAILED)


def run(
    function: Callable[[argparse.Namespace], int],
    args: argparse.Namespace,
    failed: int = Exit.FAILED,
    usage: int = Exit.USAGE,
) -> int:
    """Runs a verb; an error becomes one sentence on standard error and an exit code."""
    forbid_dumps()
    keep_large_buffers()
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of mountpoints need not be UTF-8
        sys.stdout.reconfigure(errors="surrogateescape")
    if isinstance(sys.stdin, io.TextIOWrapper):  # nor need a passphrase
        sys.stdin.reconfigure(errors="surrogateescape")
    log_plainly(logging.INFO, FewLines())
    logging.getLogger("kademlia").setLevel(logging.WARNING)
    try:
        return int(function(args))
    except KeyboardInterrupt:
        return _interrupted(args)
    except BaseExceptionGroup as group:
        if group.subgroup(KeyboardInterrupt) is not None:  # trio raises it in a task
            return _interrupted(args)
        known, rest = group.split(BitdustError)
        if rest is not None or known is None:
            raise
        error: BaseException = known
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
    except BitdustError as caught:
        error = caught
    except BrokenPipeError:  # `bitdust status | head`
        sys.stderr.close()
        return Exit.UNHEARD
    except EOFError:
        error = UsageError("an answer was needed, and there is nobody to give it")
    except OSError as caught:
        where = f"{caught.filename}: " if caught.filename else ""
        error = LocalError(f"{where}{caught.strerror or caught}")
    complain_named(f"bitdust: {error}")
    return usage if isinstance(error, UsageError) else failed


def _interrupted(args: argparse.Namespace) -> int:
    """Says what goes on, below the line in which a terminal shows the key."""
    if sys.stderr.isatty():
        complain("")
    complain_named(interrupted(getattr(args, "name", "")))
    return Exit.INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
