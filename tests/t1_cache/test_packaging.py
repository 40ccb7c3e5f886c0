"""What packages are made of. scripts/try-deb installs one and uses it; this is what is quick."""

import subprocess
from pathlib import Path

import pytest
from deb_files import COMPLETIONS, SHELF, USER, write

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stage")
    write(folder)
    return folder


def test_the_unit_runs_the_installed_program_as_the_user_that_postinst_makes(stage):
    unit = (stage / "usr/lib/systemd/system/bitdust-supplier.service").read_text()
    assert f"User={USER}\n" in unit
    assert f"ExecStart=/usr/bin/bitdust supplier run --dir {SHELF}\n" in unit
    postinst = (ROOT / "scripts/debian/postinst").read_text()
    assert f"-o {USER} -g {USER} -m 700 {SHELF.parent} {SHELF}\n" in postinst


def test_pages_and_completions_lie_where_they_are_looked_for(stage):
    manual = stage / "usr/share/man"
    assert (manual / "man8/mount.bitdust.8").is_file() and (manual / "man1/bitdust.1").is_file()
    for shell, place in COMPLETIONS.items():
        assert "bitdust" in (stage / "usr/share" / place).read_text(), shell


@pytest.mark.parametrize(
    "script",
    [
        "packages",
        "deb",
        "try-deb",
        "debian-root",
        "debian/postinst",
        "debian/prerm",
        "debian/postrm",
    ],
)
def test_scripts_parse(script):
    path = ROOT / "scripts" / script
    shell = path.read_text().partition("\n")[0].split("/")[-1].split()[-1]
    subprocess.run([shell, "-n", path], check=True, timeout=20)


def test_the_image_has_all_that_its_installation_reads():
    text = (ROOT / "Containerfile").read_text()
    ignored = (ROOT / ".containerignore").read_text().splitlines()
    copied = [
        word for line in text.splitlines() if line.startswith("COPY ")
        for word in line.split()[1:-1]
    ]  # fmt: skip
    assert copied and all((ROOT / name).exists() and f"!{name}" in ignored for name in copied)
    assert {"setup.cfg", "pyproject.toml", "README.md", "LICENSE", "bitdustfs"} == {*copied}
