"""A newcomer's way: README's "Two friends and you", run as it stands, screen by screen.

Each person has a host with an address and an empty HOME of their own. Put in are only what a person
would: the line that somebody sent, the address of a friend, the words from the paper. Homes lie on
a disk of a terabyte that takes no room, so that the sizes of README fit on every machine.

`scripts/screens` writes docs/screens.md; a test holds it to what is printed today.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from hashlib import blake2b
from pathlib import Path

from asked import until
from hosts import LIMIT, Hosts, missing, sh

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "screens.md"
SECTION = re.compile(r"(?s)### Two friends and you\n(.*?)\n### ")
BLOCK = re.compile(r"(?m)^    # (.+)\n((?:    .+\n)+)")  #: who, and what they type
PEOPLE = ("Anna", "Bert", "Carl")
ELSEWHERE = ", on a new computer"  #: behind a name: another, empty HOME
COLUMNS = 110
HEAD = """\
# First steps, screen by screen

What the commands of [Two friends and you](../README.md#two-friends-and-you) print.
`scripts/screens` makes this page by running them: three hosts, three empty homes. Keys, lines and
words are other ones each time.
"""


class Way(Hosts):
    """Three hosts, and who sits there."""

    lan = True

    def __init__(self, root):
        self.disk = root / "disk"
        self.disk.mkdir()
        sh("mount", "-t", "tmpfs", "-o", "size=1T", "tmpfs", self.disk)
        super().__init__(root, len(PEOPLE), "w")
        self.lost = root / "photos"  #: what was on the computer that is lost
        self.homes, self.lines, self.words = {}, {}, ""
        self.screens = []  # of each block of README: (who, what was typed, what was printed)

    def walk(self):
        """All of it, in order."""
        self.lay()
        for who, commands in blocks():
            self.screens.append([])
            people = names(who)
            if who.endswith(ELSEWHERE):
                self.lose(*people)
            for person in people:
                self.arrive(person)
                for command in commands:
                    self.type(person, command, shown=person == people[0])

    def arrive(self, person):
        """With nothing but some photos."""
        if person in self.homes:
            return
        number = len(list(self.disk.iterdir()))
        self.homes[person] = home = self.disk / f"{person.lower()}{number}"
        home.mkdir()
        if person == "Anna" and not self.words:
            photos(home / "photos")

    def lose(self, person):
        """The computer, with all that was on it, in one moment."""
        for pid in self.pids(person):
            os.kill(pid, signal.SIGKILL)
        home = self.homes.pop(person)
        sh("fusermount3", "-u", "-z", home / "vault")
        shutil.copytree(home / "photos", self.lost, symlinks=True)
        shutil.rmtree(home)

    def pids(self, person):
        """Of all that runs there."""
        return [int(pid) for pid in sh("ip", "netns", "pids", self.host(person)).stdout.split()]

    def host(self, person):
        return f"{self.name}h{PEOPLE.index(person) + 1}"

    def type(self, person, command, shown):
        """One line, in a shell of that host."""
        typed = command.replace("LINE", self.lines.get(person, "LINE"))
        typed = typed.replace("HOST:PORT", "10.77.0.3:4000")
        home = self.homes[person]
        env = {"HOME": str(home), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
               "LANG": "C.UTF-8", "TZ": "UTC",
               "PYTHONUNBUFFERED": "1"}  # fmt: skip
        with open(self.root / "screen", "w+") as screen:
            done = subprocess.run(
                ["nsenter", f"--net=/run/netns/{self.host(person)}", "sh", "-c", typed], env=env,
                input=self.words, text=True, cwd=home, timeout=LIMIT, check=False, stdout=screen,
                stderr=screen,
            )  # fmt: skip
            screen.seek(0)
            printed = screen.read()
        assert done.returncode == 0, (typed, printed)
        if typed.endswith("&"):
            until((home / "shelf" / "control").exists, LIMIT, "no supplier runs")
        if found := re.search(r"(?m)^bitdust-join-\S+", printed):
            self.lines[typed.split()[-1]] = found.group()
        if typed == "bitdust key words":
            self.words = printed
        if shown:
            self.screens[-1].append((person, command, printed))

    def close(self):
        for home in self.homes.values():
            sh("fusermount3", "-u", "-z", home / "vault", check=False)
        for person in PEOPLE:
            for pid in self.pids(person):
                os.kill(pid, signal.SIGTERM)
            until(lambda who=person: not self.pids(who), LIMIT, "they do not end")
        super().close()
        sh("umount", "-l", self.disk)

    def page(self):
        """The screens as docs/screens.md has them."""
        same = Same(self.disk)
        parts = [HEAD]
        for (who, _), group in zip(blocks(), self.screens, strict=True):
            parts += [f"{who}:\n", "```"]
            for person, command, printed in group:
                parts.append(f"{person.lower()}$ {command}")
                parts += folded(same.of(printed))
            parts.append("```\n")
        return "\n".join(parts)


class Same:
    """What is another one each time becomes one that is always the same."""

    def __init__(self, disk):
        self.home = re.compile(re.escape(str(disk)) + r"/([a-z]+)\d")
        self.known = {}

    def of(self, printed):
        printed = self.home.sub(r"/home/\1", printed)
        printed = re.sub(r"\b[0-9a-f]{16,64}\b", self._hexadecimal, printed)
        printed = re.sub(r"\b\d+ s ago", "1 s ago", printed)
        printed = re.sub(r"bitdust-join-1-\S+", "bitdust-join-1-k8QBxA...", printed)
        printed = re.sub(r"(?m)^([a-z]+ ){23}[a-z]+$", "abandon " * 23 + "art", printed)
        return printed

    def _hexadecimal(self, found):
        number = self.known.setdefault(found.group()[:16], len(self.known))
        return blake2b(b"%d" % number).hexdigest()[: len(found.group())]


def blocks():
    """Who types, and the lines, as README has them."""
    section = SECTION.search((ROOT / "README.md").read_text()).group(1)
    found = BLOCK.findall(section)
    assert found and {*names(", ".join(who for who, _ in found))} == {*PEOPLE}
    return [(who, [line.strip() for line in lines.splitlines()]) for who, lines in found]


def names(who):
    """Those whom the first line of a block names."""
    return who.replace(ELSEWHERE, "").split(", ")


def folded(printed):
    """As in a terminal that is not wider."""
    for line in printed.splitlines():
        yield from textwrap.wrap(line, COLUMNS, break_long_words=False, break_on_hyphens=False)


def photos(folder):
    """As people have them: a folder, large and small files, a link, none of them alike."""
    rng = random.Random(15)
    (folder / "2026" / "summer").mkdir(parents=True)
    for number in range(6):
        (folder / "2026" / "summer" / f"{number}.jpg").write_bytes(rng.randbytes(700_000))
    (folder / "2026" / "notes.txt").write_text("at the lake\n")
    (folder / "empty").touch()
    (folder / "best.jpg").symlink_to("2026/summer/3.jpg")


def main():
    if why := missing():
        sys.exit(why)
    with tempfile.TemporaryDirectory() as folder:
        way = Way(Path(folder))
        try:
            way.walk()
        finally:
            way.close()
    PAGE.write_text(way.page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
