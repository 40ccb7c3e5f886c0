"""For which nodes a supplier is a relay, and in whose name each of them is on standby there.

The circle: nodes of families whose fragments are kept here, friends with a deal, and nodes that
were named.
"""

from collections.abc import Callable, Collection

from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.shares import Portion

#: of a node: in whose name it may be on standby; (): in nobody's
WhoseName = Callable[[bytes], Portion]


def circle_of(service: SupplierService, named: Collection[str]) -> WhoseName:
    """Friends and nodes that were named come in their own name, others in that of a vault whose
    family they are of. It reads rows: not for the event loop.
    """

    def name_of(node: bytes) -> Portion:
        if node.hex() in named:
            return (node,)
        if "circle" not in named:
            return ()
        if any(deal.node == node for deal in service.friendship.deals.all().values()):
            return (node,)
        rows = service.shelf.all_rows()
        kin = (vault for vault, row in rows if row.used > 0 and service.is_kin(vault, node))
        return next(map(service.share_of, kin), ())

    return name_of
