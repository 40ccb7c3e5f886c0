"""docs/commands.md: what every command does where something is missing, by running all of them."""

import os
import subprocess
import sys

import command_page
import pytest

from bitdustfs.cli.pages import PAGES


def test_every_command_has_a_row():
    assert set(command_page.ROWS) == set(PAGES)


@pytest.mark.slow
def test_the_page_of_commands_is_what_they_do(tmp_path):
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this machine has no /dev/fuse, so nothing can be mounted")
    made = tmp_path / "page"
    done = subprocess.run(
        [sys.executable, command_page.__file__, made], timeout=300, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    then, now = (path.read_text().splitlines() for path in (command_page.PAGE, made))
    assert [line for line in now if line not in then] == [], "run python tests/command_page.py"
    assert then == now
