"""The house keeps its shape: rooms, wiring, words and sizes, read off the syntax trees.

Each test fails with a sentence for each finding, that names the file and the line. The tables below
are the only places where exceptions stand, each with its reason; an idle exception fails as well.
"""

import ast
from collections import defaultdict
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from syntax import (
    TREES,
    Assignments,
    assignments,
    imports_of,
    item_fields,
    room_of,
    sizes,
    types_of,
)

LINES_MAX = 350  #: lines of a file without a reason
METHODS_MAX = 15  #: public methods of a class without a reason
DOCSTRING_LINES_MIN = 3  #: lines in which a room says what lives there

#: a room, or a module at the top, and those right below it: it may import these and what they may
BELOW = {
    "cli": "web",
    "web": "system",
    "system": "mount supplier",
    "mount": "fuse family",
    "fuse": "vault",
    "family": "vault",
    "vault": "fs rebuild",
    "fs": "tree",
    "tree": "blocks",
    "supplier": "rebuild",
    "rebuild": "blocks",
    "blocks": "net cache",
    "net": "core config failpoints plain",
    "cache": "core config failpoints",
    "core": "errors units",
    "config": "units",
    "errors": "",
    "plain": "",
    "units": "errors",
    "failpoints": "",
}
TOP = {
    "__init__",
    "errors",
    "units",
    "plain",
    "failpoints",
    "config",
}  #: modules that lie in no room
#: what core must never touch: it has no clock, no socket, no file and no event loop
IMPURE = {
    "asyncio", "datetime", "io", "lmdb", "pathlib", "pyfuse3", "random", "select", "selectors",
    "shutil", "signal", "socket", "ssl", "subprocess", "tempfile", "time", "trio",
}  # fmt: skip

#: the variables that hold an item decoded from the tree
ITEMS = ("attributes", "folder", "parent", "parents[[]*]", "made", "counters", "use", "root")
#: file, object, attribute (as patterns) that may be assigned from outside, and why
ASSIGNED = [
    ("fuse/*", "entry", "st_*", "pyfuse3 takes attributes that are filled field by field"),
    ("fuse/*", "entry", "*_timeout", "pyfuse3 takes attributes that are filled field by field"),
    ("fuse/*", "entry", "generation", "pyfuse3 takes attributes that are filled field by field"),
    ("fuse/*", "absent", "*", "pyfuse3 takes attributes that are filled field by field"),
    ("fuse/*", "data", "f_*", "pyfuse3 takes statfs data that is filled field by field"),
    ("fuse/workers.py", "pyfuse3", "trio", "the way in of pyfuse3's own adapter for asyncio"),
    ("blocks/courier.py", "scope", "deadline", "a trio scope's deadline moves by assignment"),
    ("cli/*", "bar", "n", "tqdm's way to move a bar to a place"),
    ("cli/*", "bar", "unit*", "tqdm's way to count something else from now on"),
    ("cli/*", "parser", "*", "argparse makes subparsers itself: only then can a command fill them"),
    ("net/tls.py", "context", "*", "an SSLContext is set up by its attributes"),
    ("net/*", "scope", "deadline", "a trio scope's deadline moves by assignment"),
    ("net/routers/elements.py", "parser", "*Handler", "expat is told what it calls so"),
    ("net/loglines.py", "record", "*", "a logging filter changes a line only in its record"),
    ("supplier/talk.py", "waiting", "deadline", "a trio scope's deadline moves by assignment"),
    ("supplier/talk.py", "scope", "deadline", "a trio scope's deadline moves by assignment"),
    ("cache/secrecy.py", "mlock", "argtypes", "ctypes is told a C function's types so"),
    ("core/erasure.py", "library.*", "argtypes", "ctypes is told a C function's types so"),
    ("core/erasure.py", "library.*", "restype", "ctypes is told a C function's types so"),
    ("core/sealing.py", "_thread", "*", "threading.local: a compressor for each thread"),
]
#: rooms in which a decoded item may be changed before it is encoded again, see ITEMS
ITEM_ROOMS = ("fs", "tree", "vault")

#: modules of one name in two rooms, and why; there should be none
SAME_MODULES: dict[str, str] = {}
#: types of one name with two definitions, and why
SAME_TYPES: dict[str, str] = {
    "StandDown": "the message of net/wire.py that carries the signed record of core/records.py",
}

#: a long file, or "file:Class" with many public methods, and why it is one
REASONS = {
    "net/wire.py": "every message of the protocol stands on one page, with its bounds beside it",
    "net/supplier.py:Supplier": "one method for each request that a supplier answers",
    "fuse/operations.py:Operations": "pyfuse3 calls one method for each kind of request",
    "fuse/operations.py:WritableOperations": "pyfuse3 calls one method for each kind of request",
    "supplier/shelf.py": "the interface is explained best by the kind in memory right behind it",
    "supplier/shelf.py:MemoryShelf": "the methods of Shelf, and nothing besides them",
    "supplier/shelf.py:Shelf": "one method for each thing that is done with fragments and rows",
    "supplier/diskshelf.py:DiskShelf": "the methods of Shelf, and what tests need to close it",
    "supplier/kinship.py:Kinship": "one method for each thing that is seen or said of the others",
    "supplier/diskshelf.py": "the order on disk of every change stands on one page",
    "blocks/courier.py": "a block is followed from being owed to being acknowledged on one page",
    "family/staffing.py": "what a mount does for its family is one round, care after care",
    "core/records.py": "signed records are compared with each other field by field: one page",
    "cache/blocktable.py:BlockTable": "one question for each index, so that nobody scans the rows",
    "blocks/circle.py:Circle": "whatever is known of the suppliers of a vault is asked there",
    "blocks/ledger.py:Ledger": "one method for each thing that happens to an acknowledgement",
    "cache/state.py:State": "one method for each row that is kept, with how durable it then is",
    "blocks/space.py:Space": "each bound is asked for, and what moves it is told, by itself",
    "mount/client.py:MountClient": "one method for each command that a mount is given",
    "tree/tree.py:Tree": "layers, batch and versions change in one instant, with no await between",
}


def expect_none(findings: list[str]) -> None:
    if findings:
        pytest.fail("\n".join([f"{len(findings)} findings", *findings]), pytrace=False)


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def allowed(room: str) -> set[str]:
    """All that a room may import, itself included; a circle in the table never ends."""
    return {room}.union(*(allowed(below) for below in BELOW[room].split()))


def room_imported(module: str, name: str) -> str:
    """The room that an import reaches into; "" for other packages and for the package itself."""
    parts = [*module.split("."), name]
    if parts[0] != "bitdustfs" or len(parts) < 2:
        return ""
    return parts[1] if parts[1] in BELOW or len(parts) > 2 else ""


def test_a_room_imports_only_what_lies_below_it():
    wrong = []
    for file in TREES:
        room = room_of(file)
        if room == "__init__":
            continue
        if room not in BELOW:
            wrong.append(f"{file} lies in {room}, which has no row in this test")
            continue
        for line, module, name, _ in imports_of(file):
            other = room_imported(module, name)
            if other and other not in allowed(room):
                wrong.append(
                    f"{file}:{line} imports {module} ({name}): {other} is not below {room}"
                )
    expect_none(wrong)


def test_every_row_is_a_room_or_a_module_at_the_top():
    there = {room_of(file) for file in TREES} - {"__init__"}
    assert there == set(BELOW), "the table and the folders differ"


def test_nobody_takes_private_names_of_another_room():
    wrong = []
    for file, tree in TREES.items():
        room, taken = room_of(file), set()
        for line, module, name, local in imports_of(file):
            other = room_imported(module, name)
            if not other or other == room:
                continue
            taken.add(local)
            if any(is_private(part) for part in [*module.split("."), name]):
                wrong.append(f"{file}:{line} imports the private {module}.{name} of {other}")
        wrong += [
            f"{file}:{node.lineno} uses the private {ast.unparse(node)} of another room"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and is_private(node.attr)
            and isinstance(node.value, ast.Name)
            and node.value.id in taken
        ]
    expect_none(wrong)


def test_core_is_pure():
    wrong = [
        f"{file}:{line} imports {module}: core is bytes in, values out"
        for file in TREES
        if room_of(file) == "core"
        for line, module, _, _ in imports_of(file)
        if module.partition(".")[0] in IMPURE
    ]
    wrong += [
        f"{file}:{node.lineno} opens a file: core is bytes in, values out"
        for file, tree in TREES.items()
        if room_of(file) == "core"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open"
    ]
    expect_none(wrong)


def test_only_a_few_modules_lie_at_the_top():
    loose = {file.removesuffix(".py") for file in TREES if "/" not in file}
    assert loose <= TOP, f"{sorted(loose - TOP)} lie at the top: find them a room"


def test_only_one_module_prints_and_sets_up_logs():
    """What others wrote is cleaned there: no escape sequence of theirs reaches a terminal."""
    forbidden = ("print", "sys.stdout.write", "sys.stderr.write", "logging.basicConfig",
                 "traceback.print_exc", "traceback.print_exception")  # fmt: skip
    expect_none([
        f"{file}:{node.lineno} calls {ast.unparse(node.func)}: plain.py says and logs"
        for file, tree in TREES.items()
        if file != "plain.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in forbidden
    ])  # fmt: skip


# -- wiring


def is_item(file: str, target: str, attribute: str) -> bool:
    """Whether this is a field of an item that was decoded from the tree, to be encoded again."""
    named = any(fnmatchcase(target, pattern) for pattern in ITEMS)
    return named and room_of(file) in ITEM_ROOMS and attribute in item_fields()


def matching(row: tuple[str, str, str, str], file: str, target: str, attribute: str) -> bool:
    return all(map(fnmatchcase, (file, target, attribute), row[:3]))


@pytest.mark.parametrize("private", [False, True], ids=["public", "private"])
def test_nobody_sets_the_attributes_of_another_object(private):
    wrong = [
        f"{file}:{line} sets {target}.{attribute} from outside: say what is meant by a method"
        for file, line, target, attribute in assignments()
        if attribute.startswith("_") is private
        and not is_item(file, target, attribute)
        and not any(matching(row, file, target, attribute) for row in ASSIGNED)
    ]
    expect_none(wrong)


def test_all_exceptions_of_the_wiring_are_needed():
    found = list(assignments())
    idle = [
        f"{row[0]}: nothing sets {row[1]}.{row[2]} any more, the exception can go"
        for row in ASSIGNED
        if not any(matching(row, file, target, attribute) for file, _, target, attribute in found)
    ]
    expect_none(idle)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def f(x):\n x.y = 1", ["x.y"]),
        ("class A:\n def f(self, x):\n  self.y = 1; self.x.y += 1; del x.z", ["self.x.y", "x.z"]),
        ("for x.y in (): pass", ["x.y"]),
        ("with o() as (x.y, *x.z): pass", ["x.y", "x.z"]),
        ("x[0].y: int = 1", ["x[0].y"]),
        ("setattr(x, 'y', 1); setattr(x, y, 1)", ["x.y", "x.*"]),
        ("x.__dict__['y'] = 1; vars(x).update(y=1)", ["x.__dict__", "x.*"]),
        ("class A:\n @classmethod\n def f(cls, b: 'A'):\n  a = cls(); a.y = b.y = 1", []),
        ("class A:\n def f(self):\n  a = A()\n  def g():\n   a.y = self.y = 1", []),
        ("class A:\n def f(self):\n  b = B(); b.y = 1", ["b.y"]),
        ("def f(self, a: 'A'):\n  a.y = 1", ["a.y"]),
    ],
)
def test_the_search_for_assignments_finds_them(code, expected):
    visitor = Assignments()
    visitor.visit(ast.parse(code))
    assert [f"{target}.{attribute}" for _, target, attribute in visitor.found] == expected


# -- words


def unlike(there: dict[str, list[str]], exceptions: dict[str, str], what: str) -> list[str]:
    """What is there more than once without a reason, and the reasons that nothing needs."""
    return [
        f"{what} {name} is there {len(where)} times: {', '.join(where)}"
        for name, where in sorted(there.items())
        if len(where) > 1 and name not in exceptions
    ] + [f"{what} {name} is there once: the exception can go" for name in exceptions
         if len(there.get(name, [])) < 2]  # fmt: skip


def test_no_two_rooms_have_a_module_of_one_name():
    modules: dict[str, list[str]] = defaultdict(list)
    for file in TREES:
        name = Path(file).stem
        rooms = {room_of(other) for other in modules[name]}
        if name != "__init__" and room_of(file) not in rooms:
            modules[name].append(file)
    wrong = unlike(modules, SAME_MODULES, "a module")
    expect_none(wrong)


def test_one_name_means_one_type():
    """Private ones count as well, without their underscore: `_Found` and `Found` read alike."""
    types: dict[str, list[str]] = defaultdict(list)
    for file in TREES:
        for name, line in types_of(file):
            types[name.lstrip("_")].append(f"{file}:{line}")
    wrong = unlike(types, SAME_TYPES, "a type")
    expect_none(wrong)


def test_every_room_says_what_lives_there():
    wrong = []
    for file, tree in TREES.items():
        if file.endswith("/__init__.py"):
            lines = [line for line in (ast.get_docstring(tree) or "").splitlines() if line.strip()]
            if len(lines) < DOCSTRING_LINES_MIN:
                wrong.append(
                    f"{file} says in {len(lines)} lines what lives there, what does not, and which "
                    f"way data goes: at least {DOCSTRING_LINES_MIN}"
                )
    expect_none(wrong)


# -- sizes


def test_what_is_large_has_a_reason():
    found = {
        name: f"{count} {unit}"
        for name, count, unit in sizes()
        if count > (LINES_MAX if unit == "lines" else METHODS_MAX)
    }
    wrong = [
        f"{name} has {size}: look for the second idea in it, or give a reason in REASONS"
        for name, size in found.items()
        if name not in REASONS
    ]
    wrong += [
        f"{name} is not large any more: its reason can go"
        for name in sorted(REASONS.keys() - found)
    ]
    expect_none(wrong)


def test_reasons_are_sentences():
    reasons = [*REASONS.values(), *SAME_MODULES.values(), *SAME_TYPES.values()]
    reasons += [row[3] for row in ASSIGNED]
    assert all(len(reason.split()) >= 5 for reason in reasons)
