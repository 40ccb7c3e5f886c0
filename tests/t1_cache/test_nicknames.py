"""Names beside keys: given, shown, kept on this machine alone, and harmless."""

import json

import pytest

from bitdustfs.cache.machine import machine_id
from bitdustfs.cache.nicknames import NAME_MAX, NAMES_MAX, Nicknames
from bitdustfs.cli.main import main
from bitdustfs.errors import LocalError, UsageError

ANNA, BERT = "a" * 64, "ab" * 32


@pytest.fixture
def names(tmp_path):
    made = Nicknames(tmp_path / "names")
    made.give(ANNA, "Anna's cellar")
    made.give(BERT, "Bert")
    return made


def test_a_key_that_is_shown_has_its_name(names, tmp_path):
    names = Nicknames(tmp_path / "names")  # as the next command reads them
    assert names.of(ANNA) == names.of(ANNA[:16]) == "Anna's cellar"
    said = names.dress(f"supplier {BERT[:16]} at 192.0.2.1:4000 is gone, machine {ANNA[:8]} is not")
    assert said == (
        f"supplier Bert ({BERT[:16]}) at 192.0.2.1:4000 is gone, "
        f"machine Anna's cellar ({ANNA[:8]}) is not"
    )
    assert names.dress("block 00112233445566778899 is lost") == "block 00112233445566778899 is lost"
    names.give(BERT, "")
    assert Nicknames(tmp_path / "names").of(BERT) == ""


def test_how_two_keys_begin_is_nobodys_name(names):
    names.give("c" * 20 + "0" * 44, "one")
    names.give("c" * 20 + "1" * 44, "two")
    assert names.of("c" * 16) == "" and names.of("c" * 20 + "1" * 4) == "two"


@pytest.mark.parametrize(
    "wrong", ["x" * (NAME_MAX + 1), "a\nb", "\x1b[31m", " a", "12", "deadbeef", "Anna's cellar"]
)
def test_a_name_is_a_name_and_one_keys(names, wrong, tmp_path):
    with pytest.raises(UsageError):
        names.give(BERT, wrong)
    assert Nicknames(tmp_path / "names").of(BERT) == "Bert"


def test_a_file_that_somebody_edited_is_read_as_far_as_it_goes(tmp_path):
    path = tmp_path / "names"
    path.write_bytes(b"garbage\n\xff\xfe\n" + f"{ANNA} \x1b[31m\n{BERT} Bert\n".encode())
    assert Nicknames(path).all() == {BERT: "Bert"}
    path.write_text("".join(f"{n:064x} n{n}\n" for n in range(NAMES_MAX)))
    with pytest.raises(UsageError, match="already"):
        Nicknames(path).give(ANNA, "Anna")


def test_what_cannot_be_read_is_not_replaced(tmp_path, monkeypatch, capsys):
    path = tmp_path / "names"
    path.symlink_to(path)  # not even root can read it
    names = Nicknames(path)
    assert names.dress(BERT) == BERT and names.of(BERT) == ""  # other commands show keys
    for wants in (names.all, lambda: names.key_of("Bert"), lambda: names.give(BERT, "Bert")):
        with pytest.raises(LocalError, match="cannot be read"):
            wants()
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path))
    assert main(["name", BERT, "Bert"]) == 1 and "cannot be read" in capsys.readouterr().err
    assert path.is_symlink()


def test_what_merely_looks_like_a_position_is_none(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path))
    for word in ("²", "٣"):
        assert main(["name", word]) == 2
        assert f"{word} names nothing" in capsys.readouterr().err


def test_names_are_given_and_listed_by_a_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path))
    assert main(["name", ANNA, "Anna"]) == 0
    assert main(["name", machine_id().hex(), "laptop"]) == 0
    assert main(["name"]) == 0
    listed = capsys.readouterr().out
    assert f"Anna  {ANNA}\n" in listed
    assert f"laptop  {machine_id().hex()}  (this machine)\n" in listed
    assert main(["name", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"key": ANNA, "name": "Anna", "here": False},
        {"key": machine_id().hex(), "name": "laptop", "here": True},
    ]
    assert main(["name", "Anna", "--forget"]) == 0
    assert main(["name", "nobody", "x"]) == 2
    assert (tmp_path / "names").read_text() == f"{machine_id().hex()} laptop\n"
