"""What a peer shows as its certificate, beyond what TLS itself refuses."""

import os
import ssl

import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bitdustfs.errors import ProtocolViolation
from bitdustfs.net import tls


async def test_a_certificate_that_no_parser_takes_is_a_peers_fault(tmp_path):
    """OpenSSL takes one of X.509 version 2, and the parser of `cryptography` raises what is no
    ValueError: a stranger would end whoever listens or dials.
    """
    seed, issuer = os.urandom(32), Ed25519PrivateKey.from_private_bytes(tls._PUBLIC_CA_SEED)
    key = Ed25519PrivateKey.from_private_bytes(seed)
    made = tls._certificate(key.public_key(), False)
    third, second = bytes.fromhex("a003020102"), bytes.fromhex("a003020101")
    body = made.tbs_certificate_bytes.replace(third, second, 1)
    der = made.public_bytes(serialization.Encoding.DER)
    der = der.replace(made.tbs_certificate_bytes, body).replace(made.signature, issuer.sign(body))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )  # fmt: skip
    shown = tmp_path / "shown.pem"
    shown.write_text(private.decode() + ssl.DER_cert_to_PEM_cert(der))
    for liar_listens in (True, False):
        theirs = tls.make_context(seed, server_side=liar_listens)
        theirs.load_cert_chain(shown)
        ours = tls.make_context(os.urandom(32), server_side=not liar_listens)
        left, right = trio.testing.memory_stream_pair()
        async with trio.open_nursery() as nursery:
            liar = tls.TlsStream(left, theirs, server_side=liar_listens)
            nursery.start_soon(liar.handshake)
            with pytest.raises(ProtocolViolation, match="does not parse"):
                await tls.TlsStream(right, ours, server_side=not liar_listens).handshake()
            nursery.cancel_scope.cancel()
