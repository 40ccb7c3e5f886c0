"""How commands take a length of time: 90s, 15m, 48h, 7d."""

from bitdustfs.errors import UsageError

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST = 3650 * 86400  #: seconds


def parse_period(text: str) -> float:
    """Seconds, more than none. Raises UsageError."""
    number, unit = text[:-1], text[-1:]
    try:
        seconds = float(number) * UNITS[unit]
    except (ValueError, KeyError):
        raise UsageError(f"{text!r} is no length of time; write for example 48h or 7d") from None
    if not 0 < seconds <= LONGEST:
        raise UsageError(f"{text}: a length of time is more than none, and 3650d at most")
    return seconds


def period_words(seconds: int) -> str:
    """A length of time for people: 14 days, 36 hours, 90 s."""
    days, hours = divmod(seconds, 86400), divmod(seconds, 3600)
    if days[0] and not days[1]:
        return f"{days[0]} {'day' if days[0] == 1 else 'days'}"
    if hours[0] and not hours[1]:
        return f"{hours[0]} {'hour' if hours[0] == 1 else 'hours'}"
    return f"{seconds} s"
