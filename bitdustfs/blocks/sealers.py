"""The sealers of a vault's blocks, one a block, the latest ones kept: making one derives keys."""

from collections import OrderedDict

from bitdustfs.core.keys import ReadCapability
from bitdustfs.core.sealing import Sealer

KEPT = 256


class Sealers:
    """Made from a read capability: enough to seal and to open, not to sign. Thread-safe enough: a
    sealer that two threads make at once is made twice, and both are right.
    """

    def __init__(self, capability: ReadCapability) -> None:
        self._capability = capability
        self._kept: OrderedDict[bytes, Sealer] = OrderedDict()

    def of(self, block: bytes) -> Sealer:
        """The sealer of a block's extents."""
        sealer = self._kept.get(block)
        if sealer is None:
            own = self._capability
            sealer = Sealer(own.content_key, own.vault_id, block, own.epoch)
            self._kept[block] = sealer
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return sealer
