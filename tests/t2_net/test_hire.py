"""Contracts: what was asked for counts, whatever a supplier writes into its own."""

import os

import pytest
import trio
from family import KEY, credentials, serving
from nacl.signing import SigningKey

from bitdustfs.blocks.circle import Circle
from bitdustfs.core.placement import capacity
from bitdustfs.core.records import Contract, Family, Features, Group, Member, seal_record
from bitdustfs.errors import Malformed, Unavailable
from bitdustfs.family import own
from bitdustfs.family.find import Ways
from bitdustfs.family.hire import contract, hire
from bitdustfs.net import wire
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.shelf import MemoryShelf
from bitdustfs.units import GIB

ASKED = GIB


class Boasting(SupplierService):
    """Promises whatever comes to its mind."""

    space = 2**62

    def handle(self, session, request, payload):
        reply, data = super().handle(session, request, payload)
        if isinstance(request, wire.Promise):
            body = Contract(self.node.verify_key.encode(), session.vault, self.space, request.until)
            reply = wire.ContractIs(seal_record(self.node, "contract", body))
        return reply, data


async def peer(nursery, kind):
    service = kind(SigningKey(os.urandom(32)), MemoryShelf(), 4 * GIB)

    async def serve(task_status):
        async with serving(service) as address:
            task_status.started(address)
            await trio.sleep_forever()

    address = await nursery.start(serve)
    return PeerSupplier(b"", (address,), credentials(), nursery)


def family_of_members(members):
    return Family(
        1, Features(), KEY.vault_id, 0, bytes(32), bytes(32), (Group(1, 1, members),),
        words={"spread": 0},
    )  # fmt: skip


async def test_a_contract_over_more_than_was_asked_counts_as_what_was_asked(nursery):
    boasting, other, third = [await peer(nursery, k) for k in (Boasting, *2 * [SupplierService])]
    members = tuple([await contract(one, ASKED) for one in (boasting, other)])
    assert [member.space for member in members] == [ASKED, ASKED]
    assert capacity(family_of_members(members)) < ASKED
    await third.ping()
    newcomer = await hire(
        family_of_members(members), 1, credentials(), [], reserves=third.addresses
    )
    assert (newcomer.node, newcomer.space) == (third.node, ASKED)


async def test_a_family_that_took_a_boast_for_true_still_hires(nursery):
    """Families of earlier versions may have such members."""
    boasting, other, third = [await peer(nursery, k) for k in (Boasting, *2 * [SupplierService])]
    members = [await contract(one, ASKED) for one in (boasting, other)]
    members[0] = type(members[0])(members[0].node, members[0].addresses, 2**62)
    newcomer = await hire(
        family_of_members(tuple(members)), 1, credentials(), [], reserves=third.addresses
    )
    assert newcomer.space == ASKED


async def test_a_contract_over_less_is_none(nursery, monkeypatch):
    monkeypatch.setattr(Boasting, "space", ASKED - 1)
    with pytest.raises(Malformed):
        await contract(await peer(nursery, Boasting), ASKED)


async def test_a_supplier_behind_a_host_name_is_known_by_where_the_name_leads(nursery, monkeypatch):
    """It is on this machine, and a neighbour, as if its address was written."""
    monkeypatch.setattr(own, "is_here", lambda address: address.startswith("127.0.0.1:"))
    one = await peer(nursery, SupplierService)
    named = f"localhost:{one.addresses[0].rpartition(':')[2]}"
    credential = credentials()
    behind = PeerSupplier(b"", (named,), credential, nursery)
    await behind.ping()
    assert behind.reached_at() == named and behind.literals() == one.addresses
    members = (Member(b"m" * 32, ("8.8.8.8:4000",), ASKED),)
    with pytest.raises(Unavailable, match="on this very machine"):
        await hire(family_of_members(members), 0, credential, [], wanted=named)


async def test_a_member_that_moves_to_this_machine_is_beside_it_from_then_on(nursery, monkeypatch):
    monkeypatch.setattr(own, "is_here", lambda address: address.startswith("127.0.0.1:"))
    here = await peer(nursery, SupplierService)
    await here.ping()
    moved = Member(here.node, ("127.0.0.2:1",), ASKED)
    ways = Ways(KEY, [], nursery)
    circle = Circle(family_of_members((moved,)), ways.connect, ways.is_own)
    assert not circle.beside()
    ways.connect(moved).also_at([f"localhost:{here.addresses[0].rpartition(':')[2]}"])
    await ways.connect(moved).ping()
    assert circle.beside() == {0} and circle.is_beside(here.node)
    assert circle.online_elsewhere() == 0
