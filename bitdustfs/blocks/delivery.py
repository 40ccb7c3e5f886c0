"""One fragment to one supplier, and what came of it: at once and durably on record."""

import logging
from collections.abc import Awaitable, Callable

import trio

from bitdustfs.blocks.circle import Circle
from bitdustfs.blocks.headway import Headway
from bitdustfs.blocks.laggards import Sending
from bitdustfs.blocks.ledger import Ledger
from bitdustfs.blocks.pen import Pen
from bitdustfs.blocks.space import Space
from bitdustfs.cache.blocktable import BlockTable
from bitdustfs.core.fragment import Fragment
from bitdustfs.errors import PeerError, Refused
from bitdustfs.failpoints import reach
from bitdustfs.net.supplier import Supplier

log = logging.getLogger(__name__)

NO_ROOM = ("quota", "no-space", "retained")  #: codes of refusals for want of room


class Delivery:
    """One attempt to place fragments of one block, and what suppliers said to it.

    `remade`: they were made again, so whoever waits for uploads does not wait for them.
    """

    def __init__(self, block: bytes, header: bytes, remade: bool = False) -> None:
        self.block, self.header, self.remade = block, header, remade
        self.acked: list[int] = []
        self.recorded: set[int] = set()  #: of these, positions that the ledger knows of
        self.recording = trio.Lock()
        self.dead: list[int] = []
        self.full: list[int] = []  #: positions whose suppliers have no room for it


class Placement:
    """Fragments that were made again, on their way to suppliers, of whom some are slow."""

    def __init__(self, delivery: Delivery, puts: Sending) -> None:
        self._delivery, self._puts = delivery, puts

    @property
    def acked(self) -> list[int]:
        """Positions that have taken them so far."""
        return self._delivery.acked

    @property
    def dead(self) -> bool:
        """Whether a supplier said that the block is dead."""
        return bool(self._delivery.dead)

    @property
    def under_way(self) -> bool:
        """Whether more may take them."""
        return bool(self._puts.left)


class Putter:
    """Puts fragments under the pen's claim. `heed_fence` is asked when a supplier refuses it."""

    def __init__(
        self,
        pen: Pen,
        circle: Circle,
        table: BlockTable,
        ledger: Ledger,
        space: Space,
        heed_fence: Callable[[], Awaitable[None]],
        headway: Headway,
    ) -> None:
        self._pen, self._circle, self._table, self._ledger = pen, circle, table, ledger
        self._space, self._heed_fence, self._headway = space, heed_fence, headway

    async def put(self, supplier: Supplier, delivery: Delivery, fragment: Fragment) -> bool:
        """Whether the supplier acknowledged the fragment."""
        health = self._circle.health(supplier.node)
        self._headway.begins(supplier)
        reach("fragment-put")
        acknowledged = False
        try:
            await supplier.put(
                delivery.block, fragment.position, self._pen.claim, delivery.header,
                fragment.chunks, fragment.payload,
            )  # fmt: skip
            acknowledged = True
        except PeerError as error:
            health.fault(error)
            code = error.code if isinstance(error, Refused) else ""
            if code in NO_ROOM:
                delivery.full.append(fragment.position)
            if code == "dead":
                delivery.dead.append(fragment.position)
            if code == "fenced":
                await self._heed_fence()
            log.debug("%s lacks %s: %s", supplier.node.hex()[:12], delivery.block.hex(), error)
            return False
        finally:
            self._headway.ended(supplier, acknowledged and not delivery.remade)
        health.ok()
        self._space.placed(supplier.node, len(fragment))
        return True

    async def record(self, delivery: Delivery) -> None:
        """Has the ledger know at once: what was acknowledged is never sent again, whatever comes.

        Those who acknowledge meanwhile are recorded together. Raises LocalError.
        """
        async with delivery.recording:
            fresh = [p for p in delivery.acked if p not in delivery.recorded]
            if not fresh:
                return
            self._circle.damage.mended(delivery.block, fresh)
            if self._table.is_owed(delivery.block):
                # else it died meanwhile, or another machine wrote it
                reach("fragment-acked")
                await self._ledger.acknowledged(delivery.block, fresh)
            delivery.recorded.update(fresh)
            self._ledger.notify()
