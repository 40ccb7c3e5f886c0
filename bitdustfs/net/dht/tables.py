"""The contacts of a node over both versions of IP: a table for each, as two networks (BEP 32).

Whoever is asked over one version names those that he knows over it, and a few of the other: so a
node that reaches both finds its way into both, whichever it joined by.
"""

from collections.abc import Callable, Iterable, Iterator

from bitdustfs.net.dht.datagram import CONTACTS_MAX, Contact, Endpoint
from bitdustfs.net.dht.kad import ContactTable, K

OTHERS_NAMED = 4  #: contacts of the other version in one answer
FEW = 8  #: contacts of a version, with fewer than which those that are named are looked at


def family_of(host: str) -> int:
    """The version of IP of an address."""
    return 6 if ":" in host else 4


class Tables:
    """The tables of the node `own`; `check` is told whom to look after, see ContactTable."""

    def __init__(self, own: bytes, check: Callable[[Contact], None]) -> None:
        self._tables = {version: ContactTable(own, check) for version in (4, 6)}

    def _of(self, host: str) -> ContactTable:
        return self._tables[family_of(host)]

    def add(self, contact: Contact) -> None:
        """Takes a contact that just answered."""
        self._of(contact.host).add(contact)

    def remove(self, contact: Contact) -> None:
        """Drops a contact that does not answer at its address."""
        self._of(contact.host).remove(contact)

    def knows(self, contact: Contact) -> bool:
        """Whether its node is a contact over the same version of IP."""
        return self._of(contact.host).knows(contact.id)

    def has(self, contact: Contact) -> bool:
        """Whether its node is a contact at this very address."""
        return self._of(contact.host).has(contact)

    def nearest(self, target: bytes, count: int) -> list[Contact]:
        """Up to `count` contacts of each version."""
        return [c for table in self._tables.values() for c in table.nearest(target, count)]

    def starts(self, target: bytes) -> list[list[Contact]]:
        """Where look-ups begin: up to K contacts of each version of which there are any."""
        every = (table.nearest(target, K) for table in self._tables.values())
        return [near for near in every if near]

    def to_name(self, target: bytes, asker: Endpoint) -> list[Contact]:
        """Whom to name to who asks over one version."""
        own = family_of(asker[0])
        others = self._tables[10 - own].nearest(target, OTHERS_NAMED)
        return [*self._tables[own].nearest(target, CONTACTS_MAX - len(others)), *others]

    def of_the_other_family(self, asked: Contact, named: Iterable[Contact]) -> list[Contact]:
        """Those named who are to be looked at: of the other version, of which few are known."""
        own = family_of(asked.host)
        if sum(1 for _ in self._tables[10 - own]) >= FEW:
            return []
        return [c for c in named if family_of(c.host) != own]

    def hosts(self) -> Iterator[str]:
        """The addresses of all contacts, without their ports."""
        for table in self._tables.values():
            yield from table.hosts()

    def __iter__(self) -> Iterator[Contact]:
        for table in self._tables.values():
            yield from table
