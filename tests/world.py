"""Real mounts of real supplier processes. Every command runs under a time limit."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from asked import status_said, suppliers_said, until
from crash import alive

LIMIT = 90  #: seconds any one command may take: a hang is a failure, not a wait


class World:
    """A swarm, a vault on it, and machines (BITDUST_HOMEs) that mount it."""

    def __init__(self, root: Path) -> None:
        self.root, self.swarm = root, root / "swarm"
        self.mountpoint = root / "mnt"
        self.mountpoint.mkdir()
        self.home = root / "one"

    def run(self, *words, home=None, check=True, stdin=None, environment=None):
        home_variable = {"BITDUST_HOME": str(home or self.home)}
        if os.geteuid():  # else /proc tells its user nothing of a process
            home_variable["BITDUST_DUMPABLE"] = "1"
        environment = {**os.environ, **home_variable, **(environment or {})}
        as_asked = any("lan=" in str(word) or "remount" in str(word) for word in words)
        if words[:1] == ("mount",) and not as_asked:
            words += "-o", "lan=off"  # nothing is said in this machine's networks
        done = subprocess.run(
            [sys.executable, "-m", "bitdustfs.cli.main", *map(str, words)],
            env=environment, timeout=LIMIT, capture_output=True, text=True, input=stdin,
            check=False,
        )  # fmt: skip
        if check:
            assert done.returncode == 0, done.stderr + self.log(home)
        return done

    def log(self, home=None):
        logs = (home or self.home) / "logs"
        return "".join(p.read_text()[-4000:] for p in logs.glob("*.log")) if logs.exists() else ""

    def start(self, suppliers=7, environment=None):
        """Starts those suppliers that do not run."""
        self.run("swarm", self.swarm, "--suppliers", suppliers, environment=environment)

    @property
    def addresses(self):
        return (self.swarm / "addresses").read_text().split()

    def create(self, ecc="4/7", space="4G"):
        bootstrap = (self.swarm / "bootstrap").read_text()
        words = "--ecc", ecc, "--space", space, "--bootstrap", bootstrap
        self.run("vault", "create", *words)

    def mount(self, *options, home=None, check=True, environment=None):
        words = [word for o in options for word in ("-o", o)]
        return self.run(
            "mount", self.mountpoint, *words, home=home, check=check, environment=environment
        )

    def forget_cache(self):
        """This machine keeps nothing of the vault but its key and the suppliers' addresses."""
        shutil.rmtree(self.home / "vaults")

    def move_to(self, name):
        """Another machine, with nothing but the 24 words and one address."""
        words = self.run("key", "words").stdout
        self.home = self.root / name
        self.run("key", "restore", stdin=words)
        return f"bootstrap={self.addresses[-1]}"

    def wait_until_nothing_is_owed(self):
        """Until every supplier has acknowledged its fragment of every block."""
        until(lambda: not self.status()["owed_blocks"], LIMIT, "blocks stay owed")

    def status(self):
        """What `status --json` says of the mount."""
        return status_said(self.home, self.mountpoint)

    def rows(self):
        """What `suppliers --json` says of the mount."""
        return suppliers_said(self.home, self.mountpoint)

    def supplier(self, number):
        return self.swarm / f"supplier-{number}"

    def stop_supplier(self, number):
        os.kill(self.supplier_pid(number), signal.SIGTERM)

    def kill_supplier(self, number):
        """kill -9, and until it is gone."""
        os.kill(self.supplier_pid(number), signal.SIGKILL)
        self.wait_supplier_ended(number)

    def supplier_pid(self, number):
        return int((self.supplier(number) / "pid").read_text().split()[0])

    def wait_supplier_ended(self, number):
        deadline = time.monotonic() + LIMIT
        while alive(self.supplier_pid(number)):
            assert time.monotonic() < deadline, "a supplier does not end"
            time.sleep(0.02)

    def mount_pid(self):
        """The process that serves the mountpoint."""
        pid = self.find_mount()
        assert pid is not None, "no process serves the mount"
        return pid

    def find_mount(self):
        """The same, None where there is none."""
        return mount_process(self.home, self.mountpoint)

    def kill_mount(self):
        """kill -9, as power loss for the process; then clears the dead mount away."""
        pid = self.mount_pid()
        os.kill(pid, signal.SIGKILL)
        self.detach()

    def detach(self):
        subprocess.run(
            ["fusermount3", "-u", "-z", str(self.mountpoint)],
            capture_output=True, timeout=LIMIT, check=False,
        )  # fmt: skip

    def close(self):
        if os.path.ismount(self.mountpoint):
            self.detach()
        self.run("swarm", self.swarm, "--stop", check=False)


def mount_process(home, mountpoint):
    """The process of that home which serves a mountpoint; None where there is none."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue
            ours = f"BITDUST_HOME={home}\0".encode() in environment
            if ours and os.fsencode(mountpoint) in words:
                return int(entry.name)
    return None
