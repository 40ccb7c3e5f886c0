"""A mount and a plain folder, side by side: whatever is done to both, they stay equal.

Rules besides file operations: remount, mount elsewhere, a cache that evicts all the time, kill -9
and remount (what was fsynced is there), suppliers that go and come back.
"""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from world import World

NAMES = st.sampled_from(["a", "b", "c", "d", "folder/a", "folder/b", "folder/inner/c"])
FOLDERS = st.sampled_from(["folder", "folder/inner", "other"])
SIZES = st.sampled_from([0, 1, 511, 512, 513, 4096, 131_072, 131_073, 1_500_000])


def listing(root):
    """Type, mode, size, links, target and content of everything below."""
    found = {}
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        elif path.is_dir():
            found[name] = ("folder", info.st_mode, info.st_nlink)
        else:
            found[name] = ("file", info.st_mode, info.st_nlink, path.read_bytes())
    return found


def same_failure(one, two):
    """Does the same to both; both succeed, or both fail with the same errno."""
    codes = []
    for action in (one, two):
        try:
            action()
            codes.append(0)
        except OSError as error:
            codes.append(error.errno)
    assert codes[0] == codes[1], codes


class Model(RuleBasedStateMachine):
    world: World
    turn = 0

    @initialize()
    def begin(self):
        Model.turn += 1
        self.plain = Path(tempfile.mkdtemp(dir=self.world.root, prefix="plain"))
        self.name = f"run{Model.turn}"
        self.mount()
        self.real.mkdir()
        self.stopped = []

    @property
    def real(self):
        return self.world.mountpoint / self.name

    def mount(self):
        self.world.mount("cache=2M")

    def both(self, act):
        same_failure(lambda: act(self.plain), lambda: act(self.real))

    @rule(name=NAMES, size=SIZES, seed=st.integers(0, 255), at=SIZES)
    def write(self, name, size, seed, at):
        def act(root):
            with open(root / name, "r+b" if (root / name).exists() else "wb") as file:
                file.seek(at)
                file.write(bytes([seed]) * size)

        self.both(act)

    @rule(name=NAMES, size=SIZES)
    def truncate(self, name, size):
        self.both(lambda root: os.truncate(root / name, size))

    @rule(folder=FOLDERS)
    def mkdir(self, folder):
        self.both(lambda root: (root / folder).mkdir())

    @rule(folder=FOLDERS)
    def rmdir(self, folder):
        self.both(lambda root: (root / folder).rmdir())

    @rule(name=NAMES)
    def unlink(self, name):
        self.both(lambda root: (root / name).unlink())

    @rule(old=st.one_of(NAMES, FOLDERS), new=st.one_of(NAMES, FOLDERS))
    def rename(self, old, new):
        self.both(lambda root: os.rename(root / old, root / new))

    @rule(old=NAMES, new=NAMES)
    def link(self, old, new):
        self.both(lambda root: os.link(root / old, root / new))

    @rule(to=NAMES, new=NAMES)
    def symlink(self, to, new):
        self.both(lambda root: os.symlink(to, root / new))

    @rule(name=st.one_of(NAMES, FOLDERS), mode=st.sampled_from([0o600, 0o755, 0o4711]))
    def chmod(self, name, mode):
        self.both(lambda root: os.chmod(root / name, mode))

    @rule()
    def remount(self):
        self.world.run("unmount", self.world.mountpoint)
        self.mount()

    @rule()
    def forget_the_cache(self):
        self.world.run("unmount", self.world.mountpoint)
        self.world.forget_cache()
        self.mount()

    @rule()
    def kill(self):
        fd = os.open(self.real, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)
        for path in self.real.rglob("*"):
            if path.is_file() and not path.is_symlink():
                with open(path, "rb") as file:
                    os.fsync(file.fileno())
        self.world.kill_mount()
        self.mount()

    @rule(number=st.integers(0, 6))
    def stop_a_supplier(self, number):
        if number not in self.stopped and len(self.stopped) < 2:
            self.world.stop_supplier(number)
            self.world.wait_supplier_ended(number)
            self.stopped.append(number)

    @rule()
    def bring_suppliers_back(self):
        self.world.start()
        self.stopped = []

    @invariant()
    def equal(self):
        assert listing(self.real) == listing(self.plain)

    def teardown(self):
        if hasattr(self, "plain"):
            if self.stopped:
                self.world.start()
            self.world.run("unmount", self.world.mountpoint, check=False)
            shutil.rmtree(self.plain)


@pytest.mark.slow
def test_promise_1_a_mount_and_a_plain_folder_stay_equal(world, long):
    Model.world = world
    runs, steps = (4, 60) if long else (2, 30)
    run_state_machine_as_test(
        Model, settings=settings(max_examples=runs, stateful_step_count=steps, deadline=None)
    )
