"""pyfuse3, which nothing but a mount needs: an extra, since it has to be compiled (no wheels).

What is said of it names the interpreter that runs this, so that it works where several are.
"""

import sys
from importlib import import_module
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from bitdustfs.errors import LocalError

#: what it is compiled with, and fusermount3, by which users mount; the names are Debian's
PACKAGES = "fuse3 libfuse3-dev pkg-config gcc python3-dev"


class Lack(NamedTuple):
    """Why nothing can be mounted here. `missing`: all else works, and nothing is broken."""

    missing: bool
    said: str
    todo: str


def lack_of_pyfuse3() -> Lack | None:
    """None where it loads."""
    try:
        import_module("pyfuse3")
    except ModuleNotFoundError as error:
        if error.name == "pyfuse3":
            return Lack(True, "pyfuse3 is missing, by which vaults are mounted", how_to_install())
        return Lack(False, f"pyfuse3 does not load: {error}", how_to_install(again=True))
    except ImportError as error:  # built for another interpreter, or libfuse3 went
        return Lack(False, f"pyfuse3 does not load: {error}", how_to_install(again=True))
    return None


def need_pyfuse3() -> None:
    """Raises LocalError, with what to do, where it is not installed or does not load."""
    if lack := lack_of_pyfuse3():
        raise LocalError(f"{lack.said}; run: {lack.todo}")


def how_to_install(again: bool = False, prefix: Path | None = None) -> str:
    """Commands for this very installation. `again`: what is there does not load.

    `prefix`: its environment (sys.prefix); in one of pipx lies pipx_metadata.json.
    """
    prefix = prefix or Path(sys.prefix)
    if (prefix / "pipx_metadata.json").exists():
        words = "--force --pip-args=--no-cache-dir " if again else ""
        tool = f"pipx inject {words}{quote(prefix.name)} pyfuse3"
    else:
        words = "--force-reinstall --no-cache-dir " if again else ""
        tool = f"{quote(sys.executable)} -m pip install {words}pyfuse3"
    return f"sudo apt install {PACKAGES}; {tool}"
