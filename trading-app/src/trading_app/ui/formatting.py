"""Numbers and times as a person reads them."""

from datetime import UTC, datetime


def number(value: float) -> str:
    """All digits that matter, none that do not."""
    if value and abs(value) < 1e-8:
        return f"{value:g}"
    return f"{value + 0.0:,.8f}".rstrip("0").rstrip(".")


def rounded(value: float) -> str:
    """At most two decimals."""
    return number(round(value, 2) + 0.0)


def per_second(rate: float) -> str:
    """To two decimals below 100, in whole trades above."""
    return f"{rounded(rate) if rate < 100 else number(round(rate))}/s"


def count(trades: float) -> str:
    """So many trades."""
    return "1 trade" if trades == 1 else f"{number(trades)} trades"


def waits(trades: int) -> str:
    """So many trades, and that they wait."""
    return f"{count(trades)} {'waits' if trades == 1 else 'wait'}"


def duration(seconds: float) -> str:
    """To three digits below a minute, in whole seconds, minutes or hours above."""
    if seconds < 0.000_999_5:
        return f"{max(0.0, seconds) * 1e6:.3g} µs"
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s"


def ago(seconds: float) -> str:
    """In whole seconds: it ticks."""
    return "now" if seconds < 1 else f"{duration(int(seconds))} ago"


def clock(at: float, timespec: str = "seconds") -> str:
    """The time of day, where the server is; ``timespec`` as `datetime.time.isoformat` has it."""
    return datetime.fromtimestamp(at, UTC).astimezone().time().isoformat(timespec)
