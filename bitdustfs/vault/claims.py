"""Claiming a ballot for a mount: always the next one after the highest that anybody proved.

Each claim is synced here before anybody hears of it. So a machine knows its own claims, and when
voters show one of its name that it does not know, its state is a copy (a restored backup, a cloned
virtual machine). A copy takes a name of its own: from then on it is another machine, which the
lease holds off while the first one writes, and which is fenced like any other.
"""

import logging
import os

from bitdustfs.cache.state import State
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import Ballot, claim_ballot, open_claim_untrusted
from bitdustfs.errors import Superseded
from bitdustfs.failpoints import reach
from bitdustfs.net.register import Fenced, RootRegister, View

log = logging.getLogger(__name__)

TRIED = 8  #: claims that are tried while others claim at the same time


class Claims:
    """This machine's claims on one vault. `machine`: its name, unless it is a copy."""

    def __init__(self, key: VaultKey, register: RootRegister, state: State, machine: bytes) -> None:
        self._key, self._register, self._state = key, register, state
        self._machine = state.machine() or machine

    @property
    def machine(self) -> bytes:
        """The name that this machine claims under."""
        return self._machine

    def look(self, view: View) -> None:
        """Sees from what voters show whether this machine is a copy. Raises LocalError."""
        raw = self._state.claim()
        if not raw:
            return
        own = open_claim_untrusted(raw, self._key.vault_id).ballot
        for shown in view.shown.values():
            if shown.claim is not None and shown.raw_claim != raw:
                ballot = shown.claim.ballot
                if ballot.machine == self._machine and ballot >= own:
                    self._be_another()
                    return

    async def prepare(
        self, proven: Ballot | None, take_over: bool, tries: int = TRIED
    ) -> tuple[View, Ballot, bytes]:
        """What a quorum holds, the ballot that it promised, and the claim of that.

        `proven`: the highest ballot that is known to exist. `tries`: claims that are made. Raises
        LeaseHeld, Superseded, Unavailable or LocalError.
        """
        highest = proven or Ballot(0, bytes(16))
        if raw := self._state.claim():  # also where nobody is there who heard of it
            highest = max(highest, open_claim_untrusted(raw, self._key.vault_id).ballot)
        failure = Superseded("")
        for _ in range(tries):
            ballot = Ballot(highest.generation + 1, self._machine, highest.lineage)
            claim = claim_ballot(self._key.signing, ballot)
            self._state.set_claim(claim, self._machine)
            reach("claimed")
            try:
                return await self._register.prepare(claim, take_over), ballot, claim
            except Fenced as fenced:
                failure = fenced
                if fenced.rival.ballot.machine == self._machine:
                    self._be_another()
                highest = max(highest, fenced.rival.ballot)
        raise failure

    def _be_another(self) -> None:
        log.warning(
            "another machine writes under the name of this one: this is a copy of it, and has a "
            "name of its own from now on"
        )
        self._machine = os.urandom(16)
