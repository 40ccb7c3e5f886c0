"""Figures for Prometheus, of all mounts and suppliers of this home, as they say themselves.

Names follow https://prometheus.io/docs/practices/naming/. What does not answer has `up` 0, and
nothing else. The library prometheus_client is an extra: `pip install bitdustfs[metrics]`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from bitdustfs.cache.machine import own_supplier_folders
from bitdustfs.errors import BitdustError, UsageError
from bitdustfs.mount.client import status_of
from bitdustfs.mount.mountpoint import attached_unasked
from bitdustfs.mount.statements import Status, SupplierLine
from bitdustfs.supplier.orders import SupplierSelf
from bitdustfs.system.running import supplier_status

ASKED_AT_ONCE = 16
NODE_DIGITS = 16  #: hexadecimal digits of a node or a vault in a label
MISSING = "prometheus_client is missing: pip install 'bitdustfs[metrics]'"


class Figure(NamedTuple):
    """One metric, and how its value is read off a statement; None: there is no value now."""

    name: str
    text: str
    read: Callable[[Any], float | None]
    counts: bool = False  #: it only grows, as long as the process runs


def _owed(status: Status) -> float:
    return float(sum(line.owed for line in status.suppliers))


MOUNT = (
    Figure("safe", "whether any so many suppliers, and this machine, may be lost",
           lambda s: s.judged == "safe"),
    Figure("published", "whether another machine can mount all that was written",
           lambda s: s.judged in ("safe", "thin", "unreadable")),
    Figure("readable", "whether all that is published can be read now", lambda s: s.may_lose >= 0),
    Figure("read_only", "whether nothing can be written, asked for or not", lambda s: s.read_only),
    Figure("may_lose_suppliers", "suppliers that may go without loss", lambda s: s.may_lose),
    Figure("files", "files and folders", lambda s: s.inodes),
    Figure("content_bytes", "content", lambda s: s.live),
    Figure("dirty_bytes", "content that is in memory only", lambda s: s.dirty),
    Figure("only_here_bytes", "what is on this machine only", lambda s: s.only_here),
    Figure("to_send_bytes", "to be sent until all is published", lambda s: s.to_send),
    Figure("owed_bytes", "fragments that suppliers lack still", _owed),
    Figure("send_bytes_per_second", "what suppliers are sent just now", lambda s: s.rate),
    Figure("unpublished_files", "files and folders with changes that are not published",
           lambda s: s.unpublished),
    Figure("thin_blocks", "published blocks that bear no loss", lambda s: s.thin_blocks),
    Figure("owed_blocks", "blocks that some supplier lacks", lambda s: s.owed_blocks),
    Figure("warnings", "warnings in its status", lambda s: len(s.warnings)),
    Figure("loss_chance_ratio", "chance that anything is lost within a year",
           lambda s: s.risk and s.risk.chance),
    Figure("loss_chance_high_ratio", "the same, and one case of twenty is worse",
           lambda s: s.risk and s.risk.high),
    Figure("reserves_ready", "reserves that stand by", lambda s: sum(r.ready for r in s.bench)),
)  # fmt: skip
POSITION = (
    Figure("online", "whether it answered last", lambda p: p.state == "online"),
    Figure("gone", "whether it is to be replaced", lambda p: bool(p.gone)),
    Figure("away_seconds", "how long it has been away", lambda p: p.away),
    Figure("uptime_ratio", "share of pings that it answered", lambda p: p.uptime),
    Figure("latency_seconds", "smoothed", lambda p: p.latency),
    Figure("stored_bytes", "what it keeps of the vault", lambda p: p.stored),
    Figure("owed_bytes", "fragments that it lacks still", lambda p: p.owed),
    Figure("missing_fragments", "found without, and not made again yet", lambda p: p.lacks),
    Figure("damaged_answers", "answers with damaged data", lambda p: p.damaged, True),
    Figure("audits", "audits of it", lambda p: p.audits),
    Figure("failed_audits", "audits that it failed", lambda p: p.audits_failed),
)
SUPPLIER = (
    Figure("serving", "whether it makes new contracts", lambda s: s.state == "serving"),
    Figure("leaving", "whether it hands over what it keeps", lambda s: s.state == "leaving"),
    Figure("reachable", "from outside: seen, or cannot be",
           lambda s: None if s.reachable is None else s.reachable),
    Figure("uptime_seconds", "since it was started", lambda s: s.uptime),
    Figure("donated_bytes", "what it donates", lambda s: s.space),
    Figure("promised_bytes", "contracts that bind", lambda s: s.promised),
    Figure("used_bytes", "what customers use", lambda s: s.used),
    Figure("trash_bytes", "what owners deleted", lambda s: s.trash),
    Figure("disk_free_bytes", "of its disk", lambda s: s.free),
    Figure("customers", "vaults with a contract or something here", lambda s: s.customers),
    Figure("fragments", "kept here", lambda s: s.fragments),
    Figure("network_nodes", "nodes of the network that it knows", lambda s: s.network),
    Figure("warnings", "warnings in its status", lambda s: len(s.warnings)),
    Figure("received_bytes", "fragments that came", lambda s: s.received, True),
    Figure("served_bytes", "fragments that were read", lambda s: s.served, True),
)  # fmt: skip


class Polled(NamedTuple):
    """What was asked of this home: by mountpoint and by folder; None: no answer."""

    mounts: Mapping[Path, Status | None]
    suppliers: Mapping[Path, SupplierSelf | None]


def look() -> Polled:
    """Asks them all. Whoever is silent is not waited for."""
    mountpoints, folders = attached_unasked(), own_supplier_folders()
    with ThreadPoolExecutor(ASKED_AT_ONCE) as asking:  # Prometheus waits for 10 seconds
        mounts = asking.map(partial(_answer, status_of), mountpoints)
        suppliers = asking.map(partial(_answer, supplier_status), folders)
        return Polled(
            dict(zip(mountpoints, mounts, strict=True)),
            dict(zip(folders, suppliers, strict=True)),
        )


def _answer(question: Callable[[Path], Any], path: Path) -> Any:
    try:
        return question(path)
    except BitdustError:
        return None


def text_of(seen: Polled) -> bytes:
    """The exposition format. Raises UsageError where the library is missing."""
    try:
        core, exposition = (
            import_module("prometheus_client.core"),
            import_module("prometheus_client.exposition"),
        )
    except ImportError:
        raise UsageError(MISSING) from None

    class Collected:
        """What a registry asks for its metrics."""

        def collect(self) -> Iterator[Any]:
            yield from _families(core, seen)

    text: bytes = exposition.generate_latest(Collected())
    return text


def _families(core: Any, seen: Polled) -> Iterator[Any]:
    mounts = [(_mount_labels(path, s), s) for path, s in seen.mounts.items() if s is not None]
    positions = [
        ({**labels, **_position_labels(line)}, line)
        for labels, status in mounts for line in status.suppliers
    ]  # fmt: skip
    suppliers = [({"folder": str(p)}, s) for p, s in seen.suppliers.items() if s is not None]
    yield _up(core, "bitdust_mount", "mountpoint", seen.mounts)
    yield _up(core, "bitdust_supplier", "folder", seen.suppliers)
    yield from _read(core, "bitdust_mount", MOUNT, ["mountpoint", "vault"], mounts)
    keys = ["mountpoint", "vault", "position", "node"]
    yield from _read(core, "bitdust_mount_supplier", POSITION, keys, positions)
    yield from _read(core, "bitdust_supplier", SUPPLIER, ["folder"], suppliers)


def _up(core: Any, prefix: str, label: str, answers: Mapping[Path, object]) -> Any:
    up = core.GaugeMetricFamily(f"{prefix}_up", "whether it answers", labels=[label])
    for path, answer in answers.items():
        up.add_metric([str(path)], float(answer is not None))
    return up


def _read(
    core: Any,
    prefix: str,
    figures: Iterable[Figure],
    keys: list[str],
    told: list[tuple[dict[str, str], Any]],
) -> Iterator[Any]:
    for figure in figures:
        kind = core.CounterMetricFamily if figure.counts else core.GaugeMetricFamily
        family = kind(f"{prefix}_{figure.name}", figure.text, labels=keys)
        for labels, statement in told:
            if (value := figure.read(statement)) is not None:
                family.add_metric([labels[key] for key in keys], float(value))
        yield family


def _mount_labels(path: Path, status: Status) -> dict[str, str]:
    return {"mountpoint": str(path), "vault": status.vault[:NODE_DIGITS]}


def _position_labels(line: SupplierLine) -> dict[str, str]:
    return {"position": str(line.position), "node": line.node[:NODE_DIGITS]}
