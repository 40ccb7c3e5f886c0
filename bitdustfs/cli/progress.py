"""A progress bar on the terminal for whatever says how far it is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bitdustfs.net.control import Progress


@contextmanager
def progress_bar(what: str, unit: str = "it") -> Iterator[Callable[[Progress], None]]:
    """What is called inside with each Progress moves the bar; none is shown without a terminal."""
    from tqdm import tqdm  # here: it takes a sixth of a second, and most commands show no bar

    with tqdm(unit=unit, desc=what, leave=False, disable=None, unit_divisor=1024) as bar:

        def show(progress: Progress) -> None:
            if progress.what:
                bar.set_description_str(progress.what, refresh=False)
            bar.unit, bar.unit_scale = progress.unit or unit, progress.unit == "B"
            total = progress.total or None
            if total != bar.total or progress.done < bar.n:  # another count: its rate is its own
                bar.reset(total)
            bar.n = progress.done
            bar.refresh()

        yield show
