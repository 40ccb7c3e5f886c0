"""What a supplier answers another supplier that comes by an invitation: the deal becomes mutual.

    A signs an invitation, and its owner passes the line on
    B answers with an invitation of its own, for A alone, and keeps the deal
    B's node brings that to A's node (`wire.Join`), in a session that proves B's node key; or else
    its owner passes B's line back, and A's owner gives it to `bitdust join`

Whoever comes first by an invitation has it; the same friend may come again. The deal is kept,
durably, before anybody is answered. Names of friends are in no message.
"""

import time
from collections.abc import Callable
from os import urandom

import msgspec
from nacl.signing import SigningKey

from bitdustfs.cache.deals import DEALS_MAX, Deal, Deals
from bitdustfs.core.records import seal_record
from bitdustfs.errors import Malformed, Refused
from bitdustfs.net import wire
from bitdustfs.net.joinline import JoinLine, read_join_line_untrusted
from bitdustfs.net.tokens import Invitation, invitation_records
from bitdustfs.supplier.session import Session

NONCE_SIZE = 16


class Friendship:
    """The deals of the supplier with the key `own`. Thread-safe, as far as `deals` is."""

    def __init__(
        self, own: SigningKey, deals: Deals, wall: Callable[[], float] = time.time
    ) -> None:
        self._key, self.deals, self._wall = own, deals, wall
        self.own = own.verify_key.encode()

    def answer(self, session: Session, request: wire.Request) -> wire.Reply:
        """To a friend, or whoever wants to become one. Raises Refused, Malformed, Forged."""
        match request:
            case wire.Ping():
                return wire.Done()
            case wire.Join(token, line):
                answer = read_join_line_untrusted(line)
                if answer.invitation.supplier != session.node:
                    raise Malformed("the invitation is of another node than this one")
                self.accept(token, answer)
                return wire.Done()
        raise Refused("unauthorised", "friends ask for nothing else here")

    def accept(self, token: bytes, answer: JoinLine) -> Deal:
        """The deal of an invitation that was signed here, now that it is answered.

        Raises Refused, Malformed, Forged.
        """
        invitation = invitation_records.open_untrusted(token, self.own)
        if invitation.supplier != self.own or answer.answers != invitation.nonce:
            raise Malformed("this does not answer an invitation of this node")
        node = answer.invitation.supplier
        if node == self.own:
            raise Malformed("a node cannot answer its own invitation")
        with self.deals.changing():
            deal = self.deals.of(invitation.nonce)
            if deal is None:
                raise Refused("unauthorised", "this invitation was taken back")
            if deal.made and deal.node != node:
                raise Refused("unauthorised", "somebody else came by this invitation already")
            if not deal.made and invitation.until < self._wall():
                raise Refused("unauthorised", "the invitation is too old: ask for another one")
            since = deal.since if deal.made else int(self._wall())
            deal = msgspec.structs.replace(
                deal, node=node, addresses=answer.addresses, theirs=answer.token,
                gives=answer.invitation.space, since=since, told=True,
            )  # fmt: skip
            self.deals.keep(invitation.nonce, deal)
        return deal

    def invite(self, space: int, until: int, name: str = "") -> Deal:
        """A deal that anybody may come by, once. Raises Refused where there are too many."""
        with self.deals.changing():
            return self._new(Deal(1, b"", space, int(self._wall()), until, name=name))

    def take_up(self, line: JoinLine, space: int, until: int) -> Deal:
        """The deal by which the friend gets space here for the space of a line of his.

        The same again for the same line. Raises Refused where there are too many.
        """
        with self.deals.changing():
            for deal in self.deals.all().values():
                if deal.theirs == line.token:
                    return deal
            deal = Deal(
                1, b"", space, int(self._wall()), until, line.invitation.supplier, line.addresses,
                line.token, line.invitation.space,
            )  # fmt: skip
            return self._new(deal)

    def _new(self, deal: Deal) -> Deal:
        """Signs its invitation and keeps it. What nobody came by in time makes room."""
        every = self.deals.with_ended()
        for nonce, old in every.items():
            if (old.ended or not old.made) and old.until < self._wall():
                self.deals.forget(nonce)
        if len(every) >= DEALS_MAX:
            raise Refused("no-space", f"there are {DEALS_MAX} deals with friends already")
        invitation = Invitation(self.own, urandom(NONCE_SIZE), deal.space, deal.until)
        deal = msgspec.structs.replace(deal, ours=seal_record(self._key, "invitation", invitation))
        self.deals.keep(invitation.nonce, deal)
        return deal

    def settled(self, deal: Deal) -> Deal:
        """The friend's node has it, too."""
        return self._change(deal, told=True)

    def end(self, deal: Deal) -> None:
        """It is taken back: nobody comes by it any more. Contracts that were made stay."""
        self._change(deal, ended=True)

    def _change(self, deal: Deal, **fields: bool) -> Deal:
        """Of the deal as it is kept by now: other commands change it, too."""
        nonce = nonce_of(deal.ours)
        with self.deals.changing():
            kept = self.deals.with_ended().get(nonce)
            if kept is None:
                return deal
            deal = msgspec.structs.replace(kept, **fields)
            self.deals.keep(nonce, deal)
        return deal


def nonce_of(token: bytes) -> bytes:
    """That of an invitation which was verified when it came."""
    return invitation_records.peek_untrusted(token).nonce
