"""Who opens a session: what it has to sign, and with which key, for each role."""

from bitdustfs.core.keys import verify
from bitdustfs.errors import Forged
from bitdustfs.net import wire
from bitdustfs.supplier.service import SupplierService
from bitdustfs.supplier.session import Session


def prove(
    service: SupplierService, request: wire.Open | wire.Punch, client_key: bytes, nonce: bytes
) -> Session:
    """The session that a client opens, whose TLS proved `client_key`. Raises Forged."""
    own = service.node.verify_key.encode()
    body = wire.session_body(request.role, request.vault, own, client_key, nonce)
    if request.role == "owner":
        verify(request.vault, "session", body, request.signature)
        return Session(request.vault, "owner")
    if request.role == "follower":
        _prove_follower(service, request, body)
        return Session(request.vault, "follower")
    if request.role == "member":
        verify(client_key, "session", body, request.signature)
        if service.is_kin(request.vault, client_key):
            return Session(request.vault, "member", client_key)
        if service.was_kin(request.vault, client_key):
            return Session(request.vault, "former", client_key)
        raise Forged("this node is not of the vault's family, as it is known here")
    if request.role == "friend":
        verify(client_key, "session", body, request.signature)
        if request.vault != client_key:
            raise Forged("a friend shows its own node key")
        return Session(client_key, "friend", client_key)
    proof = service.read_proof(request.vault)
    if request.role != "reader" or proof is None:
        raise Forged("this role cannot be proven here")
    verify(proof, "session", body, request.signature)
    return Session(request.vault, "reader")


def _prove_follower(service: SupplierService, request: wire.Open | wire.Punch, body: bytes) -> None:
    """By the vault key, or by what readers prove themselves with. Raises Forged."""
    try:
        verify(request.vault, "session", body, request.signature)
    except Forged:
        proof = service.read_proof(request.vault)
        if proof is None:
            raise
        verify(proof, "session", body, request.signature)
