"""systemd units of a mount and of a supplier, as text (systemd.unit(5), systemd.exec(5)).

What a unit of a mount may not have: anything that gives it a mount namespace of its own
(ProtectSystem=, PrivateTmp=, PrivateDevices= and their like), for nobody else would see the mount
then. And where it is not root's, nothing that implies NoNewPrivileges= (every system call filter),
for fusermount3 has to become root to mount. A supplier needs neither.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bitdustfs.mount.mountable import DEVICE
from bitdustfs.supplier.daemon import DESCRIPTORS

LOCKED = 1 << 20  #: bytes of memory that may be locked, for keys
#: an exit code after which another try makes no sense: wrong words (cli/exit_codes.py)
MOUNT_HOPELESS, SUPPLIER_HOPELESS = 1, 2
_PLAIN = re.compile(r"[A-Za-z0-9_./:=@,+-]+")

FILTERED = """NoNewPrivileges=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
"""
CAGED = """CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
PrivateMounts=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RemoveIPC=yes
"""
#: fusermount3 runs as root and drops to the user's file access meanwhile (setfsuid)
MOUNTING = "CAP_SYS_ADMIN CAP_SETUID CAP_SETGID CAP_DAC_READ_SEARCH"


@dataclass(frozen=True)
class Service:
    """What one unit runs. `user`: of a system unit; "" for a unit of the user's own manager."""

    command: Sequence[str]
    home: Path  #: BITDUST_HOME
    folder: Path  #: the mountpoint, or the supplier's
    user: str = ""
    passphrase: Path | None = None  #: a file with the passphrase of the key file


def mount_unit(service: Service) -> str:
    """A vault that is mounted at boot, or when its user logs in first."""
    where = _value(str(service.folder))
    lines = [
        "[Unit]",
        f"Description=bitdust vault at {where}",
        "Documentation=man:mount.bitdust(8)",
        *_ordering(service),
        *(["Before=remote-fs.target"] if service.user else []),
        f"RequiresMountsFor={_quoted(str(service.folder.parent))} {_quoted(str(service.home))}",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        *_running(service, MOUNT_HOPELESS),
        "# a mount that ends publishes what it can; the next one publishes the rest",
        "TimeoutStopSec=4min",
        "TimeoutStartSec=5min",
        f"LimitMEMLOCK={LOCKED}",
        *(
            [f"LoadCredential=bitdust-passphrase:{service.passphrase}"]
            if service.passphrase
            else []
        ),
        "# no mount namespace of its own: nobody else would see the mount",
    ]
    if service.user:
        lines += ["DevicePolicy=closed", f"DeviceAllow={DEVICE} rw", "KeyringMode=private"]
        if service.user == "root":
            lines += [
                "CapabilityBoundingSet=CAP_SYS_ADMIN CAP_DAC_OVERRIDE CAP_CHOWN CAP_FOWNER",
                FILTERED.replace("@system-service", "@system-service @mount").rstrip(),
            ]
        else:
            lines += [
                "# no system call filter: it keeps fusermount3 from becoming root",
                f"CapabilityBoundingSet={MOUNTING}",
            ]
    wanted = "remote-fs.target" if service.user else "default.target"
    return "\n".join([*lines, "", "[Install]", f"WantedBy={wanted}", ""])


def supplier_unit(service: Service) -> str:
    """A supplier that runs from boot on, or from when its user logs in first."""
    lines = [
        "[Unit]",
        f"Description=bitdust supplier in {_value(str(service.folder))}",
        "Documentation=man:bitdust-supplier-run(1)",
        *_ordering(service),
        f"RequiresMountsFor={_quoted(str(service.folder))} {_quoted(str(service.home))}",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        *_running(service, SUPPLIER_HOPELESS),
        f"LimitNOFILE={DESCRIPTORS}",
        f"LimitMEMLOCK={LOCKED}",
        FILTERED.rstrip(),
        "MemoryDenyWriteExecute=yes",
    ]
    if service.user:
        paths = f"{_quoted(str(service.folder))} {_quoted(f'-{service.home}')}"
        lines += [CAGED.rstrip(), f"ReadWritePaths={paths}"]
    wanted = "multi-user.target" if service.user else "default.target"
    return "\n".join([*lines, "", "[Install]", f"WantedBy={wanted}", ""])


def wanted_by(unit: str) -> str:
    """The target that has a unit started."""
    return unit.rpartition("WantedBy=")[2].strip()


def _ordering(service: Service) -> list[str]:
    """A user's manager knows nothing of the network; a mount begins without it."""
    if not service.user:
        return []
    return ["Wants=network-online.target", "After=network-online.target nss-lookup.target"]


def _running(service: Service, hopeless: int) -> list[str]:
    user = [f"User={service.user}"] if service.user not in ("", "root") else []
    return [
        "Type=notify",
        f"Environment={_quoted(f'BITDUST_HOME={service.home}')}",
        f"ExecStart={' '.join(map(_word, service.command))}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        *user,
        "KillMode=mixed",
        "Restart=on-failure",
        "RestartSec=15",
        f"RestartPreventExitStatus={hopeless}",
        "UMask=0077",
    ]


def _value(text: str) -> str:
    """Text in which systemd expands nothing."""
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """One word of a setting (systemd.syntax(7))."""
    if _PLAIN.fullmatch(text):
        return text
    return '"' + _value(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _word(text: str) -> str:
    """One word of a command line, in which no variable is expanded either."""
    return _quoted(text.replace("$", "$$"))


def escaped(path: Path) -> str:
    """A path as part of a unit's name, as `systemd-escape --path` writes it."""
    text = "/".join(part for part in str(path).split("/") if part)
    if not text:
        return "-"
    return "".join(
        "-" if byte == ord("/") else chr(byte) if _stays(byte, at) else f"\\x{byte:02x}"
        for at, byte in enumerate(text.encode(errors="surrogateescape"))
    )


def _stays(byte: int, at: int) -> bool:
    character = chr(byte)
    return (
        (character.isascii() and character.isalnum())
        or character in ":_"
        or (character == "." and at > 0)
    )
