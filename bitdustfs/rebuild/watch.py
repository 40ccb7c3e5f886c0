"""Who is there: pings, states with hysteresis, and a history that outlives the mount.

    online    answered lately
    suspect   missed a few pings
    absent    away longer than the policy's patience, as this machine saw it: to be replaced

A round in which fewer than half answer says something of this machine's own network, not of the
suppliers: it is not counted. Time away counts from the first ping that failed, across mounts.
"""

import logging
import time
from collections.abc import Callable

import msgspec
import trio

from bitdustfs.core.codec import Decoder, encode
from bitdustfs.core.records import Record
from bitdustfs.errors import PeerError
from bitdustfs.fetch import Fetcher

log = logging.getLogger(__name__)

PATIENCE = 48 * 3600  #: seconds that a supplier may be away before it is replaced
PING_EVERY = 10.0
PING_DEADLINE = 5.0
SUSPECT_AFTER = 2  #: missed pings in a row that make a supplier suspect
SAVE_EVERY = 60.0


class History(Record, frozen=True):
    """What was seen of one supplier. Times are Unix seconds; `away_since` 0: it answers."""

    rounds: int = 0
    answered: int = 0
    missed: int = 0  #: in a row
    away_since: float = 0.0
    latency: float = 0.0  #: seconds, smoothed


_histories = Decoder(tuple[tuple[bytes, History], ...], "histories of suppliers", 1 << 20)


class Watch:
    """The states of a family's suppliers. `load` and `save` keep the history on this machine."""

    def __init__(
        self,
        fetcher: Fetcher,
        load: Callable[[], bytes | None],
        save: Callable[[bytes], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._fetcher, self._save, self._wall = fetcher, save, wall
        raw = load()
        self.histories = {} if raw is None else dict(_histories.decode_untrusted(raw))
        self._saved = 0.0

    @property
    def patience(self) -> float:
        """Seconds, from the family's policy."""
        return float(self._fetcher.family.policy.get("patience", PATIENCE))

    def history(self, node: bytes) -> History:
        return self.histories.get(node, History())

    def state(self, node: bytes) -> str:
        """online, suspect or absent."""
        seen = self.history(node)
        if seen.missed < SUSPECT_AFTER:
            return "online"
        return "absent" if self.away(node) > self.patience else "suspect"

    def away(self, node: bytes) -> float:
        """Seconds since the first of the pings that it missed in a row."""
        since = self.history(node).away_since
        return self._wall() - since if since else 0.0

    def absent(self) -> list[int]:
        """Positions of group 0 to be replaced, longest away first."""
        members = self._fetcher.family.voters
        found = [p for p, m in enumerate(members) if self.state(m.node) == "absent"]
        return sorted(found, key=lambda p: -self.away(members[p].node))

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.round()
            await trio.sleep(min(PING_EVERY, max(0.5, self.patience / 5)))

    async def round(self) -> None:
        """One ping to each member."""
        answers: dict[bytes, float | None] = {}

        async def ping(node: bytes) -> None:
            began = trio.current_time()
            answers[node] = None
            with trio.move_on_after(PING_DEADLINE):
                try:
                    await self._fetcher.suppliers[node].ping()
                except PeerError as error:
                    self._fetcher.health[node].fault(error)
                    return
                self._fetcher.health[node].reachable = True
                answers[node] = trio.current_time() - began

        async with trio.open_nursery() as nursery:
            for group in self._fetcher.family.groups:
                for member in group.members:
                    nursery.start_soon(ping, member.node)
        if 2 * sum(latency is not None for latency in answers.values()) < len(answers):
            log.info("few suppliers answer: this machine's own network may be down")
            return
        for node, latency in answers.items():
            self.histories[node] = self._after(self.history(node), latency)
        if self._wall() - self._saved > SAVE_EVERY:
            self._saved = self._wall()
            await trio.to_thread.run_sync(self._save, encode(tuple(self.histories.items())))

    def _after(self, seen: History, latency: float | None) -> History:
        if latency is None:
            return msgspec.structs.replace(
                seen, rounds=seen.rounds + 1, missed=seen.missed + 1,
                away_since=seen.away_since or self._wall(),
            )  # fmt: skip
        smoothed = latency if not seen.latency else 0.8 * seen.latency + 0.2 * latency
        return History(seen.rounds + 1, seen.answered + 1, 0, 0.0, smoothed)
