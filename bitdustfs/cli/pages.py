"""Beside each command: examples, and what goes on when it is interrupted.

One source for `--help` and Ctrl-C. A test holds every command and every example to it.
"""

from typing import NamedTuple

NOTHING_BEGUN = "nothing was changed"
ONLY_LOOKED = "it only looked: nothing was changed"
MOUNT_GOES_ON = "the mount goes on by itself; bitdust status says how far it is"


class Page(NamedTuple):
    """One command's. `interrupted`: what is so after Ctrl-C, a sentence without its end.

    `final`: what nothing undoes, so that it asks unless --yes is said; else "".
    """

    examples: tuple[str, ...]
    interrupted: str
    final: str = ""


PAGES = {
    "setup": Page(
        (
            "bitdust setup",
            "bitdust setup --yes --new --words-later --donate 100G --announce 203.0.113.5:4100"
            " --bootstrap 198.51.100.7:4100 --space 50G --ecc 4/7 --mount ~/vault",
        ),
        "what it did stays; run it again to go on",
    ),
    "vault create": Page(
        (
            "bitdust vault create --ecc 4/7 --space 50G --bootstrap 203.0.113.5:4100",
            "bitdust vault create --ecc 1/2 --supplier 203.0.113.5:4100 --supplier"
            " 198.51.100.7:4100 --invitation @anna.token --invitation @bert.token",
            "bitdust vault create --space 50G --retain 14d --bootstrap 203.0.113.5:4100",
        ),
        "no vault was made; suppliers have back what they promised to it",
    ),
    "vault codes": Page(("bitdust vault codes 7 --space 50G",), ONLY_LOOKED),
    "vault set": Page(
        (
            "bitdust vault set",
            "bitdust vault set patience=48h bandwidth=10M",
            "bitdust vault set retain=14d",
        ),
        "the policy may be changed already: bitdust vault set shows it",
    ),
    "vault refound": Page(
        ("bitdust vault refound --bootstrap 203.0.113.5:4100",),
        "the new family may be signed already: mount the vault and look, or run it again",
        "a new family is signed without the old one's majority",
    ),
    "vault rewind": Page(
        ("bitdust vault rewind", "bitdust vault rewind --to 2026-11-26T18:00 --yes"),
        "the vault may be rewound already: mount it and look, or run it again",
    ),
    "vault recover": Page(
        ("bitdust vault recover --supplier 203.0.113.5:4100 --supplier 198.51.100.7:4100",),
        "no block was changed or deleted; run it again to go on",
        "with --over-root: a root is published over one that suppliers know",
    ),
    "vault delete": Page(
        ("bitdust vault delete", "bitdust vault delete --key k3.key --yes"),
        "suppliers that were told have deleted it already; run it again for the others",
        "the vault is gone, on all machines",
    ),
    "list": Page(("bitdust list", "bitdust list --json"), ONLY_LOOKED),
    "key show": Page(("bitdust key show",), NOTHING_BEGUN),
    "key words": Page(("bitdust key words", "bitdust key words --key k3.key"), NOTHING_BEGUN),
    "key restore": Page(
        ("bitdust key restore", "bitdust key restore --key k3.key < words.txt"), NOTHING_BEGUN
    ),
    "key protect": Page(
        ("bitdust key protect",), "the key file is as it was, or locked, and whole"
    ),
    "mount": Page(
        (
            "bitdust mount ~/vault",
            "bitdust mount k3.key ~/vault -o bootstrap=203.0.113.5:4100,cache=2G",
            "bitdust mount ~/vault -o ro",
        ),
        "it may go on in the background: bitdust status tells, bitdust unmount ends it",
    ),
    "status": Page(
        (
            "bitdust status",
            "bitdust status ~/vault --json",
            "bitdust status --check",
            "bitdust status --risk",
        ),
        ONLY_LOOKED,
    ),
    "suppliers": Page(("bitdust suppliers",), ONLY_LOOKED),
    "rebuild": Page(("bitdust rebuild",), MOUNT_GOES_ON),
    "sync": Page(
        ("bitdust sync", "bitdust sync ~/vault --once --for 10m"),
        f"what was written is kept here, and {MOUNT_GOES_ON}",
    ),
    "unmount": Page(
        ("bitdust unmount", "bitdust unmount ~/vault", "bitdust unmount --now"),
        f"what was written is kept here, and {MOUNT_GOES_ON}, whether it is unmounted yet or not",
    ),
    "verify": Page(("bitdust verify", "bitdust verify --sample 5%"), ONLY_LOOKED),
    "snapshot create": Page(
        ("bitdust snapshot create", "bitdust snapshot create ~/vault before-the-move"),
        "bitdust snapshot list shows whether it was made",
    ),
    "snapshot list": Page(("bitdust snapshot list", "bitdust snapshot list --json"), ONLY_LOOKED),
    "snapshot show": Page(("bitdust snapshot show before-the-move",), ONLY_LOOKED),
    "snapshot delete": Page(
        ("bitdust snapshot delete before-the-move", "bitdust snapshot delete old --yes"),
        "bitdust snapshot list shows whether it is deleted",
        "what it alone refers to is gone",
    ),
    "snapshot schedule": Page(
        ("bitdust snapshot schedule", "bitdust snapshot schedule ~/vault hourly=48 share=30"),
        "the schedule may be changed already: bitdust snapshot schedule shows it",
    ),
    "versions": Page(("bitdust versions ~/vault/letter.txt",), ONLY_LOOKED),
    "undelete": Page(
        (
            "bitdust undelete ~/vault/photos",
            "bitdust undelete ~/vault/photos --from before-the-move",
        ),
        "nothing is there in its place; a folder .undelete-... beside it may be deleted",
    ),
    "pin": Page(
        ("bitdust pin ~/vault/photos", "bitdust pin ~/vault/music --no-wait"),
        "it is pinned, and is fetched in the background; bitdust pins shows how much is here",
    ),
    "unpin": Page(("bitdust unpin ~/vault/music",), "bitdust pins shows what is pinned"),
    "pins": Page(("bitdust pins", "bitdust pins ~/vault --json"), ONLY_LOOKED),
    "invite": Page(
        ("bitdust invite", "bitdust invite --space 200G --for 48h --name Anna"),
        "an invitation that was not printed is of no harm; say it again",
    ),
    "join": Page(
        ("bitdust join bitdust-join-1-k8QBxA...", "bitdust join @anna.line --space 20G"),
        "the deal may be made already; join by the same line again to go on",
    ),
    "friends": Page(
        ("bitdust friends", "bitdust friends --forget Carl"), "nothing was changed, or all of it"
    ),
    "name": Page(
        (
            "bitdust name",
            "bitdust name --json",
            "bitdust name 2 Anna",
            "bitdust name 5e5ab551 laptop",
        ),
        NOTHING_BEGUN,
    ),
    "supplier run": Page(
        (
            "bitdust supplier run --dir ~/shelf --space 100G --listen 192.168.1.5:4100"
            " --announce 203.0.113.5:4100 --bootstrap 198.51.100.7:4100",
        ),
        "it has stopped; what it keeps is there, and is served when it runs again",
    ),
    "supplier invite": Page(
        ("bitdust supplier invite", "bitdust supplier invite --dir ~/shelf --space 50G --days 7"),
        NOTHING_BEGUN,
    ),
    "supplier replace": Page(
        ("bitdust supplier replace 3", "bitdust supplier replace 3 --with 203.0.113.5:4100"),
        "the old supplier stays unless bitdust suppliers shows the new one; run it again to go on",
    ),
    "supplier forgive": Page(
        ("bitdust supplier forgive", "bitdust supplier forgive 3"),
        "bitdust supplier forgive shows who counts as gone",
    ),
    "supplier status": Page(
        ("bitdust supplier status", "bitdust supplier status --dir ~/shelf"), ONLY_LOOKED
    ),
    "supplier pause": Page(
        ("bitdust supplier pause", "bitdust supplier pause --dir ~/shelf"),
        "bitdust supplier status shows what is so",
    ),
    "supplier resume": Page(
        ("bitdust supplier resume", "bitdust supplier resume --dir ~/shelf"),
        "bitdust supplier status shows what is so",
    ),
    "supplier set": Page(
        ("bitdust supplier set --space 50G", "bitdust supplier set --dir ~/shelf --bandwidth 1M"),
        "bitdust supplier status shows what is so",
    ),
    "supplier customers": Page(
        ("bitdust supplier customers", "bitdust supplier customers --dir ~/shelf"), ONLY_LOOKED
    ),
    "supplier leave": Page(
        ("bitdust supplier leave --dir ~/shelf", "bitdust supplier leave --dir ~/shelf --yes"),
        "once begun it goes on leaving, and ends when nobody depends on it any more",
        "its contracts end, and so does it",
    ),
    "doctor": Page(
        ("bitdust doctor", "bitdust doctor --quiet", "bitdust doctor --dir ~/shelf --json"),
        ONLY_LOOKED,
    ),
    "dashboard": Page(
        ("bitdust dashboard", "bitdust dashboard ~/vault --no-open --listen 127.0.0.1:8384"),
        "the page is gone; mounts and suppliers run on, and what it began goes on there",
    ),
    "metrics": Page(
        (
            "bitdust metrics",
            "bitdust metrics --serve 127.0.0.1:9478",
            "bitdust metrics --file /var/lib/prometheus/node-exporter/bitdust.prom",
        ),
        ONLY_LOOKED,
    ),
    "install": Page(
        (
            "bitdust install --mount ~/vault --dry-run",
            "bitdust install --mount ~/vault -o cache=2G --supplier ~/shelf",
            "bitdust install --mount /srv/vault --run-as anna --passphrase /root/passphrase",
        ),
        "some files may be written; run it again, or bitdust uninstall",
    ),
    "uninstall": Page(
        ("bitdust uninstall --dry-run", "bitdust uninstall"),
        "some files may be gone already; run it again",
    ),
    "completion": Page(
        (
            "bitdust completion bash > ~/.local/share/bash-completion/completions/bitdust",
            "bitdust completion zsh > ~/.zfunc/_bitdust",
            "bitdust completion fish > ~/.config/fish/completions/bitdust.fish",
        ),
        NOTHING_BEGUN,
    ),
    "manual": Page(
        ("bitdust manual ~/.local/share/man",), "some pages may be written; run it again"
    ),
    "swarm": Page(
        ("bitdust swarm /tmp/swarm --suppliers 7", "bitdust swarm /tmp/swarm --stop"),
        "suppliers that were started run on; bitdust swarm DIR --stop ends them",
    ),
}


def epilog(name: str) -> str:
    """What a command's help ends with."""
    page = PAGES[name]
    said = ["examples:", *(f"  {example}" for example in page.examples)]
    if page.final:
        said = [f"nothing undoes it: {page.final}. It asks, unless --yes is said.", "", *said]
    return "\n".join(said)


def interrupted(name: str) -> str:
    """What is said after Ctrl-C."""
    return f"interrupted; {PAGES[name].interrupted}" if name in PAGES else "interrupted"
