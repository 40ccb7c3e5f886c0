"""`bitdust vault delete`: ends a vault and its contracts, for good."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import trio

from bitdustfs import config
from bitdustfs.cache.machine import known_addresses, machine_id
from bitdustfs.cli.cmd_key import load_key
from bitdustfs.cli.exit_codes import Exit
from bitdustfs.cli.friend_choice import set_free
from bitdustfs.cli.named import complain_named, say_named
from bitdustfs.cli.texts import NODE_DIGITS
from bitdustfs.errors import UsageError
from bitdustfs.family.deleting import (
    Told,
    delete_at,
    fence,
    forget_here,
    forget_rest,
    who_keeps,
)
from bitdustfs.mount.cpu import suite
from bitdustfs.mount.mountpoint import attached_marker, ending_marker
from bitdustfs.net.addresses import check_address
from bitdustfs.plain import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--key", type=Path, help="the key file")
    parser.add_argument(
        "--bootstrap", action="append", default=[], metavar="HOST:PORT",
        help="a supplier or any node of the network, where none is known here (repeatable)",
    )  # fmt: skip
    parser.add_argument("--yes", action="store_true", help="the loss is meant: do not ask")
    parser.set_defaults(run=run_delete)


def run_delete(args: argparse.Namespace) -> int:
    """Who is away keeps what it has until this is run again: then it is 1."""
    key = load_key(args.key)
    vault = key.vault_id
    if attached_marker(vault).exists() or ending_marker(vault).exists():
        raise UsageError("the vault is mounted here: bitdust unmount first")
    addresses = [*map(check_address, args.bootstrap), *known_addresses(vault)]
    keeping = trio.run(who_keeps, key, addresses, machine_id(), suite())
    if keeping.begun:
        say_named(f"the deletion of vault {vault.hex()[:NODE_DIGITS]} goes on")
    if not args.yes and not _meant(vault, len(keeping.members), keeping.begun):
        say("nothing was changed")
        return Exit.FAILED
    members = {member.node: member for member in keeping.members}
    if keeping.known is not None:
        shown = trio.run(fence, key, keeping.known, addresses)
        members |= {member.node: member for member in shown}
    ended = trio.run(delete_at, key, [*members.values()], keeping.sure, addresses)
    if _say_ended(ended):
        return Exit.FAILED
    if not keeping.sure:
        complain_named(
            "nobody showed the newest list of suppliers: there may be others that keep their part. "
            "The key stays here; run this again with the address of one: "
            "bitdust vault delete --bootstrap HOST:PORT"
        )
        return Exit.FAILED
    if any(told.retains for told in ended):
        forget_rest(vault)
        say_named(
            f"vault {vault.hex()[:NODE_DIGITS]} is gone once its retention is over. Until then "
            "bitdust vault rewind brings it back; so its key stays here"
        )
        return Exit.DONE
    set_free(vault)
    forget_here(vault)  # with it goes what has this command go on, if it is run again
    path = args.key or config.default_key_path()
    path.unlink(missing_ok=True)
    say_named(
        f"nobody keeps anything of vault {vault.hex()[:NODE_DIGITS]} any more; what this machine "
        f"had of it is gone, and so is its key, {path}"
    )
    return Exit.DONE


def _meant(vault: bytes, count: int, begun: bool) -> bool:
    rest = "the rest of " if begun else ""
    question = (
        f"This deletes {rest}vault {vault.hex()[:NODE_DIGITS]} at {count} suppliers, and its key "
        "here.\nNothing brings its files back, on no machine, not even its 24 words.\n"
        "Type delete to go on: "
    )
    return input(question).strip().lower() == "delete"


def _say_ended(ended: Sequence[Told]) -> int:
    """What each said; how many still keep something and were not told."""
    left = [told for told in ended if told.error and not told.retains]
    for told in ended:
        node = told.member.node.hex()[:NODE_DIGITS]
        if told.retains:
            say_named(f"{node}: {told.error}")
            continue
        if not told.error:
            say_named(f"{node} has deleted it")
            continue
        complain_named(f"{node} did not say that it deleted it: {told.error}")
    if left:
        complain_named(
            f"{len(left)} of {len(ended)} suppliers still keep their part; run this again when "
            "they are back. The key stays here until then"
        )
    return len(left)
