"""How far uploads have come: what tells a slow line from suppliers that take everything in vain.

What is acknowledged counts, and of what is not, a byte counts once. Whoever takes a fragment and
refuses it, takes it again, and so on, or hangs each time at its end, makes no headway: of what a
supplier was sent since it last acknowledged something, only what is more than any attempt before.
"""

from bitdustfs.net.supplier import Supplier


class _Track:
    """One supplier's."""

    def __init__(self, supplier: Supplier) -> None:
        self._supplier = supplier
        self._base = supplier.sent  # what it had been sent when a put ended last
        self._most = 0  # bytes of the longest attempt since it acknowledged something

    def look(self) -> int:
        """Bytes that are new since the last look."""
        sent = self._supplier.sent - self._base
        fresh = max(0, sent - self._most)
        self._most += fresh
        return fresh

    def ended(self, acknowledged: bool) -> int:
        """A put came to its end; as `look`."""
        fresh, self._base = self.look(), self._supplier.sent
        if acknowledged:
            self._most = 0
        return fresh


class Headway:
    """Of one vault's uploads, since the mount began."""

    def __init__(self) -> None:
        self._tracks: dict[bytes, _Track] = {}
        self._fresh = self._acknowledged = 0

    def begins(self, supplier: Supplier) -> None:
        """A put to a supplier begins."""
        self._tracks.setdefault(supplier.node, _Track(supplier))

    def ended(self, supplier: Supplier, acknowledged: bool) -> None:
        """It came to its end, before which it had begun."""
        self._fresh += self._tracks[supplier.node].ended(acknowledged)
        self._acknowledged += acknowledged

    def total(self) -> tuple[int, int]:
        """Fragments that were acknowledged, bytes that were sent for the first time. They only
        grow.
        """
        self._fresh += sum(track.look() for track in self._tracks.values())
        return self._acknowledged, self._fresh
