"""Words and passphrases come from a terminal, a descriptor, a credential or standard input."""

import io
import os
import pty
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from bitdustfs.cache import keyfile
from bitdustfs.cli.main import main
from bitdustfs.cli.passphrases import LINE_MAX, ask_passphrase, read_words
from bitdustfs.core.keys import VaultKey
from bitdustfs.errors import UsageError

KEY, LIMIT = VaultKey(bytes(range(32))), 60


@pytest.fixture
def nowhere(monkeypatch):
    """No terminal, and nothing that names another place."""
    for name in ("BITDUST_PASSPHRASE_FD", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO("of the input\nmore\n"))


def test_a_passphrase_comes_from_where_a_service_has_it(nowhere, tmp_path, monkeypatch):
    assert ask_passphrase() == "of the input"
    (tmp_path / "bitdust-passphrase").write_text("of the credential\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert ask_passphrase() == "of the credential"
    reads, writes = os.pipe()
    os.write(writes, b"of the descriptor\r\nmore")
    os.close(writes)
    monkeypatch.setenv("BITDUST_PASSPHRASE_FD", str(reads))
    assert ask_passphrase() == "of the descriptor"
    with pytest.raises(OSError, match="Bad file"):  # a mount's process would keep it
        os.close(reads)
    for wrong in (str(reads), "three"):
        monkeypatch.setenv("BITDUST_PASSPHRASE_FD", wrong)
        with pytest.raises(UsageError, match="no passphrase can be read"):
            ask_passphrase()


def descriptor(monkeypatch, data):
    """Has `data`; what is more than a pipe takes is written by a thread."""
    reads, writes = os.pipe()

    def write():
        with os.fdopen(writes, "wb", buffering=0) as pipe, suppress(BrokenPipeError):
            for at in range(0, len(data), 7):
                pipe.write(data[at : at + 7])

    threading.Thread(target=write).start()
    monkeypatch.setenv("BITDUST_PASSPHRASE_FD", str(reads))
    return reads


def test_a_descriptor_has_a_line_for_each_passphrase(nowhere, tmp_path, monkeypatch):
    """As they come in pieces: half a one would lock the key for ever."""
    path, old, new = tmp_path / "vault.key", "of many pieces " * 9, "a longer one " * 99
    keyfile.save(path, KEY, old)
    descriptor(monkeypatch, f"{old}\n{new}\nmore\n".encode())
    assert main(["key", "protect", "--key", str(path)]) == 0
    assert keyfile.load(path, lambda: new) == KEY
    descriptor(monkeypatch, f"{new}\n".encode())
    assert main(["key", "protect", "--key", str(path)]) == 2  # there is no second line
    assert keyfile.load(path, lambda: new) == KEY


def test_a_passphrase_is_bytes_of_any_encoding(nowhere, tmp_path, monkeypatch):
    path, old = tmp_path / "vault.key", "Schl\xfcssel".encode("latin-1")
    keyfile.save(path, KEY, old.decode(errors="surrogateescape"))
    descriptor(monkeypatch, old)
    assert ask_passphrase() == old.decode(errors="surrogateescape")
    monkeypatch.delenv("BITDUST_PASSPHRASE_FD")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(old + b"\n"), "utf-8"))
    assert main(["key", "show", "--key", str(path)]) == 0


def test_what_is_too_long_is_refused_and_not_cut(nowhere, tmp_path, monkeypatch):
    descriptor(monkeypatch, b"x" * LINE_MAX)
    assert len(ask_passphrase()) == LINE_MAX
    descriptor(monkeypatch, b"x" * (LINE_MAX + 1))
    with pytest.raises(UsageError, match="at most 4096"):
        ask_passphrase()
    monkeypatch.delenv("BITDUST_PASSPHRASE_FD")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "bitdust-passphrase").write_bytes(b"x" * (LINE_MAX + 1))
    with pytest.raises(UsageError, match="at most 4096"):
        ask_passphrase()


def test_the_last_word_ends_the_words():
    words = keyfile.to_words(KEY).split()
    lines = iter([f"{' '.join(words[:12])}\n", "\n", f"{' '.join(words[12:])}\n", "not read\n"])
    assert len(read_words(lines).split()) == 12  # an empty line ends what is not whole
    lines = iter([f"{n}. {word}\n" for n, word in enumerate(words, 1)] + ["not read\n"])
    assert keyfile.from_words(read_words(lines)) == KEY and next(lines) == "not read\n"


def test_at_a_terminal_enter_is_the_end(tmp_path):
    """No Ctrl-D: the command ends by itself behind the last word."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "bitdustfs.cli.main", "key", "restore"], stdin=theirs,
        env={**os.environ, "BITDUST_HOME": str(tmp_path)}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        for word in keyfile.to_words(KEY).split():
            os.write(ours, f"{word[:4]}\n".encode())
        said, asked = process.communicate(timeout=LIMIT)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 0 and "in one line or several" in asked
    assert "key file written" in said
    assert keyfile.load(tmp_path / "keys" / "vault.key") == KEY


def test_a_locked_key_opens_without_a_terminal(tmp_path):
    path = tmp_path / "vault.key"
    keyfile.save(path, KEY, "correct horse")
    reads, writes = os.pipe()
    os.write(writes, b"correct horse\n")
    os.close(writes)
    done = subprocess.run(
        [sys.executable, "-m", "bitdustfs.cli.main", "key", "show", "--key", path],
        env={**os.environ, "BITDUST_PASSPHRASE_FD": str(reads), "BITDUST_HOME": str(tmp_path)},
        pass_fds=[reads], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=LIMIT, check=False,
    )  # fmt: skip
    os.close(reads)
    assert done.stdout == f"{KEY.vault_id.hex()}\n", done.stderr
