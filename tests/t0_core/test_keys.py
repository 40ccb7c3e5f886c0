"""Keys: words and back, files, passphrases, derivations, the read-only capability."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitdustfs.cache import keyfile
from bitdustfs.core.keys import VaultKey, sign, verify
from bitdustfs.errors import Forged, KeyFileError

KEY = VaultKey(bytes(range(32)))
FIXED = {
    "vault id": "6534415dc15773eb6521b4c9715a598ba8bd94609d8d5077df14b3f1794944b2",
    "content key": "5f679da1f73d08dc90860615473308840362bc31ee92328e8aa7a227a3344080",
}


@given(st.binary(min_size=32, max_size=32))
def test_words_bring_the_key_back(secret):
    words = keyfile.to_words(VaultKey(secret))
    assert len(words.split()) == 24
    assert keyfile.from_words("  " + words.upper().replace(" ", "\n")).secret == secret


@pytest.mark.parametrize(
    "written",
    [
        lambda w: "\n".join(f"{n}. {word}" for n, word in enumerate(w, 1)),
        lambda w: "\n".join(f"{n:2}) {word[:4]}" for n, word in enumerate(w, 1)),
        lambda w: " ".join(word[:4].upper() for word in w),
        ", ".join,
        lambda w: "\r\n".join(" ".join(w[at : at + 6]) for at in range(0, 24, 6)),
    ],
    ids=["numbered", "numbered and short", "four letters", "commas", "lines"],
)
def test_words_may_be_written_as_people_write_them(written):
    for number in range(20):
        key = VaultKey(bytes([number * 12] * 31 + [number]))
        text = written(keyfile.to_words(key).split())
        assert keyfile.from_words(text) == key and keyfile.count_words(text) == 24


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda w: w[:-1], "24 words; these are 23"),
        (lambda w: [*w[:2], "bitdustt", *w[3:]], "word 3, 'bitdustt', is not in the word list"),
        (lambda w: [*w[:23], "aban don"], "these are 25"),
        (lambda w: [w[1], w[0], *w[2:]], "do not fit together"),
    ],
)
def test_wrong_words_get_a_sentence(change, told):
    words = keyfile.to_words(KEY).split()
    with pytest.raises(KeyFileError, match=told):
        keyfile.from_words(" ".join(change(words)))


def test_a_key_file_is_private_and_comes_back(tmp_path):
    path = tmp_path / "keys" / "vault.key"
    keyfile.save(path, KEY)
    assert path.stat().st_mode & 0o777 == 0o600
    assert keyfile.load(path) == KEY


def test_a_passphrase_locks_the_file(tmp_path):
    path = tmp_path / "vault.key"
    keyfile.save(path, KEY, "correct horse")
    assert KEY.secret.hex() not in path.read_text()
    assert keyfile.load(path, lambda: "correct horse") == KEY
    with pytest.raises(KeyFileError, match="wrong passphrase"):
        keyfile.load(path, lambda: "wrong")
    with pytest.raises(KeyFileError, match="locked"):
        keyfile.load(path)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff\xfe", b"bitdust key 1\nzz\nzz\n"])
def test_a_damaged_key_file_gets_a_sentence(tmp_path, content):
    path = tmp_path / "vault.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError):
        keyfile.load(path)


def test_missing_open_and_flipped_key_files_get_a_sentence(tmp_path):
    path = tmp_path / "vault.key"
    with pytest.raises(KeyFileError, match="key restore"):
        keyfile.load(path)
    keyfile.save(path, KEY)
    text = path.read_text()
    path.write_text(text.replace(text[20], "f" if text[20] != "f" else "e", 1))
    with pytest.raises(KeyFileError, match="damaged"):
        keyfile.load(path)
    path.write_text(text)
    os.chmod(path, 0o644)
    with pytest.raises(KeyFileError, match="chmod 600"):
        keyfile.load(path)


def test_every_derived_secret_is_its_own():
    secrets = [
        KEY.signing.encode(),
        KEY.record.encode(),
        KEY.cache_key,
        KEY.name_key,
        KEY.read_secret(0),
        KEY.read_secret(1),
        KEY.capability().content_key,
        KEY.capability().record_seal_key,
    ]
    assert len(set(secrets)) == len(secrets)
    assert repr(KEY).count(KEY.secret.hex()) == 0


def test_derivations_of_format_1_never_change():
    assert KEY.vault_id.hex() == FIXED["vault id"]
    assert KEY.capability().content_key.hex() == FIXED["content key"]


def test_a_signature_is_for_one_kind_and_one_body():
    signature = sign(KEY.signing, "root", b"body")
    verify(KEY.vault_id, "root", b"body", signature)
    for kind, body in (("family", b"body"), ("root", b"bodY")):
        with pytest.raises(Forged):
            verify(KEY.vault_id, kind, body, signature)
