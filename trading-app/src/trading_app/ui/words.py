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


def waits(count: int) -> str:
    """So many trades, and that they wait."""
    return "1 trade waits" if count == 1 else f"{count:,} trades wait"


def duration(seconds: float) -> str:
    """To three digits below a minute, in whole seconds, minutes or hours above."""
    if seconds < 0.9995:
        return f"{max(0.0, seconds) * 1000:.3g} ms"
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
