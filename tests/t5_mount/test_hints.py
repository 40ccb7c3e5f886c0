"""What a message tells people to type: commands that are there, and are complete as they stand."""

import argparse
import ast
import json
import re
from pathlib import Path

import pytest
from syntax import TREES

from bitdustfs import config
from bitdustfs.cache import keyfile
from bitdustfs.cli.cmd_vault import say_created
from bitdustfs.cli.main import ALL, make_parser
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import Member
from bitdustfs.errors import KeyFileError, UsageError
from bitdustfs.family.create import Founder, Order
from bitdustfs.mount.mountpoint import attached, markers_of, mountpoint_of
from bitdustfs.units import GIB

HINT = re.compile(rf"bitdust ({'|'.join(sorted(ALL))})\b[^;.,()`\"]*")
ENOUGH = {  # prose names these without their words, to say what prints or does something
    "bitdust key 1": "the first line of a key file",
    "bitdust key file": "what such a file is called",
}


def unsaid(tree):
    """Docstrings, and the parts of strings that are looked at as a whole."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield from map(id, node.values)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                yield id(first.value)


def text_of(node):
    """A string of the source; "…" stands for what is put into it."""
    if isinstance(node, ast.JoinedStr):
        parts = (v.value if isinstance(v, ast.Constant) else "…" for v in node.values)
        return "".join(map(str, parts))
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def hints():
    for file, tree in TREES.items():
        if file == "cli/pages.py":  # whose examples test_pages.py parses
            continue
        known = {*unsaid(tree)}
        for node in ast.walk(tree):
            if id(node) not in known and (said := text_of(node)):
                for found in HINT.finditer(said):
                    yield f"{file}:{node.lineno}", found[0]


def needed(words):
    """What the parser of a command still wants: names of arguments that may not be left out."""
    parser = make_parser()
    while words:
        subs = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        if not subs:
            break
        if words[0] not in subs[0].choices:
            return [f"one of {', '.join(subs[0].choices)}"]
        parser, words = subs[0].choices[words[0]], words[1:]
    if any(isinstance(a, argparse._SubParsersAction) for a in parser._actions):
        return ["another word"]
    return [
        (a.option_strings or [a.dest])[-1]
        for a in parser._actions
        if a.required and a.nargs != "*" and not {*words} & {*a.option_strings, a.dest.upper()}
    ]


def test_hints_are_commands_as_they_stand():
    wrong, seen = [], 0
    for where, hint in hints():
        seen += 1
        if any(hint.startswith(start) for start in ENOUGH):
            continue
        missing = needed(hint.split()[1:])
        if missing and not (len(missing) == 1 and "…" in hint):
            wrong.append(f"{where}: {hint!r} lacks {', '.join(missing)}")
    assert seen > 5 and not wrong, "\n".join(wrong)


def test_the_key_that_was_made_is_the_one_whose_words_are_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path))
    key, order = VaultKey(b"k" * 32), Order(2, 4, GIB)
    founders = [
        Founder(Member(bytes([n]) * 32, (f"203.0.113.{n}:4000",), GIB), None if n else 9 * GIB)
        for n in range(4)
    ]
    say_created(key, order, tmp_path / "my keys" / "k3.key", founders)
    said = capsys.readouterr().out
    assert f"bitdust key words --key '{tmp_path}/my keys/k3.key'\n" in said
    assert f"mount.bitdust '{tmp_path}/my keys/k3.key' ~/vault\n" in said
    assert "  0  0000000000000000  203.0.113.0:4000  offers 9.0 GiB\n" in said
    assert "  3  0303030303030303  203.0.113.3:4000\n" in said
    assert "each promises 640.0 MiB: 512.0 MiB for its share of the content, and 128.0 MiB" in said
    assert "any 2 of the 4 suppliers may be lost without losing anything" in said
    say_created(key, order, tmp_path / "keys" / "vault.key", founders)
    said = capsys.readouterr().out
    assert "bitdust key words\n" in said and "mount.bitdust ~/vault\n" in said


def test_a_missing_key_file_is_named_in_the_commands_that_make_it(tmp_path, monkeypatch):
    path = tmp_path / "a key"
    with pytest.raises(KeyFileError, match=f"bitdust key restore --key '{path}'"):
        keyfile.load(path)
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path))
    with pytest.raises(KeyFileError, match=r"bitdust key restore$"):  # what is meant without
        keyfile.load(config.default_key_path())
    path.write_text("bitdust key 1\nzz\nzz\n")
    path.chmod(0o644)
    with pytest.raises(KeyFileError, match=f"chmod 600 '{path}'"):
        keyfile.load(path)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match=f"move it away.*bitdust key restore --key '{path}'"):
        keyfile.load(path)


def test_a_mount_that_is_not_named_is_the_only_one(tmp_path, monkeypatch):
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path))
    with pytest.raises(UsageError, match="no vault is mounted here"):
        mountpoint_of(None)
    run = tmp_path / "run"
    (run / "gone.attached").write_text(str(tmp_path / "gone"))  # its process was killed once
    (run / "one.attached").write_text("/proc")
    (run / "ended.attached").symlink_to(run / "meanwhile")
    assert [marker.name for marker in markers_of(tmp_path / "gone")] == ["gone.attached"]
    assert [str(path) for path in attached()] == ["/proc"] and str(mountpoint_of(None)) == "/proc"
    (run / "killed.attached").write_text("/proc")  # another vault was mounted there before
    assert str(mountpoint_of(None)) == "/proc"
    (run / "three.ending").write_text("/proc")  # killed while it uploaded
    assert {marker.name for marker in markers_of(Path("/proc"))} == {
        "one.attached", "killed.attached", "three.ending",
    }  # fmt: skip
    (run / "two.attached").write_text("/")
    with pytest.raises(UsageError, match="name one of /, /proc"):
        mountpoint_of(None)


def test_what_lies_in_a_mount_names_it(world):
    world.mount()
    (world.mountpoint / "folder").mkdir()
    named = ([world.mountpoint], [world.mountpoint / "folder"], [])
    told = [json.loads(world.run("status", *words, "--json").stdout)["vault"] for words in named]
    assert told[0] == told[1] == told[2] != ""
    world.run("sync")
    assert "no supplier counts as gone" in world.run("supplier", "forgive").stdout
    told = world.run("unmount", world.mountpoint / "folder", check=False)
    assert told.returncode == 2 and f"bitdust unmount {world.mountpoint}" in told.stderr
    assert "is unmounted and published" in world.run("unmount").stdout
    assert "no vault is mounted here" in world.run("status", check=False).stderr
