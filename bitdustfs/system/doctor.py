"""Every check, in the order in which they are shown. A check that fails is a finding itself."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import bitdustfs
from bitdustfs import config
from bitdustfs.errors import BitdustError
from bitdustfs.mount import mount_config
from bitdustfs.mount.needed import lack_of_pyfuse3
from bitdustfs.system import fuse_checks, homecheck, programs, resources, running
from bitdustfs.system.diagnosis import Diagnosis, Observation, diagnosis_of, wrong

Check = Callable[[], Iterator[Observation]]


def all_checks(suppliers: Sequence[Path] = ()) -> list[tuple[str, Check]]:
    """By name. `suppliers`: folders of suppliers that are looked at besides those known here.

    Where pyfuse3 is not installed, what else a mount needs is not looked at.
    """
    home, uid, lack = config.home(), os.geteuid(), lack_of_pyfuse3()
    mounts = lack is None or not lack.missing
    return [
        ("python", programs.check_python),
        ("libraries", programs.check_libraries),
        ("isal", programs.check_isal),
        ("cipher", programs.check_cipher),
        *(_mounting(uid) if mounts else []),
        ("fstab", fuse_checks.check_fstab),
        ("clock", partial(resources.check_clock, home)),
        ("limits", resources.check_limits),
        ("home", partial(homecheck.check_home, home, uid)),
        ("config", homecheck.check_config),
        ("key", partial(homecheck.check_keys, home)),
        ("cache", partial(resources.check_disk, "cache", home)),
        ("mounts", running.check_mounts),
        ("suppliers", partial(running.check_suppliers, list(suppliers))),
        ("logs", partial(homecheck.check_logs, home)),
    ]


def _mounting(uid: int) -> list[tuple[str, Check]]:
    return [
        ("device", partial(fuse_checks.check_device, uid)),
        ("fusermount3", partial(fuse_checks.check_fusermount, uid)),
        ("allow_other", partial(fuse_checks.check_allow_other, uid, wanted=wants_others())),
        ("fusectl", partial(fuse_checks.check_control, uid)),
    ]


def wants_others() -> bool:
    """Whether config.toml says allow_other; what is wrong with the file another check says."""
    with suppress(BitdustError):
        return bool(config.read_section("mount", mount_config.WORDS).get("allow_other"))
    return False


def diagnose(checks: Sequence[tuple[str, Check]]) -> Diagnosis:
    """All that was found. It changes nothing, and takes some seconds at most for what hangs."""
    findings: list[Observation] = []
    for name, check in checks:
        try:
            findings += check()
        except (OSError, BitdustError) as error:
            findings.append(wrong(name, f"this could not be looked at: {error}", "look at it"))
    return diagnosis_of(bitdustfs.__version__, findings)
