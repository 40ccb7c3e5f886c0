"""The package as syntax trees: what tests/t0_core/test_house.py asks of them."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "bitdustfs"
#: path of each file in the package -> its tree
TREES = {
    path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text())
    for path in sorted(PACKAGE.rglob("*.py"))
}


def room_of(file: str) -> str:
    """The room of a file, or the name of a module at the top."""
    return file.partition("/")[0].removesuffix(".py")


def imports_of(file: str) -> Iterator[tuple[int, str, str, str]]:
    """(line, module, name taken from it or "", local name) of each import; modules in full."""
    for node in ast.walk(TREES[file]):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, "", alias.asname or alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            here = ("bitdustfs/" + file).split("/")[: -node.level] if node.level else []
            module = ".".join([*here, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, module, alias.name, alias.asname or alias.name


def types_of(file: str) -> Iterator[tuple[str, int]]:
    """(name, line) of each class, and of each alias at the top of a file, like `Reply = A | B`."""
    for node in ast.walk(TREES[file]):
        if isinstance(node, ast.ClassDef):
            yield node.name, node.lineno
    for node in TREES[file].body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and re.fullmatch(r"_?[A-Z]\w*[a-z]\w*", target.id):
            yield target.id, node.lineno


def sizes() -> Iterator[tuple[str, int, str]]:
    """(file, lines, "lines") and ("file:Class", public methods, "public methods") of all."""
    for file, tree in TREES.items():
        yield file, len((PACKAGE / file).read_text().splitlines()), "lines"
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                methods = {
                    method.name
                    for method in node.body
                    if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
                }
                public = [name for name in methods if not name.startswith("_")]
                yield f"{file}:{node.name}", len(public), "public methods"


@cache
def item_fields() -> set[str]:
    """Names of the fields of all structs in core.items."""
    return {
        field.target.id
        for node in ast.walk(TREES["core/items.py"])
        if isinstance(node, ast.ClassDef)
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }


class Assignments(ast.NodeVisitor):
    """Collects (line, object, attribute) of all that is assigned to others than self and cls.

    An object of the class whose method assigns counts as its own: one that was made there by
    `cls()`, `__new__` or the class's name, or an argument that is annotated with the class.
    """

    def __init__(self) -> None:
        self.found: list[tuple[int, str, str]] = []
        self._class = ""
        self._own = {"self", "cls"}

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        outer, self._class = self._class, node.name
        self.generic_visit(node)
        self._class = outer

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        outer, self._own = self._own, self._own | self._siblings_in(node)
        self.generic_visit(node)
        self._own = outer

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """Wherever a target stands (=, +=, for, with, del, unpacking), its context says so."""
        if isinstance(node.ctx, ast.Store | ast.Del):
            self._note(node.lineno, node.value, node.attr)
        elif node.attr == "__dict__":
            self._note(node.lineno, node.value, "__dict__")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        called = ast.unparse(node.func)
        setters = {"setattr", "delattr", "object.__setattr__", "object.__delattr__", "vars"}
        if called in setters and node.args:
            name = node.args[1] if len(node.args) > 1 else None
            known = name.value if isinstance(name, ast.Constant) else None
            attribute = known if isinstance(known, str) else "*"
            self._note(node.lineno, node.args[0], attribute)
        self.generic_visit(node)

    def _note(self, line: int, target: ast.expr, attribute: str) -> None:
        if not (isinstance(target, ast.Name) and target.id in self._own):
            self.found.append((line, ast.unparse(target), attribute))

    def _siblings_in(self, function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
        if not self._class:
            return set()
        given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        own = {
            argument.arg
            for argument in given
            if argument.annotation is not None
            and ast.unparse(argument.annotation).strip("'\"") in (self._class, "Self")
        }
        makers = ("cls", self._class, "cls.__new__", f"{self._class}.__new__", "object.__new__")
        for node in ast.walk(function):
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.value, ast.Call)
                and ast.unparse(node.value.func) in makers
            ):
                own |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        return own


def assignments() -> Iterator[tuple[str, int, str, str]]:
    """(file, line, object, attribute) in the whole package."""
    for file, tree in TREES.items():
        visitor = Assignments()
        visitor.visit(tree)
        for line, target, attribute in visitor.found:
            yield file, line, target, attribute
