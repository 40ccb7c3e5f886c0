"""What stand-ins read of a vault while its owner was away: suppliers keep that for him to see."""

import logging
import time
from collections.abc import Sequence

from bitdustfs.core.records import Visit
from bitdustfs.net.ask import ask_all
from bitdustfs.vault.vaults import WritableVault

log = logging.getLogger(__name__)

SHOWN = 30 * 86400  #: seconds for which a visit is shown


async def hear_visits(vault: WritableVault) -> list[Visit]:
    """At all suppliers together; reserves are visited, too. Who does not answer is left out."""
    answers = await ask_all(
        vault.known.family.everybody, lambda member: vault.circle.session(member).visits()
    )
    for member, error in answers.failed.items():
        log.info("%s tells of no visits: %s", member.node.hex()[:12], error)
    told = [visit for visits in answers.given.values() for visit in visits]
    return together(told, int(time.time()) - SHOWN)


def together(told: Sequence[Visit], since: int) -> list[Visit]:
    """Visits at several suppliers as one for each stand-in and position.

    Those that ended before not.
    """
    total: dict[tuple[bytes, int], Visit] = {}
    for visit in told:
        seen = total.get((visit.stand_in, visit.position), visit)
        size = visit.bytes if seen is visit else seen.bytes + visit.bytes
        first, last = min(seen.since, visit.since), max(seen.until, visit.until)
        total[visit.stand_in, visit.position] = Visit(
            visit.stand_in, visit.position, size, first, last
        )
    return [visit for visit in total.values() if visit.until >= since]
