"""Contracts end, suppliers are fired while they are away.

Nothing is kept for ever, nobody waits for ever.
"""

import os
import threading

import pytest
import trio
from family import KEY, claim_of, contracted, credentials, make_block, serving
from nacl.signing import SigningKey

from bitdustfs.cache.folder import OwnedFolder
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import (
    Ballot,
    Family,
    Features,
    Group,
    Member,
    seal_record,
)
from bitdustfs.core.roots import first_root
from bitdustfs.core.sealing import Suite
from bitdustfs.errors import Refused, Unavailable
from bitdustfs.family.hire import hire
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.supplier.daemon import steadily
from bitdustfs.supplier.diskshelf import DiskShelf
from bitdustfs.supplier.guard import Guard
from bitdustfs.supplier.kindials import kin_connector
from bitdustfs.supplier.memory import MemorySupplier
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.shelf import MemoryShelf
from bitdustfs.units import MIB

DAY = 86400


@pytest.fixture(params=["memory", "disk"])
def shelf(request, tmp_path):
    if request.param == "memory":
        yield MemoryShelf()
        return
    folder = OwnedFolder(tmp_path / "shelf", "shelf", {"id": "test"})
    made = DiskShelf(folder)
    yield made
    made.close()
    folder.close()


async def test_an_ended_contract_makes_way_for_others_and_only_then_is_forgotten(shelf):
    now = 1_800_000_000.0
    service = SupplierService(SigningKey(os.urandom(32)), shelf, 16 * MIB, wall=lambda: now)
    other = VaultKey(b"o" * 32)

    first = MemorySupplier(service, KEY.vault_id)
    await first.promise(12 * MIB, int(now) + 30 * DAY)
    await first.prepare(claim_of(), False)
    header, fragments = make_block(os.urandom(12 * MIB))
    await first.put(b"b" * 16, 0, claim_of(), header, fragments[0].chunks, fragments[0].payload)
    second = MemorySupplier(service, other.vault_id)
    with pytest.raises(Refused, match="no-space"):
        await second.promise(12 * MIB, int(now) + 30 * DAY)
    now += 31 * DAY  # nobody renewed it
    assert service.housekeeping.offer() == 16 * MIB
    assert service.housekeeping.make_room() == 0  # there is room: its owner may still come back
    assert (await first.usage()).fragments == 1
    await second.promise(14 * MIB, int(now) + 30 * DAY)
    assert service.shelf.vault(KEY.vault_id) is None and service.shelf.used_total() == 0
    with pytest.raises(Refused, match="unknown-vault"):
        await first.usage()
    now += 31 * DAY
    assert service.housekeeping.make_room() == 1  # of those that kept nothing, nothing stays
    assert service.shelf.all_rows() == []


async def test_others_are_served_while_the_files_of_a_deleted_vault_go(shelf, monkeypatch):
    """There may be a million."""
    service = SupplierService(SigningKey(os.urandom(32)), shelf, 64 * MIB)
    owner, other = MemorySupplier(service, KEY.vault_id), VaultKey(b"o" * 32)
    await contracted(owner, 16 * MIB)
    header, fragments = make_block(os.urandom(MIB))
    await owner.put(b"b" * 16, 0, claim_of(), header, fragments[0].chunks, fragments[0].payload)
    served = []

    def promise():
        served.append(service.housekeeping.promise(other.vault_id, 4 * MIB, 2_000_000_000))

    def unlink(path, as_ever=os.unlink):
        thread = threading.Thread(target=promise, daemon=True)
        thread.start()
        thread.join(5)
        as_ever(path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", unlink)
        service.housekeeping.end(KEY.vault_id)
        assert len(served) == isinstance(shelf, DiskShelf)
    assert shelf.vault(KEY.vault_id) is None


def family_of(services, epoch, addresses):
    members = tuple(Member(s.node.verify_key.encode(), (addresses[s],), 4 * MIB) for s in services)
    body = Family(
        1, Features(), KEY.vault_id, epoch, bytes(32), KEY.capability().read_proof_public,
        (Group(2, 1, members),),
    )  # fmt: skip
    return seal_record(KEY.signing, "family", body)


async def test_who_was_replaced_while_away_hears_of_it_and_can_leave():
    services = [
        SupplierService(SigningKey(os.urandom(32)), MemoryShelf(), 64 * MIB) for _ in range(4)
    ]
    fired = services[2]

    async def found(service, epoch, members, addresses):
        supplier = MemorySupplier(service, KEY.vault_id)
        if service.shelf.vault(KEY.vault_id) is None:
            await contracted(supplier, 4 * MIB)
        family = family_of(members, epoch, addresses)
        ballot = Ballot(1 + epoch, b"m" * 16)
        root = first_root(KEY, Suite.AEGIS256, ballot, family, 0)
        await supplier.accept(root, family, claim_of(ballot=ballot))

    async def serve(service, task_status=trio.TASK_STATUS_IGNORED):
        async with serving(service) as address:
            task_status.started(address)
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        addresses = {}
        for service in services:
            addresses[service] = await nursery.start(serve, service)
        for service in services[:3]:
            await found(service, 0, services[:3], addresses)
        for service in (services[0], services[1], services[3]):  # the third is away meanwhile
            await found(service, 1, [services[0], services[1], services[3]], addresses)
        guard = Guard(fired, kin_connector(fired.node, nursery))
        fired.kinship.leaving = True
        assert guard.depending() == [KEY.vault_id]
        for _ in range(2):
            await guard.round(KEY.vault_id)
        assert guard.depending() == []
        session = kin_connector(fired.node, nursery)(
            KEY.vault_id,
            Member(services[0].node.verify_key.encode(), (addresses[services[0]],), 0),
        )
        with pytest.raises(Refused, match="unauthorised"):
            await session.list()
        stranger = SigningKey(os.urandom(32))
        unknown = kin_connector(stranger, nursery)(
            KEY.vault_id,
            Member(services[0].node.verify_key.encode(), (addresses[services[0]],), 0),
        )
        with pytest.raises(Refused, match="forged"):
            await unknown.current()
        nursery.cancel_scope.cancel()


async def test_who_leaves_or_is_full_is_not_hired_and_the_next_one_is():
    leaver, full, free = (
        SupplierService(SigningKey(os.urandom(32)), MemoryShelf(), 64 * MIB) for _ in range(3)
    )
    await contracted(MemorySupplier(leaver, KEY.vault_id), 8 * MIB)  # as reserves of the bench
    supplier = MemorySupplier(full, KEY.vault_id)
    await contracted(supplier, 8 * MIB)
    header, fragments = make_block(os.urandom(16 * MIB))
    await supplier.put(  # it had another position before
        b"b" * 16, 1, claim_of(), header, fragments[1].chunks, fragments[1].payload
    )
    leaver.leave()
    assert leaver.housekeeping.offer() == 0
    with pytest.raises(Refused, match="leaves"):
        await MemorySupplier(leaver, KEY.vault_id).promise(8 * MIB, 2_000_000_000)
    member = Member(SigningKey(os.urandom(32)).verify_key.encode(), (), 8 * MIB)
    family = Family(
        1, Features(), KEY.vault_id, 0, bytes(32), KEY.capability().read_proof_public,
        (Group(1, 1, (member,)),),
    )  # fmt: skip
    async with serving(leaver) as first, serving(full) as second, serving(free) as third:
        reserves = [first, second, third]
        hired = await hire(family, 0, credentials(), [], reserves=reserves, fill=5 * MIB)
        assert hired.node == free.node.verify_key.encode()
        with pytest.raises(Unavailable, match="full already"):
            await hire(family, 0, credentials(), [], wanted=second, fill=5 * MIB)


async def test_a_full_disk_ends_no_task_of_a_supplier(autojump_clock):
    turns = []

    async def task():
        turns.append(1)
        if len(turns) < 3:
            raise OSError(28, "No space left on device")

    await steadily("emptying the trash", task)
    assert len(turns) == 3


async def test_a_client_that_resets_its_connection_costs_one_line():
    service = SupplierService(SigningKey(os.urandom(32)), MemoryShelf(), MIB)

    async with serving(service) as address:
        host, _, port = address.rpartition(":")
        for _ in range(50):
            client = await trio.open_tcp_stream(host, int(port))
            client.socket.setsockopt(
                trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
            )
            client.socket.close()
        async with trio.open_nursery() as nursery:
            peer = PeerSupplier(b"", (address,), credentials(), nursery)
            await peer.ping()  # others are served
            await peer.aclose()
