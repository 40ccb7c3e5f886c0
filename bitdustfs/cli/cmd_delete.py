"""`bitdust vault delete`: ends a vault and its contracts, for good."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import trio

from bitdustfs import config
from bitdustfs.cache.machine import machine_id
from bitdustfs.cli.answering import add_yes, meant
from bitdustfs.cli.cmd_key import load_key
from bitdustfs.cli.exit_codes import Exit
from bitdustfs.cli.friend_choice import set_free
from bitdustfs.cli.json_words import add_json, say_json
from bitdustfs.cli.named import complain_named, say_named
from bitdustfs.cli.results import DeletionLine, VaultDeleted
from bitdustfs.cli.texts import NODE_DIGITS
from bitdustfs.cli.vault_words import add_bootstrap, addresses_of
from bitdustfs.family.deleting import (
    Keeping,
    Told,
    delete_at,
    fence,
    forget_here,
    forget_rest,
    who_keeps,
)
from bitdustfs.mount.cpu import suite


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--key", type=Path, help="the key file")
    add_bootstrap(parser)
    add_yes(parser)
    add_json(parser)
    parser.set_defaults(run=run_delete)


def run_delete(args: argparse.Namespace) -> int:
    """Who is away keeps what it has until this is run again: then it is 1."""
    key = load_key(args.key)
    vault = key.vault_id
    addresses = addresses_of(vault, args.bootstrap)
    keeping = trio.run(who_keeps, key, addresses, machine_id(), suite())
    say_kept = complain_named if args.json else say_named
    if keeping.begun:
        say_kept(f"the deletion of vault {vault.hex()[:NODE_DIGITS]} goes on")
    if not meant(args.yes, _loss(vault, keeping), "delete"):
        return Exit.FAILED
    members = {member.node: member for member in keeping.members}
    if keeping.known is not None:
        shown = trio.run(fence, key, keeping.known, addresses)
        members |= {member.node: member for member in shown}
    ended = trio.run(delete_at, key, [*members.values()], keeping.sure, addresses)
    for told in ended:
        node = told.member.node.hex()[:NODE_DIGITS]
        if told.retains:
            say_kept(f"{node}: {told.error}")
        elif not told.error:
            say_kept(f"{node} has deleted it")
    retained = any(told.retains for told in ended)
    told_all = _none_is_left(ended) and _all_are_known(keeping.sure)
    if told_all and retained:
        forget_rest(vault)
        say_kept(
            f"vault {vault.hex()[:NODE_DIGITS]} is gone once its retention is over. Until then "
            "bitdust vault rewind brings it back; so its key stays here"
        )
    elif told_all:
        set_free(vault)
        forget_here(vault)  # with it goes what has this command go on, if it is run again
        path = args.key or config.default_key_path()
        path.unlink(missing_ok=True)
        say_kept(
            f"nobody keeps anything of vault {vault.hex()[:NODE_DIGITS]} any more; what this "
            f"machine had of it is gone, and so is its key, {path}"
        )
    if args.json:
        lines = [
            DeletionLine(node=told.member.node.hex(), error=told.error, retains=told.retains)
            for told in ended
        ]
        say_json(
            VaultDeleted(
                vault=vault.hex(), done=told_all, retained=retained, sure=keeping.sure,
                suppliers=lines,
            )
        )  # fmt: skip
    return Exit.DONE if told_all else Exit.FAILED


def _loss(vault: bytes, keeping: Keeping) -> str:
    rest = "the rest of " if keeping.begun else ""
    where = f"vault {vault.hex()[:NODE_DIGITS]} at {len(keeping.members)} suppliers"
    if keeping.known is not None and keeping.known.family.policy.retain:
        return (
            f"This deletes {rest}{where} once its retention is over. Until then bitdust vault "
            "rewind brings it back."
        )
    return (
        f"This deletes {rest}{where}, and its key here. Nothing brings its files back, on no "
        "machine, not even its 24 words."
    )


def _none_is_left(ended: Sequence[Told]) -> bool:
    """Whether all of them deleted it, or will once they may; else it is said who was not told."""
    left = [told for told in ended if told.error and not told.retains]
    for told in left:
        node = told.member.node.hex()[:NODE_DIGITS]
        complain_named(f"{node} did not say that it deleted it: {told.error}")
    if left:
        complain_named(
            f"{len(left)} of {len(ended)} suppliers still keep their part; run this again when "
            "they are back. The key stays here until then"
        )
    return not left


def _all_are_known(sure: bool) -> bool:
    if not sure:
        complain_named(
            "nobody showed the newest list of suppliers: there may be others that keep their part. "
            "The key stays here; run this again with the address of one: "
            "bitdust vault delete --bootstrap HOST:PORT"
        )
    return sure
