"""Everything but a mount works where pyfuse3, which has no wheels, is not installed.

Each test runs an interpreter in which its import fails, as it does where it is missing.
"""

import json
import os
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import bitdustfs
from bitdustfs.cli.main import VERBS
from bitdustfs.mount import needed

ROOT = Path(bitdustfs.__file__).parents[1]
#: the process behind a mount, and nothing else
MOUNTING = {
    "bitdustfs.fuse.entries",
    "bitdustfs.fuse.handlers",
    "bitdustfs.fuse.kernelcache",
    "bitdustfs.fuse.operations",
    "bitdustfs.fuse.workers",
    "bitdustfs.mount.answers",
    "bitdustfs.mount.attachment",
    "bitdustfs.mount.background",
    "bitdustfs.mount.process",
}
BLOCKED = "import sys; sys.modules['pyfuse3'] = None\n"
WALK = """
import importlib, json, pkgutil, bitdustfs
failed = []
for module in pkgutil.walk_packages(bitdustfs.__path__, "bitdustfs."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        assert error.name == "pyfuse3", f"{module.name}: {error}"
        failed.append(module.name)
print(json.dumps(failed))
"""
RUN = "from bitdustfs.cli.main import main, mount_main\nsys.exit({})\n"


def without(code, home):
    """Runs code in an interpreter that has no pyfuse3."""
    return subprocess.run(
        [sys.executable, "-c", BLOCKED + code], check=False, capture_output=True, text=True,
        timeout=120, env={**os.environ, "BITDUST_HOME": str(home)}, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def test_only_the_process_behind_a_mount_needs_pyfuse3(tmp_path):
    done = without(WALK, tmp_path)
    assert done.returncode == 0, done.stderr
    assert {*json.loads(done.stdout)} == MOUNTING


def test_every_verb_has_its_words(tmp_path):
    words = "main(['completion', 'bash'])"  # which makes the parsers of all verbs
    done = without(RUN.format(words), tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(verb.name in done.stdout for verb in VERBS)


def test_a_mount_says_what_to_install(tmp_path):
    done = without(RUN.format(f"mount_main([{str(tmp_path)!r}])"), tmp_path)
    assert done.returncode == 32 and done.stderr.count("\n") == 1, done.stderr
    assert "pyfuse3 is missing" in done.stderr and needed.PACKAGES in done.stderr
    assert done.stderr.rstrip().endswith(f"{sys.executable} -m pip install pyfuse3")


def test_the_doctor_does_not_look_for_what_mounts_need(tmp_path):
    done = without(RUN.format("main(['doctor', '--json'])"), tmp_path)
    found = {each["check"]: each for each in json.loads(done.stdout)["findings"]}
    assert found["pyfuse3"]["verdict"] == "warning" and "pip" in found["pyfuse3"]["todo"]
    assert not found.keys() & {"device", "fusermount3", "allow_other", "fusectl"}
    assert found["libraries"]["verdict"] == "ok"


def test_the_words_are_those_of_the_tool_that_installed_it(tmp_path):
    venv = tmp_path / "bitdustfs"
    venv.mkdir()
    assert needed.how_to_install(prefix=venv).endswith(f"{sys.executable} -m pip install pyfuse3")
    (venv / "pipx_metadata.json").touch()
    assert needed.how_to_install(prefix=venv).endswith("; pipx inject bitdustfs pyfuse3")
    again = needed.how_to_install(again=True, prefix=venv)
    assert again.endswith("; pipx inject --force --pip-args=--no-cache-dir bitdustfs pyfuse3")


def test_pyfuse3_is_an_extra_that_setup_installs():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert "pyfuse3" not in setup["options"]["install_requires"]
    assert setup["options.extras_require"]["mount"].strip().startswith("pyfuse3>=")
    assert ".[mount,test]" in (ROOT / "scripts" / "setup").read_text()
