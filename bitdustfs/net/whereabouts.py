"""Where nodes are: asked by sessions before they dial, and told where the right key answered.

A node is its key. The addresses in a family are where it was when it was hired. When they fail, or
somebody else answers there, the node's own signed record in the DHT says where it is now. What
worked last is tried first.

Whoever forwards what a node says can forward its proof of its key, and swallow all that follows. So
an address worked where a call was answered. Where a session fell silent, or ended before any
answer, the address is tried last until an answer comes from it.
"""

import logging
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import NamedTuple

import trio

from bitdustfs.core.sightings import FOUND_MAX, NODES_MAX, Sighting, Sightings
from bitdustfs.net.addresses import relayed
from bitdustfs.net.lan.nearby import Near, NobodyNear
from bitdustfs.net.supplier import DIRECT, MAPPED, RELAYED

log = logging.getLogger(__name__)

DIALLED_MAX = 8  #: addresses of one node that are tried
LOOK_UP_DEADLINE = 15.0  #: seconds for one look-up, joining the DHT included
LOOK_UPS = 4  #: look-ups under way at once
#: seconds until a node that is still not found is looked up again; doubled each time
AGAIN_FIRST, AGAIN_MAX = 5.0, 300.0


class Located(NamedTuple):
    """What a node's own record says: its seq, and where the node may be dialled."""

    seq: int
    addresses: tuple[str, ...]


#: the newest record of the node with a key that can be had, or None
Locate = Callable[[bytes], Awaitable[Located | None]]


class Whereabouts(ABC):
    """What is known of where nodes are. Nodes are named by their 32-byte keys."""

    @abstractmethod
    def of(self, node: bytes, hints: Iterable[str]) -> tuple[str, ...]:
        """The addresses to try, the likeliest first; `hints`: what the family says."""

    @abstractmethod
    def reached(self, node: bytes, address: str) -> None:
        """The node answered a call at an address."""

    @abstractmethod
    def failed(self, node: bytes, address: str) -> None:
        """A session at an address fell silent, or ended before any call was answered there: the
        address is tried last from now on, and the node is looked for.
        """

    def way(self, node: bytes, address: str) -> str:
        """How the node is reached at an address: direct, mapped, as it says itself, or relayed."""
        return DIRECT if relayed(address) is None else RELAYED

    @abstractmethod
    def search(self, node: bytes) -> None:
        """The node is nowhere that is known: it is looked for, beside whatever the caller does."""

    @abstractmethod
    async def look_up(self, node: bytes) -> tuple[str, ...]:
        """The same, and waits until that is over; where the node says that it is, if anywhere."""


class HintsOnly(Whereabouts):
    """Nothing is known but the hints, and nobody is asked."""

    def of(self, node: bytes, hints: Iterable[str]) -> tuple[str, ...]:
        return tuple(hints)

    def reached(self, node: bytes, address: str) -> None:
        pass

    def failed(self, node: bytes, address: str) -> None:
        pass

    def search(self, node: bytes) -> None:
        pass

    async def look_up(self, node: bytes) -> tuple[str, ...]:
        return ()


class Trials:
    """At which addresses of one node sessions fell silent, or ended before any answer."""

    def __init__(self) -> None:
        self._failed: tuple[str, ...] = ()

    def reached(self, address: str) -> None:
        self._failed = tuple(known for known in self._failed if known != address)

    def failed(self, address: str) -> None:
        self.reached(address)
        self._failed = (*self._failed, address)[-DIALLED_MAX:]

    def arranged(self, known: Iterable[str]) -> tuple[str, ...]:
        """Addresses in the order they are tried: these last, the one that failed last at the
        end. Of the others, those that lead through relays come behind those that are dialled.
        """
        order = {address: at for at, address in enumerate(self._failed)}

        def place(address: str) -> tuple[int, bool]:
            failed = order.get(address, -1)
            return failed, failed < 0 and relayed(address) is not None

        every = sorted(dict.fromkeys(known), key=place)
        return tuple(every[:DIALLED_MAX])


class OnlyNear:
    """Which addresses were handed out because beacons named them, and nothing else did.

    That is decided as they are handed out: an answer may come long after the beacons stopped.
    """

    def __init__(self) -> None:
        self._of: OrderedDict[bytes, tuple[str, ...]] = OrderedDict()

    def note(self, node: bytes, near: Iterable[str], named: Collection[str]) -> None:
        """Those of `near` are handed out; `named`: what is known by others, and was before."""
        every = dict.fromkeys((*self._of.pop(node, ()), *near))
        only = tuple(address for address in every if address not in named)[-DIALLED_MAX:]
        if only:
            self._of[node] = only
        if len(self._of) > NODES_MAX:
            self._of.popitem(last=False)

    def has(self, node: bytes, address: str) -> bool:
        return address in self._of.get(node, ())


#: whether a look-up for a vault may begin now; it is counted then
Admits = Callable[[bytes], bool]


def _every_look_up(vault: bytes) -> bool:
    return True


class _Search:
    """The look-ups of one node that is not found."""

    def __init__(self) -> None:
        self.over: trio.Event | None = None  # set at the end of the one that is under way
        self.not_before, self._pause = 0.0, AGAIN_FIRST

    def begin(self) -> None:
        self.over = trio.Event()

    def end(self, now: float) -> None:
        if self.over is not None:
            self.over.set()
        self.over = None
        self.not_before = now + self._pause
        self._pause = min(AGAIN_MAX, 2 * self._pause)


class AddressBook(Whereabouts):
    """What one process knows of the nodes that it dials; looks up by `find` in `nursery`.

    Look-ups are bounded: LOOK_UPS at once, one at a time for a node, and the longer the node is not
    found, the seldomer. `near` knows of those in the same network; its way is the short one, and is
    tried first. What is heard there is for sessions that know the key, and is not kept: anybody in
    a network can repeat what a node said. `admits` says whether another one may begin for a vault;
    one that may not is no failure of the node.
    """

    def __init__(
        self,
        find: Locate,
        nursery: trio.Nursery,
        remembered: Sightings | None = None,
        admits: Admits = _every_look_up,
        near: Near | None = None,
    ) -> None:
        self._find, self._nursery, self._admits = find, nursery, admits
        self._near = near or NobodyNear()
        nodes = () if remembered is None else remembered.nodes
        self._seen = OrderedDict((sighting.node, sighting) for sighting in nodes)
        self._trials: OrderedDict[bytes, Trials] = OrderedDict()
        self._searches: OrderedDict[bytes, _Search] = OrderedDict()
        self._mapped: OrderedDict[bytes, tuple[str, ...]] = OrderedDict()
        self._only_near = OnlyNear()
        self._at_once = trio.CapacityLimiter(LOOK_UPS)
        self._changed = trio.Event()

    def of(self, node: bytes, hints: Iterable[str]) -> tuple[str, ...]:
        near, named = self._near.of(node), (*self._known(node), *hints)
        self._only_near.note(node, near, named)
        return self._arranged(node, (*near, *named))

    def _known(self, node: bytes) -> tuple[str, ...]:
        """Where it was reached, and says that it is, to the whole world."""
        seen = self._seen.get(node, Sighting(node))
        return (*([seen.worked] if seen.worked else []), *seen.found)

    def _arranged(self, node: bytes, known: Iterable[str]) -> tuple[str, ...]:
        return self._trials.get(node, Trials()).arranged(known)

    def found(self, node: bytes) -> tuple[str, ...]:
        """Where the node itself says that it is: to those in its network, and to all."""
        near, found = self._near.of(node), self._seen.get(node, Sighting(node)).found
        self._only_near.note(node, near, self._known(node))
        return (*near, *found)

    def is_only_near(self, node: bytes, address: str) -> bool:
        """Whether beacons alone lead to an address: it is heard there again, or it is not there any
        more. It is not to be kept.
        """
        return address in self._near.of(node) or self._only_near.has(node, address)

    def way(self, node: bytes, address: str) -> str:
        mapped = address in self._mapped.get(node, ())
        return MAPPED if mapped else super().way(node, address)

    def says_mapped(self, node: bytes, addresses: Iterable[str]) -> None:
        """The node says that a router leads to it at these addresses; that is for people only."""
        self._mapped[node] = tuple(addresses)[:FOUND_MAX]
        self._mapped.move_to_end(node)
        if len(self._mapped) > NODES_MAX:
            self._mapped.popitem(last=False)

    def reached(self, node: bytes, address: str) -> None:
        self.is_there(node)
        if node in self._trials:
            self._trials[node].reached(address)
        seen = self._seen.get(node, Sighting(node))
        if self.is_only_near(node, address):
            address = seen.worked
        if seen.worked != address or node not in self._seen:
            self._note(Sighting(node, address, seen.seq, seen.found))
        else:
            self._seen.move_to_end(node)

    def failed(self, node: bytes, address: str) -> None:
        self._trials.setdefault(node, Trials()).failed(address)
        self._trials.move_to_end(node)
        if len(self._trials) > NODES_MAX:
            self._trials.popitem(last=False)
        self.search(node)

    def is_there(self, node: bytes) -> None:
        """The node answers: if it is lost again, it is looked up at once."""
        self._searches.pop(node, None)

    def search(self, node: bytes, vault: bytes = b"") -> None:
        self._near.ask()
        search = self._searches.get(node) or _Search()
        if search.over is not None or trio.current_time() < search.not_before:
            return
        if not self._admits(vault):
            return
        self._searches[node] = search
        self._searches.move_to_end(node)
        if len(self._searches) > NODES_MAX:
            self._searches.popitem(last=False)
        search.begin()
        self._nursery.start_soon(self._run, node, search)

    async def look_up(self, node: bytes, vault: bytes = b"") -> tuple[str, ...]:
        self.search(node, vault)
        search = self._searches.get(node)
        if search is not None and search.over is not None:
            await search.over.wait()
        return self.found(node)

    async def _run(self, node: bytes, search: _Search) -> None:
        try:
            async with self._at_once:
                with trio.move_on_after(LOOK_UP_DEADLINE):
                    self._heard(node, await self._find(node))
        except Exception:  # of a side task: sessions go on
            log.exception("looking for node %s failed", node.hex()[:12])
        finally:
            search.end(trio.current_time())

    def _heard(self, node: bytes, located: Located | None) -> None:
        """A node's own word counts if it is newer than the last one: old records are shown, too."""
        seen = self._seen.get(node, Sighting(node))
        if located is None or located.seq <= seen.seq:
            return
        found = located.addresses[:FOUND_MAX]
        log.info("node %s says that it is at %s", node.hex()[:12], " ".join(found) or "no address")
        self._note(Sighting(node, seen.worked, located.seq, found))

    def _note(self, sighting: Sighting) -> None:
        self._seen[sighting.node] = sighting
        self._seen.move_to_end(sighting.node)
        if len(self._seen) > NODES_MAX:
            self._seen.popitem(last=False)
        self._changed.set()

    # -- what outlives the process

    def sightings(self) -> tuple[Sighting, ...]:
        """All that is worth remembering, the one met last at the end."""
        return tuple(self._seen.values())

    def addresses(self) -> list[str]:
        """Where nodes were reached or say that they are, the one met last first."""
        every = (self._arranged(node, self._known(node)) for node in reversed(self._seen))
        return list(dict.fromkeys(address for known in every for address in known))

    def nearby(self) -> list[tuple[bytes, str]]:
        """Nodes met before that are heard in the same network: key and address, the one met last
        first. An address is to be dialled for its key alone.
        """
        found = []
        for node in reversed(self._seen):
            near = self._near.of(node)
            self._only_near.note(node, near, self._known(node))
            found += [(node, address) for address in near]
        return found

    async def wait_changed(self) -> None:
        """Until something is known that was not at the last call."""
        await self._changed.wait()
        self._changed = trio.Event()
