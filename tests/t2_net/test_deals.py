"""Two suppliers make a deal by one line: who may come by it, how often, and what each keeps."""

import os
import sys
from base64 import urlsafe_b64decode
from types import SimpleNamespace

import pytest
from family import KEY
from nacl.signing import SigningKey

from bitdustfs.cache.deals import DealFolder
from bitdustfs.cli.friend_choice import Friends, _Free
from bitdustfs.cli.qr import qr_lines
from bitdustfs.errors import Malformed, Refused, UsageError
from bitdustfs.net.joinline import read_join_line_untrusted, write_join_line
from bitdustfs.supplier import befriend
from bitdustfs.supplier.admission import invite as token_for_a_vault
from bitdustfs.supplier.admission import read_admission
from bitdustfs.supplier.befriend import OwnSupplier
from bitdustfs.supplier.friendship import nonce_of
from bitdustfs.supplier.memory import MemorySupplier
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.shelf import MemoryShelf
from bitdustfs.units import GIB, MIB

NOW = 1_800_000_000
AT = ("192.0.2.1:4000", "relay:5e5ab551@198.51.100.7:4000")


class Side:
    """A supplier with its deals, and what passes between it and others."""

    def __init__(self, folder):
        self.now, self.folder = float(NOW), folder
        key, deals = SigningKey(os.urandom(32)), DealFolder(folder)
        admission = read_admission(["invited"], key.verify_key.encode(), deals.standing)
        self.service = SupplierService(
            key, MemoryShelf(), GIB, wall=lambda: self.now, admission=admission, deals=deals
        )
        self.friendship, self.node = self.service.friendship, key.verify_key.encode()

    def invites(self, space=100 * MIB, seconds=3600):
        return write_join_line(self.friendship.invite(space, NOW + seconds).ours, AT)

    def takes(self, line, space=50 * MIB):
        """The line read, and the one that answers it."""
        read = read_join_line_untrusted(line)
        deal = self.friendship.take_up(read, space, NOW + 3600)
        return read, write_join_line(deal.ours, AT, read.invitation.nonce)

    def asked_by(self, other):
        """A session in which `other` proved its node key."""
        return MemorySupplier(self.service, other.node, "friend", other.node)

    def deals(self):
        return list(self.friendship.deals.all().values())

    def hires(self, space, key=KEY, token=b""):
        """As the owner of a vault does at this supplier."""
        customer = MemorySupplier(self.service, key.vault_id)
        customer.invitation = lambda: token
        return customer.promise(space, NOW + 86400)


@pytest.fixture
def sides(tmp_path):
    return [Side(tmp_path / name) for name in "abc"]


async def refused(said, call):
    with pytest.raises(Refused, match=said):
        await call


async def test_a_line_and_its_answer_make_a_deal_on_both_sides(sides):
    anna, bert, _ = sides
    line, answer = bert.takes(anna.invites())
    await anna.asked_by(bert).join(line.token, answer)
    await anna.asked_by(bert).join(line.token, answer)  # again is no error
    [hers], [his] = anna.deals(), bert.deals()
    assert (hers.node, hers.space, hers.gives) == (bert.node, 100 * MIB, 50 * MIB)
    assert (his.node, his.space, his.gives) == (anna.node, 50 * MIB, 100 * MIB)
    assert hers.told and hers.addresses == his.addresses == AT
    assert bert.friendship.settled(his).told
    await anna.hires(100 * MIB, token=his.theirs)
    await bert.hires(50 * MIB, token=hers.theirs)


async def test_what_others_changed_of_a_deal_while_its_friend_was_told_stays(sides):
    """A friend is told for seconds: meanwhile a vault may come by the deal, or it is taken back."""
    anna, bert, _ = sides
    bert.takes(anna.invites())
    [before] = bert.deals()
    friends = Friends([_Free(bert.folder, before)])
    friends.note(KEY.vault_id, [anna.node])
    bert.friendship.settled(before)
    [deal] = bert.deals()
    assert deal.told and deal.vault == KEY.vault_id
    bert.friendship.end(before)
    bert.friendship.settled(before)
    friends.note(KEY.vault_id, [anna.node])
    assert not bert.deals()
    assert bert.friendship.deals.standing(nonce_of(before.ours)) is False


async def test_what_is_given_is_neither_given_to_a_friend_again_nor_counted_twice(
    sides, monkeypatch
):
    """To vaults that came without friends, to friends whose vaults are here, and to others."""
    anna, *friends = sides
    for friend in friends:
        line, answer = friend.takes(anna.invites())
        await anna.asked_by(friend).join(line.token, answer)
    [first, _] = anna.deals()
    customers = [
        SimpleNamespace(token="", promised=300 * MIB),
        SimpleNamespace(token=nonce_of(first.ours).hex(), promised=60 * MIB),
    ]
    monkeypatch.setattr(OwnSupplier, "customers", lambda own: customers)
    monkeypatch.setattr(befriend.time, "time", lambda: NOW)
    own = OwnSupplier(anna.folder, anna.service.node)
    told = SimpleNamespace(space=1000 * MIB, promised=360 * MIB)
    own.check_room(500 * MIB, told)
    with pytest.raises(UsageError, match=r"500.0 MiB to give, of 1000.0 MiB") as refused:
        own.check_room(501 * MIB, told)
    assert "nobody answered" not in str(refused.value)
    anna.invites()  # a line that is good still
    offered = max(deal.space for deal in own.deals.all().values() if not deal.made)
    own.check_room(500 * MIB - offered, told)
    with pytest.raises(UsageError, match="take back an invitation that nobody answered"):
        own.check_room(501 * MIB - offered, told)
    anna.invites(seconds=-60)  # one that is not
    own.check_room(500 * MIB - offered, told)


async def test_a_deal_is_good_after_the_date_of_its_invitation(sides):
    anna, bert, _ = sides
    line, answer = bert.takes(anna.invites(seconds=60))
    await anna.asked_by(bert).join(line.token, answer)
    anna.now += 1e6
    await anna.hires(100 * MIB, token=line.token)
    unused = read_join_line_untrusted(anna.invites(seconds=60))
    await refused("too old", anna.hires(10 * MIB, token=unused.token))


async def test_nobody_else_comes_by_a_line_that_was_used(sides):
    anna, bert, carl = sides
    told = anna.invites()
    line, answer = bert.takes(told)
    await anna.asked_by(bert).join(line.token, answer)
    _, late = carl.takes(told)
    await refused("somebody else", anna.asked_by(carl).join(line.token, late))
    assert [deal.node for deal in anna.deals()] == [bert.node]


async def test_a_line_is_refused_that_is_too_old_taken_back_or_of_somebody_else(sides):
    anna, bert, carl = sides
    line, answer = bert.takes(anna.invites(seconds=60))
    anna.now += 61
    await refused("too old", anna.asked_by(bert).join(line.token, answer))
    anna.now = NOW
    with pytest.raises(Refused, match="malformed"):  # Bert's answer, brought by Carl
        await anna.asked_by(carl).join(line.token, answer)
    await refused("forged", carl.asked_by(bert).join(line.token, answer))  # not Carl's invitation
    other, _ = bert.takes(anna.invites())
    await refused("does not answer", anna.asked_by(bert).join(other.token, answer))
    for deal in anna.deals():
        anna.friendship.end(deal)
    await refused("taken back", anna.asked_by(bert).join(line.token, answer))
    assert not anna.deals()


async def test_a_friend_asks_for_nothing_else(sides):
    anna, bert, _ = sides
    peer = anna.asked_by(bert)
    await peer.ping()
    for call in (peer.usage(), peer.current(), peer.promise(GIB, NOW), peer.list(), peer.kin()):
        await refused("unauthorised", call)


async def test_what_was_taken_back_is_good_for_nothing_and_forgotten_after_its_date(sides):
    anna, bert, _ = sides
    line, answer = bert.takes(anna.invites(seconds=60))
    await anna.asked_by(bert).join(line.token, answer)
    anna.friendship.end(anna.deals()[0])
    assert anna.deals() == []
    await refused("taken back", anna.hires(10 * MIB, token=line.token))
    await refused("taken back", anna.asked_by(bert).join(line.token, answer))
    anna.now += 61
    anna.invites()
    assert len(anna.friendship.deals.with_ended()) == 1
    await refused("too old", anna.hires(10 * MIB, token=line.token))


async def test_only_a_node_joins_and_no_owner_of_a_vault(sides):
    anna, bert, _ = sides
    line, answer = bert.takes(anna.invites())
    await anna.hires(100 * MIB, token=line.token)
    owner = MemorySupplier(anna.service, KEY.vault_id)
    await refused("unauthorised", owner.join(line.token, answer))


def test_names_of_friends_are_in_no_line(sides):
    anna = sides[0]
    deal = anna.friendship.invite(GIB, NOW + 60, "Bert-of-the-hill")
    line = write_join_line(deal.ours, AT)
    raw = urlsafe_b64decode(line.removeprefix("bitdust-join-1-") + "==")
    assert anna.deals()[0].name == "Bert-of-the-hill" and b"hill" not in raw and b"4000" in raw


def test_the_same_line_again_is_the_same_deal_and_old_invitations_make_room(sides):
    anna, bert, _ = sides
    told = anna.invites(seconds=60)
    assert bert.takes(told) == bert.takes(told) and len(bert.deals()) == 1
    anna.now += 61
    anna.invites(seconds=3600)
    assert len(anna.deals()) == 1


def test_a_damaged_deal_is_left_alone_and_hides_no_other(sides, tmp_path):
    anna = sides[0]
    anna.invites()
    (tmp_path / "a" / "deals" / ("0" * 32)).write_bytes(b"\xc1 no deal")
    assert len(anna.deals()) == 1 and (tmp_path / "a" / "deals" / ("0" * 32)).exists()


def test_a_line_that_is_no_good_says_why(sides):
    anna = sides[0]
    line = anna.invites()
    read = read_join_line_untrusted(line[:40] + "\n  " + line[40:] + " ")  # as mail breaks it
    assert read.invitation.space == 100 * MIB and read.addresses == AT
    wrong = {
        "": "begins with",
        line[:-3]: "cut or mistyped",
        line[:40] + ("-" if line[40] != "-" else "_") + line[41:]: "cut or mistyped",
        line.replace("join-1-", "join-2-"): "newer version",
        token_for_a_vault(SigningKey(bytes(32)), GIB, NOW): "vault create --invitation",
        "x" * 5000: "longer",
    }
    for text, said in wrong.items():
        with pytest.raises(Malformed, match=said):
            read_join_line_untrusted(text)
    deal = anna.deals()[0]
    forged = bytearray(deal.ours)
    forged[-1] ^= 1
    with pytest.raises(Malformed, match="signature"):
        read_join_line_untrusted(write_join_line(bytes(forged), AT))
    for address in ("a b", "x" * 201, "\x1b[2J", ""):
        with pytest.raises(Malformed):
            read_join_line_untrusted(write_join_line(deal.ours, (address,)))
    assert nonce_of(deal.ours) == read.invitation.nonce


def test_a_line_is_a_square_of_modules_where_the_library_is_there(sides, monkeypatch):
    rows = qr_lines(sides[0].invites())
    width = len(rows[0])
    assert {len(row) for row in rows} == {width} and 2 * len(rows) in (width, width + 1)
    assert rows[0] == "█" * width and rows[1].startswith("██ ▄▄▄▄▄ █")  # border, then a finder
    monkeypatch.setitem(sys.modules, "segno", None)
    assert qr_lines("x") == []


def test_friends_of_the_same_second_are_told_by_name(tmp_path):
    """Else they would be in another order on each machine, and so would a vault's positions."""
    side = Side(tmp_path)
    for name in ("Carl", "Anna", "Emil", "Dora", "Bert"):
        side.friendship.invite(MIB, NOW + 60, name)
    side.now -= 1
    side.friendship.invite(MIB, NOW + 60, "Zoe")
    assert [deal.name for deal in side.deals()] == ["Zoe", "Anna", "Bert", "Carl", "Dora", "Emil"]
