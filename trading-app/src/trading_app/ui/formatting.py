"""Numbers and times for people."""

from datetime import UTC, datetime


def number(value: float) -> str:
    """Up to eight decimals, without trailing zeros."""
    if value and abs(value) < 1e-8:
        return f"{value:g}"
    return f"{value + 0.0:,.8f}".rstrip("0").rstrip(".")


def rounded(value: float) -> str:
    """At most two decimals."""
    return number(round(value, 2) + 0.0)


def per_second(rate: float) -> str:
    """With two decimals below 100, in whole trades above."""
    return f"{rounded(rate) if rate < 100 else number(round(rate))}/s"


def trades_text(trades: float) -> str:
    """As in "1 trade", "2 trades"."""
    return "1 trade" if trades == 1 else f"{number(trades)} trades"


def waiting_text(trades: int) -> str:
    """As in "1 trade waits", "2 trades wait"."""
    return f"{trades_text(trades)} {'waits' if trades == 1 else 'wait'}"


def duration(seconds: float) -> str:
    """With three digits below a minute, in whole seconds, minutes or hours above."""
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


def clock(at: float, timespec: str = "seconds") -> str:
    """The time of day in the server's time zone; ``timespec`` is that of `datetime.time.isoformat`."""
    return _local(at).time().isoformat(timespec)


def moment(at: float, now: float) -> str:
    """The time of day, or the date if that is another day."""
    return clock(at) if _local(at).date() == _local(now).date() else _local(at).date().isoformat()


def _local(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC).astimezone()
