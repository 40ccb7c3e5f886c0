"""The entry points `bitdust` and `mount.bitdust`: words to verbs, errors to sentences and codes.

Exit codes: 0 done; 1 failed for a reason outside (network, disk); 2 wrong use; 3 faults found. For
mount.bitdust those of mount(8): 1 wrong use, 32 the mount failed.
"""

import argparse
import logging
import sys
from collections.abc import Callable
from typing import NamedTuple

import bitdustfs
from bitdustfs.cli import (
    cmd_key,
    cmd_mount,
    cmd_rebuild,
    cmd_status,
    cmd_supplier,
    cmd_swarm,
    cmd_sync,
    cmd_unmount,
    cmd_vault,
    cmd_verify,
)
from bitdustfs.errors import BitdustError, LocalError, UsageError
from bitdustfs.mount.cpu import keep_large_buffers


class Verb(NamedTuple):
    """One word after `bitdust`. What `add_arguments` sets as `run` carries it out."""

    name: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    text: str
    description: str | None  #: what --help says


VERBS = (
    Verb(
        "vault",
        cmd_vault.add_arguments,
        "make a vault, change its policy, recover or refound it",
        cmd_vault.__doc__,
    ),
    Verb(
        "key",
        cmd_key.add_arguments,
        "show, write down, restore or protect the key",
        cmd_key.__doc__,
    ),
    Verb(
        "mount",
        cmd_mount.add_arguments,
        "mount a vault at a folder (as mount.bitdust)",
        cmd_mount.__doc__,
    ),
    Verb(
        "status",
        cmd_status.add_status,
        "how safe a mount's content is, and who keeps it",
        "How safe a mount's content is, and who keeps it.",
    ),
    Verb(
        "suppliers",
        cmd_status.add_suppliers,
        "who keeps a vault, and how well",
        "Who keeps a vault, and how well.",
    ),
    Verb(
        "rebuild",
        cmd_rebuild.add_arguments,
        "make what suppliers lack again, now, and replace those to be replaced",
        cmd_rebuild.__doc__,
    ),
    Verb(
        "sync",
        cmd_sync.add_arguments,
        "publish everything written so far; returns when that is done",
        cmd_sync.__doc__,
    ),
    Verb(
        "unmount",
        cmd_unmount.add_arguments,
        "publish, then unmount; returns when all is safe",
        cmd_unmount.__doc__,
    ),
    Verb(
        "verify",
        cmd_verify.add_arguments,
        "is everything there, here and at the suppliers?",
        cmd_verify.__doc__,
    ),
    Verb("supplier", cmd_supplier.add_arguments, "keep fragments for others", cmd_supplier.__doc__),
    Verb(
        "swarm",
        cmd_swarm.add_arguments,
        "a network of local suppliers, to try things out",
        cmd_swarm.__doc__,
    ),
)


def main(arguments: list[str] | None = None) -> int:
    """`bitdust VERB ...`; the exit code."""
    parser = argparse.ArgumentParser(prog="bitdust", description=bitdustfs.__doc__)
    parser.add_argument("--version", action="version", version=f"bitdustfs {bitdustfs.__version__}")
    verbs = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for verb in VERBS:
        made = verbs.add_parser(verb.name, help=verb.text, description=verb.description)
        verb.add_arguments(made)
    args = parser.parse_args(arguments)
    return run(args.run, args, failed=1)


def mount_main(arguments: list[str] | None = None) -> int:
    """`mount.bitdust [VAULT] MOUNTPOINT [-o OPTS]`, also as mount(8) calls it."""
    parser = argparse.ArgumentParser(prog="mount.bitdust", description=cmd_mount.__doc__)
    cmd_mount.add_arguments(parser, helper=True)
    args = parser.parse_args(arguments)
    return run(args.run, args, failed=32, usage=1)


def run(
    function: Callable[[argparse.Namespace], int],
    args: argparse.Namespace,
    failed: int,
    usage: int = 2,
) -> int:
    """Runs a verb; an error becomes one sentence on standard error and an exit code."""
    keep_large_buffers()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("kademlia").setLevel(logging.WARNING)
    try:
        return int(function(args))
    except KeyboardInterrupt:
        return 130
    except BaseExceptionGroup as group:
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
        return 141
    except EOFError:
        error = UsageError("an answer was needed, and there is nobody to give it")
    except OSError as caught:
        where = f"{caught.filename}: " if caught.filename else ""
        error = LocalError(f"{where}{caught.strerror or caught}")
    print(f"bitdust: {error}", file=sys.stderr)
    return usage if isinstance(error, UsageError) else failed


if __name__ == "__main__":
    sys.exit(main())
