"""Whom a supplier promises its space, what that binds, and whom it gives none."""

import os
from contextlib import suppress

import pytest
from customers import FOREVER, OTHER, family_naming, put, service_of
from family import KEY, VaultKey, claim_of, contracted, family_of, root_of
from nacl.signing import SigningKey

from bitdustfs.errors import Refused
from bitdustfs.net import wire
from bitdustfs.net.tokens import read_tokens
from bitdustfs.supplier import housekeeping
from bitdustfs.supplier.admission import Admission, invite
from bitdustfs.supplier.memory import MemorySupplier
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.session import Session
from bitdustfs.supplier.shelf import MemoryShelf
from bitdustfs.units import GIB, KIB, MIB

pytestmark = pytest.mark.deadline(30)


# -- contracts


async def test_a_contract_that_is_not_used_lapses_within_minutes():
    now = 1_800_000_000.0
    service = service_of(64 * MIB, wall=lambda: now)
    stranger = MemorySupplier(service, OTHER.vault_id)
    await stranger.promise(64 * MIB, 2**62)
    mine = MemorySupplier(service, KEY.vault_id)
    with pytest.raises(Refused, match="no-space"):
        await mine.promise(32 * MIB, FOREVER)
    now += housekeeping.UNUSED_SECONDS + 1
    assert service.housekeeping.offer() == 64 * MIB
    await contracted(mine, 32 * MIB)
    assert service.shelf.vault(OTHER.vault_id) is None  # nothing came of it
    await put(mine, 1)
    now += housekeeping.UNUSED_SECONDS + 1
    assert service.housekeeping.offer() == 32 * MIB
    await stranger.promise(16 * MIB, FOREVER)
    now -= 10**8  # the clock was far ahead, and has been set
    assert service.housekeeping.offer() == 32 * MIB


async def test_a_contract_of_which_nothing_came_is_given_back_and_its_token_with_it():
    node = SigningKey(os.urandom(32))
    public = node.verify_key.encode()
    admission = Admission(False, public)
    service = SupplierService(node, MemoryShelf(), GIB, admission=admission)
    token = read_tokens([invite(node, 64 * MIB, FOREVER)])[public]
    first, second = (MemorySupplier(service, key.vault_id) for key in (OTHER, KEY))
    first.invitation = second.invitation = lambda: token
    await contracted(first, 64 * MIB, OTHER)
    await first.prepare(claim_of(OTHER), True)  # it came as far as a claim, not to a root
    with pytest.raises(Refused, match="another vault came by"):
        await second.promise(64 * MIB, FOREVER)
    await first.give_back()
    await first.give_back()  # there is none any more
    await contracted(second, 64 * MIB)
    await put(second, 1)
    with pytest.raises(Refused, match="in use"):
        await second.give_back()
    assert service.housekeeping.offer() == GIB - 64 * MIB


async def test_a_reserve_is_remembered_but_takes_its_room_only_when_it_is_called():
    now = 1_800_000_000.0
    service = service_of(64 * MIB, wall=lambda: now)
    reserve = MemorySupplier(service, OTHER.vault_id)
    await contracted(reserve, 40 * MIB, OTHER)
    family = family_naming(OTHER, service.kinship.own, ["9.9.9.9:5000"], reserve=True)
    await reserve.accept(root_of(family, key=OTHER), family, claim_of(OTHER))
    now += housekeeping.UNUSED_SECONDS + 1
    mine = MemorySupplier(service, KEY.vault_id)
    await contracted(mine, 40 * MIB)
    assert (await reserve.current()).family == family
    with pytest.raises(Refused, match="promised to others"):
        await put(reserve, 1, key=OTHER)
    now += housekeeping.UNUSED_SECONDS + 1  # nothing came of the other contract
    await put(reserve, 1, key=OTHER)
    assert service.housekeeping.offer() == 24 * MIB


async def test_vaults_to_which_nothing_is_promised_take_no_more_than_is_donated():
    service, out = service_of(16 * MIB), []
    for number in range(6):
        key = VaultKey(bytes([number]) * 32)
        supplier = MemorySupplier(service, key.vault_id)
        await contracted(supplier, 8 * MIB, key)
        await put(supplier, 1, 100, key)
        family = family_of(SigningKey(os.urandom(32)).verify_key.encode(), key=key)
        await supplier.accept(root_of(family, key=key), family, claim_of(key))  # it is out
        out.append((supplier, key))
    for supplier, key in out:
        for block in range(2, 5):
            with suppress(Refused):
                await put(supplier, block, 3 * MIB, key)
    assert service.shelf.used_total() <= 16 * MIB
    mine = MemorySupplier(service, KEY.vault_id)
    await contracted(mine, 12 * MIB)
    for block in range(4):
        await put(mine, block, 2 * MIB + 500 * KIB)
    assert service.shelf.used_total() <= 16 * MIB


async def test_nothing_is_taken_under_a_contract_that_has_ended():
    now = 1_800_000_000.0
    service = service_of(wall=lambda: now)
    mine = MemorySupplier(service, KEY.vault_id)
    await mine.promise(8 * MIB, int(now) + 100)
    await mine.prepare(claim_of(), False)
    await put(mine, 1)
    now += 101
    with pytest.raises(Refused, match="has ended"):
        await put(mine, 2)
    assert len(await mine.read((1).to_bytes(16, "big"), 0, 0, 1000)) == 1000
    await mine.promise(8 * MIB, int(now) + 100)
    await put(mine, 2)


async def test_one_network_is_promised_a_share_and_private_ones_all():
    service = service_of(64 * MIB)

    def ask(key, network, space):
        request = wire.Promise(space, FOREVER)
        return service.handle(Session(key.vault_id, "owner", b"", network), request, b"")[0]

    first, second, third = (VaultKey(bytes([number]) * 32) for number in range(3))
    assert isinstance(ask(first, "9.9.9.0/24", 12 * MIB), wire.ContractIs)
    assert ask(second, "9.9.9.0/24", 12 * MIB).code == "no-space"
    assert isinstance(ask(second, "8.8.8.0/24", 12 * MIB), wire.ContractIs)
    assert isinstance(ask(third, "", 32 * MIB), wire.ContractIs)


async def test_vaults_that_use_nothing_are_remembered_up_to_a_number(monkeypatch):
    monkeypatch.setattr(housekeeping, "UNUSED_MAX", 5)
    service = service_of()

    async def named(number, network):
        key = VaultKey(bytes([number]) * 32)
        asked = wire.Promise(4 * MIB, FOREVER)
        service.handle(Session(key.vault_id, "owner", b"", network), asked, b"")
        return key.vault_id

    mine = await named(1, "8.8.8.0/24")
    for number in range(2, 30):
        await named(number, "9.9.9.0/24")
    rows = dict(service.shelf.all_rows())
    assert len(rows) == 5 and mine in rows


# -- whom it is for


async def test_a_supplier_makes_contracts_with_those_it_invited_alone():
    now = 1_800_000_000.0
    node = SigningKey(os.urandom(32))
    own = node.verify_key.encode()
    shelf = MemoryShelf()
    before = SupplierService(node, shelf, GIB, wall=lambda: now)
    old = MemorySupplier(before, OTHER.vault_id)
    await contracted(old, 8 * MIB, OTHER)
    await put(old, 1, key=OTHER)
    listed = VaultKey(b"l" * 32)
    admission = Admission(False, own, [listed.vault_id.hex()[:16]])
    service = SupplierService(node, shelf, GIB, wall=lambda: now, admission=admission)
    old = MemorySupplier(service, OTHER.vault_id)
    await put(old, 2, key=OTHER)  # whoever has a contract keeps it
    await old.promise(8 * MIB, int(now) + 10**6)
    await MemorySupplier(service, listed.vault_id).promise(8 * MIB, FOREVER)
    assert service.housekeeping.announced() == 0 < service.housekeeping.offer()
    token = read_tokens([invite(node, 16 * MIB, int(now) + 100)])[own]
    forged = read_tokens([invite(SigningKey(os.urandom(32)), 16 * MIB, int(now) + 100)])

    def ask(key, space, shown=b""):
        asked = wire.Promise(space, FOREVER, shown)
        return service.handle(Session(key.vault_id, "owner"), asked, b"")[0]

    assert ask(KEY, 8 * MIB).code == "unauthorised"
    assert ask(OTHER, 9 * MIB).code == "unauthorised"  # more than it has
    assert ask(KEY, 8 * MIB, *forged.values()).code == "forged"
    assert ask(KEY, 17 * MIB, token).code == "unauthorised"
    assert isinstance(ask(KEY, 8 * MIB, token), wire.ContractIs)
    assert isinstance(ask(KEY, 16 * MIB, token), wire.ContractIs)
    assert ask(VaultKey(b"t" * 32), 8 * MIB, token).code == "unauthorised"  # one vault a token
    now += housekeeping.UNUSED_SECONDS * 10
    assert service.housekeeping.offer() == GIB - 32 * MIB  # who was invited is waited for
    late = read_tokens([invite(node, 16 * MIB, int(now) - 1)])[own]
    assert ask(VaultKey(b"t" * 32), 8 * MIB, late).code == "unauthorised"
