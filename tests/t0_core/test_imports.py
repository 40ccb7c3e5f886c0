"""Imports point one way: fuse -> volume -> tree, store -> cache, net -> core."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "bitdustfs"

#: a module may import what stands in its own row or in a row above it
ROWS = [
    {"errors", "units", "failpoints"},
    {"core"},
    {"cache"},
    {"config", "keyfile", "net"},
    {"fetch", "space"},
    {"store", "upload"},
    {"rebuild"},
    {"tree", "window"},
    {"usage"},
    {"extents"},
    {"content"},
    {"names", "orphans"},
    {"commit", "volume"},
    {"publish"},
    {"reclaim"},
    {"opening"},
    {"vault"},
    {"xattrs", "verify", "recover", "replace", "refound"},
    {"fuse"},
    {"cli"},
]
#: what core must never touch
IMPURE = {"trio", "socket", "time", "pathlib", "lmdb", "pyfuse3", "asyncio"}


def imports_of(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def unit_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_imports_point_one_way():
    rank = {unit: row for row, units in enumerate(ROWS) for unit in units}
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if own == "__init__":
            continue
        assert own in rank, f"{own} has no row in this test"
        for module in imports_of(path):
            unit = unit_of(module) if module.startswith("bitdustfs.") else ""
            if unit and rank[unit] > rank[own]:
                wrong.append(f"{path.name} imports {module}")
    assert not wrong


def test_core_is_pure():
    wrong = [
        f"{path.name} imports {module}"
        for path in (PACKAGE / "core").glob("*.py")
        for module in imports_of(path)
        if module.split(".")[0] in IMPURE
    ]
    assert not wrong
