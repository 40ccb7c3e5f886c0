"""What every handler of a request is wrapped in.

An exception that pyfuse3 does not know would end its main loop and leave callers blocked, so known
errors become their errno and anything else is logged and becomes EIO.
"""

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pyfuse3

from bitdustfs.errors import BitdustError, FsError
from bitdustfs.fuse.errno_table import errno_of

log = logging.getLogger(__name__)

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Any]])


def guarded(handler: Handler) -> Handler:
    """Turns every exception of a handler into FUSEError."""

    @functools.wraps(handler)
    async def run(self: object, *args: Any) -> Any:
        try:
            return await handler(self, *args)
        except pyfuse3.FUSEError:
            raise
        except FsError as error:
            raise pyfuse3.FUSEError(error.errno) from None
        except BitdustError as error:
            log.error("%s: %s", handler.__name__, error)
            raise pyfuse3.FUSEError(errno_of(error)) from None
        except Exception as error:
            if not _foreseen(error):
                log.exception("%s failed by our own fault", handler.__name__)
            raise pyfuse3.FUSEError(errno_of(error)) from None

    return run  # type: ignore[return-value]


def _foreseen(error: Exception) -> bool:
    if isinstance(error, ExceptionGroup):
        return all(_foreseen(e) for e in error.exceptions)
    return isinstance(error, BitdustError)
