"""What can be asked over HTTP: one row an endpoint, and what answers it.

The table is the only place where a path, its body and its answer are said: routes and the
description (openapi.py) are made of it.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import trio

from bitdustfs.core.bandwidth import parse_bandwidth
from bitdustfs.errors import Malformed, UsageError
from bitdustfs.mount.client import MountClient, Onlooker, asked_in_time
from bitdustfs.mount.commands import AskMap, AskSnapshots, AskStatus, MountCommand, Replace
from bitdustfs.mount.outcomes import name_by_time, rebuilt, replaced, snapshot_made, verified
from bitdustfs.mount.statements import BlockMap, SnapshotList, Status
from bitdustfs.net.control import S
from bitdustfs.supplier.orders import (
    AskCustomers,
    AskSelf,
    Customers,
    Donate,
    Pause,
    Resume,
    SupplierCommand,
    SupplierSelf,
)
from bitdustfs.system.running import supplier_answer
from bitdustfs.units import format_size, parse_size
from bitdustfs.web.asking import Shared
from bitdustfs.web.errands import Errands
from bitdustfs.web.looking import Looking, shown_path
from bitdustfs.web.views import (
    DonateWords,
    ErrandLine,
    LimitWords,
    Nothing,
    Overview,
    ReplaceWords,
    SnapshotWords,
    VerifyWords,
)

T = TypeVar("T")

MAP_FRESH = (
    5.0  #: seconds for which a map is shown to everybody: making it takes the mount some time
)
BODY_MAX = 4096  #: bytes of a request's body

PathWords = Mapping[str, str]  #: what the words in braces of a path are
Handling = Callable[[PathWords, Any], Awaitable[msgspec.Struct]]


class HttpRow(NamedTuple):
    """One path and method. `body`: None for a GET. `status`: of an answer."""

    method: str
    path: str
    text: str
    body: type[msgspec.Struct] | None
    answer: type[msgspec.Struct]
    handle: Handling
    status: int = 200


class BadBody(Malformed):
    """A request says what is not asked for there."""


class TooLarge(BadBody):
    """A body has more than BODY_MAX bytes."""


class NotThere(UsageError):
    """A path names a mount or a supplier that is not there."""


class Endpoints:
    """Answers of one page."""

    def __init__(self, looking: Looking, errands: Errands) -> None:
        self._looking, self._errands = looking, errands
        self._maps: dict[Path, Shared[BlockMap]] = {}

    def table(self) -> list[HttpRow]:
        """All of them."""
        mount, supplier = "/api/mounts/{mount}", "/api/suppliers/{supplier}"
        return [
            HttpRow("GET", "/api/overview", "all that the page shows", None, Overview,
                     self._overview),
            HttpRow("GET", f"{mount}/status", "as bitdust status --json", None, Status,
                     partial(self._ask, AskStatus(), Status)),
            HttpRow("GET", f"{mount}/snapshots", "as bitdust snapshot list --json", None,
                     SnapshotList, partial(self._ask, AskSnapshots(), SnapshotList)),
            HttpRow("GET", f"{mount}/map", "which suppliers have which blocks", None, BlockMap,
                     self._map),
            HttpRow("POST", f"{mount}/rebuild", "make now what suppliers lack", Nothing,
                     ErrandLine, self._rebuild, 202),
            HttpRow("POST", f"{mount}/verify", "is everything there?", VerifyWords, ErrandLine,
                     self._verify, 202),
            HttpRow("POST", f"{mount}/snapshot", "keep the vault as it is now", SnapshotWords,
                     ErrandLine, self._snapshot, 202),
            HttpRow("POST", f"{mount}/replace", "give a position to another supplier",
                     ReplaceWords, ErrandLine, self._replace, 202),
            HttpRow("POST", f"{mount}/limit", "what rebuilding may move, as bitdust vault set",
                     LimitWords, ErrandLine, self._limit, 202),
            HttpRow("GET", f"{supplier}/status", "what a supplier says of itself", None,
                     SupplierSelf, partial(self._tell, AskSelf(), SupplierSelf)),
            HttpRow("GET", f"{supplier}/customers", "whom it keeps something for", None,
                     Customers, partial(self._tell, AskCustomers(), Customers)),
            HttpRow("POST", f"{supplier}/pause", "make no new contracts", Nothing, SupplierSelf,
                     partial(self._order, Pause())),
            HttpRow("POST", f"{supplier}/resume", "make contracts again", Nothing, SupplierSelf,
                     partial(self._order, Resume())),
            HttpRow("POST", f"{supplier}/set", "as bitdust supplier set", DonateWords,
                     SupplierSelf, self._donate),
        ]  # fmt: skip

    # -- mounts

    async def _overview(self, places: PathWords, body: None) -> Overview:
        return await self._looking.overview(self._errands.all())

    async def _ask(
        self, command: MountCommand, expected: type[S], places: PathWords, body: None
    ) -> S:
        return await _asked(await self._mountpoint(places), command, expected)

    async def _map(self, places: PathWords, body: None) -> BlockMap:
        path = await self._mountpoint(places)
        if path not in self._maps:
            self._maps[path] = Shared(MAP_FRESH, partial(_asked, path, AskMap(), BlockMap))
        return await self._maps[path].answer()

    async def _rebuild(self, places: PathWords, body: Nothing) -> ErrandLine:
        def work(mount: MountClient, watch: Onlooker) -> list[str]:
            return rebuilt(mount.rebuild(watch))

        return await self._begin("rebuild", places, work)

    async def _verify(self, places: PathWords, body: VerifyWords) -> ErrandLine:
        def work(mount: MountClient, watch: Onlooker) -> list[str]:
            return verified(mount.verify(body.local, body.sample, watch))

        return await self._begin("verify", places, work)

    async def _snapshot(self, places: PathWords, body: SnapshotWords) -> ErrandLine:
        name = body.name or name_by_time(time.time())

        def work(mount: MountClient, watch: Onlooker) -> list[str]:
            return [snapshot_made(mount.make_snapshot(name, watch))]

        return await self._begin("snapshot", places, work)

    async def _replace(self, places: PathWords, body: ReplaceWords) -> ErrandLine:
        def work(mount: MountClient, watch: Onlooker) -> list[str]:
            asked = Replace(position=body.position, node=body.node)
            return [replaced(body.position, mount.replace(asked, watch))]

        return await self._begin("replace", places, work)

    async def _limit(self, places: PathWords, body: LimitWords) -> ErrandLine:
        rate = _read(parse_size, body.bandwidth)

        def work(mount: MountClient, watch: Onlooker) -> list[str]:
            mount.set_policy({"bandwidth": rate})
            bound = f"at most {format_size(rate)} a second" if rate else "as much as it can"
            return [f"rebuilding moves {bound} from now on, on all machines"]

        return await self._begin("limit", places, work)

    async def _begin(
        self, verb: str, places: PathWords, work: Callable[[MountClient, Onlooker], list[str]]
    ) -> ErrandLine:
        path = await self._mountpoint(places)

        def begun(watch: Onlooker) -> list[str]:
            return [*map(self._looking.dress, work(MountClient(path), watch))]

        line = self._errands.begin(places["mount"], verb, begun)
        self._looking.note(f"{verb} of {shown_path(path)} was begun on this page")
        return line

    async def _mountpoint(self, places: PathWords) -> Path:
        try:
            return await self._looking.mountpoint(places["mount"])
        except KeyError:
            raise NotThere("no such vault is mounted here") from None

    # -- suppliers

    async def _tell(
        self, command: SupplierCommand, expected: type[S], places: PathWords, body: None
    ) -> S:
        folder = await self._folder(places)
        return await trio.to_thread.run_sync(
            supplier_answer, folder, command, expected, abandon_on_cancel=True
        )

    async def _donate(self, places: PathWords, body: DonateWords) -> SupplierSelf:
        space = _read(parse_size, body.space) if body.space else None
        bandwidth = str(_read(parse_bandwidth, body.bandwidth)) if body.bandwidth else None
        return await self._order(Donate(space=space, bandwidth=bandwidth), places, Nothing())

    async def _order(
        self, order: Pause | Resume | Donate, places: PathWords, body: Nothing
    ) -> SupplierSelf:
        told = await self._tell(order, SupplierSelf, places, None)
        self._looking.forget()
        return told

    async def _folder(self, places: PathWords) -> Path:
        try:
            return await self._looking.folder(places["supplier"])
        except KeyError:
            raise NotThere("no such supplier ever ran here") from None


async def _asked(path: Path, command: MountCommand, expected: type[S]) -> S:
    return await trio.to_thread.run_sync(
        asked_in_time, path, command, expected, abandon_on_cancel=True
    )


def _read(parse: Callable[[str], T], text: str) -> T:
    """What a text says, as on a command line. Raises BadBody."""
    try:
        return parse(text)
    except UsageError as error:
        raise BadBody(str(error)) from None


def body_untrusted(raw: bytes, expected: type[msgspec.Struct]) -> msgspec.Struct:
    """What a request says. Raises BadBody."""
    if len(raw) > BODY_MAX:
        raise TooLarge(f"a body of more than {BODY_MAX} bytes")
    try:
        return msgspec.json.decode(raw, type=expected)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise BadBody(f"this is not what is asked for here: {error}") from None
