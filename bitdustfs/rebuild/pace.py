"""A bound on the bytes a second that rebuilding moves, so that the line stays usable."""

import trio


class Pace:
    """A token bucket: `take` waits until so many bytes may go. `rate` 0: no bound."""

    BURST = 1.0  #: seconds' worth that may go at once after a pause

    def __init__(self, rate: float = 0.0) -> None:
        self._rate = rate  # bytes a second
        self._free_at = 0.0  # when what was taken so far is paid for

    def change(self, rate: float) -> None:
        """Another bound from here on, in bytes a second."""
        self._rate = rate

    async def take(self, size: int) -> None:
        """Returns once `size` more bytes may be moved."""
        if not self._rate:
            return
        now = trio.current_time()
        start = max(self._free_at, now - self.BURST)
        self._free_at = start + size / self._rate
        await trio.sleep_until(max(now, start))
