"""docs/json.md, made from the statements themselves: `python tests/json_page.py` writes it."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "json.md"
NAMES = (
    "mount/statements.py",
    "supplier/orders.py",
    "system/diagnosis.py",
    "cli/holdings.py",
    "cli/cmd_versions.py",
    "cli/cmd_rewind.py",
    "cli/cmd_codes.py",
    "cli/cmd_name.py",
    "cli/results.py",
)
SOURCES = [ROOT / "bitdustfs" / name for name in NAMES]
PRINTED = {
    "Diagnosis": "`bitdust doctor --json`",
    "Observation": "each line of `findings` in a diagnosis",
    "Status": "`bitdust status --json`",
    "SupplierLine": "each line of `bitdust suppliers --json`, and of `suppliers` in a status",
    "ReserveLine": "each line of `bench` in a status",
    "VisitLine": "each line of `visits` in a status",
    "RiskSaid": "`bitdust status --risk --json`",
    "RiskLine": "`risk` there and in a status",
    "FollowsLine": "`follows` in a status",
    "RemedyLine": "each line of `remedies` there",
    "Synced": "`bitdust sync --json`",
    "VerifyOutcome": "`bitdust verify --json`",
    "Version": "each line of `bitdust versions --json`, the oldest first",
    "SnapshotList": "`bitdust snapshot list --json`",
    "SnapshotLine": "`bitdust snapshot show --json`, and each of `snapshots` in a list",
    "ThinnedLine": "each line of `thinned` in a status and in a list of snapshots",
    "ScheduleSaid": "`bitdust snapshot schedule --json`",
    "SnapshotMade": "`bitdust snapshot create --json`",
    "SnapshotDropped": "`bitdust snapshot delete --json`",
    "PinsSaid": "`bitdust pins --json` and `bitdust unpin --json`",
    "PinLine": "`bitdust pin --json`, and each of `pins` there and in a status",
    "RebuildOutcome": "`bitdust rebuild --json`",
    "PolicySaid": "`bitdust vault set --json`",
    "NameLine": "each line of `bitdust name --json`",
    "Replaced": "`bitdust supplier replace --json`",
    "PastLine": "each line of `bitdust vault rewind --json`, the oldest first",
    "CodeLine": "each line of `bitdust vault codes --json`",
    "SupplierSelf": "`bitdust supplier status --json`, also of `pause`, `resume` and `set`",
    "RelaySelf": "`relay` in a supplier's status",
    "CustomerLine": "each line of `bitdust supplier customers --json`",
    "VaultMade": "`bitdust vault create --json`",
    "FounderLine": "each line of `suppliers` of a new vault",
    "VaultRecovered": "`bitdust vault recover --json`",
    "VaultRefounded": "`bitdust vault refound --json`",
    "VaultDeleted": "`bitdust vault delete --json`",
    "DeletionLine": "each line of `suppliers` there",
    "UnmountSaid": "`bitdust unmount --json`",
    "KeySaid": "`bitdust key show --json`",
    "DealSaid": "`bitdust join --json`",
    "FriendLine": "each line of `bitdust friends --json`",
    "VaultLine": "each line of `bitdust list --json`",
    "ContractLine": "each line of `contracts` there",
    "GoneLine": "each line of `bitdust supplier forgive --json`",
}
HEAD = """# What `--json` prints

One line of JSON, made of the structs in `bitdustfs/mount/statements.py`,
`bitdustfs/supplier/orders.py`, `bitdustfs/system/diagnosis.py`, `bitdustfs/cli/holdings.py`,
`bitdustfs/cli/cmd_versions.py`, `bitdustfs/cli/cmd_rewind.py`, `bitdustfs/cli/cmd_codes.py`,
`bitdustfs/cli/cmd_name.py` and `bitdustfs/cli/results.py`. Only that line goes to standard output;
sentences go to standard error. Fields may be added. One that is renamed, dropped or means something
else raises `version`. Sizes are bytes, times Unix seconds, periods seconds; nodes, vaults and
blocks are hexadecimal. `kind` names the statement. This page is made by `tests/json_page.py`.
"""


def page():
    """The page as it should be."""
    return "\n".join([HEAD, *(part for source in SOURCES for part in parts_of(source))])


def parts_of(source):
    """The tables of one module."""
    lines, parts = source.read_text().splitlines(), []
    for node in ast.parse(source.read_text()).body:
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
    return parts


if __name__ == "__main__":
    PAGE.write_text(page())
