"""XML of routers: small, flat, and written by anybody. No I/O.

Document types are refused, and with them entities: what is small stays small (billion laughs), and
nothing leads to a file or another host (CWE-611, CWE-776).
"""

from typing import NamedTuple, NoReturn
from xml.parsers import expat

from bitdustfs.errors import Malformed

DEPTH_MAX, ELEMENTS_MAX = 32, 2000


class Element(NamedTuple):
    """`path`: its name behind those it is in, without prefixes; `text`: without outer spaces."""

    path: tuple[str, ...]
    text: str


def read_xml_untrusted(data: bytes) -> list[Element]:
    """The elements in the order of their ends. Raises Malformed."""
    reader = _Collecting()
    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = reader.start, reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = reader.refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise Malformed(f"what the router says is no XML: {error}") from None
    return reader.ended


class _Collecting:
    """What expat calls."""

    def __init__(self) -> None:
        self.ended: list[Element] = []
        self._path: list[str] = []
        self._texts: list[list[str]] = []
        self._count = 0

    def start(self, name: str, attributes: object) -> None:
        self._count += 1
        if len(self._path) == DEPTH_MAX or self._count > ELEMENTS_MAX:
            raise Malformed("what the router says is nested too deeply, or too long")
        self._path.append(name.rpartition(":")[2])
        self._texts.append([])

    def text(self, said: str) -> None:
        self._texts[-1].append(said)

    def end(self, name: str) -> None:
        self.ended.append(Element(tuple(self._path), "".join(self._texts.pop()).strip()))
        self._path.pop()

    def refuse(self, *words: object) -> NoReturn:
        raise Malformed("what the router says has a document type")
