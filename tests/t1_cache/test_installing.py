"""`bitdust install` writes units that systemd takes, and uninstall takes away what it wrote."""

import os
import pwd
import shlex
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from bitdustfs.cli.main import main
from bitdustfs.errors import LocalError, UsageError
from bitdustfs.net import notify
from bitdustfs.supplier.offering import Offering, remember
from bitdustfs.system.installing import Artifact, Installed
from bitdustfs.system.unitfiles import Service, escaped, mount_unit, supplier_unit

LIMIT = 60
GIB = 1 << 30
#: what `systemd-analyze security` may say at most, of ten; a mount as a user hardly can be caged
EXPOSED = {"supplier": 2.0, "mount as root": 4.7, "mount as a user": 7.5}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("BITDUST_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def analyze(tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("this machine has no systemd-analyze")

    def run(*words):
        return subprocess.run(
            ["systemd-analyze", *map(str, words)], capture_output=True, text=True, timeout=LIMIT,
            env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}, check=False,
        )  # fmt: skip

    return run


def service(tmp_path, user="", folder="my 100% vault", **more):
    where = tmp_path / folder
    where.mkdir(exist_ok=True)
    return Service(["/bin/true", str(where), "a$b", '"quoted"\\'], tmp_path, where, user, **more)


def user_name():
    return next(a.pw_name for a in pwd.getpwall() if a.pw_uid and Path(a.pw_dir).is_absolute())


@pytest.mark.parametrize("make", [mount_unit, supplier_unit])
@pytest.mark.parametrize("user", ["", "root", "somebody"])
def test_systemd_finds_no_fault_with_a_unit(make, user, tmp_path, analyze):
    made = service(tmp_path, user_name() if user == "somebody" else user)
    unit = tmp_path / f"bitdust-{escaped(made.folder)}.service"
    unit.write_text(make(made))
    scope = [] if user else ["--user"]
    done = analyze("verify", *scope, "--man=no", "--generators=no", unit)
    said = [line for line in done.stderr.splitlines() if unit.name in line]
    if not user and "Failed to" in done.stderr:
        pytest.skip(f"no user manager can be asked here: {done.stderr.strip()}")
    assert done.returncode == 0 and not said, done.stderr


@pytest.mark.parametrize(
    ("kind", "make", "user"),
    [
        ("supplier", supplier_unit, "somebody"),
        ("mount as root", mount_unit, "root"),
        ("mount as a user", mount_unit, "somebody"),
    ],
)
def test_units_are_hardened(kind, make, user, tmp_path, analyze):
    made = service(tmp_path, user_name() if user == "somebody" else user)
    unit = tmp_path / "bitdust-x.service"
    unit.write_text(make(made))
    most = int(10 * EXPOSED[kind])
    done = analyze("security", "--offline=true", f"--threshold={most}", "--no-pager", unit)
    if "nrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze cannot judge a unit that is not loaded")
    assert done.returncode == 0, done.stdout[-300:] + done.stderr


def test_a_mount_has_nothing_that_hides_it_or_keeps_fusermount_from_root(tmp_path):
    """Each of these gives the unit a mount namespace, or implies NoNewPrivileges."""
    hides = ("Protect", "Private", "ReadOnly", "ReadWrite", "InaccessiblePaths", "RootDirectory")
    for user in ("", "root", "anna"):
        settings = [
            line.partition("=")[0] for line in mount_unit(service(tmp_path, user)).split("\n")
        ]
        assert not [name for name in settings if name.startswith(hides)], user
        tied = [name for name in settings if name.startswith(("SystemCall", "Restrict", "NoNew"))
                and name != "RestartPreventExitStatus"]  # fmt: skip
        assert bool(tied) is (user == "root")


def test_names_of_units_are_those_of_systemd(tmp_path):
    for path in ("/home/.a b/ü.x-y/", "/", "/.hidden", "/a//b\\c"):
        if shutil.which("systemd-escape"):
            told = subprocess.run(
                ["systemd-escape", "--path", path], capture_output=True, text=True, check=True
            )
            assert escaped(Path(path)) == told.stdout.strip()
    assert escaped(Path("/srv/a-b")) == "srv-a\\x2db"


def test_what_was_written_goes_and_nothing_else(home, tmp_path):
    place = tmp_path / "new" / "folder"
    pieces = [
        Artifact(place / "unit", "text\n"),
        Artifact(place / "more" / "link", target="../unit"),
    ]
    installed = Installed()
    installed.install(installed.check(pieces))
    assert (place / "more" / "link").read_text() == "text\n"
    assert Installed().check(pieces) == []
    changed = [Artifact(place / "unit", "newer\n"), pieces[1]]
    again = Installed()
    again.install(again.check(changed))
    assert (place / "unit").read_text() == "newer\n"
    (place / "own").touch()
    last = Installed()
    assert last.ours() == [place / "unit", place / "more" / "link"] and not last.changed()
    last.remove()
    assert sorted(p.name for p in place.iterdir()) == ["own"] and not list(home.glob("installed*"))


def test_what_others_wrote_is_not_replaced_and_not_removed(home, tmp_path):
    unit = Artifact(tmp_path / "unit", "ours\n")
    unit.path.write_text("theirs\n")
    with pytest.raises(UsageError, match="was not written by bitdust install"):
        Installed().check([unit])
    unit.path.unlink()
    Installed().install([unit])
    unit.path.write_text("edited\n")
    with pytest.raises(UsageError):
        Installed().check([unit])
    installed = Installed()
    assert installed.changed() == [unit.path] and installed.ours() == []
    installed.remove()
    assert unit.path.read_text() == "edited\n"
    (home / "installed").write_text("[")
    with pytest.raises(LocalError, match="installed cannot be read"):
        Installed()


def test_a_crash_between_two_files_leaves_nothing_unknown(home, tmp_path):
    (tmp_path / "file").touch()
    pieces = [Artifact(tmp_path / "one", "1"), Artifact(tmp_path / "file" / "two", "2")]
    with pytest.raises(OSError):
        Installed().install(pieces)
    assert Installed().ours() == [tmp_path / "one"]
    Installed().remove()
    assert not (tmp_path / "one").exists()


@pytest.mark.parametrize("as_user", [False, True])
def test_the_commands_write_show_and_remove(as_user, home, tmp_path, capsys):
    if os.geteuid() and not as_user:
        pytest.skip("units of the system are root's")
    root, shelf, vault = (tmp_path / name for name in ("root", "shelf", "vault"))
    for folder in (root, shelf, vault):
        folder.mkdir()
    remember(Offering(shelf, GIB, "0.0.0.0:4000", (), (), 60.0, ("invited",)))
    where = ["--root", str(root), *(["--user"] if as_user else [])]
    words = [
        "install",
        "--mount",
        str(vault),
        "-o",
        "cache=1G,ro",
        "--supplier",
        str(shelf),
        *where,
    ]
    assert main([*words, "--dry-run"]) == 0
    assert "foreground,cache=1G,ro" in capsys.readouterr().out and not list(root.iterdir())
    assert main(words) == 0
    there = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_symlink() or p.is_file()}
    units = [name for name in there if name.endswith(".service") and ".wants" not in name]
    assert len(units) == 2 and len(there) == (6 if as_user else 7), there
    supplier = next(root / name for name in units if "supplier" in name)
    assert f"--dir {shelf} --space {GIB} --listen 0.0.0.0:4000" in supplier.read_text()
    assert any(name.endswith("bin/bitdust") for name in there)
    capsys.readouterr()
    assert main(words) == 0 and "everything is there already" in capsys.readouterr().out
    assert main(["uninstall", "--dry-run", *where]) == 0 and supplier.exists()
    assert main(["uninstall", *where]) == 0
    assert not list(root.iterdir())


def test_where_systemd_does_not_answer_it_is_said_what_to_run(home, tmp_path, monkeypatch, capsys):
    """A user's systemd has its socket where XDG_RUNTIME_DIR says."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "none"))
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    (tmp_path / "vault").mkdir()
    words = ["install", "--user", "--mount", str(tmp_path / "vault")]
    assert main(words) == 1
    said = capsys.readouterr().err
    unit = f"bitdust-vault-{escaped(tmp_path / 'vault')}.service"
    again = shlex.join(["systemctl", "--user", "start", unit])
    assert (
        "systemd was not told" in said and f"run: systemctl --user daemon-reload; {again}" in said
    )
    assert (tmp_path / "user" / ".config" / "systemd" / "user" / unit).exists()
    assert main([*words, "--no-start"]) == 0
    assert main(["uninstall", "--user"]) == 0
    assert not (tmp_path / "user").exists() and not list(home.glob("installed*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "ro"], "say --mount FOLDER"),
        (["--mount", "none"], "not a folder"),
        (["--mount", ".", "-o", "nonsense"], "'nonsense' is not known"),
        (["--mount", ".", "-o", "take-over"], "no option for a unit"),
        (["--supplier", "."], "no supplier ran in"),
    ],
)
def test_wrong_words_write_nothing(words, said, home, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["install", *words, "--root", str(tmp_path / "root")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "root").exists()


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(abstract, tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"bitdust-{os.getpid()}" if abstract else str(tmp_path / "notify")
        manager.bind(f"\0{name}" if abstract else name)
        manager.settimeout(LIMIT)
        notify.ready("nobody listens yet")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else name)
        notify.ready("safe:\n2 may be lost")
        assert manager.recv(4096) == b"READY=1\nSTATUS=safe: 2 may be lost"
        notify.reloading()
        assert manager.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        notify.stopping("bye")
        assert manager.recv(4096) == b"STOPPING=1\nSTATUS=bye"
    notify.ready("a manager that is gone stops nobody")
