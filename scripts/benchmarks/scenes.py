"""Scenes that every system can play: what programs do to a mounted folder."""

from benchmarks.stage import Stage

#: rows and the steps of work.py that measure them, in their order; each needs the first one
BIG = {
    "write": "write",
    "fsync": "fsync",
    "read-uploading": "read-cold",
    "read-published": "read-cold",
    "read-warm": "read-warm",
    "random-read": "random-read",
    "random-write": "random-write",
}
SMALL = {
    "create": "create",
    "stat": "stat",
    "ls": "ls",
    "read-small": "read-small",
    "rename": "rename",
    "unlink": "unlink",
}
SETTLED = {"read-published"}  #: rows before which everything comes to rest


def workload(stage: Stage) -> None:
    """One after the other in one mount, as programs do: uploads run on unless a row says not."""
    with stage.on(stage.kind) as system:
        for group in (BIG, SMALL):
            if not stage.wants(*group):
                continue
            first = next(iter(group))
            for row, step in group.items():
                if row != first and not stage.wants(row):
                    continue
                if row in SETTLED:
                    system.settle()
                stage.note(row, _figure(row, stage.work(system, step)))


def _figure(row: str, figures: dict[str, float]) -> float:
    return figures["seconds" if row == "fsync" else "rate"]


def busy(stage: Stage) -> None:
    with stage.on(stage.kind) as system:
        stage.work(system, "prepare-looks")
        system.settle()
        for name, value in stage.work(system, "look", big=stage.settings.busy).items():
            stage.note(f"busy-{name}", value)
