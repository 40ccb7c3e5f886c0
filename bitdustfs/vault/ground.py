"""What every open vault stands on, whether it is written or not: made once the root is found."""

from functools import partial
from pathlib import Path

import trio

from bitdustfs.blocks.bringing import Bringing
from bitdustfs.blocks.circle import Circle
from bitdustfs.blocks.evict import CacheRoom
from bitdustfs.blocks.fetch import Fetcher
from bitdustfs.blocks.readahead import ReadAhead
from bitdustfs.blocks.reader import ExtentReader
from bitdustfs.blocks.sealers import Sealers
from bitdustfs.blocks.space import Space
from bitdustfs.blocks.spared import Spared
from bitdustfs.cache.blockfiles import BlockFiles
from bitdustfs.cache.diskroom import DiskRoom
from bitdustfs.cache.pinnedfiles import PinnedFiles
from bitdustfs.cache.pins import Pins
from bitdustfs.cache.state import State
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import root_records
from bitdustfs.core.roots import descends, open_root_content_untrusted
from bitdustfs.core.sealing import Suite
from bitdustfs.fs.content import Content
from bitdustfs.fs.lookups import Lookups
from bitdustfs.fs.names import Names
from bitdustfs.fs.past import Past
from bitdustfs.fs.purge import Purger
from bitdustfs.fs.showing import Showing
from bitdustfs.fs.volume import Volume
from bitdustfs.fs.xattrs import Xattrs
from bitdustfs.net.metered import Metered
from bitdustfs.net.register import RootRegister
from bitdustfs.rebuild.reputation import Reputation
from bitdustfs.rebuild.watch import Watch
from bitdustfs.tree.catalogue import Catalogue
from bitdustfs.tree.commit import CommitDue
from bitdustfs.tree.interest import Interest
from bitdustfs.tree.tree import Tree
from bitdustfs.vault.claims import Claims
from bitdustfs.vault.followed import Followed
from bitdustfs.vault.following import Follower
from bitdustfs.vault.offline import Offline
from bitdustfs.vault.opening import Opening
from bitdustfs.vault.pinning import Pinning
from bitdustfs.vault.reading import Parts
from bitdustfs.vault.safety import ReadSafety, Safety
from bitdustfs.vault.seat import SeatBench


class Ground:
    """What every open vault stands on, whether it is written or not."""

    def __init__(
        self,
        key: VaultKey,
        suite: Suite,
        state: State,
        files: BlockFiles,
        pinned: PinnedFiles,
        home: Path,
        circle: Circle,
        cache_limit: int,
        opening: Opening,
        register: RootRegister,
        claims: Claims,
        seats: SeatBench,
    ) -> None:
        self.key, self.suite, self.state = key, suite, state
        self.files, self.pinned = files, pinned
        self.home, self.cache_limit = home, cache_limit
        self.circle, self.opening = circle, opening
        self.register, self.claims, self.seats = register, claims, seats
        self.fetcher = Fetcher(circle)
        self.sealers = Sealers(key.capability())
        self.disk = DiskRoom(home)
        self.room = CacheRoom(files, pinned, cache_limit, self.disk)
        self.reader = ExtentReader(
            self.sealers, files, pinned, self.fetcher, self.room.fetched_limit
        )
        self._pins, self._interest = Pins(state), Interest()
        self._bringing = Bringing(state.blocks, files, pinned, self.fetcher)
        self.spared = Spared(bool(self._pins.all()))
        self.ahead = ReadAhead(self.reader)
        self.space = Space(circle, state.blocks, self.disk)
        self.followed = Followed(opening.known, circle)
        load, save = partial(state.get_value, "watch"), partial(state.set_value, "watch")
        self.watch = Watch(circle, Reputation(load, save))

    def after(self, opening: Opening) -> "Ground":
        """The same ground for a vault that is opened again while it is open."""
        return Ground(
            self.key, self.suite, self.state, self.files, self.pinned, self.home, self.circle,
            self.cache_limit, opening, self.register, self.claims, self.seats,
        )  # fmt: skip

    def tree(self, due: CommitDue) -> Tree:
        """The tree as this machine last committed it."""
        checkpoint = self.state.checkpoint()
        base = checkpoint.index if checkpoint else None
        tree = Tree(self.reader, base, due.set, interest=self._interest)
        for batch in self.state.batches(checkpoint.generation if checkpoint else 0):
            tree.replay(dict(batch.changes))
        return tree

    def offline(self, tree: Tree) -> Offline:
        """How much of a tree is here."""
        return Offline(tree, self._bringing, self.circle)

    def pinning(self, volume: Volume, sealing: trio.Lock, metered: Metered) -> Pinning:
        """What is pinned of a tree. `sealing`: see Pinning."""
        return Pinning(
            self._pins, volume.tree, volume.names, self._interest, self._bringing, self.pinned,
            self.state.blocks, self.room, self.spared, sealing, metered,
        )  # fmt: skip

    def parts(
        self,
        volume: Volume,
        content: Content,
        xattrs: Xattrs,
        catalogue: Catalogue,
        safety: ReadSafety | Safety,
        pinning: Pinning,
        offline: Offline,
    ) -> Parts:
        """All that an open vault of either kind is made of."""
        past = Past(volume.tree, catalogue, self.reader, self.ahead, volume.names, self.space)
        return Parts(
            volume, content, xattrs, catalogue, past, Showing(past), self.reader, self.fetcher,
            self.state, self.space, self.watch, self.register, self.followed, self.opening.found,
            safety, pinning, offline,
        )  # fmt: skip

    def follower(self, parts: Parts, lookups: Lookups) -> Follower:
        """What turns a vault that is only looked at to each new root."""
        return Follower(self.key, self.claims.machine, parts, self.circle, lookups)

    def volume(self, tree: Tree, content: Content, lookups: Lookups, purger: Purger) -> Volume:
        """Names and attributes over a tree."""
        return Volume(tree, content, Names(self.key.name_key), self.space, lookups, purger)

    def is_adrift(self) -> bool:
        """Whether the root that suppliers show was not made out of the one accepted here."""
        published, shown = self.state.published(), self.opening.known.root
        if published is None:
            return False
        own = root_records.peek_untrusted(published.root)
        content = open_root_content_untrusted(self.key, shown)
        return descends(shown, content, own.seq, own.uid) is False
