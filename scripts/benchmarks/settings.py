"""What a run is made of: sizes, counts and limits, all of them options of the command."""

from dataclasses import dataclass

MIB = 1 << 20
GIB = 1 << 30


class Failed(Exception):
    """A scene could not be measured. The message is a sentence for whoever reads the result."""


@dataclass(frozen=True)
class Settings:
    """Sizes are MiB, periods seconds."""

    big: int = 512  #: the file that is written and read in sequence and at random
    files: int = 2000  #: files of 4 KiB that are created, looked at, renamed and unlinked
    random: int = 2000  #: reads and writes of 4 KiB at random
    small: int = 10_000  #: files of 4 KiB that are created, published, and read on another machine
    many: tuple[int, ...] = (1000, 100_000)  #: files of vaults that are mounted anew
    grow: tuple[int, ...] = ()  #: sizes at which publishing is measured beside `big`
    busy: int = 2048  #: what is copied while others look at small files
    idle: int = 300  #: how long a mount is watched that has nothing to do
    k: int = 4
    n: int = 7
    rounds: int = 3
    limit: int = 1200  #: how long one step may take


#: to see that all works: the figures mean little
QUICK = Settings(
    big=64, files=200, random=300, small=300, many=(100, 1000), busy=64, idle=5, rounds=1, limit=300
)
