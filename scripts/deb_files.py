"""What the program writes of itself into a Debian package: unit, man pages, completions.

`deb_files.py STAGE` is run by scripts/deb, with the interpreter of the package. STAGE: the folder
that stands for /.
"""

import argparse
import sys
from pathlib import Path

import shtab

from bitdustfs.cli.cmd_manual import run_manual
from bitdustfs.cli.main import make_parser
from bitdustfs.system.unitfiles import Service, supplier_unit

HOME = Path("/var/lib/bitdust")  #: BITDUST_HOME of the system's supplier; its config.toml has words
SHELF = HOME / "shelf"
USER = "bitdust"
COMPLETIONS = {
    "bash": "bash-completion/completions/bitdust",
    "zsh": "zsh/vendor-completions/_bitdust",
    "fish": "fish/vendor_completions.d/bitdust.fish",
}


def write(stage: Path) -> None:
    """All of it."""
    command = ["/usr/bin/bitdust", "supplier", "run", "--dir", str(SHELF)]
    unit = supplier_unit(Service(command, HOME, SHELF, USER))
    files = {"usr/lib/systemd/system/bitdust-supplier.service": unit}
    for shell, place in COMPLETIONS.items():
        files[f"usr/share/{place}"] = shtab.complete(make_parser(), shell) + "\n"
    for name, text in files.items():
        path = stage / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    run_manual(argparse.Namespace(dir=stage / "usr/share/man"))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
