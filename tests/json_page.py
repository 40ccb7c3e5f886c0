"""docs/json.md, made from the statements themselves: `python tests/json_page.py` writes it."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE, SOURCE = ROOT / "docs" / "json.md", ROOT / "bitdustfs" / "mount" / "statements.py"
PRINTED = {
    "Status": "`bitdust status --json`",
    "SupplierLine": "each line of `bitdust suppliers --json`, and of `suppliers` in a status",
    "ReserveLine": "each line of `bench` in a status",
    "VisitLine": "each line of `visits` in a status",
    "Synced": "`bitdust sync --json`",
    "VerifyOutcome": "`bitdust verify --json`",
    "RebuildOutcome": "`bitdust rebuild --json`",
    "PolicySaid": "`bitdust vault set --json`",
    "GoneLine": "each line of `bitdust supplier forgive --json`",
}
HEAD = """# What `--json` prints

One line of JSON, made of the structs in `bitdustfs/mount/statements.py`. Fields may be added. One
that is renamed, dropped or means something else raises `version`. Sizes are bytes, times Unix
seconds, periods seconds; nodes, vaults and blocks are hexadecimal. `kind` names the statement. This
page is made by `tests/json_page.py`.
"""


def page():
    """The page as it should be."""
    lines = SOURCE.read_text().splitlines()
    parts = [HEAD]
    for node in ast.parse(SOURCE.read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name in PRINTED:
            parts.append(
                f"## {node.name}\n\n{PRINTED[node.name]}\n\n| field | type | |\n|---|---|---|"
            )
            for field in node.body:
                if isinstance(field, ast.AnnAssign):
                    what = lines[field.end_lineno - 1].partition("#: ")[2].replace("|", "or")
                    kind = ast.unparse(field.annotation).replace("|", "or")
                    parts.append(f"| `{field.target.id}` | {kind} | {what} |")
            parts.append("")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page())
