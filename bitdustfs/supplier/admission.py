"""With whom a supplier makes contracts: anyone, those it invited, or vaults that it names.

Contracts that were made stay. A token is an invitation that the supplier signs; its owner passes it
on by whatever way they know each other, and one vault may come by it.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from os import urandom

from nacl.signing import SigningKey

from bitdustfs.core.records import seal_record
from bitdustfs.errors import Malformed, Refused, UsageError
from bitdustfs.net.tokens import Invitation, invitation_records, write_token

TOKEN_NONCE = 16  #: bytes of what a token is remembered by
LISTED = b"listed"  #: what is remembered of a vault that was named
VAULT_DIGITS_MIN = 16  #: hex digits that name a vault, at least: those that commands print


def _by_date(nonce: bytes) -> bool | None:
    """No invitation became a deal, or was taken back."""
    return None


@dataclass(frozen=True)
class Admission:
    """`own`: the supplier's key, whose tokens count. `vaults`: how vaults' ids begin, in hex.

    `standing`: whether the invitation with a nonce is good, whatever its date says.
    """

    anyone: bool
    own: bytes = b""
    vaults: Collection[str] = ()
    standing: Callable[[bytes], bool | None] = _by_date

    def admit(self, vault: bytes, token: bytes, space: int, now: float) -> bytes:
        """What to remember of why a vault gets a contract: empty where anyone does.

        Raises Refused, and Malformed for what is no token.
        """
        if any(vault.hex().startswith(name) for name in self.vaults):
            return LISTED
        if token and self.own:
            invitation = invitation_records.open_untrusted(token, self.own)
            if invitation.supplier != self.own:
                raise Malformed("the token is of another supplier")
            standing = self.standing(invitation.nonce)
            if standing is False:
                raise Refused("unauthorised", "the token was taken back")
            if invitation.until < now and not standing:
                raise Refused("unauthorised", "the token is too old: ask for another one")
            if invitation.space < space:
                raise Refused("unauthorised", "the token is for less space")
            return invitation.nonce
        if self.anyone:
            return b""
        raise Refused("unauthorised", "this supplier invites whom it keeps data for")


ANYONE = Admission(anyone=True)


def read_admission(
    words: Collection[str], own: bytes, standing: Callable[[bytes], bool | None] = _by_date
) -> Admission:
    """What `--for` says: "anyone", "invited", or vaults. Raises UsageError."""
    if set(words) == {"anyone"}:
        return Admission(True, own, (), standing)
    vaults = [word.lower() for word in words if word != "invited"]
    for name in vaults:
        if len(name) < VAULT_DIGITS_MIN or not set(name) <= set("0123456789abcdef"):
            raise UsageError(
                f"{name!r} is not a vault: write anyone, invited, or the "
                f"{VAULT_DIGITS_MIN} digits that bitdust vault create says"
            )
    return Admission(False, own, vaults, standing)


def invite(node: SigningKey, space: int, until: int) -> str:
    """A new token, as it is passed on."""
    invitation = Invitation(node.verify_key.encode(), urandom(TOKEN_NONCE), space, until)
    return write_token(seal_record(node, "invitation", invitation))
