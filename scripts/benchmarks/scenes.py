"""Scenes that every system can play: what programs do to a mounted folder."""

from benchmarks.stage import Stage

#: rows and the steps of work.py that measure them, in their order
BIG = {
    "write": "write",
    "fsync": "fsync",
    "read-uploading": "read-cold",
    "read-published": "read-cold",
    "read-warm": "read-warm",
    "random-read": "random-read",
    "random-write": "random-write",
    "read-rewritten": "read-rewritten",
}
SMALL = {
    "create": "create",
    "stat": "stat",
    "ls": "ls",
    "read-small": "read-small",
    "rename": "rename",
    "unlink": "unlink",
}
SETTLED = {"read-published", "read-rewritten"}  #: rows before which everything comes to rest
#: rows that others need
NEEDED = {
    "write": {*BIG} - {"write"},
    "random-write": {"read-rewritten"},
    "create": {*SMALL} - {"create"},
}


def workload(stage: Stage) -> None:
    """One after the other in one mount, as programs do: uploads run on unless a row says not."""
    with stage.on(stage.kind) as system:
        for row, step in {**BIG, **SMALL}.items():
            if not stage.wants(row, *NEEDED.get(row, ())):
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
