"""The entry points `bitdust` and `mount.bitdust`: words to verbs, errors to sentences and exit codes.

Exit codes: 0 done; 1 failed for a reason outside (network, disk); 2 wrong use; 3 faults found; 32 the
mount failed (mount(8)'s own code).
"""

import argparse
import logging
import sys

from bitdustfs import __version__
from bitdustfs.cli import key, mount, status, supplier, swarm, vault, verify
from bitdustfs.cli.cpu import keep_large_buffers
from bitdustfs.errors import BitdustError, UsageError

VERBS = (
    ("vault", vault, "make a vault"),
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
    mount.add_arguments(parser)
    args = parser.parse_args(arguments)
    return run(args.run, args, failed=32)


def run(function, args: argparse.Namespace, failed: int) -> int:  # type: ignore[no-untyped-def]
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
    print(f"bitdust: {error}", file=sys.stderr)
    return 2 if isinstance(error, UsageError | ValueError) else failed


if __name__ == "__main__":
    sys.exit(main())
