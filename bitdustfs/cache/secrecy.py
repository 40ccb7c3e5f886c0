"""Keeps keys off this machine's disk: no core dumps, and no swap for the pages that hold them.

What Python copies on the way (the text of a key file, what is derived for one use and forgotten) is
not locked. A machine that hibernates writes all of its memory, locked or not.
"""

import ctypes
import logging
import mmap
import os
import resource
from collections.abc import Iterable

from nacl.signing import SigningKey

from bitdustfs.core.keys import VaultKey

log = logging.getLogger(__name__)

_PR_SET_DUMPABLE = 4  # prctl.h
DUMPABLE = "BITDUST_DUMPABLE"  #: set in the environment: debuggers and /proc see the process


def forbid_dumps() -> None:
    """From now on a crash writes no core, and other processes of this user cannot look inside.

    Linux only; elsewhere the limit on cores alone holds.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.environ.get(DUMPABLE):
        return
    try:  # a core may be piped to a program whatever the limit says, unless the process forbids it
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    except (OSError, AttributeError):
        log.debug("this system has no prctl")


def lock_vault_key(key: VaultKey) -> bool:
    """A vault's key, and what is derived from it for good. Whether all of it is locked."""
    secrets = [key.secret, key.cache_key, key.name_key]
    return lock_in_memory([*secrets, *_halves(key.signing), *_halves(key.record)])


def lock_node_key(key: SigningKey) -> bool:
    """A supplier's key. Whether all of it is locked."""
    return lock_in_memory(_halves(key))


def _halves(key: SigningKey) -> list[bytes]:
    return [key._seed, key._signing_key]


def lock_in_memory(secrets: Iterable[bytes]) -> bool:
    """Locks the pages on which these objects lie, until the process ends; whether it could.

    For the process that calls it alone: a child that it forks has to call it again.
    """
    try:
        mlock = ctypes.CDLL(None, use_errno=True).mlock
    except (OSError, AttributeError):
        return False
    mlock.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    locked = True
    for secret in secrets:
        start = id(secret) // mmap.PAGESIZE * mmap.PAGESIZE  # CPython: where the object lies
        size = id(secret) + bytes.__basicsize__ + len(secret) - start
        if mlock(start, size):
            log.debug("a key may go to swap: %s", os.strerror(ctypes.get_errno()))
            locked = False
    return locked
