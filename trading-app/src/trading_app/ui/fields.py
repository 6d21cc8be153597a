"""Parsing of the ticket's fields."""

import re
from collections.abc import Callable

from trading_app.messages import check_price, check_qty, check_symbol

# float() accepts more, such as 1_000, which is probably a mistake.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)


def read_symbol(text: str) -> str | None:
    """A symbol; None if the field is empty.

    Raises:
        ValueError: the text is not a valid symbol. The message says why.
    """
    return check_symbol(text.strip()) if text.strip() else None


def read_quantity(text: str) -> float:
    """A quantity in units.

    Raises:
        ValueError: the text is not a valid quantity. The message says why.
    """
    return check_qty(_read_number("quantity", text))


def read_price(text: str) -> float | None:
    """A price per unit; None if the field is empty.

    Raises:
        ValueError: the text is not a valid price. The message says why.
    """
    return check_price(_read_number("price", text)) if text.strip() else None


def problem(read: Callable[[str], object], text: str) -> str:
    """Why ``read`` rejects a text; empty if it does not."""
    try:
        read(text)
    except ValueError as error:
        return str(error)
    return ""


def _read_number(name: str, text: str) -> float:
    if not _NUMBER.fullmatch(text.strip()):
        raise ValueError(f"the {name} must be a number such as 2.5, not {text!r}")
    return float(text)
