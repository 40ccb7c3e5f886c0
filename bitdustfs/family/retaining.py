"""A vault's retention: each supplier promises it before the family names it.

What it is worth is decided at the suppliers (supplier/retention.py). Here is how an owner changes
it, and hears who cannot.
"""

from collections.abc import Sequence

from bitdustfs.core.families import next_family
from bitdustfs.core.keys import VaultKey
from bitdustfs.core.records import Member, open_family_untrusted
from bitdustfs.errors import Malformed, ProtocolViolation, Unavailable
from bitdustfs.family.hire import agree_to_retain
from bitdustfs.net.ask import Answers, ask_all
from bitdustfs.net.supplier import Connect
from bitdustfs.vault.vaults import WritableVault

DEADLINE = 10.0  #: seconds that a supplier has to promise
QUOTED = 3  #: refusals that one sentence quotes


async def set_retention(
    vault: WritableVault, key: VaultKey, words: dict[str, int], connect: Connect
) -> None:
    """Publishes a family with these words of a policy, of which `retain` is one.

    A longer one is promised by every supplier of a position before; a reserve that does not promise
    it leaves the bench. Raises Unavailable where one does not, and what publishing raises.
    """
    family, seconds = vault.known.family, words["retain"]
    unwilling: set[bytes] = set()
    if seconds > family.policy.retain:
        answers = await _ask(key, family.everybody, connect, seconds)
        failed = {m: e for m, e in answers.failed.items() if m in family.members}
        if failed:
            said = "; ".join(f"{where(m)}: {e}" for m, e in [*failed.items()][:QUOTED])
            raise Unavailable(
                f"{len(failed)} of {len(family.members)} suppliers do not promise to keep what is "
                f"deleted ({said}); the retention stays as it is. Give their positions to others "
                "(bitdust supplier replace POSITION), or have them bring bitdustfs up to date"
            )
        unwilling = {member.node for member in answers.failed}

    def change(raw: bytes) -> bytes:
        now = open_family_untrusted(raw, key.vault_id)
        bench = [member for member in now.bench if member.node not in unwilling]
        return next_family(key, raw, policy=words, bench=bench)

    await vault.publish(change=change)


async def _ask(
    key: VaultKey, members: Sequence[Member], connect: Connect, seconds: int
) -> Answers[Member, None]:
    async def ask(member: Member) -> None:
        try:
            session = connect(member)
            await agree_to_retain(session, key.vault_id, key.signing, member.space, seconds)
        except Malformed as error:
            raise ProtocolViolation(str(error)) from error

    return await ask_all(members, ask, each=DEADLINE)


def where(member: Member) -> str:
    """How a supplier is called in a sentence."""
    return next(iter(member.addresses), member.node.hex()[:16])
