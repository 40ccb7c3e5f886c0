"""The words of a family's policy: `bitdust vault create --policy` and `bitdust vault set`."""

from bitdustfs.cli.periods import UNITS
from bitdustfs.core.policy import RETAIN_MAX
from bitdustfs.core.spread import Spread
from bitdustfs.errors import UsageError
from bitdustfs.mount.statements import PolicySaid
from bitdustfs.units import format_size, parse_size

MOST = {"patience": 10 * 365 * 86400, "margin": 63, "bandwidth": 1 << 50, "retain": RETAIN_MAX}
HELP = (
    "patience=72h: how long a supplier may be away before it is replaced; margin=1: fragments "
    "beyond the K that are needed, below which nobody is waited for; bandwidth=10M: bytes a second "
    "that rebuilding may move (0: no bound); spread=network: no two suppliers of one /24 (or one "
    "host: spread=host; spread=none: wherever they are); retain=14d: how long suppliers keep what "
    "was deleted and past roots, whoever asks (0d: not at all)"
)


def policy_lines(told: PolicySaid) -> list[str]:
    """A policy in the words by which it is set, each with what it means."""
    spread = {Spread.NONE: "none", Spread.HOST: "host"}.get(Spread(told.spread), "network")
    bandwidth = "0" if not told.bandwidth else format_size(told.bandwidth).replace(" ", "")
    return [
        f"patience={_time(told.patience)}  how long a supplier may be away before it is replaced",
        f"margin={told.margin}  with fewer than {told.k} + {told.margin} fragments of a block, "
        "nobody is waited for",
        f"bandwidth={bandwidth}  "
        + (
            "bytes a second that rebuilding may move"
            if told.bandwidth
            else "rebuilding has no bound"
        ),
        f"retain={_time(told.retain)}  "
        + (
            "how long suppliers keep what was deleted: bitdust vault rewind goes back"
            if told.retain
            else "suppliers keep nothing of what was deleted for sure"
        ),
        f"spread={spread}  what no two suppliers may have in common",
    ]


def _time(seconds: float) -> str:
    """As parse_policy reads it."""
    whole = int(seconds)
    return next(f"{whole // UNITS[u]}{u}" for u in "dhms" if not whole % UNITS[u])


def parse_policy(words: list[str]) -> dict[str, int]:
    """Those that are named, of {"patience": seconds, "margin": fragments, "bandwidth": bytes/s,
    "spread": Spread}. Raises UsageError.
    """
    policy: dict[str, int] = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            match name:
                case "patience" | "retain":
                    policy[name] = int(value[:-1]) * UNITS[value[-1:]]
                case "margin":
                    policy[name] = int(value)
                case "bandwidth":
                    policy[name] = parse_size(value)
                case "spread":
                    policy[name] = Spread[value.upper()]
                case _:
                    raise ValueError(name)
        except (ValueError, KeyError, UsageError):
            raise UsageError(
                f"{word!r} is no policy; write for example patience=48h, margin=1, bandwidth=10M, "
                "spread=host or retain=14d"
            ) from None
        if policy[name] < 0 or (name == "patience" and not policy[name]):
            raise UsageError(f"{word!r} is too small")
        if policy[name] > MOST.get(name, policy[name]):
            raise UsageError(f"{word!r} is too much")
    return policy
