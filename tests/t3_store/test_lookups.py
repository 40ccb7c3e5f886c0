"""What the kernel knows of inodes: counted exactly, named as well as it matters, in little room."""

import tracemalloc
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdustfs.core.items import ROOT_INODE
from bitdustfs.fs import lookups as module
from bitdustfs.fs.lookups import Lookups

MANY = 100_000
STEPS = st.lists(
    st.tuples(st.sampled_from(["hold", "forget"]), st.integers(2, 9), st.integers(1, 3))
)


@pytest.fixture
def lookups():
    return Lookups(None, None)  # nothing is described here


@given(STEPS)
def test_look_ups_are_counted(steps):
    lookups, model = Lookups(None, None), Counter()
    for what, inode, count in steps:
        if what == "hold":
            for _ in range(count):
                lookups.hold(inode, ROOT_INODE, b"name")
            model[inode] += count
        else:
            assert lookups.forget(inode, count) == (model[inode] <= count)
            model[inode] = max(0, model[inode] - count)
        assert all(lookups.held(n) == model[n] for n in range(2, 10))


def test_folders_keep_their_names_however_many_files_are_seen(lookups, monkeypatch):
    monkeypatch.setattr(module, "NAMES_KEPT", 100)
    lookups.hold(2, ROOT_INODE, b"photos")
    lookups.hold(3, 2, b"2026")
    for number in range(10, 1010):
        lookups.hold(number, 3, b"%d.jpg" % number)
    assert lookups._path(1009) == b"photos/2026/1009.jpg"
    assert lookups._path(10) == b""  # nobody is told a wrong one
    lookups.moved(3, ROOT_INODE, b"2025")
    assert lookups._path(1009) == b"2025/1009.jpg"
    lookups.hold(10, 3, b"ten.jpg")
    assert lookups._path(10) == b"2025/ten.jpg"


def test_what_is_forgotten_leaves_no_name(lookups):
    lookups.hold(2, ROOT_INODE, b"folder")
    lookups.hold(3, 2, b"file")
    assert lookups.forget(3, 1) and lookups.forget(2, 1)
    lookups.moved(3, ROOT_INODE, b"again")
    assert lookups._path(3) == lookups._path(2) == b""


def test_an_inode_that_the_kernel_knows_takes_less_than_100_bytes(monkeypatch):
    monkeypatch.setattr(module, "NAMES_KEPT", 1000)
    tracemalloc.start()
    try:
        lookups = Lookups(None, None)
        for number in range(1000, 1000 + MANY):
            lookups.hold(number, ROOT_INODE, b"%030d" % number)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert lookups.held(1000 + MANY - 1) == 1
    assert taken / MANY < 100
