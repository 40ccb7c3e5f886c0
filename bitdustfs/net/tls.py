"""TLS 1.3 between nodes that know each other by key, not by any authority (docs/protocol.md).

The standard library cannot accept unknown client certificates, so every node's certificate is
issued by a CA whose key is derived from a constant below. That key is public: the CA carries no
trust at all. What counts is the Ed25519 key inside the leaf certificate, which TLS proves the peer
holds and which we compare with the key we expect before a single application byte is sent.

`TlsStream` runs TLS over `ssl.MemoryBIO` with large reads, about three times faster than
`trio.SSLStream`. One task may send and one may receive at a time; cancelling either breaks it.
"""

import datetime
import hashlib
import os
import ssl
from typing import cast

import trio
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID

from bitdustfs.errors import ProtocolViolation
from bitdustfs.units import MIB

_PUBLIC_CA_SEED = hashlib.sha256(b"bitdust public certificate issuer, no trust implied").digest()
_START = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_END = datetime.datetime(2120, 1, 1, tzinfo=datetime.UTC)
_NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bitdust")])
_HANDSHAKE = 16 * 1024  #: bytes read at once before it is known who is there
_CHUNK = 256 * 1024  #: plaintext bytes encrypted per turn, so that other tasks get theirs


def _certificate(public: Ed25519PublicKey, is_ca: bool) -> x509.Certificate:
    issuer = Ed25519PrivateKey.from_private_bytes(_PUBLIC_CA_SEED)
    subject = _NAME if is_ca else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node")])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(_NAME)
        .public_key(public)
        .serial_number(int.from_bytes(os.urandom(15), "big") + 1)
        .not_valid_before(_START)
        .not_valid_after(_END)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .sign(issuer, None)
    )


def make_context(seed: bytes, server_side: bool) -> ssl.SSLContext:
    """A context that shows the Ed25519 key of `seed` (32 bytes) and demands one from the peer."""
    key = Ed25519PrivateKey.from_private_bytes(seed)
    issuer = Ed25519PrivateKey.from_private_bytes(_PUBLIC_CA_SEED).public_key()
    pem = serialization.Encoding.PEM
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=_certificate(issuer, True).public_bytes(pem).decode())
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _load(context, private + _certificate(key.public_key(), False).public_bytes(pem))
    if server_side:
        context.num_tickets = 0
    return context


def _load(context: ssl.SSLContext, chain: bytes) -> None:
    """Key and certificate into a context, which takes only files: one in memory, with no name.

    A process that is killed in between leaves nothing behind.
    """
    fd = os.memfd_create("node.pem", os.MFD_CLOEXEC)
    with os.fdopen(fd, "wb") as file:
        file.write(chain)
        file.flush()
        context.load_cert_chain(f"/proc/self/fd/{fd}")


class TlsStream:
    """A TLS connection over any trio byte stream. Use `handshake` first."""

    def __init__(
        self, transport: trio.abc.Stream, context: ssl.SSLContext, server_side: bool
    ) -> None:
        self._transport = transport
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)

    async def handshake(self) -> bytes:
        """Completes TLS and returns the peer's 32-byte Ed25519 public key.

        Raises ProtocolViolation when the peer does not speak our TLS, trio's BrokenResourceError
        when the connection breaks.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill(_HANDSHAKE)
            except ssl.SSLEOFError as error:
                raise trio.BrokenResourceError("it left before it had said who it is") from error
            except ssl.SSLError as error:
                await self._flush()
                raise ProtocolViolation(f"the TLS handshake failed: {error.reason}") from error
            else:
                await self._flush()
                return self._peer_key()

    def _peer_key(self) -> bytes:
        der = self._tls.getpeercert(binary_form=True)
        try:
            public = x509.load_der_x509_certificate(der or b"").public_key()
        except Exception as error:  # InvalidVersion, UnsupportedAlgorithm: not all are ValueErrors
            raise ProtocolViolation("the peer's certificate does not parse") from error
        if not isinstance(public, Ed25519PublicKey):
            raise ProtocolViolation("the peer's certificate holds no Ed25519 key")
        return public.public_bytes_raw()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Sends everything, or raises trio's BrokenResourceError having sent any part of it."""
        view = memoryview(data)
        for at in range(0, len(view), _CHUNK):
            try:
                self._tls.write(view[at : at + _CHUNK])
            except ssl.SSLError as error:  # the reader met the peer's end meanwhile
                raise trio.BrokenResourceError(f"TLS ended: {error.reason}") from error
            await self._flush()

    async def receive_some(self, limit: int = MIB) -> bytes:
        """At least one byte, or b"" when the peer closed. Holds about 2 * `limit` bytes at most."""
        while True:
            try:
                return self._tls.read(limit)
            except ssl.SSLWantReadError:
                await self._fill(limit)
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            except ssl.SSLError as error:
                raise ProtocolViolation(f"TLS failed: {error.reason}") from error

    async def receive_into(self, buffer: memoryview, least: int = 0) -> int:
        """Fills a buffer as far as there are bytes; how many came, 0 when the peer closed.

        At least one byte is waited for. `least`: bytes that the transport is asked for, also where
        the buffer has less room. Holds as many besides, at most.
        """
        got = 0
        while got < len(buffer):  # each read gives one TLS record, of at most 16 KiB
            try:
                # with a buffer it returns how many bytes came, which typeshed does not know
                more = cast(int, self._tls.read(len(buffer) - got, buffer[got:]))
            except ssl.SSLWantReadError:
                if got:
                    break
                await self._fill(max(least, len(buffer)))
                continue
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                break
            except ssl.SSLError as error:
                raise ProtocolViolation(f"TLS failed: {error.reason}") from error
            if not more:
                break
            got += more
        return got

    async def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            await self._transport.send_all(data)

    async def _fill(self, limit: int) -> None:
        data = await self._transport.receive_some(limit)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    async def aclose(self) -> None:
        """Closes the transport, without ceremony."""
        await trio.aclose_forcefully(self._transport)
