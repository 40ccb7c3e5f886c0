"""What a newcomer sees on the way: who was found, what the policy is, what is there after it."""

import io
import re
import sys

import pytest

from bitdustfs.cli.policy_words import parse_policy, policy_lines
from bitdustfs.cli.progress import progress_bar
from bitdustfs.mount.statements import PolicySaid
from bitdustfs.net.control import Progress
from bitdustfs.units import MIB
from bitdustfs.vault.account import promised


@pytest.mark.parametrize(
    ("k", "n", "own", "said"),
    [
        (4, 7, 0, "any 3 of the 7 suppliers may be lost without losing anything"),
        (1, 2, 0, "any 1 of the 2 suppliers may be lost without losing anything"),
        (1, 1, 0, "no supplier may be lost: the code 1/1 needs all of them"),
        (1, 2, 1, "no supplier may be lost: the code 1/2 needs all of them"),
        (2, 4, 1, "any 1 of the other 3 suppliers may be lost without losing anything"),
    ],
)
def test_a_new_vault_says_what_it_bears(k, n, own, said):
    assert promised(k, n, own)[-1] == said


@pytest.mark.parametrize(
    "words",
    [
        ["patience=3d", "margin=1", "bandwidth=0", "retain=0d", "spread=network"],
        ["patience=90s", "margin=0", "bandwidth=10.0MiB", "retain=14d", "spread=none"],
        ["patience=5h", "margin=2", "bandwidth=1.5KiB", "retain=36h", "spread=host"],
    ],
)
def test_a_policy_is_shown_in_the_words_that_set_it(words):
    told = PolicySaid(k=4, n=7, **parse_policy(words))
    assert [line.split("  ")[0] for line in policy_lines(told)] == words


def test_creating_replacing_and_setting_say_what_is_so(world):
    made = world.run(
        "vault", "create", "--key", world.root / "k3", "--ecc", "2/4", "--space", "200M",
        "--bootstrap", world.addresses[0], "--supplier", world.addresses[6],
    ).stdout  # fmt: skip
    lines = made.splitlines()
    assert lines[1].split()[2:] == [world.addresses[6]]  # it was named: nobody asked what it offers
    assert all(re.search(r"^  [123]  [0-9a-f]{16}  \S+  offers \d+", line) for line in lines[2:5])
    assert "each promises 228.0 MiB: 100.0 MiB for its share" in made
    world.mount()
    told = world.run("vault", "set").stdout
    assert "patience=3d" in told and "margin=1" in told and "bandwidth=0" in told
    assert "margin=0" in world.run("vault", "set", world.mountpoint, "margin=0").stdout
    with open(world.mountpoint / "file", "wb") as file:
        file.write(bytes(range(256)) * (4 * MIB // 256))
    world.run("sync")
    world.wait_until_nothing_is_owed()
    world.start(8)
    told = world.run("supplier", "replace", "3", "--with", world.addresses[7]).stdout
    assert re.search(r"^position 3 has another supplier; \S+ .iB were sent to it$", told, re.M)
    [line] = [x for x in world.run("suppliers").stdout.splitlines() if world.addresses[7] in x]
    assert "  0 B" not in line


class Terminal(io.StringIO):
    """Standard error, as tqdm looks at it."""

    def isatty(self):
        return True


def test_another_count_has_a_rate_of_its_own(monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with progress_bar("verifying", "block") as show:
        show(Progress(done=900, total=0, what="items"))
        show(Progress(done=1, total=8, what="blocks at suppliers, 3.0 MiB/s"))
        show(Progress(done=4, total=8, what="blocks at suppliers, 3.0 MiB/s"))
    last = terminal.getvalue().split("\r")
    assert any("items: 900block" in line for line in last)
    assert any("blocks at suppliers, 3.0 MiB/s:  50%" in line and " 4/8 " in line for line in last)
