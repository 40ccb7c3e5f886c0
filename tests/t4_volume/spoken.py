"""Commands as an owner types them, answered by a vault in this process (test_account.py).

Words, exit codes and all that is printed are the commands' own, over the mount's own socket. Only
the kernel is missing: the mountpoint is a folder.
"""

import io
from contextlib import asynccontextmanager, redirect_stderr, redirect_stdout
from functools import partial

import pytest
import trio
from msgspec.structs import replace

from bitdustfs.cli import main as commands
from bitdustfs.cli import named
from bitdustfs.family.staffing import Staffing
from bitdustfs.mount import unmount
from bitdustfs.mount.answers import MountAnswers, WritableMountAnswers
from bitdustfs.mount.commands import MOUNT_COMMANDS, MakeSnapshot, Sync
from bitdustfs.mount.ending import Farewell, ReadSettling, Settling
from bitdustfs.mount.mountpoint import socket_path
from bitdustfs.mount.status import Describer, WritableDescriber
from bitdustfs.net.listening import serve
from bitdustfs.vault.vaults import WritableVault

PATIENCE = 0.4  #: seconds without progress that a command has here


class Kernel:
    """Where the mount is attached, as far as its process asks that."""

    def let_go(self):
        """Somebody took the mountpoint away; `taken` says so already."""


def speaker(state, farewell=None):
    """Status, answers and end of the mount in this state."""
    key, vault, farewell = state.net.key, state.vault, farewell or Farewell()
    if isinstance(vault, WritableVault):
        staffing = Staffing(key, vault)
        describer = WritableDescriber(key, vault, staffing)
        said = WritableMountAnswers(vault, describer, staffing, Kernel(), farewell)
        return describer, said, Settling(vault, staffing, farewell.hurry)
    describer = Describer(key, vault)
    return describer, MountAnswers(vault, describer, Kernel(), farewell), ReadSettling(vault)


class Spoken:
    """A mount that answers commands. `taken`: set once its mountpoint was taken away."""

    def __init__(self, state, mountpoint):
        self.farewell, self.mountpoint, self.taken = Farewell(), mountpoint, trio.Event()
        self.describer, self._answers, self.settling = speaker(state, self.farewell)

    async def answer(self, command, say):
        """As the mount, with less patience than a person has."""
        if isinstance(command, Sync | MakeSnapshot):
            command = replace(command, patience=PATIENCE)
        return await self._answers.answer(command, say)

    async def end(self):
        """As a mount ends."""
        await self.taken.wait()
        await self.farewell.tell(await self.settling.settle())

    async def run(self, verb, *words):
        """Exit code, what was printed, what was complained of."""
        printed, complained = io.StringIO(), io.StringIO()
        with redirect_stdout(printed), redirect_stderr(complained):
            code = await trio.to_thread.run_sync(
                commands.main, [*verb.split(), str(self.mountpoint), *words]
            )
        return int(code), printed.getvalue(), complained.getvalue()


@asynccontextmanager
async def spoken(state, folder):
    """The mount in a state answers commands of a BITDUST_HOME in `folder`."""
    home, mountpoint = folder / "home", folder / "mnt"
    for path in (home, mountpoint):
        path.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BITDUST_HOME", str(home))
        named.names.cache_clear()
        for name in ("forbid_dumps", "keep_large_buffers"):  # of the process
            patch.setattr(commands, name, lambda: None)
        patch.setattr(commands, "log_plainly", lambda *how: None)
        mount = Spoken(state, mountpoint)
        patch.setattr(unmount, "take_away", lambda *how: trio.from_thread.run_sync(mount.taken.set))
        async with trio.open_nursery() as nursery:
            listen = partial(serve, socket_path(mountpoint), MOUNT_COMMANDS, mount.answer)
            await nursery.start(listen)
            nursery.start_soon(mount.end)
            yield mount
            nursery.cancel_scope.cancel()
