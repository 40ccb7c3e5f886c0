"""Vaults in /etc/fstab: mount(8) as root and as a user, whose files are shown, systemd's units.

A mount namespace of their own gives these tests an /etc/fstab and an /sbin/mount.bitdust.
"""

import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import bitdustfs
from bitdustfs.cli.accounts import become, id_of, user_of
from bitdustfs.cli.cmd_mount import with_word
from bitdustfs.errors import FsError, UsageError
from bitdustfs.fuse.shown import AS_KEPT, ShownOwner
from bitdustfs.mount.options import MountOptions
from bitdustfs.system.unitfiles import MOUNTING

LIMIT, NOBODY = 120, 65534
ALWAYS = "_netdev,nofail,x-systemd.automount"
GENERATOR = Path("/usr/lib/systemd/system-generators/systemd-fstab-generator")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace is root's")


def test_owners_that_are_shown_are_read(tmp_path):
    options = MountOptions(tmp_path, tmp_path / "key")
    assert options.owner == AS_KEPT
    made = with_word(with_word(options, "uid=nobody"), "gid=12")
    assert made.owner == ShownOwner(NOBODY, 12)
    for wrong in ("uid=no such", "gid=no such", "uid=4294967295", "uid=-1", "gid=", "uid=٣"):
        with pytest.raises(UsageError):
            with_word(options, wrong)
    assert id_of("gid", "root") == 0
    for ignored in ("user", "user=anna", "users", "X-mount.mkdir", *ALWAYS.split(",")):
        assert with_word(options, ignored) == options


def test_chown_is_refused_where_all_files_are_shown_as_somebodys():
    assert AS_KEPT.new_uid(7) == 7 and ShownOwner(gid=3).new_uid(7) == 7
    assert ShownOwner(uid=7).new_uid(7) is None and ShownOwner(gid=3).new_gid(3) is None
    with pytest.raises(FsError, match="not permitted"):
        ShownOwner(uid=7).new_uid(8)


@needs_root
def test_a_mount_becomes_its_user_before_anything_is_opened(monkeypatch):
    monkeypatch.setenv("BITDUST_HOME", "/root/somewhere")
    assert user_of(["ro,setuid=a", "setuid=nobody"]) == "nobody" and user_of(["ro"]) == ""
    reads, writes = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            become("nobody")
            told = (
                os.getresuid(),
                os.getresgid(),
                os.environ["HOME"],
                "BITDUST_HOME" in os.environ,
            )
            os.write(writes, repr(told).encode())
            become("root")
        except UsageError as error:
            os.write(writes, str(error).encode())
        finally:
            os._exit(0)
    os.close(writes)
    os.waitpid(pid, 0)
    account = pwd.getpwnam("nobody")
    with os.fdopen(reads) as said:
        ids = (NOBODY,) * 3
        told = (ids, (account.pw_gid,) * 3, account.pw_dir, False)
        assert said.read() == f"{told!r}setuid=root: only root can mount as somebody else"
    with pytest.raises(UsageError, match="no such user"):
        become("no such user")


def test_systemd_makes_units_of_a_line(tmp_path):
    if not GENERATOR.exists():
        pytest.skip("this machine has no systemd")
    table, made = tmp_path / "fstab", tmp_path / "made"
    made.mkdir()
    table.write_text(f"bitdust /srv/vault bitdust {ALWAYS},noauto,user,uid=1000,gid=1000 0 0\n")
    subprocess.run(
        [GENERATOR, made, made, made], env={**os.environ, "SYSTEMD_FSTAB": str(table)},
        timeout=LIMIT, check=True,
    )  # fmt: skip
    mount, automount = (made / f"srv-vault.{kind}" for kind in ("mount", "automount"))
    assert "Type=bitdust" in mount.read_text() and "What=bitdust" in mount.read_text()
    assert automount.exists() and not list(made.glob("local-fs.target*/srv-vault*"))
    if not shutil.which("systemd-analyze"):
        return
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--generators=no", mount, automount],
        capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "srv-vault" not in done.stderr, done.stderr


class Namespace:
    """A script with an fstab and an /sbin of its own."""

    def __init__(self, world, python=sys.executable):
        self.world, root = world, world.root
        self.table, self.sbin, self.old = (root / name for name in ("fstab", "sbin", "old"))
        self.sbin.mkdir()
        self.old.mkdir()
        for path in Path("/sbin/").iterdir():
            (self.sbin / path.name).symlink_to(self.old / path.name)
        helper = root / "helper"
        self.source = source = (
            f"{Path(bitdustfs.__file__).parents[1]}:{sysconfig.get_path('purelib')}"
        )
        helper.write_text(
            f"#!/bin/sh\nexport BITDUST_HOME='{world.home}' PYTHONPATH='{source}'\n"
            f"exec '{python}' -c 'import sys; from bitdustfs.cli.main import mount_main; "
            'sys.exit(mount_main())\' "$@"\n'
        )
        helper.chmod(0o755)
        (self.sbin / "mount.bitdust").symlink_to(helper)

    def run(self, script):
        """Its output; it fails at the first command that does."""
        begin = (
            f"set -e; mount --bind /sbin '{self.old}'; mount --bind '{self.sbin}' /sbin\n"
            f"mount --bind '{self.table}' /etc/fstab\n"
            f"D='{self.world.root}/device'; M='{self.world.mountpoint}'\n"
            'mknod -m 666 "$D" c 10 229; mount --bind "$D" /dev/fuse\n'
            f"bitdust() {{ BITDUST_HOME='{self.world.home}' '{sys.executable}' -m "
            'bitdustfs.cli.main "$@"; }\n'
            f'nobody() {{ setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups "$@"; }}\n'
        )
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", begin + script],
            capture_output=True, text=True, timeout=LIMIT, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr + self.world.log()
        return done.stdout


@needs_root
def test_mount_all_shows_files_as_whose_fstab_says(world):
    place = Namespace(world)
    place.table.write_text(f"bitdust {world.mountpoint} bitdust {ALWAYS},uid=1234,gid=2345 0 0\n")
    said = place.run(
        'mount -a; echo x >"$M/file"; chown 1234 "$M/file"; stat -c %u:%g "$M" "$M/file"\n'
        'chown 0 "$M/file" 2>&1 || true; bitdust unmount "$M" >&2; mount -a -O no_netdev\n'
        'mountpoint -q "$M" || echo gone; mount "$M"; mountpoint -q "$M"\n'
        'bitdust unmount "$M" >&2\n'
    )
    lines = said.splitlines()
    assert lines[:2] == ["1234:2345"] * 2 and "not permitted" in lines[2] and lines[3] == "gone"
    world.run("mount", world.mountpoint)  # and what is kept of owners is what it was
    assert os.stat(world.mountpoint / "file").st_uid == 0


def python_of_anybody():
    """This interpreter, or the system's where it is alike, that another user may run."""
    for python in (sys.executable, "/usr/bin/python3"):
        script = (
            "import sys; sys.path.append(sys.argv[1]); import pyfuse3; print(sys.version_info[:2])"
        )
        # by a shell: setpriv itself may still look where only root may
        user = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
        words = ["sh", "-c", 'exec "$@"', "sh", python, "-c", script, sysconfig.get_path("purelib")]
        done = subprocess.run(
            [*user, *words], capture_output=True, text=True, timeout=LIMIT, check=False
        )
        if done.stdout.strip() == str(sys.version_info[:2]):
            return python
    pytest.skip("no interpreter here can be run by another user")


@needs_root
def test_a_user_mounts_what_fstab_lets_users(world):
    """mount(8) is root's then, its helper is not; fusermount3 mounts."""
    for folder in (world.root, *world.root.parents):
        if folder.stat().st_uid == os.geteuid() and str(folder) not in ("/", "/tmp"):
            folder.chmod(0o755)
    for path in (world.mountpoint, *[world.home, *world.home.rglob("*")]):
        os.chown(path, NOBODY, NOBODY)
    place = Namespace(world, python_of_anybody())
    # what a unit leaves fusermount3, which has to become root
    least = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in MOUNTING.split())
    place.table.write_text(f"bitdust {world.mountpoint} bitdust noauto,user,{ALWAYS} 0 0\n")
    said = place.run(
        'nobody mount "$M"; nobody sh -c "echo mine >$M/file; cat $M/file; stat -c %u $M/file"\n'
        'grep " $M " /proc/self/mountinfo; nobody umount "$M"; mountpoint -q "$M" || echo gone\n'
        f'nobody --bounding-set -all,{least} /sbin/mount.bitdust bitdust "$M"; nobody cat $M/file\n'
        'nobody umount "$M"\n'
    )
    lines = said.splitlines()
    assert lines[:2] == ["mine", str(NOBODY)] and lines[3:] == ["gone", "mine"]
    assert "noexec" in lines[2] and "nosuid" in lines[2], lines[2]


@needs_root
def test_root_mounts_as_a_user_by_the_users_home_and_key(world):
    """As at boot: nothing of root's environment leads there."""
    python, anna = python_of_anybody(), world.root / "anna"
    for folder in (world.root, *world.root.parents):
        if folder.stat().st_uid == os.geteuid() and str(folder) not in ("/", "/tmp"):
            folder.chmod(0o755)
    share = anna / ".local" / "share"
    share.mkdir(parents=True)
    world.home.rename(share / "bitdust")
    for path in (world.mountpoint, anna, *anna.rglob("*")):
        os.chown(path, 4321, 4321)
    accounts = world.root / "passwd"
    accounts.write_text(Path("/etc/passwd").read_text() + f"anna:x:4321:4321::{anna}:/bin/sh\n")
    place = Namespace(world, python)
    place.table.write_text(f"bitdust {world.mountpoint} bitdust {ALWAYS},setuid=anna 0 0\n")
    said = place.run(
        f"mount --bind '{accounts}' /etc/passwd; mount -a; grep \" $M \" /proc/self/mountinfo\n"
        'anna() { setpriv --reuid anna --regid 4321 --clear-groups "$@"; }\n'
        'anna sh -c "echo hers >$M/file; stat -c %U $M/file"; cat "$M/file" 2>&1 || true\n'
        f"export HOME='{anna}' PYTHONPATH='{place.source}'; unset BITDUST_HOME\n"
        f"anna '{python}' -c 'from bitdustfs.cli.main import main; main([\"unmount\"])' >&2\n"
    )
    lines = said.splitlines()
    assert "user_id=4321" in lines[0] and lines[1] == "anna", said
    assert "Permission denied" in lines[2]  # without allow_other not even root
    assert (share / "bitdust" / "vaults").exists()
