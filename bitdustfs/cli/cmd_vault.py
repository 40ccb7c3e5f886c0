"""`bitdust vault`: make a vault, change its size or policy, found its family anew, recover it."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

import trio

from bitdustfs import config
from bitdustfs.cache import keyfile
from bitdustfs.cache.machine import known_addresses, machine_id, remember_addresses
from bitdustfs.cli import cmd_codes as codes
from bitdustfs.cli import cmd_delete as delete
from bitdustfs.cli import cmd_recover as recover
from bitdustfs.cli import cmd_rewind as rewind
from bitdustfs.cli.answering import add_yes, meant
from bitdustfs.cli.cmd_key import load_key
from bitdustfs.cli.exit_codes import Exit
from bitdustfs.cli.friend_choice import NO_FRIENDS, Friends, choose_friends, free_friends
from bitdustfs.cli.json_words import add_json, say_json
from bitdustfs.cli.periods import period_words
from bitdustfs.cli.policy_words import HELP, parse_policy, policy_lines
from bitdustfs.cli.results import FounderLine, VaultMade, VaultRefounded
from bitdustfs.cli.schedule_words import HELP as SCHEDULE_HELP
from bitdustfs.cli.schedule_words import parse_schedule
from bitdustfs.cli.texts import INVITATION_HELP, NODE_DIGITS, OWN_HELP
from bitdustfs.cli.token_words import read_token
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.placement import default_k, parse_ecc, promise_each
from bitdustfs.core.schedule import OFF, schedule_words
from bitdustfs.errors import UsageError
from bitdustfs.family import refound
from bitdustfs.family.create import Founder, Order, create_vault
from bitdustfs.family.own import on_this_machine
from bitdustfs.family.recovery import refound_vault
from bitdustfs.mount.client import MountClient
from bitdustfs.mount.cpu import suite
from bitdustfs.net.addresses import check_address
from bitdustfs.plain import say
from bitdustfs.units import format_size, parse_size
from bitdustfs.vault.account import promised

SPACE = "space="
SPACE_HELP = "space=200G: the size of the vault, if all its suppliers promise their part"
SUPPLIERS = 7  #: of a vault for which neither a code nor suppliers are named


def add_arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True)
    _add_create(verbs.add_parser("create", help="make a new vault and its key file"))
    text = "how likely a loss is with each code K/N, before anything was measured"
    codes.add_arguments(verbs.add_parser("codes", help=text, description=codes.__doc__))
    _add_set(verbs.add_parser("set", help="change the size or the policy of a mounted vault"))
    text = "a new family, of those that are left, when a majority of the suppliers is gone for good"
    _add_refound(verbs.add_parser("refound", help=text, description=refound.__doc__))
    text = "end a vault and its contracts, for good"
    delete.add_arguments(verbs.add_parser("delete", help=text, description=delete.__doc__))
    text = "the vault as it was at a time, where its suppliers keep the past"
    rewind.add_arguments(verbs.add_parser("rewind", help=text))
    text = "a tree again, from blocks alone, when all roots are lost"
    recover.add_arguments(verbs.add_parser("recover", help=text))


def _add_create(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ecc", metavar="K/N", help="any K of N suppliers rebuild all (4/7)")
    parser.add_argument(
        "--space", help="size of the vault (10G; with friends, as much as they give)"
    )
    parser.add_argument("--key", type=Path, help="where to write the key file")
    parser.add_argument(
        "--friends", action="store_true", help="friends who joined come first (bitdust friends); "
        "without --supplier and --bootstrap they do anyway",
    )  # fmt: skip
    parser.add_argument(
        "--supplier", action="append", default=[], metavar="HOST:PORT",
        help="a supplier's address; give as many as the code needs",
    )  # fmt: skip
    parser.add_argument(
        "--bootstrap", action="append", default=[], metavar="HOST:PORT",
        help="any node of the network: suppliers are found through it",
    )  # fmt: skip
    parser.add_argument("--policy", action="append", default=[], metavar="NAME=VALUE", help=HELP)
    parser.add_argument(
        "--schedule", action="append", default=[], metavar="WORD",
        help=f"snapshots that are made by themselves (off). {SCHEDULE_HELP}",
    )  # fmt: skip
    parser.add_argument(
        "--retain", metavar="TIME",
        help="14d: for so long suppliers keep what was deleted, and past roots, whoever asks; it "
        "takes room of the vault (off)",
    )  # fmt: skip
    parser.add_argument("--own", action="store_true", help=OWN_HELP)
    _add_invitation(parser)
    add_json(parser)
    parser.set_defaults(run=run_create)


def _add_invitation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--invitation", action="append", default=[], metavar="TOKEN", help=INVITATION_HELP
    )


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "words", nargs="*", metavar="[MOUNTPOINT] [NAME=VALUE ...]", help=f"{SPACE_HELP}; {HELP}. "
        "Without any it shows the policy. The mountpoint may be left out where one is mounted",
    )  # fmt: skip
    _add_invitation(parser)
    add_json(parser)
    parser.set_defaults(run=run_set)


def _add_refound(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--key", type=Path, help="the key file")
    parser.add_argument(
        "--bootstrap", action="append", default=[], metavar="HOST:PORT",
        help="a supplier, a reserve or any node of the network",
    )  # fmt: skip
    parser.add_argument(
        "--with", dest="newcomer", action="append", default=[], metavar="HOST:PORT",
        help="a new supplier for a position that nobody has any more (repeatable)",
    )  # fmt: skip
    _add_invitation(parser)
    add_yes(parser)
    add_json(parser)
    parser.set_defaults(run=run_refound)


def run_set(args: argparse.Namespace) -> int:
    """Another size, another policy, or both: the size first, because it may be refused."""
    words: list[str] = args.words
    named = Path(words.pop(0)) if words and "=" not in words[0] else None
    sizes = [parse_size(w.removeprefix(SPACE)) for w in words if w.startswith(SPACE)]
    policy = parse_policy([word for word in words if not word.startswith(SPACE)])
    mount = MountClient(named)
    if sizes:
        larger = _larger_deals(mount, sizes[-1])
        tokens = [*map(read_token, args.invitation), *larger.tokens]
        resized = mount.set_space(sizes[-1], tokens)
        larger.note(bytes.fromhex(mount.status().vault), larger.nodes)
        if not args.json:
            say(f"the vault takes {format_size(resized.capacity)} of files from now on")
    if policy:
        mount.set_policy(policy)
        if not args.json:
            say("the vault's family knows of it from now on")
    told = mount.policy()
    if args.json:
        say_json(told)
        return 0
    for sentence in policy_lines(told):
        say(sentence)
    return 0


def _larger_deals(mount: MountClient, size: int) -> Friends:
    """The new deals of friends who keep the vault, where it grows: by these they may give more."""
    promise = promise_each(size, mount.policy().k)
    lines = mount.suppliers().suppliers
    smaller = {bytes.fromhex(line.node) for line in lines if line.space < promise}
    return free_friends(promise, smaller) if smaller else NO_FRIENDS


RISK = """\
This signs a new family without the old one's majority. What only the lost suppliers know of the
newest changes is lost; and if they are merely cut off and another machine writes there, the two
histories never come together: the new one wins. Do this when they are gone for good."""


def run_refound(args: argparse.Namespace) -> int:
    """Says the risk, asks, and founds the new family."""
    key = load_key(args.key)
    if not meant(args.yes, RISK, "refound"):
        return Exit.FAILED
    addresses = [*(check_address(a) for a in args.bootstrap), *known_addresses(key.vault_id)]
    newcomers = [check_address(address) for address in args.newcomer]
    tokens = [*map(read_token, args.invitation)]
    family = trio.run(
        refound_vault, key, addresses, config.home(), machine_id(), suite(), newcomers, tokens
    )
    remember_addresses(family)
    if args.json:
        nodes = [member.node.hex() for member in family.members]
        vault = key.vault_id.hex()
        say_json(VaultRefounded(vault=vault, epoch=family.epoch, suppliers=nodes))
        return Exit.DONE
    say(
        f"the vault has a family of {len(family.members)} again (epoch {family.epoch}); "
        "mount it as usual"
    )
    return Exit.DONE


def run_create(args: argparse.Namespace) -> int:
    """Makes the key file first, so that no vault is made whose key cannot be kept."""
    chosen = choose_friends(args)
    order = parse_order(args, chosen)
    path = args.key or config.default_key_path()
    found = unfounded_key(path)
    order.check()
    key = found or VaultKey(os.urandom(32))
    if not found:
        keyfile.save(path, key)
    try:
        created = trio.run(create_vault, key, order, suite())
    except BaseException:
        if not found:
            path.unlink()
        raise
    config.unfounded_path(key.vault_id).unlink(missing_ok=True)
    remember_addresses(created.family)
    chosen.note(key.vault_id, {member.node for member in created.family.members})
    if args.json:
        say_json(_made(key, order, path, created.founders))
    else:
        say_created(key, order, path, created.founders)
    return Exit.DONE


def unfounded_key(path: Path) -> VaultKey | None:
    """The key in a file that was made here for a vault to come (bitdust setup); None: no file.

    Raises UsageError where a vault may be of it already: two would never come together.
    """
    if not path.exists():
        return None
    key = load_key(path)
    if not config.unfounded_path(key.vault_id).exists():
        raise UsageError(f"{path} exists already; name another file with --key")
    return key


def parse_order(args: argparse.Namespace, chosen: Friends = NO_FRIENDS) -> Order:
    """The vault that a command line asks for. Raises UsageError."""
    suppliers = tuple(check_address(a) for a in args.supplier)
    bootstrap = tuple(check_address(a) for a in args.bootstrap)
    if args.ecc:
        k, n = parse_ecc(args.ecc)
    else:
        n = len(suppliers) + chosen.count or SUPPLIERS
        k = default_k(n)
    there = len(suppliers) + chosen.count
    if there == chosen.count == 1 and not args.ecc:
        raise UsageError(
            "one friend alone has space for a vault, and nothing would survive his loss: let "
            "another one join (bitdust invite), or say --ecc 1/1"
        )
    if there < n and not bootstrap:
        raise UsageError(
            f"{k}/{n} needs {n} suppliers and there are {there}; name more with --supplier, or a "
            "node of the network with --bootstrap to find them, or let friends join: bitdust invite"
        )
    schedule = parse_schedule(args.schedule, OFF)
    size = chosen.size(args.space, k, n)
    retain = [f"retain={args.retain}"] if args.retain else []
    policy = parse_policy([*args.policy, *retain])
    words = {**(schedule_words(schedule) if schedule.on else {}), **policy}
    tokens = (*map(read_token, args.invitation), *chosen.tokens)
    return Order(k, n, size, words, suppliers, bootstrap, chosen.known(n), args.own, tokens)


def _key_words(path: Path) -> str:
    """How a command names this key file; "" where it takes it anyway."""
    return "" if path == config.default_key_path() else f" --key {quote(str(path))}"


def _made(key: VaultKey, order: Order, path: Path, founders: Sequence[Founder]) -> VaultMade:
    lines = [
        FounderLine(
            position=position,
            node=founder.member.node.hex(),
            address=next(iter(founder.member.addresses), ""),
            offers=founder.offers,
        )
        for position, founder in enumerate(founders)
    ]
    return VaultMade(
        vault=key.vault_id.hex(), key=str(path), k=order.k, n=order.n, space=order.size,
        promise=order.promise, suppliers=lines, bears=promised(order.k, order.n, _own(founders)),
    )  # fmt: skip


def _own(founders: Sequence[Founder]) -> int:
    return sum(on_this_machine(founder.member) for founder in founders)


def say_created(key: VaultKey, order: Order, path: Path, founders: Sequence[Founder]) -> None:
    """Who keeps the new vault, what that takes of each, and what is to be done now."""
    k, n = order.k, order.n
    say(
        f"vault {key.vault_id.hex()[:16]} of {format_size(order.size)} on {n} suppliers, "
        f"key in {path}"
    )
    for position, founder in enumerate(founders):
        address = next(iter(founder.member.addresses), "")
        offers = "" if founder.offers is None else f"  offers {format_size(founder.offers)}"
        say(f"  {position}  {founder.member.node.hex()[:NODE_DIGITS]}  {address}{offers}")
    content = -(-order.size // k)
    say(
        f"each promises {format_size(order.promise)}: {format_size(content)} for its share of the "
        f"content, and {format_size(order.promise - content)} for names, deleting and tidying up"
    )
    own = _own(founders)
    for sentence in promised(k, n, own):
        say(sentence)
    if order.retain:
        say(
            f"for {period_words(order.retain)} they keep what is deleted, and past roots: "
            "bitdust vault rewind goes back"
        )
    say(f"write its 24 words down now: bitdust key words{_key_words(path)}")
    vault = "" if path == config.default_key_path() else f" {quote(str(path))}"
    say(f"then make a folder and mount it there: mkdir ~/vault; mount.bitdust{vault} ~/vault")
    elsewhere = max(k, n - own)  # one on this machine is lost with it
    say(codes.hint(k, elsewhere, order.size, n if order.bootstrap else 0))
