"""A supplier that the owner names by a new address may be one of the family that moved."""

import logging

import msgspec
import trio

from bitdustfs.errors import PeerError, UsageError
from bitdustfs.net.handshake import Credentials
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.vault.vaults import WritableVault

log = logging.getLogger(__name__)


async def is_the_same(
    vault: WritableVault, position: int, address: str, credentials: Credentials
) -> bool:
    """Whether the supplier at an address is the one that has the position.

    One of the family is reached there from now on. Raises UsageError where it has another position.
    """
    node = await _node_at(address, credentials)
    family = vault.known.family
    member = family.member(node)
    if member is None:
        return False
    session = vault.circle.connect(msgspec.structs.replace(member, addresses=(address,)))
    try:
        await session.ping()
    except PeerError as error:
        log.info("%s was at %s just now: %s", node.hex()[:12], address, error)
    where = family.position(node)
    if where is not None and where != position:
        raise UsageError(f"the supplier at {address} has position {where} already")
    return where == position


async def _node_at(address: str, credentials: Credentials) -> bytes:
    """The key of the supplier there that has a contract with the vault; empty where there is
    none.
    """
    async with trio.open_nursery() as nursery:
        peer = PeerSupplier(b"", (address,), credentials, nursery)
        try:
            await peer.ping()
        except PeerError:
            return b""
        finally:
            with trio.CancelScope(shield=True):
                await peer.aclose()
            nursery.cancel_scope.cancel()
    return peer.node
