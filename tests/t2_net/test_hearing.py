"""Hearing of new roots: answers that are held back, their bounds, and suppliers of before."""

import msgspec
import pytest
import trio
from family import BALLOT, KEY, claim_of, contracted, credentials, family_of, root_of, serving
from nacl.signing import SigningKey

from bitdustfs.core.records import open_family_untrusted
from bitdustfs.errors import Forged, Refused
from bitdustfs.net import hearing
from bitdustfs.net.hearing import Hearing, asked_at_once
from bitdustfs.net.peer import PeerSupplier
from bitdustfs.supplier import herald, proving
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.shelf import MemoryShelf
from bitdustfs.units import GIB

pytestmark = pytest.mark.deadline(30)
NONE = (BALLOT, 0)


@pytest.fixture
async def peer():
    """A supplier over TLS, with a contract and a root."""
    service = SupplierService(SigningKey(bytes(31) + b"s"), MemoryShelf(), GIB)
    async with serving(service) as address, trio.open_nursery() as nursery:
        node = service.node.verify_key.encode()
        made = PeerSupplier(node, (address,), credentials(), nursery)
        await contracted(made)
        made.family = family_of(node)
        await made.accept(root_of(made.family), made.family, claim_of())
        made.service = service
        yield made
        await made.aclose()
        nursery.cancel_scope.cancel()


async def held_back(peer, count):
    """Once so many answers are."""
    with trio.fail_after(5):
        while peer.service.voter.herald.waiting != count:  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_an_answer_is_held_back_until_there_is_a_root(peer):
    ear, heard = peer.ear(), []
    first = await ear.hear(NONE, 20)
    assert first.root == root_of(peer.family), "what is newer than what is known comes at once"

    async def listen():
        heard.append(await ear.hear((BALLOT, 1), 20))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await held_back(peer, 1)
        assert heard == []
        await peer.accept(root_of(peer.family, seq=2), peer.family, claim_of())
    assert heard[0].root == root_of(peer.family, seq=2)
    began = trio.current_time()
    assert await ear.hear((BALLOT, 2), 1) is None
    assert 0.9 < trio.current_time() - began < 5
    assert not peer.service.voter.herald.waiting, "nothing is left behind"
    await ear.aclose()


async def test_what_many_hold_back_is_bounded(peer, monkeypatch):
    monkeypatch.setattr(herald, "WAITING_OF_ONE", 2)
    ears = [peer.ear() for _ in range(3)]
    async with trio.open_nursery() as nursery:
        for ear in ears[:2]:
            nursery.start_soon(ear.hear, (BALLOT, 1), 20)
        await held_back(peer, 2)
        began = trio.current_time()
        assert await ears[2].hear((BALLOT, 1), 20) is None
        assert trio.current_time() - began < 5, "one too many is answered at once"
        nursery.cancel_scope.cancel()
    for ear in ears:
        await ear.aclose()
    await held_back(peer, 0)  # whoever leaves waits no more


async def test_a_follower_only_hears_and_others_do_not(peer):
    ear = peer.ear()
    for question in (ear.current, ear.kin, ear.usage, ear.list):
        with pytest.raises(Refused) as caught:
            await question()
        assert caught.value.code == "unauthorised"
    with pytest.raises(Refused) as caught:
        await peer.hear(NONE, 1)
    assert caught.value.code == "unauthorised"
    await ear.aclose()


async def test_whoever_may_read_may_follow_and_nobody_else(peer):
    async with trio.open_nursery() as nursery:
        for key, comes in ((KEY.capability().read_proof_key, True), (SigningKey(b"x" * 32), False)):
            own = credentials(role="reader")
            own = type(own)(
                own.vault, "follower", key, own.tls_public, own.context, own.invitations, own.line
            )
            reader = PeerSupplier(peer.node, peer.addresses, own, nursery)
            if comes:
                assert (await reader.hear(NONE, 1)).root
            else:
                with pytest.raises(Refused) as caught:
                    await reader.hear(NONE, 1)
                assert caught.value.code == "forged"
            await reader.aclose()
        nursery.cancel_scope.cancel()


def told(peer, known=(BALLOT, 1)):
    family = open_family_untrusted(peer.family, KEY.vault_id)
    return Hearing(KEY.vault_id, family, lambda member: peer, known, lambda: None)


async def test_a_supplier_of_before_is_asked_again_and_again(peer, monkeypatch):
    """It knows no followers: it is asked where it stands, in a few bytes."""

    def unknown(*words):
        raise Forged("this role cannot be proven here")

    monkeypatch.setattr(proving, "_prove_follower", unknown)
    monkeypatch.setattr(hearing, "GAP", 0.1)
    listening = told(peer)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listening.run)
        with trio.move_on_after(0.5) as nothing:
            await listening.wait_newer((BALLOT, 1))
        assert nothing.cancelled_caught
        await peer.accept(root_of(peer.family, seq=2), peer.family, claim_of())
        with trio.fail_after(3):
            await listening.wait_newer((BALLOT, 1))
        assert listening.newest == (BALLOT, 2)
        nursery.cancel_scope.cancel()


async def test_while_nothing_moves_one_question_is_asked(peer):
    asked, listening = [], told(peer)
    handle = peer.service.handle

    def count(session, request, payload):
        asked.append(request)
        return handle(session, request, payload)

    peer.service.handle = count
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listening.run)
        await trio.sleep(hearing.GAP + 1)
        assert len(asked) == 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("n", "asked"), [(1, 1), (2, 2), (3, 3), (4, 3), (7, 5), (18, 10)])
def test_enough_are_asked_to_meet_every_quorum(n, asked):
    family = open_family_untrusted(family_of(b"n" * 32), KEY.vault_id)
    [group] = family.groups
    members = tuple(
        msgspec.structs.replace(group.members[0], node=bytes(31) + bytes([i])) for i in range(n)
    )
    group = msgspec.structs.replace(group, members=members)
    assert asked_at_once(msgspec.structs.replace(family, groups=(group,))) == asked
