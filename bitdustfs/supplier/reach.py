"""Is a supplier reachable from outside, and how? What was seen says it, and others who dialled it.

Who came from another public network proves that others can, and so does who dialled it where it was
told to. Where only private addresses are announced, they cannot. Else nobody came as yet, which
proves nothing: few may know it.
"""

import time
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from bitdustfs.net.addresses import is_private_host, network_of, relayed, split
from bitdustfs.net.supplier import DIRECT, MAPPED, RELAYED
from bitdustfs.supplier.outside import Outside


class Reach(NamedTuple):
    """`way`: direct, mapped (at a router) or relayed; "" where it is not known, or there is none.

    `seen`: from other networks; None: nothing shows it. `said`: why, the rest of a sentence.
    """

    way: str
    seen: bool | None
    said: str


def reach_of(
    announced: Sequence[str],
    listen: str,
    relays: Sequence[str],
    outside: Outside,
    came: Callable[[Collection[str]], float | None],
    now: Callable[[], float] = time.monotonic,
) -> Reach:
    """`announced`: where it says that it is; `relays`: through which it is to be reached; `came`:
    when somebody asked who is not of these networks.
    """
    if relays:
        return _through_relays(announced, relays)
    public = [host for host, _ in map(split, announced) if not is_private_host(host)]
    mapped = outside.mapped()
    if mapped:
        said = f"mapped: others come in at {mapped[0]}; {outside.how()}"
        return Reach(MAPPED, True, said + outside.besides(mapped))
    last = came({network_of(host) for host in public})
    if last is not None:
        ago = (now() - last) / 60
        said = f"reachable from outside: somebody came from there {ago:.0f} min ago"
        return Reach(DIRECT, True, said + outside.besides(announced))
    proven = outside.proven(announced)
    if proven:
        said = f"reachable from outside: others dialled {proven}"
        return Reach(DIRECT, True, said + outside.besides(announced))
    port = split(listen)[1]
    todo = (
        f"forward TCP and UDP port {port} at the router, and say --announce with its address or "
        "name; or say --through with a relay"
    )
    why = outside.why(announced)
    if why.said:
        sure = "not reachable" if why.sure else "it is not known whether it is reachable"
        return Reach("", False if why.sure else None, f"{sure} from outside: {why.said}; {todo}")
    if announced and not public:
        said = "not reachable from outside: it knows private addresses of itself only"
        return Reach("", False, f"{said}; {todo}")
    return Reach(
        "", None,
        "nobody came from outside since it was started; if that stays so, see whether TCP and UDP "
        f"port {port} are let in, and forwarded by the router",
    )  # fmt: skip


def _through_relays(announced: Sequence[str], relays: Sequence[str]) -> Reach:
    ways = [way.relay for way in map(relayed, announced) if way is not None]
    if ways:
        return Reach(RELAYED, True, f"relayed: reached through {', '.join(ways)}")
    return Reach(
        "", False,
        f"not reachable: no relay has it on standby ({', '.join(relays)}); its log says why",
    )  # fmt: skip
