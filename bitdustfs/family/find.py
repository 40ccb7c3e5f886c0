"""From a key and any address to sessions with the whole family.

One reachable member is enough: it tells root and family, which the vault's own signature proves.
"""

import os
from collections.abc import Sequence

import trio
from nacl.signing import SigningKey

from bitdustfs.core.keys import VaultKey
from bitdustfs.core.quorum import Known, check_known_untrusted
from bitdustfs.core.records import Member
from bitdustfs.errors import Malformed, PeerError, Unavailable, UsageError
from bitdustfs.net.ask import ask_all
from bitdustfs.net.dht.discover import find_family_addresses, joined
from bitdustfs.net.peer import Credentials, PeerSupplier
from bitdustfs.net.supplier import Connect
from bitdustfs.net.tls import make_context

GRACE = 1.0  #: seconds for the rest, once one address led to the vault


def owner_credentials(key: VaultKey) -> Credentials:
    """The owner's sessions; TLS shows a key made for this process only."""
    seed = os.urandom(32)
    public = SigningKey(seed).verify_key.encode()
    return Credentials(key.vault_id, "owner", key.signing, public, make_context(seed, False))


async def find_family(
    key: VaultKey, addresses: list[str], credentials: Credentials, nursery: trio.Nursery
) -> Known:
    """The newest root and family, from members at `addresses` or found through the DHT there.

    Raises Unavailable.
    """
    if not addresses:
        raise UsageError("no supplier's address is known here; add -o bootstrap=HOST:PORT")
    try:
        return await _ask_members(key, addresses, credentials, nursery)
    except Unavailable:
        async with joined(addresses) as dht:
            found = await find_family_addresses(dht, key.capability())
        if not set(found) - set(addresses):
            raise
    return await _ask_members(key, found, credentials, nursery)


async def _ask_members(
    key: VaultKey, addresses: Sequence[str], credentials: Credentials, nursery: trio.Nursery
) -> Known:
    best: Known | None = None
    failures: list[str] = []

    async def ask(address: str) -> None:
        nonlocal best
        peer = PeerSupplier(b"", (address,), credentials, nursery)
        try:
            held = await peer.current()
            known = check_known_untrusted(key.vault_id, held.root, held.family)
        except (PeerError, Malformed) as error:
            failures.append(str(error) if address in str(error) else f"{address}: {error}")
            return
        finally:
            with trio.CancelScope(shield=True):
                await peer.aclose()
        if known is None:
            failures.append(f"{address}: has a contract with this vault but no root")
        elif best is None or known.root.order > best.root.order:
            best = known

    # the voters are asked next, and show whatever is newer: nobody who is silent is waited for
    await ask_all(addresses, ask, enough=lambda _: best is not None, grace=GRACE)
    if best is None:
        raise Unavailable(
            f"none of {len(addresses)} addresses leads to this vault (without any of its "
            "suppliers it "
            "cannot be mounted): " + "; ".join(failures[:4])
        )
    return best


def connector(credentials: Credentials, nursery: trio.Nursery) -> Connect:
    """Sessions with members of families, one each, opened when first used."""
    sessions: dict[bytes, PeerSupplier] = {}

    def connect(member: Member) -> PeerSupplier:
        if member.node not in sessions:
            sessions[member.node] = PeerSupplier(
                member.node, member.addresses, credentials, nursery
            )
        return sessions[member.node]

    return connect
