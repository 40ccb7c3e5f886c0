"""Every parser of untrusted bytes: it returns, or raises Malformed, whatever comes.

Random bytes get no further than the first field. So there are four kinds of input: bytes that look
like msgpack, genuine bytes with some changed, cut out or put in, genuine values with one field
changed, and bodies that were changed so and then signed, or sealed, by whom it takes.
"""

import ast
from base64 import urlsafe_b64encode
from contextlib import suppress

import msgspec
import pytest
from family import BALLOT, KEY, claim_of, family_of, make_block, root_of
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey
from syntax import TREES
from test_hostile import msgpack_like

from bitdustfs.core import block, fragment, items, journal, leaves, quorum, records, roots, warrants
from bitdustfs.core.codec import Decoder, encode
from bitdustfs.core.hashing import digest, tagged
from bitdustfs.core.keys import node_id, sign
from bitdustfs.core.records import Place, Signed, seal_record
from bitdustfs.core.sealing import Kind, Sealer, Suite, compress, decompress_untrusted
from bitdustfs.errors import Malformed
from bitdustfs.mount.commands import MOUNT_COMMANDS
from bitdustfs.net import wire
from bitdustfs.net.dht import datagram
from bitdustfs.net.joinline import read_join_line_untrusted, write_join_line
from bitdustfs.net.lan import beacon
from bitdustfs.net.metered import is_metered_untrusted
from bitdustfs.net.routers import elements, httpanswer, igd, packets
from bitdustfs.net.tokens import Invitation, invitation_records
from bitdustfs.supplier import shelfrows
from bitdustfs.web.endpoints import body_untrusted
from bitdustfs.web.views import SnapshotWords

NODE = SigningKey(b"n" * 32)
PUBLIC = NODE.verify_key.encode()
PLACE = Place(b"b" * 16, 0, 0, 100, bytes(32))
RAW_FAMILY = family_of(PUBLIC)
FAMILY = records.open_family_untrusted(RAW_FAMILY, KEY.vault_id)
RAW_ROOT = root_of(RAW_FAMILY)
RAW_HEADER, FRAGMENTS = make_block(bytes(range(256)) * 300)
HEADER = records.open_header_untrusted(RAW_HEADER, KEY.vault_id)
SEALER = Sealer(KEY.capability().content_key, KEY.vault_id, b"b" * 16, 0)
CAPABILITY = KEY.capability()
HINT = datagram.FamilyHint(0, bytes(32), BALLOT, 1, (b"n" * 20,) * 16)
NOW = 1_800_000_000
ATTESTATION = records.Attestation(KEY.vault_id, 0, 0, PUBLIC, KEY.vault_id, NOW)
LEAVING = records.Leaving(KEY.vault_id, 0, 0, PUBLIC, NOW)
WARRANT = warrants.encode_warrant(
    0, bytes(32), [seal_record(NODE, "leaving", LEAVING)], leaving=True
)
VAULT_PLACE = datagram.vault_record_key(KEY.record.verify_key.encode(), 0)
VAULT_RECORD = datagram.sign_vault_record(KEY.record, CAPABILITY, 1, HINT, Suite.AEGIS256)
WAYS = ("8.8.8.8:4000", f"relay:{PUBLIC.hex()}@8.8.4.4:4000")
NODE_RECORD = datagram.sign_node_record(NODE, 1, WAYS, 1 << 30)
CONTACTS = tuple(datagram.Contact(bytes([i]) * 20, f"8.8.8.{i}", 4000) for i in range(16))
DATAGRAM = datagram.Body(1, PUBLIC, True, bytes(16), bytes(8), datagram.ContactsAre(CONTACTS))
ENTRY = block.ExtentEntry(0, int(Kind.DATA), 0, 10, bytes(32), 7, 0, 9, 1, 1)
TOKEN = seal_record(NODE, "invitation", Invitation(PUBLIC, bytes(16), 1 << 30, NOW))
JOIN_LINE = write_join_line(TOKEN, ("8.8.8.8:4000",), bytes(16))
CONTENT = records.RootContent(PLACE, (records.JournalRef(PLACE, 1),) * 3, bytes(32), 1, 2)
TIME = (NOW, 999_999_999)
INODE = items.Inode(
    1, 0o100644, 1000, 1000, 1, 9, 0, TIME, TIME, (-1, 0), 1, 2, 3, b"inline", {"since": 7}, 4,
    (5, 6, 7),
)  # fmt: skip
FRAGMENT_ROW = shelfrows.fragment_row(100, 64, 1000, bytes(32))
VAULT_ROW = shelfrows.VaultRow(
    1 << 30, NOW, 5, 6, BALLOT, RAW_ROOT, RAW_FAMILY, 3, (WARRANT,),
    (records.Visit(PUBLIC, 3, 10, NOW, NOW),), True, (PUBLIC,), claim_of(), (1, 3), NOW, b"list",
    "8.8.8.0/24", 7, 5, NOW, NOW, BALLOT, NOW, NOW, 3,
)  # fmt: skip


def frame(data):
    decoder = wire.FrameDecoder(from_server=True)
    decoder.feed(data)
    while decoder.next_untrusted():
        pass


def root_with(content):
    """The content of a root, as its parser finds it: sealed by whoever has the key."""
    root = records.open_root_untrusted(RAW_ROOT, KEY.vault_id)
    uid = Sealer(CAPABILITY.content_key, KEY.vault_id, root.uid, 0)
    sealed = uid.seal(Suite.AEGIS256, 0, Kind.ROOT, content)
    body = records.Root(*[*(getattr(root, f) for f in root.__struct_fields__[:11]), sealed])
    return roots.open_root_content_untrusted(KEY, body)


def sealed_hint(plain):
    sealer = Sealer(CAPABILITY.record_seal_key, CAPABILITY.vault_id, bytes(16), 0)
    sealed = sealer.seal(Suite.AEGIS256, 0, Kind.RECORD, plain)
    body = datagram.VaultRecord(KEY.record.verify_key.encode(), 1, sealed)
    raw = seal_record(KEY.record, "vault-record", body)
    return datagram.open_vault_record_untrusted(raw, CAPABILITY)


AT_ROUTER = igd.Url("192.168.7.1", 5000, "/")


def beacon_heard(data):
    """A beacon, by who knows the key, whatever its tag says."""
    read = beacon.read_beacon_untrusted(data)
    if read is not None:
        masks = dict(beacon.tags_of(PUBLIC, NOW))
        beacon.port_untrusted(PUBLIC, read, masks.get(read.tag, 0))


def whole_line(body):
    """A body as a line, with the check that belongs to it."""
    raw = body + tagged("join line", body)[:4]
    return read_join_line_untrusted(f"bitdust-join-1-{urlsafe_b64encode(raw).decode()}")


#: parser by the name of its function -> (what takes bytes, genuine bytes)
PLAIN = {
    "body_untrusted": (
        lambda raw: body_untrusted(raw, SnapshotWords), b'{"name":"before-the-move"}'),
    "decode_directory_untrusted": (block.decode_directory_untrusted, encode(
        block.Directory(1, (ENTRY,) * 3, (block.InodeHint(7, b"a/path", 0o644, 9, 1),)))),
    "decode_leaf_untrusted": (leaves.decode_leaf_untrusted, leaves.encode_leaf(
        [(bytes([i]) * 9, b"value") for i in range(20)])),
    "decode_index_untrusted": (leaves.decode_index_untrusted, leaves.encode_index(
        [leaves.Ref(bytes([i]) * 9, PLACE) for i in range(9)])),
    "decode_journal_untrusted": (journal.decode_journal_untrusted, journal.encode_journal(
        {bytes([i]): None if i % 2 else b"value" for i in range(20)})[0]),
    "decode_root_content_untrusted": (records.decode_root_content_untrusted, encode(CONTENT)),
    "open_root_content_untrusted": (root_with, encode(CONTENT)),
    "decompress_untrusted": (decompress_untrusted, bytes(compress(b"again and " * 1000))),
    "open_unreferenced_untrusted": (
        lambda data: SEALER.open_unreferenced_untrusted(data, 0, Kind.DATA),
        SEALER.seal(Suite.AEGIS256, 0, Kind.DATA, b"plain " * 100)),
    "open_untrusted": (
        lambda data: SEALER.open_untrusted(data, digest(data), 0, Kind.DATA),
        SEALER.seal(Suite.XCHACHA20, 0, Kind.DATA, b"plain")),
    "check_chunks_untrusted": (
        lambda data: fragment.check_chunks_untrusted(HEADER, 1, data), FRAGMENTS[1].chunks),
    "check_range_untrusted": (
        lambda data: fragment.check_range_untrusted(
            FRAGMENTS[1].chunks, 0, len(FRAGMENTS[1]), data),
        bytes(FRAGMENTS[1].payload)),
    "check_fragment_untrusted": (
        lambda data: fragment.check_fragment_untrusted(
            HEADER, 1, FRAGMENTS[1].chunks, data), bytes(FRAGMENTS[1].payload)),
    "check_warrants_untrusted": (
        lambda data: warrants.check_warrants_untrusted(FAMILY, [data, WARRANT], NOW), WARRANT),
    "check_shown_untrusted": (
        lambda data: quorum.check_shown_untrusted(KEY.vault_id, data, RAW_ROOT, RAW_FAMILY),
        claim_of()),
    "check_known_untrusted": (
        lambda data: quorum.check_known_untrusted(KEY.vault_id, RAW_ROOT, data), RAW_FAMILY),
    "rival_untrusted": (
        lambda data: quorum.rival_untrusted(KEY.vault_id, data, BALLOT, b""), claim_of()),
    "record_seq_untrusted": (
        lambda data: datagram.record_seq_untrusted(VAULT_PLACE, data), VAULT_RECORD),
    "next_untrusted": (frame, wire.encode_frame(
        1, wire.Listed(tuple((bytes([i]) * 17, i) for i in range(9)), True))),
    "decode_untrusted": (MOUNT_COMMANDS.decode_untrusted, b'{"verb": "verify", "sample": 0.5}'),
    "is_metered_untrusted": (is_metered_untrusted, b"u 3\n"),
    "read_join_line_untrusted": (
        lambda data: read_join_line_untrusted(data.decode("latin-1")), JOIN_LINE.encode()),
    "read_beacon_untrusted": (
        beacon.read_beacon_untrusted, beacon.make_beacon(NODE, 4000, NOW)),
    "port_untrusted": (beacon_heard, beacon.make_beacon(NODE, 4000, NOW)),
    "read_natpmp_untrusted": (
        packets.read_natpmp_untrusted, bytes.fromhex("00820000000000050fa00fa100001c20")),
    "read_pcp_untrusted": (
        packets.read_pcp_untrusted, bytes.fromhex(
            "02810000000004b000000005" + "00" * 12 + "00" * 12 + "06000000" + "0fa00fa1"
            + "00" * 10 + "ffff09090909")),
    "read_answer_untrusted": (
        lambda data: [httpanswer.read_answer_untrusted(data, ended) for ended in (False, True)],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
    "read_xml_untrusted": (elements.read_xml_untrusted, b"<a x='y'><b:c>d&amp;</b:c></a>"),
    "read_found_untrusted": (
        lambda data: igd.read_found_untrusted(data, "192.168.7.1"),
        b"HTTP/1.1 200 OK\r\nLOCATION: http://192.168.7.1:5000/rootDesc.xml\r\n\r\n"),
    "url_untrusted": (
        lambda data: igd.url_untrusted(data.decode("latin-1"), AT_ROUTER),
        b"http://192.168.7.1:5000/rootDesc.xml"),
    "read_description_untrusted": (
        lambda data: igd.read_description_untrusted(data, AT_ROUTER),
        b"<r><service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>"
        b"<controlURL>/x</controlURL></service></r>"),
    "read_said_untrusted": (
        lambda data: [igd.read_said_untrusted(httpanswer.HttpAnswer(status, {}, data), "Do")
                      for status in (200, 500)],
        b"<b><DoResponse><NewA>1</NewA></DoResponse><errorCode>718</errorCode></b>"),
    "host_untrusted": (
        lambda data: igd.host_untrusted({"NewExternalIPAddress": data.decode("latin-1")}),
        b"9.9.9.9"),
    "entry_untrusted": (
        lambda data: igd.entry_untrusted({"NewInternalPort": data.decode("latin-1"),
                                          "NewLeaseDuration": data.decode("latin-1")}), b"4000"),
    "number_untrusted": (
        lambda data: igd.number_untrusted(data.decode("latin-1"), 0, 65535), b"4000"),
    "decode_inode": (items.decode_inode, items.encode_item(INODE)),
    "decode_entry": (items.decode_entry, items.encode_item(items.Entry(1, b"name", 7, 0o40755))),
    "decode_extent": (items.decode_extent, items.encode_item(items.Extent(1, PLACE, 5, 95))),
    "decode_xattr": (
        items.decode_xattr, items.encode_item(items.Xattr(1, b"value", (PLACE, PLACE)))),
    "decode_counters": (items.decode_counters, items.encode_item(items.Counters(1, 2, 3, 4))),
    "decode_use": (
        items.decode_use, items.encode_item(items.BlockUse(1, 2, 3, {items.PAST: [1, 2]}))),
    "decode_snapshot": (items.decode_snapshot, items.encode_item(
        items.Snapshot(1, 2, 3, TIME, 4, PLACE, 5, 6, {items.SCHEDULED: True}))),
    "decode_vault_row": (shelfrows.decode_vault_row, encode(VAULT_ROW)),
    "decode_fragment_row": (shelfrows.decode_fragment_row, encode(FRAGMENT_ROW)),
    "decode_trash_row": (
        shelfrows.decode_trash_row, encode(shelfrows.TrashRow(FRAGMENT_ROW, NOW))),
    "decode_ring_row": (
        shelfrows.decode_ring_row,
        encode(shelfrows.RingRow(NOW, NOW, True, RAW_ROOT, bytes(32)))),
    "a join line that is whole": (whole_line, encode((TOKEN, ("8.8.8.8:4000",), bytes(16)))),
    "a hint that is sealed": (sealed_hint, encode(HINT)),
}  # fmt: skip
#: the same of what is signed -> (what takes bytes, genuine bytes, who signs it, as what)
SIGNED = {
    "open_claim_untrusted": (
        lambda data: records.open_claim_untrusted(data, KEY.vault_id), claim_of(), KEY.signing,
        "ballot"),
    "open_root_untrusted": (
        lambda data: records.open_root_untrusted(data, KEY.vault_id), RAW_ROOT, KEY.signing,
        "root"),
    "open_family_untrusted": (
        lambda data: records.open_family_untrusted(data, KEY.vault_id), RAW_FAMILY, KEY.signing,
        "family"),
    "open_header_untrusted": (
        lambda data: records.open_header_untrusted(data, KEY.vault_id), RAW_HEADER, KEY.signing,
        "block"),
    "check_leaving_untrusted": (
        lambda data: warrants.check_leaving_untrusted(FAMILY, 0, data, NOW),
        seal_record(NODE, "leaving", LEAVING), NODE, "leaving"),
    "check_attestation_untrusted": (
        lambda data: warrants.check_attestation_untrusted(FAMILY, 0, data, NOW),
        seal_record(KEY.signing, "attestation", ATTESTATION), KEY.signing, "attestation"),
    "open_datagram_untrusted": (
        datagram.open_datagram_untrusted, datagram.encode_datagram(NODE, DATAGRAM), NODE,
        "datagram"),
    "peek_datagram_untrusted": (
        datagram.peek_datagram_untrusted, datagram.encode_datagram(NODE, DATAGRAM), NODE,
        "datagram"),
    "open_node_record_untrusted": (
        lambda data: datagram.open_node_record_untrusted(data, node_id(PUBLIC)), NODE_RECORD,
        NODE, "node-record"),
    "open_vault_record_untrusted": (
        lambda data: datagram.open_vault_record_untrusted(data, CAPABILITY), VAULT_RECORD,
        KEY.record, "vault-record"),
    "peek_untrusted": (
        records.leaving_records.peek_untrusted,
        seal_record(NODE, "leaving", LEAVING), NODE, "leaving"),
    "a contract": (
        lambda data: records.contract_records.open_untrusted(data, PUBLIC),
        seal_record(NODE, "contract", records.Contract(PUBLIC, KEY.vault_id, 1 << 30, NOW)),
        NODE, "contract"),
    "an invitation": (
        lambda data: invitation_records.open_untrusted(data, PUBLIC),
        TOKEN, NODE, "invitation"),
    "an end": (
        lambda data: records.vault_end_records.open_untrusted(data, KEY.vault_id),
        seal_record(KEY.signing, "vault-end", records.VaultEnd(KEY.vault_id, PUBLIC, NOW)),
        KEY.signing, "vault-end"),
    "a retention": (
        lambda data: records.retention_records.open_untrusted(data, KEY.vault_id),
        seal_record(KEY.signing, "retention", records.RetentionWanted(KEY.vault_id, NOW)),
        KEY.signing, "retention"),
    "a death": (
        lambda data: records.block_dead_records.open_untrusted(data, KEY.vault_id),
        seal_record(KEY.signing, "block-dead", records.BlockDead(
            KEY.vault_id, b"b" * 16, BALLOT, 1)), KEY.signing, "block-dead"),
    "a standing down": (
        lambda data: records.stand_down_records.open_untrusted(data, KEY.vault_id),
        seal_record(KEY.signing, "stand-down", records.StandDown(KEY.vault_id, PUBLIC, 0, 1)),
        KEY.signing, "stand-down"),
}  # fmt: skip
_envelope = Decoder(Signed, "record", 1 << 20)


def body_of(raw):
    """What is signed of a signed record."""
    return _envelope.decode_untrusted(raw).body


def signed_again(body, key, kind):
    """A body, whatever it says, as a record signed with `key` as `kind`."""
    return encode(Signed(body, sign(key, kind, body)))


@st.composite
def damaged(draw, genuine):
    """Genuine bytes, some of them changed, cut out or put in."""
    data = bytearray(genuine)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["change", "cut", "insert", "end"])):
            case "change" if at < len(data):
                data[at] = draw(st.integers(0, 255) | st.sampled_from([0xC0, 0xDD, 0xCF, 0x90]))
            case "cut":
                del data[at : at + draw(st.integers(1, 20))]
            case "insert":
                data[at:at] = draw(st.binary(max_size=20) | msgpack_like.map(encode))
            case "end":
                del data[at:]
    return bytes(data)


def fields_of(value, path=()):
    """Where each field of a decoded value is, lists included."""
    yield path
    if isinstance(value, list):
        for at, inner in enumerate(value):
            yield from fields_of(inner, (*path, at))


def like(value):
    """Other values of one field: of its type mostly, at the ends of what there may be."""
    match value:
        case bool():
            return st.just(not value) | st.none()
        case int():
            ends = [0, 1, -1, 2**31, 2**32, 2**50 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)]
            return st.sampled_from([*ends, value + 1, value - 1])
        case bytes():
            return st.binary(min_size=len(value), max_size=len(value)) | st.binary(max_size=70)
        case list():
            return st.sampled_from([[], value[:-1], value * 2, value[::-1], [*value, 0]])
        case str():
            return st.text(max_size=100)
    return msgpack_like


@st.composite
def twisted(draw, genuine):
    """A genuine value with one field changed, or what it is when it is no msgpack."""
    try:
        value = msgspec.msgpack.decode(genuine)
    except msgspec.DecodeError:
        return draw(damaged(genuine))
    path = draw(st.sampled_from([path for path in fields_of(value) if path] or [()]))
    inner = value
    for at in path[:-1]:
        inner = inner[at]
    if not path:
        return encode(draw(like(value)))
    inner[path[-1]] = draw(like(inner[path[-1]]))
    try:
        return encode(value)
    except OverflowError:  # more than msgpack has numbers for
        return genuine


@pytest.mark.parametrize("name", [*PLAIN, *SIGNED])
@given(st.data())
def test_a_parser_of_damaged_bytes_returns_or_raises_malformed(name, data):
    parse, genuine = (PLAIN | SIGNED)[name][:2]
    strange = st.binary(max_size=200) | msgpack_like.map(encode)
    kind = damaged(genuine) | twisted(genuine) | strange
    with suppress(Malformed):
        parse(data.draw(kind))


@pytest.mark.parametrize("name", SIGNED)
@settings(max_examples=120)
@given(st.data())
def test_a_parser_of_what_a_liar_signed_returns_or_raises_malformed(name, data):
    parse, genuine, key, kind = SIGNED[name]
    body = body_of(genuine)
    body = data.draw(twisted(body) | twisted(body) | damaged(body) | msgpack_like.map(encode))
    with suppress(Malformed):
        parse(signed_again(body, key, kind))


@pytest.mark.parametrize("name", [*PLAIN, *SIGNED])
def test_a_parser_takes_what_is_genuine(name):
    parse, genuine, *signer = (PLAIN | SIGNED)[name]
    parse(genuine)
    if signer:  # with another word for its kind a liar's signature would end all that is tried
        parse(signed_again(body_of(genuine), *signer))


def parsers_of(tree):
    """Names of the parsers that a file defines: functions, and what is given another name at its
    top, as in `decode_x = Decoder(X, "x", 100).decode_untrusted`.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.endswith("_untrusted"):
            yield node.name
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.value).endswith("_untrusted"):
            yield from map(ast.unparse, node.targets)


def test_every_parser_is_tried_here():
    there = {name for tree in TREES.values() for name in parsers_of(tree)}
    assert there <= PLAIN.keys() | SIGNED.keys()
