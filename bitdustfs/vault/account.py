"""What a mount may say of itself: published, safe, done. The only place where that is decided.

`Account` is what is known at one moment, drawn up by vault/safety.py. Everything that `mount`,
`sync`, `unmount`, `status`, `rebuild` and `verify` say of how safe things are is a sentence below,
and their exit codes follow from the same facts:

    published   every change that this machine accepted is in a root that a quorum of the voters
                accepted, and that root belongs to the history which the suppliers show
    kept        it is on this machine's disk: it survives kill -9 and a power cut, not the loss of
                this machine
    unkept      it is in the mount's memory: it is gone with the mount

What is seen of suppliers is what was seen last (blocks/health.py). It blames nobody.
"""

from dataclasses import dataclass

from bitdustfs.units import ago, format_size, within

BY_THE_NEXT = (
    "published by the next mount here that may write, unless another machine has published "
    "meanwhile"
)
NOT_IN_MEMORY = "whatever its process had in memory only is lost"
#: of a mount whose process died, after which nothing is left to publish; as Account.ended
ENDED_BY_DEATH = f"and all that was on this machine's disk is published; {NOT_IN_MEMORY}"


@dataclass(frozen=True)
class Account:
    """What one mount knows. Numbers are of this moment."""

    writes: bool  #: whether this mount may write
    why: str  #: why it may not write, where that was not asked for; else ""
    unpublished: int  #: files and folders whose last change no accepted root names
    unkept: bool  #: whether some change is in memory only
    diverged: bool  #: whether what is unpublished here does not fit the root that suppliers show
    adrift: bool  #: whether even what this machine published is not in the history that they show
    waiting: int  #: blocks that are only on this machine
    thin: int  #: blocks that are published, and held by no more suppliers than reading them takes
    k: int
    n: int
    online: int  #: suppliers, of n, whose last sign was an answer
    served: int  #: positions, of n, whose supplier or stand-in answered so
    silence: float | None  #: seconds since any of them answered; None: since before the mount
    margin: int  #: how many more of them may be lost besides this machine; below 0: too many are
    audited: bool  #: whether this mount looks after what suppliers have, so that `margin` is known
    stuck: str  #: why nothing can be published just now, or ""
    #: positions, of n, whose suppliers acknowledged all that this machine knows of; fewer than k
    #: where each lacks something else: `margin` is then of the block that the fewest have
    complete: int
    here: int = 0  #: bytes that are on this machine only, in its memory or on its disk
    lost: int = 0  #: blocks of which suppliers have too few fragments, whoever of them comes back
    to_send: int = 0  #: bytes of fragments until a root may name them, to suppliers that are there
    rate: float = 0.0  #: bytes a second that suppliers are sent just now, all together
    paused: str = ""  #: why what is new waits although it could be sent, or ""
    snapshot: bool = False  #: whether a snapshot was made that no accepted root names
    offline: str = ""  #: that nobody answers, and how much is here, a sentence; else ""
    waits: str = ""  #: why this mount, which writes, could not claim the vault yet; else ""

    # -- verdicts

    @property
    def published(self) -> bool:
        """Whether another machine can mount all that this one accepted."""
        return not (self.unpublished or self.snapshot or self.unkept or self.adrift)

    @property
    def state(self) -> str:
        """published, local or read-only: the one word of `status`."""
        if not self.writes:
            return "read-only"
        return "published" if self.published else "local"

    @property
    def readable(self) -> bool:
        """Whether enough suppliers answer to read everything that is published."""
        return self.served >= self.k and self.margin >= 0

    @property
    def seconds_left(self) -> float | None:
        """Until what is only here is published, at this rate; None where nobody can tell."""
        return self.to_send / self.rate if self.to_send and self.rate > 0 else None

    # -- sentences

    @property
    def judged(self) -> str:
        """The same as `verdict` in one word, for programs: safe, thin, pending, unsafe, unreadable.

        thin: published, and no supplier may be lost; pending: it is being published by itself.
        """
        if not self.published:
            return "unsafe" if self._is_final(ended=False) else "pending"
        if not self.readable:
            return "unreadable"
        return "safe" if self._is_borne() else "thin"

    def _is_borne(self) -> bool:
        """Of what is published and can be read: whether a loss is borne by all of it."""
        sure = self.margin and not self.thin and self.audited
        return bool(sure and self.complete >= self.k)

    def verdict(self, ended: bool = False) -> str:
        """Is my data safe now? The first line of `status`, and of `unmount` (`ended`)."""
        if not self.published:
            head = "NOT safe" if self._is_final(ended) else "NOT safe yet"
            return f"{head}: {self._only_here()}{self._when(ended)}"
        if self.offline and not self.readable:
            return f"published; {self.offline}"
        if not self.readable:
            return f"published, but NOT readable right now: {self.may_lose()}"
        if not self._is_borne():
            return f"published: {self.may_lose()}"
        where, more = f"everything is on {self.complete} of {self.n} suppliers", ""
        if self.online < self.n:
            where, more = f"{where} ({self.online} of {self.n} answer)", " more"
        looks = "" if self.writes else f"; read-only{': ' if self.why else ''}{self.why}"
        return f"safe: {where}, {self.margin}{more} may be lost{looks}"

    def _is_final(self, ended: bool) -> bool:
        """Whether nothing becomes of it by itself, or not soon."""
        return bool(ended or not self.writes or self.stuck or self.adrift or self.diverged)

    def _only_here(self) -> str:
        if self.adrift:
            return self._left()
        if self.here:
            return f"{format_size(self.here)} only here"
        changed = _many(self.unpublished, "file or folder", "files and folders")
        return f"changes of {changed} only here" if self.unpublished else self._left()

    def _when(self, ended: bool) -> str:
        """When it is published, or why it is not: the end of a sentence."""
        if not self.writes:
            return f"; read-only{': ' if self.why else ''}{self.why}"
        if self._is_final(ended):
            said = ("", "" if ended else self.offline, self.stuck)
            return "; ".join(word for at, word in enumerate(said) if word or not at)
        left = self.seconds_left
        if self.paused:
            return f"; {self.paused}"
        if left is not None:
            return f"; at this rate ({format_size(self.rate)}/s) {within(left)}"
        return "; nothing is sent just now" if self.to_send else "; it is due to be published"

    def on_mount(self) -> str:
        """What to warn of when a mount begins, or ""."""
        left = f"{self._left()}; {self._fate()}" if not self.published and not self.writes else ""
        begun = self.offline or self.waits
        if begun and self.writes:
            left = "what is written stays on this machine, and is published when they are back"
            if not self.published:
                left = f"{self._left()}; that, and {left}"
        return "; ".join(filter(None, (begun, self.why, left)))

    def synced(self) -> str:
        """What `sync` says when everything is published; see `left` where it is not."""
        return "; ".join(filter(None, (self._all_published(), self._thinly(), self.why)))

    def so_far(self) -> str:
        """What `sync` says where its time is over and something is left."""
        return f"{self.verdict()}; {self._fate()}"

    def left(self, why: str = "") -> str:
        """What is not published, why, and what becomes of it; "" where all is published."""
        return "" if self.published else f"{self._unfinished(why)}; {self._fate()}"

    def left_behind(self, why: str = "") -> str:
        """The same, once the mount has ended: until the next one here nothing is published."""
        return "" if self.published else f"{self._unfinished(why)}; {self._fate(ended=True)}"

    def ended(self) -> str:
        """What `unmount` says after "is unmounted" when everything is published."""
        if self.writes:
            said = "and published"
        else:
            said = "and this machine keeps nothing that is not published"
        return "; ".join(filter(None, (said, self._thinly(), self.why)))

    def safety(self) -> list[str]:
        """How safe things are: the sentences of `status`."""
        said = [f"{self._left()}; {self._fate()}"] if not self.published else []
        if self.published and self.why:
            said.append("all that this machine wrote is published")
        if self.waiting:
            said.append(f"{_many(self.waiting, 'block is', 'blocks are')} only on this machine")
        if self.thin:
            said.append(
                f"{_many(self.thin, 'block is', 'blocks are')} held by no more suppliers than "
                "reading takes"
            )
        said.append(self.may_lose())
        if self.writes and self.stuck:
            said.append(
                f"{self.stuck}: what is new stays on this machine, and is published by itself when "
                "they are back"
            )
        return said

    def may_lose(self) -> str:
        """How much more may be lost, or that it is too much already."""
        if not self.served:
            return (
                f"no supplier answers ({self._last_sign()}): it may be this machine's own network "
                "that is down. Only what this machine keeps can be read right now"
            )
        if self.served < self.k:
            return (
                f"{self.served} of {self.n} suppliers answered when they were asked last, and "
                f"{self.k} are needed: not everything can be read right now"
            )
        if self.lost:
            return (
                f"{_many(self.lost, 'block is', 'blocks are')} lost: all suppliers together have "
                "less than reading takes, and this machine has no copy"
            )
        if self.margin < 0:
            return (
                "too few of those who have everything answer: perhaps not everything can be read "
                "right now"
            )
        what = "anything" if self.published and not self.waiting else "anything that is published"
        if not self.margin:
            said = f"you cannot lose one more supplier right now without losing {what}"
        else:
            lost = _many(self.margin, "more supplier", "more suppliers")
            said = f"you can lose {lost} and this machine right now without losing {what}"
        return said if self.audited else f"{said}, if each supplier has what it should have"

    def _all_published(self) -> str:
        if self.writes:
            return "everything written so far is published"
        return "this mount is read-only, and this machine keeps nothing that is not published"

    def _thinly(self) -> str:
        if not self.thin:
            return ""
        return (
            f"{_many(self.thin, 'block is', 'blocks are')} published thinly: keep this machine "
            "until more suppliers have them"
        )

    def _left(self) -> str:
        if self.adrift:
            return "what this machine has is not part of the history that the suppliers show"
        if not self.unpublished:
            new = "a snapshot that was made" if self.snapshot else "what was written just now"
            return f"{new} is not published yet"
        changed = _many(self.unpublished, "file or folder has", "files and folders have")
        return f"{changed} changes that are not published"

    def _unfinished(self, why: str) -> str:
        """What is not published, and why."""
        reason = why or self.why or self.stuck
        if not reason:
            reason = "suppliers did not answer in time" if self.writes else "this mount only looks"
        return f"{self._left()} ({reason})"

    def _fate(self, ended: bool = False) -> str:
        """What becomes of what is not published, in this mount or once it has `ended`."""
        if self.unkept:
            return "some of that is in memory only, and lost if this machine stops now"
        if self.adrift or self.diverged:
            return "that is kept on this machine only, and is not published by itself"
        if self.writes and not ended:
            return "that is kept on this machine, and published as soon as suppliers take it"
        if not self.writes and not self.why:
            return "that is kept on this machine, and published by the next mount without -o ro"
        return f"that is kept on this machine, and {BY_THE_NEXT}"

    def _last_sign(self) -> str:
        if self.silence is None:
            return "none has since this mount began"
        return f"the last answer came {ago(self.silence)}"


def lost_at_the_end(why: str) -> str:
    """What is said where the mount ended, and this machine's disk did not take what was written."""
    return f"what was written last could not be kept on this machine, and is lost: {why}"


def left_by_the_dead(keeps: bool | None) -> str:
    """What is not published of a mount whose process died, as the end of a sentence; or "".

    `keeps`: whether its state holds changes that no root is known to name; None: nobody can tell.
    """
    known = _known_of_the_dead(keeps)
    kept = f"what was on this machine's disk is kept there, and {BY_THE_NEXT}"
    return f"{known}: {kept}; {NOT_IN_MEMORY}" if known else ""


def left_by_another(keeps: bool | None) -> str:
    """The same where another vault is mounted in its place."""
    known = _known_of_the_dead(keeps)
    kept = "what was on this machine's disk is kept there; mount that vault again to publish it"
    return f"{known}, and {kept}" if known else ""


def _known_of_the_dead(keeps: bool | None) -> str:
    match keeps:
        case True:
            return "changes of it are not published"
        case False:
            return ""
        case None:
            return "nothing here tells whether all of it is published"


def promised(k: int, n: int, own: int) -> list[str]:
    """What a new vault of the code k/n bears, of whose suppliers `own` are on this machine."""
    said, others = [], f"{'the other' if own else 'the'} {n - own} suppliers"
    if own:
        said.append("one position is on this machine: it is lost with it, and does not count below")
    if n - own <= k:
        said.append(f"no supplier may be lost: the code {k}/{n} needs all of them")
    else:
        said.append(f"any {n - own - k} of {others} may be lost without losing anything")
    return said


def verdict(faults: int, unseen: int, unsent: bool, local_only: bool, sample: float) -> str:
    """What `verify` concludes, of so many faults, and so many things that it could not look at.

    `unsent`: something is on this machine only.
    """
    if faults:
        said = "something is wrong"
        return f"{said}, and not everything could be looked at" if unseen else said
    if unseen:
        return "nothing is wrong with what was looked at, but not everything could be"
    if local_only:
        return "nothing is wrong on this machine; suppliers were not asked"
    kept = "" if not unsent else "; what is only on this machine no supplier can be asked for"
    if sample < 1:
        return f"nothing is wrong with what was looked at, which was a sample{kept}"
    return f"nothing is wrong{kept}"


def too_long(size: float, rate: float) -> str:
    """Why the end of a mount does not wait for so many bytes, at so many a second."""
    return f"at {format_size(rate)}/s the {format_size(size)} left are sent {within(size / rate)}"


def _many(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"
