"""docs/threat-model.md: each adversary has a promise, and tests that are there."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
TEXT = (TESTS.parent / "docs" / "threat-model.md").read_text()
ROWS = [row for row in re.split(r"\n(?=\*\*|## )", TEXT) if row.startswith("**")]
OUT_OF_SCOPE = "This is out of scope."


def test_each_adversary_has_a_promise_and_tests():
    wrong = [
        row.splitlines()[0] for row in ROWS
        if not re.search(r"^- Promise: .*^- Tests: .*\btest_\w", row, re.DOTALL | re.MULTILINE)
        and OUT_OF_SCOPE not in row
    ]  # fmt: skip
    assert ROWS and not wrong


def test_the_tests_that_it_names_are_there():
    there = {
        name
        for path in TESTS.glob("t*/test_*.py")
        for name in [*re.findall(r"def (test_\w+)\(", path.read_text()), path.stem]
    }
    named = [name for row in ROWS for name in re.findall(r"`(?:t\d_\w+/)?(test_\w+)", row)]
    assert named
    for name in named:
        begins = name.endswith("_")  # `test_promise_5_...`
        assert name in there or (begins and any(one.startswith(name) for one in there)), name
