"""SIGHUP: a supplier reads config.toml again, and opens its log again."""

import logging
from collections.abc import Callable
from operator import attrgetter

from bitdustfs.errors import BitdustError
from bitdustfs.net.line import OwnLine
from bitdustfs.plain import reopen_logs, set_log_level
from bitdustfs.supplier.admission import Admission
from bitdustfs.supplier.offering import Offering, with_donated
from bitdustfs.supplier.relay import Relay
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.supplier_config import LIVE, configured_offering, said_of

log = logging.getLogger(__name__)

FIELDS = {
    "space": "space", "for": "customers", "trash_days": "trash_seconds", "log": "log",
    "listen": "listen", "announce": "announced", "bootstrap": "bootstrap",
    "relay": "relay", "through": "through", "bandwidth": "bandwidth",
    "relay_rate": "caps.rate", "relay_circuits": "caps.circuits",
}  # fmt: skip


class SupplierReload:
    """For a supplier that was started with this `offering`. `room`: what the disk has of what is
    wanted (raises UsageError); `admit`: whom words of `for` mean; `line`: that it uses; `relay`:
    that it is.
    """

    def __init__(
        self,
        service: SupplierService,
        offering: Offering,
        room: Callable[[int], int],
        admit: Callable[[tuple[str, ...]], Admission],
        line: OwnLine,
        relay: Relay | None = None,
    ) -> None:
        self._service, self.offering, self._room, self._admit = service, offering, room, admit
        self._line, self._relay = line, relay

    def reread(self) -> None:
        """What can be changed live is; what cannot is said. A broken file changes nothing."""
        reopen_logs()
        before = self.offering
        try:
            now = configured_offering(before.folder, said_of(before))
            held = with_donated(now)
            space = self._room(held.space)
        except (BitdustError, OSError) as error:
            log.error("config.toml is not heeded, all stays as it was: %s", error)
            return
        changed = [
            word for word, field in FIELDS.items()
            if attrgetter(field)(now) != attrgetter(field)(before)
        ]  # fmt: skip
        for word in changed:
            if word not in LIVE:
                log.warning("%s has changed in config.toml: that needs a restart", word)
        admission = self._admit(now.customers)
        self._service.housekeeping.change(space, admission, now.trash_seconds)
        self._line.change(held.bandwidth)
        if self._relay is not None:
            self._relay.change(held.caps)
        set_log_level(now.log)
        self.offering = now
        live = ", ".join(word for word in changed if word in LIVE)
        log.info("config.toml was read again; new here: %s", live or "nothing")
