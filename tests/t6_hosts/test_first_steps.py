"""From nothing to a folder that was copied, lost with its computer, and restored, as in README."""

import subprocess

import pytest
from hosts import missing
from newcomer import PAGE, Way


@pytest.mark.slow
def test_promise_6_a_newcomer_does_what_readme_says_and_sees_what_the_page_shows(tmp_path):
    if why := missing():
        pytest.skip(why)
    way = Way(tmp_path)
    try:
        way.walk()
        there = way.homes["Anna"] / "photos"
        same = ["diff", "-r", "--no-dereference", way.lost, there]
        assert subprocess.run(same, capture_output=True, text=True, check=False).stdout == ""
        assert (there / "2026" / "summer" / "5.jpg").stat().st_size == 700_000
    finally:
        way.close()
    assert PAGE.read_text() == way.page(), "run scripts/screens"
