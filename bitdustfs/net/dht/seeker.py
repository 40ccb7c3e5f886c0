"""A node of the DHT that only asks, for as long as a mount or a command may need one.

It joins when it is first needed, and again whenever nobody is left that it knows.
"""

import logging
import math
import os
from collections.abc import Callable, Iterable
from functools import partial

import trio
from nacl.signing import SigningKey

from bitdustfs.core.keys import node_id
from bitdustfs.net.addresses import dialable
from bitdustfs.net.dht.discover import endpoints, is_private, node_record
from bitdustfs.net.dht.node import Dht
from bitdustfs.net.dht.udp import UdpSocket
from bitdustfs.net.hostnames import joined_address
from bitdustfs.net.line import OwnLine
from bitdustfs.net.whereabouts import Located

log = logging.getLogger(__name__)

JOINED_BY_MAX = 32  #: addresses that it joins by
#: seconds after an attempt that met nobody, for which all who need it do without: a mount without a
#: network looks for each of its suppliers
ALONE_FOR = 4.0


class Seeker:
    """Joins by `addresses`, as they are then; it runs in `nursery`. `line`: see UdpSocket."""

    def __init__(
        self,
        addresses: Callable[[], Iterable[str]],
        nursery: trio.Nursery,
        line: OwnLine | None = None,
    ) -> None:
        self._addresses, self._nursery = addresses, nursery
        self._make_socket = partial(UdpSocket, line)
        self._joining = trio.Lock()
        self._dht: Dht | None = None
        self._alone_until = -math.inf  # on trio's clock

    async def dht(self) -> Dht:
        """The node, joined if anybody answers."""
        async with self._joining:
            known = list(dict.fromkeys(self._addresses()))[:JOINED_BY_MAX]
            if self._dht is None:
                key = SigningKey(os.urandom(32))
                dht = Dht(
                    key, serves=False, allow_private=is_private(known),
                    make_socket=self._make_socket,
                )  # fmt: skip
                await dht.bind("::", 0)
                self._dht = await self._nursery.start(self._run, dht)
            alone = not self._dht.contacts() and trio.current_time() >= self._alone_until
            if alone and not await self._dht.bootstrap(await endpoints(known)):
                self._alone_until = trio.current_time() + ALONE_FOR
            return self._dht

    async def _run(self, dht: Dht, task_status: trio.TaskStatus[Dht]) -> None:
        """Whoever needs it next gets another one after a failure: nobody else ends by that."""
        try:
            async with trio.open_nursery() as nursery:
                await nursery.start(dht.run)
                task_status.started(dht)
        except Exception:
            log.exception("asking the DHT failed; it is joined again when it is needed")
        finally:
            self._dht = None

    async def find(self, node: bytes) -> Located | None:
        """The newest record of the node with a key: where it may be dialled."""
        return await located(await self.dht(), node)

    def contacts(self) -> list[str]:
        """Endpoints worth remembering."""
        if self._dht is None:
            return []
        return [joined_address(*contact) for contact in self._dht.contacts()]


async def located(dht: Dht, node: bytes) -> Located | None:
    """What the newest record of the node with a key says; addresses not to be dialled left out."""
    record = await node_record(dht, node_id(node))
    if record is None:
        return None
    return Located(record.seq, dialable(record.ways, dht.allow_private))
