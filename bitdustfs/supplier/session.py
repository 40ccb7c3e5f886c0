"""Who asks: a client that proved its role for a vault."""

from typing import Literal, NamedTuple

from bitdustfs.errors import Refused

#: former: a supplier of a family before, which may only hear that it is out
#: friend: a supplier that has a deal with this one, or wants one; its own key is the vault
#: follower: holds the vault key, or the read capability, and only hears of new roots
Role = Literal["owner", "reader", "follower", "member", "former", "friend"]


class Session(NamedTuple):
    """A client that proved `role` for `vault`."""

    vault: bytes
    role: Role
    node: bytes = b""  #: key of the member or friend that asks
    network: str = ""  #: where it asks from (net/addresses.py), unless that is a private network


def check_owner(session: Session) -> None:
    """Raises Refused unless the owner asks."""
    if session.role != "owner":
        raise Refused("unauthorised", "only the owner may do this")
