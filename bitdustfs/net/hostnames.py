"""Host names in addresses that people write: resolved with a deadline, checked like literals.

Only those write them who are believed: the owner, and whoever runs a supplier. Names in records of
strangers are not resolved (net/addresses.py). Whoever answers for a name is believed in nothing: he
may name what a stranger may name. Loopback and private addresses only count where the name itself
is of this machine or of a private network.
"""

import re
import socket
from collections.abc import Iterable
from functools import partial

import trio

from bitdustfs.errors import Unreachable
from bitdustfs.net.addresses import acceptable, is_private_host, split
from bitdustfs.net.ask import ask_all

RESOLVE_DEADLINE = 3.0  #: seconds for one name
ASKING = 4  #: threads that wait for the resolver, also after nobody waits for them any more
RESOLVED_MAX = 4  #: addresses that are taken of one name
#: labels of letters, digits and hyphens, the last one not a number (RFC 1123, section 2.1)
NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*(?=[a-z0-9-]*[a-z])"
    r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.?",
    re.ASCII | re.IGNORECASE,
)


#: a resolver that does not answer holds a thread for a minute: not one of those that disks need
_asking = trio.CapacityLimiter(ASKING)


def is_name(host: str) -> bool:
    """Whether a host is written as a name."""
    return NAME.fullmatch(host) is not None


async def resolve(address: str) -> tuple[str, ...]:
    """The addresses "host:port" that a name leads to; an address without a name as it is.

    Raises Unreachable where there is none that may be dialled, or no answer in time.
    """
    try:
        host, port = split(address)
    except ValueError as error:
        raise Unreachable(f"{address}: {error}") from None
    if not is_name(host):
        return (address,)
    try:
        with trio.fail_after(RESOLVE_DEADLINE):
            hosts = dict.fromkeys(await _ask(host, port))
    except trio.TooSlowError:
        raise Unreachable(f"{host} is not resolved within {RESOLVE_DEADLINE:.0f} s") from None
    except (OSError, UnicodeError, OverflowError) as error:
        raise Unreachable(f"{host} is not resolved: {error}") from None
    private = is_private_host(host)
    fit = [one for one in hosts if acceptable(one, port, allow_private=private)]
    if not fit:
        raise Unreachable(f"{host} leads to {', '.join(hosts) or 'nowhere'}: that is not dialled")
    return tuple(joined_address(one, port) for one in fit[:RESOLVED_MAX])


async def _ask(host: str, port: int) -> list[str]:
    """What the system's resolver says."""
    answers = await trio.to_thread.run_sync(
        partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM),
        abandon_on_cancel=True,
        limiter=_asking,
    )
    return [str(where[0]) for *_, where in answers]


async def resolve_all(addresses: Iterable[str]) -> list[str]:
    """All that these lead to, in their order; those that lead nowhere are left out."""
    wanted = list(dict.fromkeys(addresses))
    answers = await ask_all(wanted, resolve)
    return list(dict.fromkeys(one for a in wanted for one in answers.given.get(a, ())))


def joined_address(host: str, port: int) -> str:
    """ "host:port", or "[v6]:port"."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
