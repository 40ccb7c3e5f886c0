"""Where whoever runs a supplier is answered: how it is, for whom it keeps what, when it can go."""

import logging
import shutil
import time
from collections.abc import Callable

import trio

import bitdustfs
from bitdustfs.core.bandwidth import Bandwidth, parse_bandwidth
from bitdustfs.errors import UsageError
from bitdustfs.net.control import Completed, Progress, Say, Statement
from bitdustfs.net.line import OwnLine
from bitdustfs.supplier.admission import TOKEN_NONCE
from bitdustfs.supplier.caps import RelayCaps, check_caps
from bitdustfs.supplier.guard import Guard
from bitdustfs.supplier.offering import Offering, bound, cap_relay, donate
from bitdustfs.supplier.orders import (
    AskCustomers,
    AskSelf,
    CustomerLine,
    Customers,
    Donate,
    Leave,
    Pause,
    RelaySelf,
    Resume,
    SupplierCommand,
    SupplierSelf,
)
from bitdustfs.supplier.outside import Outside
from bitdustfs.supplier.reach import Reach, reach_of
from bitdustfs.supplier.relay import Relay
from bitdustfs.supplier.service import SupplierService
from bitdustfs.units import MIB, format_size

log = logging.getLogger(__name__)

LEAVE_TICK = 0.5  #: seconds between looks at who still depends on a supplier that leaves
NEARLY_FULL = 256 * MIB  #: bytes of the disk, below which it is warned of
VAULT_DIGITS = 16  #: hexadecimal digits by which a vault is called
LOGGED_EVERY = 10.0  #: seconds between looks at whether there is anything to log
ALONE_AFTER = 30.0  #: seconds after which it is warned that no node of the network is known


class Desk:
    """Answers at the control socket. `paused`: a file that is there while no contracts are made.

    `network`: how many nodes are known; `offering`: with what words it was started; `line`: what
    may be used of it; `relay`: that it is.
    """

    def __init__(
        self,
        service: SupplierService,
        guard: Guard,
        found_at: Callable[[], tuple[str, ...]],
        outside: Outside,
        offering: Offering,
        network: Callable[[], int],
        running: trio.CancelScope,
        line: OwnLine,
        relay: Relay | None = None,
    ) -> None:
        self._line, self._relay = line, relay
        self._service, self._guard, self._running = service, guard, running
        self._found_at, self._outside = found_at, outside
        self._offering, self._network = offering, network
        self._folder = offering.folder
        self._paused = self._folder / "paused"
        self._started = time.monotonic()
        self._begun = trio.Event()
        if self._paused.exists():
            service.housekeeping.pause(True)

    async def answer(self, command: SupplierCommand, say: Say) -> Statement:
        """The last statement. Raises UsageError."""
        match command:
            case Leave():
                return await self._leave(say)
            case AskCustomers():
                return await self._customers()
            case Pause():
                self._paused.touch()
                self._service.housekeeping.pause(True)
            case Resume():
                self._paused.unlink(missing_ok=True)
                self._service.housekeeping.pause(False)
            case Donate(space=space, bandwidth=bandwidth, relay_rate=rate, relay_circuits=most):
                if rate is not None or most is not None:
                    self._cap_relay(rate, most)
                if bandwidth is not None:
                    self._bound(parse_bandwidth(bandwidth))
                if space is not None:
                    self._donate(space)
            case AskSelf():
                pass
        return await trio.to_thread.run_sync(self._self, self._network())

    # -- how it is

    def _self(self, network: int) -> SupplierSelf:
        service, house = self._service, self._service.housekeeping
        rows = service.shelf.all_rows()
        asked = service.traffic.asked
        leaving = service.kinship.leaving
        found_at, reach = self._found_at(), self._reach()
        return SupplierSelf(
            node=service.node.verify_key.encode().hex(),
            address=", ".join(found_at) or self._offering.listen,
            state="leaving" if leaving else "paused" if house.paused else "serving",
            uptime=time.monotonic() - self._started,
            space=house.space,
            promised=house.promised(),
            used=sum(row.used for _, row in rows),
            trash=service.shelf.trash.total,
            free=self._free(),
            customers=len(rows),
            fragments=sum(row.fragments for _, row in rows),
            received=service.traffic.received,
            served=service.traffic.served,
            asked=None if asked is None else time.monotonic() - asked,
            network=network,
            warnings=self._warnings(network),
            reachable=reach.seen,
            reached=reach.said,
            way=reach.way,
            program=bitdustfs.__version__,
            bandwidth=str(self._line.bandwidth),
            relay=self._relaying(),
            retained=service.shelf.retained.total,
        )

    def _relaying(self) -> RelaySelf | None:
        if self._relay is None:
            return None
        caps, (nodes, circuits) = self._relay.caps, self._relay.counts()
        return RelaySelf(
            rate=caps.rate, circuits_max=caps.circuits, circuits=circuits, nodes=nodes,
            passed=self._relay.passed,
        )  # fmt: skip

    def _reach(self) -> Reach:
        offering, came = self._offering, self._service.traffic.came
        return reach_of(self._found_at(), offering.listen, offering.through, self._outside, came)

    async def log_changes(self) -> None:
        """Logs how it is reached, and whether it reaches the network, when that changes; until
        cancelled.
        """
        reached, warned = Reach("", None, ""), list[str]()
        while True:
            await trio.sleep(LOGGED_EVERY)
            now = self._reach()
            changed = now.said if not now.seen else (now.way, now.seen)  # it counts the minutes
            if changed != (reached.said if not reached.seen else (reached.way, reached.seen)):
                log.log(logging.WARNING if now.seen is False else logging.INFO, "%s", now.said)
            reached, before, warned = now, warned, self._network_warnings(self._network())
            for sentence in warned:
                if sentence not in before:
                    log.warning("%s", sentence)

    def _free(self) -> int:
        return shutil.disk_usage(self._folder).free

    def _disk_warning(self) -> str:
        house, free = self._service.housekeeping, self._free()
        missing = house.space - self._service.shelf.used_total() - free
        if free < NEARLY_FULL:
            return f"the disk has {format_size(free)} left: new fragments are refused soon"
        if missing > 0:
            return f"{format_size(missing)} more are donated than the disk has left"
        return ""

    def _warnings(self, network: int) -> list[str]:
        return [*filter(None, [self._disk_warning()]), *self._network_warnings(network)]

    def _network_warnings(self, network: int) -> list[str]:
        closed = self._outside.closed(self._found_at())
        return [*filter(None, (self._network_warning(network), closed))]

    def _network_warning(self, network: int) -> str:
        if network or time.monotonic() - self._started < ALONE_AFTER:
            return ""
        bootstrap = self._offering.bootstrap
        if not bootstrap:
            return "no node of the network is known: nobody finds it who has not its address"
        return (
            f"nobody of the network answers at {', '.join(bootstrap)} by UDP: nobody finds it; see "
            "whether the address is right, and whether a firewall lets UDP out"
        )

    async def _customers(self) -> Customers:
        depending = set(await self._depending())
        house, voter = self._service.housekeeping, self._service.voter
        return Customers(
            customers=[
                CustomerLine(
                    vault=vault.hex(), promised=row.space if house.binds(vault, row) else 0,
                    used=row.used, fragments=row.fragments, until=row.until,
                    invited=bool(row.invited), owner_here=voter.owner_here(vault),
                    depends=vault in depending,
                    token=row.invited.hex() if len(row.invited) == TOKEN_NONCE else "",
                    retain=self._service.retention.seconds(row),
                    retained=self._service.shelf.retained.of(vault),
                )
                for vault, row in self._service.shelf.all_rows()
            ]
        )  # fmt: skip

    def _donate(self, space: int) -> None:
        there = self._free() + self._service.shelf.used_total()
        if space > there:
            raise UsageError(f"there is room for {format_size(there)} only")
        donate(self._offering, space)
        self._service.housekeeping.donate(space)

    def _bound(self, bandwidth: Bandwidth) -> None:
        bound(self._offering, bandwidth)
        self._line.change(bandwidth)

    def _cap_relay(self, rate: int | None, circuits: int | None) -> None:
        if self._relay is None:
            raise UsageError("it is no relay: start it with --relay circle, and without --through")
        now = self._relay.caps
        caps = check_caps(
            RelayCaps(
                now.rate if rate is None else rate, now.circuits if circuits is None else circuits
            )
        )
        cap_relay(self._offering, caps)
        self._relay.change(caps)

    # -- leaving

    async def _leave(self, say: Say) -> Statement:
        """Tells how far it is and for whom it waits, until nobody depends on this supplier."""
        self._service.leave()
        self._begun.set()
        counts: dict[bytes, int] = {}  # vault -> fragments that were here when it began
        for vault in await self._depending():
            row = self._service.shelf.vault(vault)
            counts[vault] = 0 if row is None else row.fragments
        total = sum(counts.values())
        while depending := await self._depending():
            left = sum(
                max(0, counts.get(vault, 0) - self._service.keeper.handed(vault))
                for vault in depending
            )
            what = self._why(depending[0], len(depending) - 1)
            await say(Progress(done=total - left, total=total, what=what))
            await trio.sleep(LEAVE_TICK)
        return Completed()

    def _why(self, vault: bytes, others: int) -> str:
        """What is waited for."""
        if self._service.voter.owner_here(vault):
            why = "its owner is there, and fills somebody else"
        else:
            why = "its owner is away, and its reserves take over in their next rounds"
        more = f" (and {others} more vaults)" if others else ""
        return f"waiting for vault {vault.hex()[:VAULT_DIGITS]}{more}: {why}"

    async def end_when_free(self) -> None:
        """Also when whoever said that it leaves does not wait for it."""
        await self._begun.wait()
        while True:
            depending = await self._depending()
            await trio.sleep(2 * LEAVE_TICK)  # whoever waits is told first
            if not depending:
                self._running.cancel()

    async def _depending(self) -> list[bytes]:
        return await trio.to_thread.run_sync(self._guard.depending)
