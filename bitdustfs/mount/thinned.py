"""Which scheduled snapshots went, as statements."""

from bitdustfs.mount.statements import ScheduleSaid, ThinnedLine
from bitdustfs.vault.reading import ReadVault
from bitdustfs.vault.vaults import WritableVault

LATELY = 7 * 86400  #: seconds


def thinned_lately(vault: WritableVault, now: float, *whys: str) -> list[ThinnedLine]:
    """Those that went in the last days for these reasons."""
    return [
        ThinnedLine(name=gone.name, when=gone.when, why=gone.why)
        for gone in vault.thinning.told
        if gone.why in whys and gone.when >= now - LATELY
    ]


def schedule_said(vault: ReadVault) -> ScheduleSaid:
    """The schedule of the vault, as its family says."""
    schedule = vault.circle.family.policy.schedule
    return ScheduleSaid(
        on=schedule.on, hourly=schedule.hourly, daily=schedule.daily, weekly=schedule.weekly,
        monthly=schedule.monthly, share=schedule.share,
    )  # fmt: skip
