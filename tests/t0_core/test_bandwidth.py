"""What `bandwidth=` says, and at which hours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdustfs.core.bandwidth import LEAST, Bandwidth, Cap, parse_bandwidth
from bitdustfs.errors import UsageError

KIB, MIB = 1 << 10, 1 << 20
RATES = st.just(0) | st.integers(LEAST, 1 << 40)
HOURS = st.tuples(st.integers(0, 23), st.integers(0, 23)).filter(lambda h: h[0] != h[1])
BOUNDS = st.builds(
    lambda way, rate, hours: Cap(way, rate, *hours),
    st.sampled_from([None, "up", "down"]), RATES, st.just((0, 0)) | HOURS,
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "hour", "up", "down"),
    [
        ("10M", 3, 10 * MIB, 10 * MIB),
        ("0", 3, 0, 0),
        ("up:1M", 3, MIB, 0),
        ("up:1M/down:8M", 3, MIB, 8 * MIB),
        ("UP:1m/Down:8M", 3, MIB, 8 * MIB),
        ("up:200K@8-23", 8, 200 * KIB, 0),
        ("up:200K@8-23", 22, 200 * KIB, 0),
        ("up:200K@8-23", 23, 0, 0),
        ("up:200K@8-23", 7, 0, 0),
        ("up:200K@8-24", 23, 200 * KIB, 0),
        ("up:200K@22-6", 23, 200 * KIB, 0),
        ("up:200K@22-6", 0, 200 * KIB, 0),
        ("up:200K@22-6", 6, 0, 0),
        ("up:200K@8-23/up:2M/down:8M", 9, 200 * KIB, 8 * MIB),
        ("up:200K@8-23/up:2M/down:8M", 23, 2 * MIB, 8 * MIB),
        ("up:0@1-5/1M", 2, 0, MIB),  # the first one that holds counts
        ("1.5M", 0, 3 * MIB // 2, 3 * MIB // 2),
    ],
)
def test_the_first_bound_of_a_way_counts_whose_hours_it_is(text, hour, up, down):
    told = parse_bandwidth(text)
    assert (told.rate("up", hour), told.rate("down", hour)) == (up, down)


@pytest.mark.parametrize(
    "text",
    ["", "fast", "-1", "up", "up:", "up:1M,down:8M", "1M@", "1M@8", "1M@8-8", "1M@0-24", "1M@8-25",
     "1M@-1-5", "side:1M", "1K", "9999T", "1M//2M", "/".join(["1M"] * 17)],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_an_example(text):
    with pytest.raises(UsageError, match=r"for example|least|more than|not a size"):
        parse_bandwidth(text)


@given(st.lists(BOUNDS, max_size=16), st.integers(0, 23))
def test_it_is_written_as_it_is_read(bounds, hour):
    said = Bandwidth(tuple(bounds))
    again = parse_bandwidth(str(said))
    for way in ("up", "down"):
        assert again.rate(way, hour) == said.rate(way, hour)


@given(st.text(max_size=40) | st.from_regex(r"((up|down):)?[0-9.]{1,4}[KMGT]?(@\d+-\d+)?/?"))
def test_any_text_is_read_or_refused(text):
    try:
        told = parse_bandwidth(text)
    except UsageError:
        return
    assert all(told.rate(way, hour) >= 0 for way in ("up", "down") for hour in range(24))
