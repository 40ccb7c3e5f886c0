"""Checks: is what the program is made of here, and new enough?"""

import re
import sys
from collections.abc import Iterator
from importlib import metadata

from bitdustfs.core.erasure import accelerated
from bitdustfs.core.sealing import Suite
from bitdustfs.mount.cpu import suite
from bitdustfs.mount.needed import lack_of_pyfuse3
from bitdustfs.system.diagnosis import Observation, ok, warning, wrong

PYTHON = (3, 11)
PACKAGE = "bitdustfs"
#: a requirement in a package's metadata, as setup.cfg has it: a name and a least version (PEP 508)
REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*(?:>=\s*([0-9.]+))?\s*$")


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Iterator[Observation]:
    """The interpreter."""
    said = f"Python {'.'.join(map(str, version))}"
    if version >= PYTHON:
        yield ok("python", said)
    else:
        wanted = ".".join(map(str, PYTHON))
        yield wrong("python", f"{said} is too old", f"install Python {wanted} or newer")


def check_libraries() -> Iterator[Observation]:
    """What setup.cfg asks for: present, new enough, and pyfuse3 loads."""
    try:
        required = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        yield warning(
            "libraries", f"{PACKAGE} is not installed: it runs from its folder",
            "pip install . in its folder, or scripts/setup",
        )  # fmt: skip
        required = []
    bad, there = [], 0
    for line in required:
        if "extra ==" in line:
            continue
        if why := lacking(line):
            bad.append(why)
        else:
            there += 1
    if bad:
        todo = f"pip install {' '.join(repr(why.partition(' ')[0]) for why in bad)}"
        yield wrong("libraries", "; ".join(bad), f"{todo}, or scripts/setup")
    elif there:
        yield ok("libraries", f"all {there} Python packages are here")
    yield from check_pyfuse3()


def lacking(requirement: str) -> str:
    """Why an installed package does not do, beginning with its name; "" where it does."""
    found = REQUIREMENT.match(requirement)
    if found is None:
        return ""  # written in a way that setup.cfg does not use
    name, least = found[1], found[2] or "0"
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return f"{name} is missing"
    return "" if _numbers(version) >= _numbers(least) else f"{name} {version} is below {least}"


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]


def check_pyfuse3() -> Iterator[Observation]:
    """It loads libfuse3 and is built for this interpreter. Who only keeps data needs none."""
    if lack := lack_of_pyfuse3():
        say = warning if lack.missing else wrong
        yield say("pyfuse3", lack.said, lack.todo)
    else:
        yield ok("pyfuse3", f"pyfuse3 {metadata.version('pyfuse3')}")


def check_isal() -> Iterator[Observation]:
    """ISA-L, by which erasure coding is about twenty times faster."""
    if accelerated():
        yield ok("isal", "ISA-L codes fragments")
    else:
        yield warning(
            "isal", "libisal.so.2 is missing: fragments are coded about twenty times slower",
            "apt install libisal2",
        )  # fmt: skip


def check_cipher() -> Iterator[Observation]:
    """Which cipher this processor is fast with. No fault either way."""
    fast = suite() is Suite.AEGIS256
    name = "AEGIS-256, by the processor's AES" if fast else "XChaCha20-Poly1305: no AES here"
    yield ok("cipher", f"content is sealed with {name}")
