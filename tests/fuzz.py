"""Every parser of untrusted bytes under a coverage-guided fuzzer: scripts/fuzz [SECONDS] [NAME]...

The suite tries the same parsers by hypothesis (t2_net/test_parsers.py). Here each of them gets so
many seconds (600 unless told) and a process of its own, in which atheris sees what code an input
reaches, and goes on from there. What is signed is also changed inside and signed again. Besides
them there are three that take more than one message:

    a supplier       frames that come in from an owner, all answered; then what its guard works out
    an owner         records that a vault's owner signs, whatever they say, at a supplier
    a node           datagrams, genuinely signed, at a node of the DHT

They begin with what really goes over the wire: a session with a supplier and a small DHT are run
first, and every message is kept as a seed. A finding is an exception other than Malformed, or one
input that takes ten seconds or a gigabyte. It ends its process; its input is printed.

    --table FILE     adds one JSON line for each to FILE, and leaves out those that are in it: a run
                     that was ended goes on, and shorter runs make one table
    --sum FILE       says what a table comes to, and tries nothing
    --list           prints the names

A line of the table: `name`, `seconds`, `inputs` tried, `edges` of the program's code that they
reached, `last`: the number of the input that was the last to reach a new one, and `found`: the
inputs of a finding, in hexadecimal.

The script installs atheris, which is not among the packages of the tests.
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

import atheris
import trio
import trio.testing

sys.path.insert(0, str(Path(__file__).parent / "t2_net"))
with atheris.instrument_imports(include=["bitdustfs"]):
    from family import BALLOT, KEY, claim_of, family_of, make_block, root_of
    from nacl.signing import SigningKey
    from sybils import Network, live
    from test_parsers import JOIN_LINE, PLAIN, SIGNED, TOKEN, body_of, signed_again

    from bitdustfs.core.records import (
        BlockDead,
        Family,
        Features,
        Group,
        Member,
        Root,
        StandDown,
        family_hash,
        family_records,
        seal_record,
    )
    from bitdustfs.errors import Malformed
    from bitdustfs.net import wire
    from bitdustfs.net.dht import datagram
    from bitdustfs.net.dht.datagram import Contact
    from bitdustfs.net.dht.node import Dht
    from bitdustfs.supplier.memory import MemorySupplier
    from bitdustfs.supplier.service import SupplierService
    from bitdustfs.supplier.session import Session
    from bitdustfs.supplier.shelf import MemoryShelf
    from bitdustfs.units import GIB, KIB

SECONDS = 600  #: for each
PROGRESS = re.compile(r"^#(\d+)\s+\S+\s+cov: (\d+)", re.MULTILINE)  #: a line of libFuzzer's
HERE, THERE = ("8.8.8.8", 4000), ("9.9.9.9", 4000)
NODE, OTHER = SigningKey(b"n" * 32), SigningKey(b"o" * 32)
OWN = NODE.verify_key.encode()
OWNER = Session(KEY.vault_id, "owner")
FRIEND = Session(OTHER.verify_key.encode(), "friend", OTHER.verify_key.encode())
CLAIM = claim_of()
FAMILY = family_of(OWN)
ROOT = root_of(FAMILY)
HEADER, FRAGMENTS = make_block(bytes(range(256)) * 300)
BLOCK = b"b" * 16


# -- what really goes over the wire


async def talk(supplier):
    """A session of an owner with a supplier, with one request of each kind."""
    fragment = FRAGMENTS[0]
    await supplier.promise(GIB, 2_000_000_000)
    await supplier.prepare(CLAIM, False)
    await supplier.accept(ROOT, FAMILY, CLAIM)
    await supplier.put(BLOCK, 0, CLAIM, HEADER, fragment.chunks, fragment.payload)
    await supplier.head(BLOCK, 0)
    await supplier.read(BLOCK, 0, 0, 1000)
    for question in (
        supplier.list, supplier.usage, supplier.current, supplier.ping, supplier.kin,
        supplier.warrants, supplier.visits, supplier.hurry,
    ):  # fmt: skip
        await question()
    down = StandDown(KEY.vault_id, OWN, 1, 0)
    await supplier.stand_down(seal_record(KEY.signing, "stand-down", down), CLAIM)
    dead = BlockDead(KEY.vault_id, BLOCK, BALLOT, 1)
    await supplier.kill(seal_record(KEY.signing, "block-dead", dead), CLAIM)
    await supplier.renew(CLAIM)
    await supplier.release(CLAIM)


class Overheard(MemorySupplier):
    """A supplier whose requests and replies are written down as frames."""

    def __init__(self):
        super().__init__(SupplierService(NODE, MemoryShelf(), GIB), KEY.vault_id)
        self.requests, self.replies = [], []

    async def call(self, request, payload=b""):
        self.requests.append(wire.encode_frame(1, request, len(payload)) + bytes(payload))
        reply, data = await super().call(request, payload)
        self.replies.append(wire.encode_frame(1, reply, len(data)) + data)
        return reply, data


@cache
def overheard():
    """(requests, replies) of a session, as frames."""
    supplier = Overheard()
    trio.run(talk, supplier)
    opening = wire.Open(wire.VERSION, "owner", KEY.vault_id, bytes(64))
    challenge = wire.Challenge(wire.VERSION, bytes(32))
    fault = wire.Fault("fenced", "another machine", CLAIM)
    attest = wire.encode_frame(1, wire.Attest(0))
    join = wire.encode_frame(1, wire.Join(TOKEN, JOIN_LINE))
    to_relay = (
        wire.Standby(wire.VERSION), wire.Through(wire.VERSION, KEY.vault_id),
        wire.Meeting(wire.VERSION, bytes(32)), wire.Facing(wire.VERSION, KEY.vault_id),
        wire.Whence(wire.VERSION, bytes(32)),
        wire.Punch(wire.VERSION, "owner", KEY.vault_id, bytes(64)),
    )  # fmt: skip
    openings = [wire.encode_frame(0, message) for message in (opening, *to_relay)]
    called, seen = wire.Called(bytes(32)), wire.SeenAt("8.8.8.8:4000", "[2001:db8::1]:65535")
    return [*openings, attest, join, *supplier.requests], [
        *(wire.encode_frame(0, message) for message in (challenge, fault, called, seen)),
        *supplier.replies,
    ]  # fmt: skip


@cache
def datagrams():
    """One datagram of each kind, and more of a small DHT."""
    kept = {}

    async def listen():
        send = Network.send

        def heard(self, data, source, target):
            with suppress(Malformed):
                kept.setdefault(type(datagram.open_datagram_untrusted(data).message), []).append(
                    data
                )
            send(self, data, source, target)

        Network.send = heard
        await live(12, 0.0, 5)
        Network.send = send

    trio.run(listen, clock=trio.testing.MockClock(autojump_threshold=0))
    return [data for several in kept.values() for data in random.Random(1).sample(several, 3)]


# -- what takes more than one message


def contracted():
    """A supplier with which the owner has a contract, and that keeps something."""
    service = SupplierService(NODE, MemoryShelf(), GIB)
    fragment = FRAGMENTS[0]
    for request, payload in (
        (wire.Promise(GIB, 2_000_000_000), b""),
        (wire.Prepare(CLAIM, False), b""),
        (wire.Accept(ROOT, FAMILY, CLAIM), b""),
        (wire.Put(BLOCK, 0, CLAIM, HEADER, fragment.chunks), fragment.payload),
    ):
        service.handle(OWNER, request, payload)
    return service


def look_around(service):
    """What a supplier works out of what it keeps, without being asked."""
    row = service.shelf.vault(KEY.vault_id)
    kin, family = service.kinship, service.kinship.family(KEY.vault_id, row)
    service.housekeeping.offer()
    service.housekeeping.make_room()
    service.housekeeping.tidy()
    service.read_proof(KEY.vault_id)
    if family is not None:
        for _ in range(2):
            kin.observe(KEY.vault_id, family, ())
        kin.absent(KEY.vault_id, family, family.members[0].node)
        kin.stand_ins(KEY.vault_id, row)
    for request in (wire.Kin(), wire.Current(), wire.Attest(0), wire.Warrants(()), wire.Usage()):
        reply, _ = service.handle(OWNER, request, b"")
        wire.encode_frame(1, reply)


def at_a_supplier(data):
    service, decoder = contracted(), wire.FrameDecoder(from_server=False)
    decoder.feed(data)
    while (frame := decoder.next_untrusted()) is not None or decoder.asked is not None:
        if frame is None:
            refusal = service.refuse_head(OWNER, decoder.asked.message, decoder.asked.length)
            decoder.refuse(refusal) if refusal else decoder.admit()
        elif isinstance(frame.message, wire.Request):
            for session in (OWNER, FRIEND):
                reply, payload = service.handle(session, frame.message, frame.payload)
                wire.encode_frame(1, reply, len(payload))
    look_around(service)


def requests_with(record):
    """Requests by which an owner hands in a record of its own, by what the record is signed as."""
    return {
        "root": wire.Accept(record, FAMILY, CLAIM),
        "ballot": wire.Prepare(record, True),
        "block": wire.Put(BLOCK, 1, CLAIM, record, FRAGMENTS[1].chunks),
        "block-dead": wire.Kill(record, CLAIM),
        "stand-down": wire.StandDown(record, CLAIM),
    }


KINDS = ["family", *requests_with(b"")]
MEMBERS = [Member(bytes([number]) * 32, ("8.8.8.8:4000",), GIB) for number in range(4)]
#: a family that uses every field
RICH = Family(
    1, Features(), KEY.vault_id, 1, bytes(32), bytes(32),
    (Group(2, 1, (Member(OWN, ("127.0.0.1:5000",), GIB), *MEMBERS[:2])),),
    tuple(MEMBERS[2:3]), {"patience": 60, "margin": 2, "lineage:3": 7, "refounded:1": 5},
    tuple(MEMBERS[3:]), b"s" * 32,
)  # fmt: skip
GENUINE = {
    "family": seal_record(KEY.signing, "family", RICH),
    "root": ROOT, "ballot": CLAIM, "block": HEADER,
    "block-dead": seal_record(KEY.signing, "block-dead", BlockDead(KEY.vault_id, BLOCK, BALLOT, 1)),
    "stand-down": seal_record(KEY.signing, "stand-down", StandDown(KEY.vault_id, OWN, 1, 0)),
}  # fmt: skip


def by_an_owner(data):
    """The first byte says which record; a family comes with a root that names it."""
    service, kind = contracted(), KINDS[data[0] % len(KINDS)] if data else KINDS[0]
    record = signed_again(data[1:], KEY.signing, kind)
    if kind == "family":
        request = wire.Accept(root_naming(record), record, CLAIM)
    else:
        request = requests_with(record)[kind]
    service.handle(OWNER, request, FRAGMENTS[1].payload)
    look_around(service)


def root_naming(family):
    """A signed root that names a signed family. Raises Malformed where it has no epoch."""
    epoch = family_records.peek_untrusted(family).epoch
    body = Root(
        1, Features(), KEY.vault_id, BALLOT, 2, bytes(16), bytes(16), 0, epoch,
        family_hash(family), 0, b"sealed",
    )  # fmt: skip
    return seal_record(KEY.signing, "root", body)


class Nowhere:
    """A socket that loses everything."""

    def getsockname(self):
        return HERE

    async def sendto(self, data, address):
        pass


async def at_a_node_of(body):
    node = Dht(NODE, True, False, Nowhere)
    node._meet(Contact(b"c" * 20, "7.7.7.7", 4000))
    token = node._tokens.given_to(THERE)
    with suppress(Malformed):
        heard = datagram._bodies.open_untrusted(
            signed_again(body, OTHER, "datagram"), OTHER.verify_key.encode()
        )
        answer = datagram.Body(
            heard.version, OTHER.verify_key.encode(), heard.serves, heard.id, token, heard.message
        )
        await node._received(datagram.encode_datagram(OTHER, answer), THERE)
        if isinstance(heard.message, datagram.ContactsAre):
            named = [c for c in heard.message.contacts if node._acceptable(c.endpoint)]
            for contact in named:
                node._meet(contact)
                node._tables.nearest(contact.id, 20)
        if isinstance(heard.message, datagram.RecordIs):
            datagram.record_seq_untrusted(OTHER.verify_key.encode()[:20], heard.message.record)


def at_a_node(data):
    trio.run(at_a_node_of, data)


def frames(from_server):
    def parse(data):
        decoder = wire.FrameDecoder(from_server)
        decoder.feed(data)
        while decoder.next_untrusted() is not None or decoder.asked is not None:
            if decoder.asked is not None:
                decoder.admit()

    return parse


def inside(parse, key, kind):
    """A parser of signed records as one of what is signed."""
    return lambda body: parse(signed_again(body, key, kind))


def targets():
    """Name -> (what takes bytes, seeds)."""
    found = {name: (parse, [raw]) for name, (parse, raw, *_) in (PLAIN | SIGNED).items()}
    for name, (parse, raw, key, kind) in SIGNED.items():
        found[f"{name}, signed"] = (inside(parse, key, kind), [body_of(raw)])
    requests, replies = overheard()
    found["requests"] = frames(False), requests
    found["replies"] = frames(True), replies
    found["a supplier"] = at_a_supplier, [*requests, b"".join(requests)]
    found["an owner"] = (
        by_an_owner,
        [bytes([number]) + body_of(GENUINE[kind]) for number, kind in enumerate(KINDS)],
    )
    found["a node"] = at_a_node, [body_of(raw) for raw in datagrams()]
    return found


def fuzz(name, seconds, folder):
    """This process tries one parser until the time is over, or something is found."""
    parse, seeds = targets()[name]
    corpus = Path(folder) / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(seeds):
        (corpus / str(number)).write_bytes(seed)

    def one(data):
        with suppress(Malformed):
            parse(data)

    longest = max(2 * max(map(len, seeds)), 4 * KIB)
    atheris.Setup(
        [
            "fuzz", str(corpus), f"-max_total_time={seconds}", f"-max_len={longest}",
            f"-artifact_prefix={folder}/", "-timeout=10", "-rss_limit_mb=1024",
            "-print_final_stats=1", "-use_value_profile=1",
        ],
        one,
    )  # fmt: skip
    atheris.Fuzz()


def coverage(log):
    """(inputs, edges, last) of what libFuzzer printed: see the lines of a table.

    New values at known places do not count. Zeros where no input was tried.
    """
    seen = [(int(number), int(edges)) for number, edges in PROGRESS.findall(log)]
    most = max((edges for _, edges in seen), default=0)
    last = next((number for number, edges in seen if edges == most), 0)
    return max((number for number, _ in seen), default=0), most, last


def tried(name, seconds):
    """(a table's line, what is to be shown of a finding) of one parser in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, __file__, "--one", name, str(seconds), folder],
            capture_output=True, text=True, errors="replace", check=False,
        )  # fmt: skip
        inputs, edges, last = coverage(done.stderr)
        found = [path.read_bytes().hex() for path in Path(folder).iterdir() if path.is_file()]
    line = {"name": name, "seconds": seconds, "inputs": inputs, "edges": edges, "last": last}
    if not done.returncode:
        return line, ""
    return line | {"found": found}, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"


def lines_of(path):
    """The lines of a table; none where there is no file yet."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def summary(lines):
    """What a table comes to, in words: how many, what was found, and how late new code came."""
    shares = sorted(line["last"] / max(1, line["inputs"]) for line in lines)
    late = [line["name"] for line in lines if line["last"] > 0.5 * line["inputs"]]
    return "\n".join([
        f"{len(lines)} parsers, {sum(line['inputs'] for line in lines):,} inputs, "
        f"{sum('found' in line for line in lines)} with a finding",
        "the last new code came after this share of a parser's inputs: "
        f"half of them {shares[len(shares) // 2]:.2%}, nine in ten "
        f"{shares[len(shares) * 9 // 10]:.2%}, the last {shares[-1]:.2%}",
        f"after more than half of them: {', '.join(late) or 'none'}",
    ])  # fmt: skip


def main(words):
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("seconds", nargs="?", type=int, default=SECONDS, metavar="SECONDS")
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--table", type=Path, metavar="FILE")
    parser.add_argument("--sum", type=Path, metavar="FILE")
    parser.add_argument("--list", action="store_true")
    said = parser.parse_intermixed_args(words)
    if said.list or said.sum:
        print("\n".join(targets()) if said.list else summary(lines_of(said.sum)))
        return 0
    there = {line["name"] for line in lines_of(said.table)} if said.table else set()
    failed = False
    for name in [name for name in said.names or targets() if name not in there]:
        line, shown = tried(name, said.seconds)
        share = line["last"] / max(1, line["inputs"])
        print(
            f"{name}: {line['inputs']:,} inputs, {line['edges']} edges, the last new one after "
            f"{line['last']:,} ({share:.1%}); {'FAILED' if shown else 'nothing found'}"
        )
        if shown:
            failed = True
            print(shown, *line["found"], sep="\n")
        sys.stdout.flush()
        if said.table:
            with said.table.open("a") as table:
                print(json.dumps(line), file=table)
    return 1 if failed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        fuzz(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    else:
        sys.exit(main(sys.argv[1:]))
