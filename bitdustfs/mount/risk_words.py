"""The chance of a loss in words: as what happens once in so many years is spoken of."""

from bitdustfs.rebuild.odds import LEAST, LEAST_ASSUMED, Odds, Remedy

ASSUMED_DAYS = 28.0  #: for which suppliers are seen until most of a chance is measured
HARDLY = 1 / 3  #: from here on "1 in so many" says less than a percentage


def one_in(chance: float) -> str:
    """1 in 40,000, in one digit from 100 on; 1 in 2 million; 60 % where it is likely."""
    if chance > HARDLY:
        return f"{100 * chance:.0f} %"
    less = " or less" if chance in (LEAST, LEAST_ASSUMED) else ""
    years = 1 / chance
    if round(years) >= 1_000_000:
        return f"1 in {float(f'{years / 1e6:.1g}'):g} million{less}"
    return f"1 in {int(float(f'{years:.{1 if years >= 100 else 2}g}')):,}{less}"


def sentence(odds: Odds, days: float) -> str:
    """The chance and its range. `days`: for which the suppliers were seen, in the mean."""
    said = f"chance that anything is lost within a year: {one_in(odds.chance)}"
    if odds.high > odds.low:
        said += f" (between {one_in(odds.high)} and {one_in(odds.low)})"
    return f"{said}{assumed_words(days)}"


def assumed_words(days: float) -> str:
    """That little was measured as yet, as the end of a sentence; or ""."""
    if days >= ASSUMED_DAYS:
        return ""
    seen = "less than a day" if days < 1.5 else f"{days:.0f} days only"
    return f"; mostly assumed as yet: its suppliers have been seen for {seen}"


def weak_words(name: str, odds: Odds) -> str:
    """Which supplier is the weakest, a sentence; "" where none stands out. `name`: of that one."""
    if not name:
        return ""
    better = any(remedy.what == "replace" for remedy in odds.remedies)
    return f"{name} is the weakest" + ("" if better else "; one that is new would be no better")


def remedy_words(remedy: Remedy, k: int, n: int, weakest: int | None) -> str:
    """What would help and how it is done, a sentence. `weakest`: the position of that supplier."""
    chance = one_in(remedy.chance)
    match remedy.what:
        case "replace":
            return (
                f"with another supplier, of another network, at position {weakest}: {chance} "
                f"(bitdust supplier replace {weakest})"
            )
        case "reserve":
            return (
                f"with a reserve for each, so that whoever leaves is replaced at once: {chance}"
                " (more suppliers in the network that it is joined to, or of friends)"
            )
        case "patience":
            hours = round(remedy.to / 3600)
            return (
                f"with a patience of {hours} hours, so that whoever left is replaced sooner: "
                f"{chance} (bitdust vault set patience={hours}h)"
            )
        case _:
            return (
                f"with one more supplier, in another network: {chance} (a new vault of the code "
                f"{k}/{n + 1})"
            )


def trend_words(now: float, before: float | None) -> str:
    """What became of it in a month; "" where nobody knows, or it is about the same."""
    if before is None or 0.5 < now / before < 2.0:
        return ""
    return f"a month ago it was {one_in(before)}"
