"""What changed between two looks, in sentences. Pure: two views in, sentences out.

Nothing is kept of what happened while nobody looked.
"""

from collections.abc import Iterator, Mapping

from bitdustfs.mount.statements import Status, SupplierLine
from bitdustfs.web.views import MountView, SupplierView

NODE_DIGITS = 16  #: hexadecimal digits by which a node or a vault is called


def mounts_changed(before: list[MountView], after: list[MountView]) -> list[str]:
    """Mounts that came, went, fell silent or say something else of themselves."""
    old, said = {mount.id: mount for mount in before}, list[str]()
    for mount in after:
        was = old.pop(mount.id, None)
        if was is None:
            said.append(f"{mount.mountpoint} is mounted: {mount.verdict}")
        elif (was.status is None) != (mount.status is None):
            again = "" if mount.status is None else "answers again: "
            said.append(f"{mount.mountpoint}: {again}{mount.verdict}")
        elif was.status is not None and mount.status is not None:
            said += _status_changed(was.status, mount.status, mount)
    return said + [f"{mount.mountpoint} is not mounted any more" for mount in old.values()]


def suppliers_changed(before: list[SupplierView], after: list[SupplierView]) -> list[str]:
    """The same of suppliers on this machine, and for whom they keep something."""
    old, said = {one.id: one for one in before}, list[str]()
    for one in after:
        was = old.get(one.id)
        if was is None or (was.told is None) != (one.told is None):
            said.append(one.said)
        elif one.told is not None and was.told is not None:
            if one.told.state != was.told.state:
                said.append(f"the supplier in {one.folder} is {one.told.state} now")
            said += _customers_changed(was, one)
    return said


def _status_changed(was: Status, status: Status, mount: MountView) -> Iterator[str]:
    if was.judged != status.judged or was.read_only != status.read_only:
        yield f"{mount.mountpoint}: {mount.verdict}"
    old = {line.position: line for line in was.suppliers}
    for line in status.suppliers:
        if line.position in old:
            yield from _line_changed(old[line.position], line, mount.names)
    everybody = len(status.suppliers)
    if status.complete == everybody and was.complete < everybody:
        yield f"{mount.mountpoint}: all {everybody} suppliers have everything"
    if status.rebuilding.total and not was.rebuilding.total:
        yield f"{mount.mountpoint}: rebuilding began, {status.rebuilding.total} blocks"
    if was.rebuilding.total and not status.rebuilding.total:
        yield f"{mount.mountpoint}: rebuilding came to its end"


def _line_changed(was: SupplierLine, line: SupplierLine, names: Mapping[str, str]) -> Iterator[str]:
    called = f"{_called(line.node, names)}, at position {line.position},"
    if was.node != line.node:
        yield f"{called} takes the place of {_called(was.node, names)}"
        return
    if was.state != line.state:
        yield f"{called} is {line.state} now, and was {was.state}"
    if line.lacks > was.lacks:
        yield f"{called} was found without {_fragments(line.lacks - was.lacks)}"


def _customers_changed(was: SupplierView, one: SupplierView) -> Iterator[str]:
    old, now = ({line.vault for line in view.customers} for view in (was, one))
    for vault in sorted(now - old):
        yield f"the supplier in {one.folder} keeps something for {_vault(vault, one.names)} now"
    for vault in sorted(old - now):
        yield f"the supplier in {one.folder} keeps nothing for {_vault(vault, was.names)} any more"


def _called(node: str, names: Mapping[str, str]) -> str:
    return names.get(node) or f"supplier {node[:NODE_DIGITS]}"


def _vault(vault: str, names: Mapping[str, str]) -> str:
    return names.get(vault) or f"vault {vault[:NODE_DIGITS]}"


def _fragments(count: int) -> str:
    return "a fragment" if count == 1 else f"{count} fragments"
