"""May this machine write for itself while too few voters answer? As far as anybody here knows.

That is no question of safety: nothing is published before a claim of this mount is promised, and by
then whatever another machine published is found (claimant.py). But work that was made beside
another machine's is only kept, not merged. So it is not begun where it is known to be in vain.
"""

from bitdustfs.cache.state import State
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.quorum import Known
from bitdustfs.core.records import open_claim_untrusted
from bitdustfs.net.register import View


def another_wrote(known: Known, state: State, machine: bytes) -> bool:
    """Whether another machine has the ballot of the root found, which is newer than this one's."""
    return known.root.ballot.machine != machine and not _is_here(known, state)


def _is_here(known: Known, state: State) -> bool:
    published = state.published()
    return published is not None and published.root == known.raw


def why_not_alone(
    key: VaultKey, view: View, known: Known, state: State, machine: bytes, copied: bool
) -> str:
    """Why this machine may not write for itself while too few voters answer, a sentence; "" where
    it wrote last, as far as it and those who answer know. `copied`: its state came from elsewhere.
    """
    raw = state.claim()
    if copied:
        return "what this machine has is a copy of another machine's state"
    if known.root.ballot.machine != machine or state.overtaken() or not raw:
        return "another machine wrote this vault last"
    if not _is_here(known, state):
        return "this machine does not have the newest state"
    own = open_claim_untrusted(raw, key.vault_id).ballot
    for shown in view.shown.values():
        if shown.ballot is None or shown.ballot <= known.root.ballot or shown.raw_claim == raw:
            continue
        if shown.ballot.machine != machine or shown.ballot >= own:  # else a claim before the last
            return "another machine claimed this vault"
    return ""
