"""A window as a model.

What it shows, whatever is written, cut, sealed and put back, is what a buffer shows.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitdustfs.fs import window as module
from bitdustfs.fs.window import Tally, Window

EXTENT_MAX = 16  #: small extents, so that few steps meet each other often
SPAN = 3 * EXTENT_MAX
places = st.integers(0, SPAN)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("write"), places, st.integers(1, 2 * EXTENT_MAX)),
        st.tuples(st.just("truncate"), st.lists(places, min_size=1, max_size=3)),
        st.tuples(st.just("take"), st.booleans(), st.integers(1, SPAN)),
        st.tuples(st.just("back")),
        st.tuples(st.just("done")),
    ),
    min_size=6,
    max_size=40,
)


class Model:
    """The sealed bytes (`below`) and what the file is: None where nothing was ever written."""

    def __init__(self):
        self.file, self.below = [], []

    def grow(self, size):
        self.file += [0] * (size - len(self.file))

    def write(self, offset, data):
        self.grow(offset + len(data))
        self.file[offset : offset + len(data)] = data

    def truncate(self, size):
        del self.file[size:]
        self.grow(size)
        del self.below[size:]


@pytest.fixture(autouse=True, scope="module")
def small_extents():
    usual, module.EXTENT_MAX = module.EXTENT_MAX, EXTENT_MAX
    yield
    module.EXTENT_MAX = usual


@settings(max_examples=600, deadline=None)
@given(steps)
def test_promise_5_a_window_over_sealed_bytes_shows_the_file(steps):
    tally = Tally()
    window, model, taken, stamp = Window(0, tally), Model(), [], 0
    for step in steps:
        match step:
            case ("write", offset, length):
                stamp = stamp % 255 + 1
                window.write(offset, bytes([stamp]) * length)
                model.write(offset, [stamp] * length)
            case ("truncate", sizes):
                for size in sizes:
                    window.truncate(size)
                    model.truncate(size)
            case ("take", full_only, limit):
                new = window.take(full_only, limit)
                assert all(len(p.data) <= EXTENT_MAX for p in new)
                assert all(
                    p.offset // EXTENT_MAX == (p.offset + len(p.data) - 1) // EXTENT_MAX
                    for p in new
                )  # fmt: skip
                taken += new
            case ("back",):
                window.put_back(taken)
                taken = []
            case ("done",):  # they are mapped in the tree: what still counts of them is sealed
                for piece in taken:
                    stop = piece.offset + piece.valid
                    model.below += [0] * (stop - len(model.below))
                    if piece.valid:
                        model.below[piece.offset : stop] = piece.data[: piece.valid]
                window.done(taken)
                taken = []
        assert window.size == len(model.file)
        lengths = [len(segment) for segment in window.segments.values()]
        assert tally.dirty == window.dirty == sum(lengths)
        assert tally.sealing == sum(len(piece.data) for piece in window.sealing)
        assert tally.full == lengths.count(EXTENT_MAX) and window.full == bool(tally.full)
        shown = bytearray(model.below[: window.size])
        shown += bytes(window.size - len(shown))
        window.overlay(0, shown)
        assert shown == bytes(model.file)
        if window.segments:
            first = next(iter(window.segments))
            assert window.covers(first, len(window.segments[first]))
    window.close()
    assert tally.dirty == tally.full == 0
