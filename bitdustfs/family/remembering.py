"""Where suppliers were reached last outlives a mount: a value in this machine's state."""

import logging

import trio

from bitdustfs.cache.folder import OwnedFolder
from bitdustfs.cache.state import State, peek_value
from bitdustfs.core.codec import encode
from bitdustfs.core.sightings import Sightings, sightings
from bitdustfs.errors import LocalError, Malformed
from bitdustfs.family.find import Ways

log = logging.getLogger(__name__)

NAME = "whereabouts"
EVERY = 600.0  #: seconds after which contacts of the DHT are written again
HEAR_EVERY = 5.0  #: seconds between looks at whether suppliers are reached anywhere else


def recall(folder: OwnedFolder) -> Sightings:
    """What an earlier mount remembered; what does not parse is forgotten. Raises LocalError."""
    raw = peek_value(folder.path / "state", NAME)
    if raw is None:
        return Sightings()
    try:
        return sightings.decode_untrusted(raw)
    except Malformed as error:
        log.warning("where suppliers were reached last is forgotten: %s", error)
        return Sightings()


async def keep_remembering(ways: Ways, state: State) -> None:
    """Until cancelled; then once more. Raises LocalError or DiskFull."""
    try:
        while True:
            with trio.move_on_after(EVERY):
                await ways.wait_changed()
            await trio.to_thread.run_sync(_remember, ways.sightings(), state)
    finally:
        try:
            _remember(ways.sightings(), state)
        except LocalError as error:
            log.warning("where suppliers were reached last is not kept: %s", error)


async def keep_hearing(ways: Ways) -> None:
    """Whoever is reached somewhere is asked what it says of that, until cancelled."""
    while True:
        await trio.sleep(HEAR_EVERY)
        await ways.hear_how()


def _remember(seen: Sightings, state: State) -> None:
    state.set_value(NAME, encode(seen))
