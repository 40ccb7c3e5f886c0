"""Where what is installed goes: units, what has them started, links to the programs.

`root`: the folder that stands for / (a package's, or a test's). A user's units lie in the user's
configuration folder (systemd.unit(5)), links in ~/.local/bin.
"""

import os
import pwd
import shutil
import subprocess
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bitdustfs import config
from bitdustfs.errors import LocalError, UsageError
from bitdustfs.supplier.offering import command_words, last_offering
from bitdustfs.system.installing import Artifact
from bitdustfs.system.unitfiles import Service, escaped, mount_unit, supplier_unit, wanted_by

SYSTEM_UNITS = Path("etc/systemd/system")
MANAGER_ANSWERS = 60.0  #: seconds that systemctl may take


@dataclass(frozen=True)
class Destination:
    """`user`: whom system units run as; "": units of the user's own manager."""

    root: Path
    user: str = ""

    @property
    def units(self) -> Path:
        """The folder of units."""
        if self.user:
            return self.root / SYSTEM_UNITS
        configured = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        return self._under(Path(configured)) / "systemd" / "user"

    @property
    def home(self) -> Path:
        """BITDUST_HOME of what is started."""
        if not self.user or os.environ.get("BITDUST_HOME") or self.user == _own_name():
            return config.home()
        return Path(_account(self.user).pw_dir) / ".local" / "share" / "bitdust"

    def links(self) -> list[Artifact]:
        """To the programs; for the system also what mount(8) runs."""
        if not self.user:
            there = self._under(Path.home() / ".local" / "bin")
            return [Artifact(there / name, target=str(program(name))) for name in PROGRAMS]
        helper = str(program("mount.bitdust"))
        names = ("mount.bitdust", "mount.fuse.bitdust")
        return [
            Artifact(self.root / "usr/local/bin/bitdust", target=str(program("bitdust"))),
            *(Artifact(self.root / "sbin" / name, target=helper) for name in names),
        ]

    def _under(self, path: Path) -> Path:
        return self.root / path.relative_to("/")


PROGRAMS = ("bitdust", "mount.bitdust")


def program(name: str) -> Path:
    """A program of this installation. Raises LocalError where it is not installed."""
    path = Path(sysconfig.get_path("scripts")) / name
    if not path.exists():
        raise LocalError(f"{path} is not there: pip install . in the folder of bitdustfs")
    return path


def run_as(named: str, folder: Path) -> str:
    """Whom a system unit runs as: who is named, else whom the folder belongs to.

    Raises UsageError.
    """
    if named:
        return _account(named).pw_name
    try:
        return pwd.getpwuid(folder.stat().st_uid).pw_name
    except (OSError, KeyError):
        raise UsageError(f"say by --run-as whose {folder} is to be") from None


def _account(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise UsageError(f"there is no user {name} on this machine") from None


def _own_name() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return ""


def mount_pieces(
    place: Destination, mountpoint: Path, key: Path | None, options: str, passphrase: Path | None
) -> list[Artifact]:
    """The unit of a mount. `options`: as of -o, checked."""
    source = [str(key)] if key else []
    words = ",".join(filter(None, ("foreground", options)))
    command = [str(program("mount.bitdust")), *source, str(mountpoint), "-o", words]
    service = Service(command, place.home, mountpoint, place.user, passphrase)
    return unit_pieces(place, f"bitdust-vault-{escaped(mountpoint)}.service", mount_unit(service))


def supplier_pieces(place: Destination, folder: Path) -> list[Artifact]:
    """The unit of a supplier that ran before. Raises UsageError."""
    offering = last_offering(folder)
    if offering is None:
        raise UsageError(
            f"no supplier ran in {folder} as yet: make one by bitdust setup, or start it once by "
            "hand, so that its words are known"
        )
    command = [str(program("bitdust")), *command_words(offering)]
    service = Service(command, place.home, folder, place.user)
    name = f"bitdust-supplier-{escaped(folder)}.service"
    return unit_pieces(place, name, supplier_unit(service))


def unit_pieces(place: Destination, name: str, text: str) -> list[Artifact]:
    """A unit, and the link by which its target starts it, as `systemctl enable` makes it."""
    unit = place.units / name
    wants = place.units / f"{wanted_by(text)}.wants" / name
    there = Path("/") / unit.relative_to(place.root)
    return [Artifact(unit, text), Artifact(wants, target=str(there))]


class Manager:
    """systemctl of the system or of the user, where it answers."""

    def __init__(self, user: bool) -> None:
        self._words = ["systemctl", *(["--user"] if user else [])]

    def command(self, *words: str) -> list[str]:
        """What to type."""
        return [*self._words, *words]

    def run(self, *words: str) -> str:
        """Why it did not work; "" where it did."""
        if shutil.which("systemctl") is None:
            return "systemd is not here"
        try:
            done = subprocess.run(
                self.command(*words), capture_output=True, timeout=MANAGER_ANSWERS, check=False
            )
        except subprocess.TimeoutExpired:
            return "systemctl does not answer"
        return os.fsdecode(done.stderr).strip() if done.returncode else ""


def names_of(pieces: Sequence[Artifact]) -> list[str]:
    """The units among pieces."""
    return sorted({piece.path.name for piece in pieces if piece.text})
