"""What commands about friends say alike."""

from collections.abc import Iterable

from bitdustfs.cache.deals import Deal
from bitdustfs.cache.nicknames import Nicknames
from bitdustfs.config import names_path
from bitdustfs.errors import BitdustError
from bitdustfs.plain import complain


def name_friends(deals: Iterable[Deal]) -> None:
    """Gives friends the names for which their invitations were made, if they have none yet."""
    names = Nicknames(names_path())
    for deal in deals:
        if deal.made and deal.name and not names.of(deal.node.hex()):
            try:
                names.give(deal.node.hex(), deal.name)
            except BitdustError as error:
                complain(f"the friend {deal.node.hex()[:16]} cannot be called so: {error}")
