"""`bitdust setup`: from an empty home to what can be started, asked or by options alone."""

import os
import pty
import random
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from bitdustfs.cache import keyfile
from bitdustfs.cli.main import main
from bitdustfs.config import unfounded_path
from bitdustfs.supplier.offering import last_offering
from bitdustfs.system import beginning
from bitdustfs.units import GIB, MIB

LIMIT = 60
WORDS = " ".join(["abandon"] * 23 + ["art"])


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "home"


def test_words_are_asked_at_random_and_four_letters_do(tmp_path):
    asked = {tuple(beginning.asked_back(rng=random.Random(seed))) for seed in range(20)}
    assert len(asked) > 10 and all(len(set(each)) == 3 for each in asked)
    assert {number for each in asked for number in each} <= set(range(1, 25))
    key = keyfile.from_words(WORDS)
    assert beginning.is_word(key, 1, " Abandon\n") and beginning.is_word(key, 1, "aban")
    assert beginning.is_word(key, 24, "art")
    for wrong in ("", "a", "abandonx", "art"):
        assert not beginning.is_word(key, 1, wrong)


@pytest.mark.parametrize(("free", "proposed"), [(3, 0), (9, 2), (4000, 100)])
def test_what_is_proposed_is_a_part_of_what_is_free(free, proposed, tmp_path, monkeypatch):
    told = SimpleNamespace(free=free * GIB)
    monkeypatch.setattr(beginning.shutil, "disk_usage", lambda path: told)
    assert beginning.proposed_donation(tmp_path / "not" / "there") == proposed * GIB


def test_scripts_need_no_terminal_and_what_is_there_stays(home, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115 pytest closes it
    words = ["setup", "--yes", "--new", "--words-later", "--no-install"]
    words += ["--listen", "127.0.0.1:4100"]
    assert main([*words, "--donate", "20M", "--mount", str(tmp_path / "my vault")]) == 0
    said = capsys.readouterr().out
    assert f"bitdust supplier run --dir {home}/shelf --space {20 * MIB}" in said
    assert "bitdust doctor" in said and (tmp_path / "my vault").is_dir()
    key = keyfile.load(home / "keys" / "vault.key")
    assert unfounded_path(key.vault_id).exists()
    assert last_offering(home / "shelf").space == 20 * MIB
    assert main(["setup", "--yes", "--no-install"]) == 0
    said = capsys.readouterr().out
    assert "there is a key already" in said and "a supplier already, of 20.0 MiB" in said
    assert keyfile.load(home / "keys" / "vault.key").secret == key.secret
    assert main(["mount", str(tmp_path / "my vault")]) == 2
    assert "bitdust vault create makes it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--new", "--yes"], "--words-later"),
        ([], "say --new or --restore"),
        (["--new", "--words-later"], "say --donate"),
        (["--new", "--words-later", "--donate", "0"], "say --mount"),
        (["--yes", "--new", "--words-later", "--donate", "9000T"], "room for"),
        (["--yes", "--new", "--words-later", "--listen", "localhost:4100"], "0.0.0.0"),
    ],
)
def test_what_nobody_can_be_asked_is_named_as_an_option(words, said, home, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115 pytest closes it
    assert main(["setup", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_mount_with_nothing_set_up_says_what_to_run(home, tmp_path, capsys):
    (tmp_path / "vault").mkdir()
    assert main(["mount", str(tmp_path / "vault")]) == 2
    assert "run bitdust setup" in capsys.readouterr().err


class Person:
    """Types at a terminal what the questions are to be answered with."""

    def __init__(self, home, *words):
        self.ours, theirs = pty.openpty()
        self.heard = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bitdustfs.cli.main", "setup", *words], stdin=theirs,
            stdout=theirs, stderr=theirs, env={**os.environ, "BITDUST_HOME": str(home)},
        )  # fmt: skip
        os.close(theirs)

    def hear(self, pattern):
        """Reads until it is said; the match. What was heard before it is over."""
        deadline = time.monotonic() + LIMIT
        while not (found := re.search(pattern, self.heard)):
            assert time.monotonic() < deadline, self.heard
            try:
                self.heard += os.read(self.ours, 65536).decode()
            except OSError:
                pytest.fail(f"it ended: {self.heard}")
        self.heard = self.heard[found.end() :]
        return found

    def type(self, text):
        os.write(self.ours, f"{text}\n".encode())

    def end(self):
        try:
            while more := os.read(self.ours, 65536):
                self.heard += more.decode()
        except OSError:
            pass  # how Linux says that nobody has the terminal any more
        os.close(self.ours)
        return self.process.wait(LIMIT)


def test_a_person_is_guided_and_asked_for_three_words(home, tmp_path):
    person = Person(home)
    person.hear(r"24 words of a vault already\? \[y/N\] ")
    person.type("")
    person.hear("Write them down on paper:")
    words = person.hear(r"(?s).*\b24 [a-z]+").group()
    words = re.findall(r"\d+ ([a-z]+)", words)
    assert len(words) == 24
    first = int(person.hear(r"Word (\d+): ").group(1))
    person.type("wrong")
    person.hear(f"that is not word {first}")
    assert int(person.hear(r"Word (\d+): ").group(1)) == first
    person.type(words[first - 1])
    for _ in range(2):
        number = int(person.hear(r"Word (\d+): ").group(1))
        person.type(words[number - 1][:4])
    person.hear("good: keep the paper")
    person.hear(r"for others\? 0: none \[.*\] ")
    person.type("0")
    person.hear(r"mounted\? \[.*\] ")
    person.type("~/mine")
    person.hear("What comes next:")
    assert person.end() == 0 and (tmp_path / "mine").is_dir()
    assert keyfile.to_words(keyfile.load(home / "keys" / "vault.key")).split() == words


def test_a_vault_is_made_with_the_key_of_setup_and_mounted(world, tmp_path, monkeypatch):
    """The same key for `setup` with an address, and for `vault create` after it."""
    home = tmp_path / "newcomer"
    common = ["setup", "--yes", "--new", "--words-later", "--donate", "0", "--no-install"]
    said = world.run(
        *common, "--bootstrap", world.addresses[0], "--ecc", "2/4", "--space", "100M",
        "--mount", world.mountpoint, home=home,
    ).stdout  # fmt: skip
    assert "of 100.0 MiB on 4 suppliers" in said and f"mount.bitdust {world.mountpoint}" in said
    world.run("mount", world.mountpoint, home=home)
    (world.mountpoint / "file").write_text("first")
    world.run("unmount", world.mountpoint, home=home)
    again = world.run("vault", "create", "--bootstrap", world.addresses[0], home=home, check=False)
    assert again.returncode == 2 and "exists already" in again.stderr
    later = tmp_path / "later"
    world.run(*common, "--mount", world.mountpoint, home=later)
    key = (later / "keys" / "vault.key").read_text()
    world.run(
        "vault", "create", "--ecc", "1/2", "--space", "100M", "--bootstrap", world.addresses[0],
        home=later,
    )  # fmt: skip
    assert (later / "keys" / "vault.key").read_text() == key
    assert not list(later.glob("unfounded-*"))


def test_words_restore_a_key_and_say_how_to_mount(world, tmp_path):
    words = world.run("key", "words").stdout
    said = world.run(
        "setup", "--yes", "--restore", "--donate", "0", "--bootstrap", world.addresses[0],
        "--mount", world.mountpoint, home=tmp_path / "another", stdin=words,
    ).stdout  # fmt: skip
    line = f"mount.bitdust {world.mountpoint} -o bootstrap={world.addresses[0]}"
    assert line in said
    world.run(*line.replace("mount.bitdust", "mount").split(), home=tmp_path / "another")
    assert os.path.ismount(world.mountpoint)
    world.run("unmount", home=tmp_path / "another")
