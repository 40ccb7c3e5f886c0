"""What others wrote is shown and logged on one line, with nothing that a terminal obeys."""

import io
import logging
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdustfs.plain import (
    TEXT_MAX,
    JournalFormatter,
    PlainFormatter,
    plain,
    say,
    to_journal,
    told,
)

NASTY = "\x1b[2J\x1b]0;owned\x07all is well\r\n2026-01-01 ERROR forged\x85\u2028\u202e\ud800\x9b31m"


@given(st.text() | st.text(alphabet=NASTY) | st.binary().map(os.fsdecode))
def test_everything_is_printable_and_what_was_so_stays(text):
    cleaned = plain(text)
    written = os.fsencode(cleaned).decode(errors="replace")
    assert written.replace("\ufffd", "").isprintable(), "what a terminal gets"
    if text.isprintable():
        assert cleaned == text


def test_letters_of_all_languages_stay():
    assert plain("Фотографии - 写真 - ünï") == "Фотографии - 写真 - ünï"
    assert plain(NASTY).startswith("\\x1b[2J\\x1b]0;owned\\x07all is well\\r\\n2026")


def test_a_path_that_is_not_utf8_comes_out_as_its_bytes_but_for_those_that_terminals_obey():
    said = plain(os.fsdecode(b"/caf\xe9/\x9b31m/\x1b"))
    assert os.fsencode(said) == b"/caf\xe9/\\udc9b31m/\\x1b"


def test_what_a_peer_says_is_cut():
    assert len(told("x" * 10_000)) == TEXT_MAX


def test_a_command_says_one_line(capsys):
    say(f"supplier {NASTY}")
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and out.rstrip("\n").isprintable()


@pytest.mark.parametrize("how", ["message", "argument", "exception"])
def test_a_record_of_a_log_is_one_line_and_no_traceback_forges_one(how):
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(PlainFormatter("RECORD %(message)s"))
    log = logging.Logger("a log of its own")
    log.addHandler(handler)
    forged = f"{NASTY}\nRECORD forged"
    if how == "message":
        log.warning(forged)
    elif how == "argument":
        log.warning("%s", forged)
    else:
        try:
            raise ValueError(forged)
        except ValueError:
            log.exception("a bug")
    first, *others = stream.getvalue().rstrip("\n").split("\n")
    assert first.startswith("RECORD ") and first.isprintable()
    assert all(line.startswith("    ") and line.isprintable() for line in others)
    assert bool(others) is (how == "exception")


def test_the_journal_reads_the_level_of_each_line(tmp_path, monkeypatch):
    with (tmp_path / "stream").open("w") as stream:
        there = os.fstat(stream.fileno())
        monkeypatch.setattr(os, "fstat", lambda fd: there)
        assert not to_journal()
        monkeypatch.setenv("JOURNAL_STREAM", f"{there.st_dev}:{there.st_ino}")
        assert to_journal()
    try:
        raise ValueError("x\ny")
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "f", 1, "bro\nken", None, sys.exc_info())
    first, *rest = JournalFormatter("%(name)s: %(message)s").format(record).split("\n")
    assert first == "<3>a: bro\\nken" and rest and all(line.startswith("<3>") for line in rest)
