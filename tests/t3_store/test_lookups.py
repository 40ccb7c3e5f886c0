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
                lookups.hold(inode, False, ROOT_INODE, b"name")
            model[inode] += count
        else:
            assert lookups.forget(inode, count) == (model[inode] <= count)
            model[inode] = max(0, model[inode] - count)
        assert all(lookups.held(n) == model[n] for n in range(2, 10))


def test_folders_keep_their_names_however_many_there_are(lookups, monkeypatch):
    monkeypatch.setattr(module, "NAMES_KEPT", 100)
    lookups.hold(2, True, ROOT_INODE, b"photos")
    for number in range(1000, 2000):
        lookups.hold(number, True, 2, b"%d" % number)  # all of them first, then what is in them
    for number in range(1000):
        lookups.hold(10_000 + number, False, 1000 + number, b"%d.jpg" % number)
    assert lookups.path(10_000 + 999) == b"photos/1999/999.jpg"
    assert lookups.path(10_000) == b""  # nobody is told a wrong one
    lookups.moved(2, ROOT_INODE, b"pictures")
    assert lookups.path(10_000 + 999) == b"pictures/1999/999.jpg"
    lookups.hold(10_000, False, 1000, b"0.jpg")
    assert lookups.path(10_000) == b"pictures/1000/0.jpg"


def test_what_is_written_keeps_its_name(lookups, monkeypatch):
    monkeypatch.setattr(module, "NAMES_KEPT", 100)
    lookups.hold(2, False, ROOT_INODE, b"written")
    for number in range(1000, 2000):
        lookups.hold(number, False, ROOT_INODE, b"%d" % number)
        if number % 50 == 0:
            assert lookups.path(2) == b"written"


def test_what_is_forgotten_leaves_no_name(lookups):
    lookups.hold(2, True, ROOT_INODE, b"folder")
    lookups.hold(3, False, 2, b"file")
    assert lookups.forget(3, 1) and lookups.forget(2, 1)
    lookups.moved(3, ROOT_INODE, b"again")
    assert lookups.path(3) == lookups.path(2) == b""


def test_an_inode_that_the_kernel_knows_takes_less_than_100_bytes(monkeypatch):
    monkeypatch.setattr(module, "NAMES_KEPT", 1000)
    tracemalloc.start()
    try:
        lookups = Lookups(None, None)
        for number in range(1000, 1000 + MANY):
            lookups.hold(number, False, ROOT_INODE, b"%030d" % number)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert lookups.held(1000 + MANY - 1) == 1
    assert taken / MANY < 100
