"""The entry points `bitdust` and `mount.bitdust`: words to verbs, errors to sentences and exit codes.

Exit codes: 0 done; 1 failed for a reason outside (network, disk); 2 wrong use; 3 faults found. For
mount.bitdust those of mount(8): 1 wrong use, 32 the mount failed.
"""

import argparse
import logging
import sys
from collections.abc import Callable

from bitdustfs import __version__
from bitdustfs.cli import cmd_key as key
from bitdustfs.cli import cmd_mount as mount
from bitdustfs.cli import cmd_status as status
from bitdustfs.cli import cmd_supplier as supplier
from bitdustfs.cli import cmd_swarm as swarm
from bitdustfs.cli import cmd_vault as vault
from bitdustfs.cli import cmd_verify as verify
from bitdustfs.errors import BitdustError, LocalError, UsageError
from bitdustfs.mount.cpu import keep_large_buffers

VERBS = (
    ("vault", vault, "make a vault, change its policy, recover or refound it"),
    ("key", key, "show, write down, restore or protect the key"),
    ("mount", mount, "mount a vault at a folder (as mount.bitdust)"),
    ("verify", verify, "is everything there, here and at the suppliers?"),
    ("supplier", supplier, "keep fragments for others"),
    ("swarm", swarm, "a network of local suppliers, to try things out"),
)


def main(arguments: list[str] | None = None) -> int:
    """`bitdust VERB ...`; the exit code."""
    parser = argparse.ArgumentParser(prog="bitdust", description=__import__("bitdustfs").__doc__)
    parser.add_argument("--version", action="version", version=f"bitdustfs {__version__}")
    verbs = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, module, text in VERBS:
        module.add_arguments(verbs.add_parser(name, help=text, description=module.__doc__))
    status.add_commands(verbs)
    args = parser.parse_args(arguments)
    return run(args.run, args, failed=1)


def mount_main(arguments: list[str] | None = None) -> int:
    """`mount.bitdust [VAULT] MOUNTPOINT [-o OPTS]`, also as mount(8) calls it."""
    parser = argparse.ArgumentParser(prog="mount.bitdust", description=mount.__doc__)
    mount.add_arguments(parser, helper=True)
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
    except (BitdustError, ValueError) as caught:
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
    return usage if isinstance(error, UsageError | ValueError) else failed


if __name__ == "__main__":
    sys.exit(main())
