"""What `status` warns of: one function a reason, "" for nothing.

Most are of one supplier's line.
"""

from collections.abc import Callable, Sequence

from bitdustfs.mount.statements import SupplierLine

NAME_DIGITS = 16  #: hexadecimal digits by which a node is called


def warning_of(line: SupplierLine) -> str:
    """The gravest thing to be said of a supplier, or ""."""
    return next((said for reason in REASONS if (said := reason(line))), "")


def thin_warning(blocks: int, lines: Sequence[SupplierLine]) -> str:
    """That some blocks are held by fewer suppliers than should, and for whom they wait."""
    if not blocks:
        return ""
    away = [_name(line) for line in lines if line.state != "online"]
    return (
        f"{blocks} blocks are published thinly: so few suppliers hold them that the loss of one "
        "more, and of this machine, loses them. This machine keeps its copies until "
        + (f"{' and '.join(away)} is back" if away else "the others take them")
    )


def _is_gone(line: SupplierLine) -> str:
    return f"{_name(line)} is to be replaced: it {line.gone}" if line.gone else ""


def _returned_damaged_data(line: SupplierLine) -> str:
    if not line.damaged:
        return ""
    return f"{_name(line)} returned damaged data {line.damaged} times"


def _is_full(line: SupplierLine) -> str:
    return f"{_name(line)} has much less room left than the others" if line.full else ""


def _is_own(line: SupplierLine) -> str:
    return f"{_name(line)} is on this very machine: it is lost with it" if line.own else ""


def _lacks_fragments(line: SupplierLine) -> str:
    if not line.lacks:
        return ""
    return (
        f"{_name(line)} lacks {line.lacks} fragments that it should have; "
        f"{line.audits_failed} of {line.audits} audits failed so far"
    )


def _name(line: SupplierLine) -> str:
    return f"supplier {line.node[:NAME_DIGITS]} at {line.address}"


#: the gravest first
REASONS: tuple[Callable[[SupplierLine], str], ...] = (
    _is_gone,
    _returned_damaged_data,
    _is_full,
    _lacks_fragments,
    _is_own,
)
