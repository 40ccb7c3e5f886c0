"""Which router this machine has, and how it is spoken with."""

from bitdustfs.net.routers.gateway import Gateway
from bitdustfs.net.routers.pcp import NatPmpRouter, OtherVersion, PcpRouter
from bitdustfs.net.routers.router import OpenPort, Router, RouterRefuses, Silent
from bitdustfs.net.routers.upnp import find_upnp


async def map_first(
    secret: bytes, gateway: Gateway, protocol: int, internal: int, external: int
) -> tuple[Router, OpenPort]:
    """A router that maps a port, by PCP, NAT-PMP or UPnP, and what it said.

    `secret`: this node's, of 32 bytes; no router is told it.

    Raises RouterRefuses, with what each way came to.
    """
    refused: list[str] = []
    for router in (PcpRouter(gateway, secret), NatPmpRouter(gateway)):
        try:
            return router, await router.map(protocol, internal, external)
        except (Silent, OtherVersion) as error:
            refused.append(str(error))
        except RouterRefuses as error:  # it speaks this one: the other would say the same
            refused.append(str(error))
            break
    try:
        upnp = await find_upnp(gateway)
        return upnp, await upnp.map(protocol, internal, external)
    except RouterRefuses as error:
        refused.append(str(error))
    raise RouterRefuses("; it ".join(refused))
