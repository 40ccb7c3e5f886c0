"""Is a supplier reachable from outside? What was seen says it; nothing is asked of anybody.

Who came from another public network proves that others can. Where only private addresses are
announced, they cannot. Else nobody came as yet, which proves nothing: few may know it.
"""

import time
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from bitdustfs.net.addresses import is_private_host, network_of, split


class Reach(NamedTuple):
    """`seen`: from other networks; None: nothing shows it. `said`: why, the rest of a sentence."""

    seen: bool | None
    said: str


def seen_from_outside(
    announced: Sequence[str],
    listen: str,
    came: Callable[[Collection[str]], float | None],
    now: Callable[[], float] = time.monotonic,
) -> Reach:
    """`announced`: where it says that it is; `came`: when somebody asked who is not of these
    networks.
    """
    public = [host for host, _ in map(split, announced) if not is_private_host(host)]
    last = came({network_of(host) for host in public})
    port = split(listen)[1]
    if last is not None:
        ago = (now() - last) / 60
        return Reach(True, f"reachable from outside: somebody came from there {ago:.0f} min ago")
    if announced and not public:
        return Reach(
            False,
            "not reachable from outside: it knows private addresses of itself only; forward TCP "
            f"and UDP port {port} at the router, and say --announce with its address or name",
        )
    return Reach(
        None,
        "nobody came from outside since it was started; if that stays so, see whether TCP and UDP "
        f"port {port} are let in, and forwarded by the router",
    )
