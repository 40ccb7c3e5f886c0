"""Every command has examples that parse, and says after Ctrl-C what goes on. Codes, colours."""

import argparse
import io
import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import json_page
import pytest
import trio

from bitdustfs.cli.answering import meant
from bitdustfs.cli.exit_codes import Exit, table
from bitdustfs.cli.main import main, make_parser, mount_main, run
from bitdustfs.cli.named import say_verdict
from bitdustfs.cli.pages import PAGES, interrupted
from bitdustfs.errors import UsageError
from bitdustfs.mount.commands import MOUNT_COMMANDS
from bitdustfs.mount.mountpoint import socket_path
from bitdustfs.mount.statements import GoneLine, GoneSuppliers, PolicySaid, Synced
from bitdustfs.net import listening
from bitdustfs.plain import say

ROOT, LIMIT = Path(__file__).parents[2], 60


def commands(parser, name=""):
    """The parsers of all commands, by name."""
    subs = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not subs:
        return {name.strip(): parser}
    found = {}
    for word, made in subs[0].choices.items():
        found |= commands(made, f"{name} {word}")
    return found


def test_every_command_has_a_page_and_every_page_a_command():
    assert set(commands(make_parser())) == set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_examples_are_commands_and_stand_in_the_help(name, capsys):
    with pytest.raises(SystemExit):
        main([*name.split(), "--help"])
    said = capsys.readouterr().out
    assert (f"nothing undoes it: {PAGES[name].final}" in said) is bool(PAGES[name].final)
    for example in PAGES[name].examples:
        assert f"  {example}\n" in said
        program, *words = shlex.split(re.split(" [<>] ", example)[0])
        args = make_parser().parse_args(words)
        assert program == "bitdust" and args.name == name


def test_what_nothing_undoes_asks_unless_yes_is_said():
    asks = {name for name, parser in commands(make_parser()).items() if "--yes" in options(parser)}
    others = {"setup", "vault rewind"}  # which another rewinding undoes
    assert asks - others == {name for name, page in PAGES.items() if page.final}


def options(parser):
    return {word for action in parser._actions for word in action.option_strings}


@pytest.mark.parametrize(
    ("typed", "is_meant"), [("leave\n", True), (" Leave \n", True), ("yes\n", False)]
)
def test_one_word_is_taken_for_an_answer(typed, is_meant, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
    assert meant(False, "This ends it.", "leave") is is_meant
    asked = capsys.readouterr()
    assert asked.out == "" and asked.err.startswith("This ends it.\nType leave to go on:\n")
    assert ("nothing was changed" in asked.err) is not is_meant
    with pytest.raises(UsageError, match="--yes"):
        meant(False, "This ends it.", "leave")  # nobody is there any more
    assert meant(True, "This ends it.", "leave")


def test_the_readme_has_the_table_of_exit_codes():
    assert table() in (ROOT / "README.md").read_text()
    assert f"| {Exit.FAULTS.value} | verify, doctor, status --check" in table()


@pytest.mark.parametrize("words", [[], ["--wrong"], ["a", "b", "c"], ["-o", "wrong", "/proc"]])
def test_a_wrong_word_is_1_for_who_is_called_by_mount(words, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path))
    assert mount_main(words) == 1 and capsys.readouterr().err


@pytest.mark.parametrize("in_a_task", [False, True])
def test_what_goes_on_is_said_where_a_command_is_interrupted(in_a_task, capsys):
    def stopped(args):
        stop = KeyboardInterrupt()
        raise BaseExceptionGroup("tasks", [stop]) if in_a_task else stop

    assert run(stopped, argparse.Namespace(name="sync")) == 130
    assert "kept here, and the mount goes on by itself" in capsys.readouterr().err
    assert interrupted("no such") == "interrupted"


def test_ctrl_c_ends_a_command_with_a_sentence(tmp_path):
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "bitdustfs.cli.main", "key", "restore"], stdin=theirs,
        env={**os.environ, "BITDUST_HOME": str(tmp_path)}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert "Type the 24 words" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=LIMIT)
    os.close(ours)
    os.close(theirs)
    assert process.returncode == 130 and said == "interrupted; nothing was changed\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        ("safe: everything is on 4 of 4 suppliers", 32),
        ("NOT safe yet: 60 MiB only here", 33),
        ("published: you cannot lose one more", 33),
        ("NOT safe: 60 MiB only here", 31),
        ("published, but NOT readable right now", 31),
    ],
)
def test_a_verdict_has_a_colour_on_a_terminal(verdict, code, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", shown := Terminal())
    say_verdict(verdict)
    assert shown.getvalue() == f"\x1b[{code}m{verdict}\x1b[0m\n"


@pytest.mark.parametrize(
    ("stream", "variables"),
    [(io.StringIO, {}), (Terminal, {"NO_COLOR": "1"}), (Terminal, {"TERM": "dumb"})],
)
def test_nothing_else_has_colours(stream, variables, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    say("safe", to=(shown := stream()), tone="good")
    assert shown.getvalue() == "safe\n"


def test_the_page_of_json_is_that_of_the_statements():
    assert json_page.PAGE.read_text() == json_page.page(), "run python tests/json_page.py"


@pytest.mark.parametrize(
    ("words", "statement", "shown"),
    [
        (["sync"], Synced(said="all is published"), "said"),
        (["vault", "set"], PolicySaid(k=1, n=2, patience=9, margin=1, bandwidth=0, spread=2), "k"),
        (["supplier", "forgive"], GoneSuppliers(suppliers=[GoneLine(node="a", why="")]), "why"),
    ],
)  # fmt: skip
def test_programs_get_json(words, statement, shown, tmp_path, monkeypatch, capsys):
    """From a mount that is only a socket."""
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path))

    async def answer(command, say):
        return statement

    async def asked():
        async with trio.open_nursery() as nursery:
            await nursery.start(listening.serve, socket_path(tmp_path), MOUNT_COMMANDS, answer)
            done = await trio.to_thread.run_sync(main, [*words, str(tmp_path), "--json"])
            nursery.cancel_scope.cancel()
        return done

    assert trio.run(asked) == 0
    said = json.loads(capsys.readouterr().out)
    assert shown in (said[0] if isinstance(said, list) else said)


#: what each shell is told to complete `bitdust snapshot sch`, with the script in the folder $1
COMPLETING = {
    "bash": """source "$1/script"
        function=$(complete -p bitdust | sed -n 's/.*-F \\([^ ]*\\) .*/\\1/p')
        COMP_WORDS=(bitdust snapshot sch) COMP_CWORD=2; $function bitdust sch snapshot
        printf '%s\\n' "${COMPREPLY[@]}" """,
    "fish": "source $argv[1]/script; complete -C 'bitdust snapshot sch'",
    "zsh": """zmodload zsh/zpty; zpty shell zsh -f -i
        zpty -w shell "cp $1/script $1/_bitdust; fpath=($1 \\$fpath); PS1=; autoload -Uz compinit"
        zpty -w shell "compinit -u -d $1/dump; echo rea''dy"; zpty -r shell seen '*ready*'
        zpty -n -w shell $'bitdust snapshot sch\\t'; zpty -r shell seen '*schedule*'
        print -r - $seen""",
}


@pytest.mark.parametrize("shell", COMPLETING)
def test_a_shell_that_loaded_the_completion_completes(shell, tmp_path, capsys):
    if not shutil.which(shell):
        pytest.skip(f"this machine has no {shell}")
    assert main(["completion", shell]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    words = [shell, "-c", COMPLETING[shell], *([] if shell == "fish" else ["-"]), tmp_path]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=LIMIT, check=False,
        env={**os.environ, "HOME": str(tmp_path), "TERM": "dumb"},
    )  # fmt: skip
    assert done.returncode == 0 and "schedule" in done.stdout, done


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_load_and_know_the_commands(shell, tmp_path, capsys):
    assert main(["completion", shell]) == 0
    script = tmp_path / "script"
    script.write_text(said := capsys.readouterr().out)
    assert "refound" in said and "json" in said and "\\t" not in said  # no tab was made visible
    if not shutil.which(shell):
        pytest.skip(f"this machine has no {shell}")
    done = subprocess.run(
        [shell, "-n", script], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0 and not done.stderr, done


def test_man_pages_render_without_warnings(tmp_path, capsys):
    assert main(["manual", str(tmp_path)]) == 0
    pages = {path.name: path for path in tmp_path.glob("man*/*")}
    assert {f"bitdust-{name.replace(' ', '-')}.1" for name in PAGES} < set(pages)
    assert {"bitdust.1", "mount.bitdust.8"} < set(pages)
    assert "bitdust status ~/vault \\-\\-json" in pages["bitdust-status.1"].read_text()
    if not shutil.which("groff"):
        pytest.skip("this machine has no groff")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", *pages.values()],
        capture_output=True, text=True, timeout=LIMIT, check=True,
    )  # fmt: skip
    assert done.stderr == "" and "supplier replace 3" in done.stdout
