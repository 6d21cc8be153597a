"""What was measured: of each figure one value a round."""

import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Column:
    """A figure of every contestant, in ``unit``; values are multiplied by ``scale`` to get there."""

    name: str
    unit: str
    scale: float = 1.0
    digits: int = 0


@dataclass
class Table:
    """One measurement. ``reference`` is the contestant that the others' first figures are divided by.

    The contestants stand in the order of ``order``, and after it as they came.
    """

    title: str
    reference: str
    columns: tuple[Column, ...]
    order: tuple[str, ...] = ()
    rows: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))

    def add(self, row: str, **figures: float) -> None:
        """Add what one round has measured for a contestant: a value a column, by the names of the columns."""
        for column in self.columns:
            if column.name in figures:
                self.rows[row][column.name].append(figures[column.name])

    @property
    def contestants(self) -> list[str]:
        return [*(row for row in self.order if row in self.rows), *(row for row in self.rows if row not in self.order)]

    def median(self, row: str, column: str) -> float:
        return statistics.median(self.rows[row][column])

    def ratio(self, row: str, column: str, reference: str = "") -> float:
        """The median of the ratios to the reference, each of two values of the same round."""
        pairs = zip(self.rows[row][column], self.rows[reference or self.reference][column], strict=False)
        return statistics.median(value / other for value, other in pairs)

    def markdown(self) -> Iterator[str]:
        first = self.columns[0]
        heads = [f"{column.name}, {column.unit}" if column.unit else column.name for column in self.columns]
        yield "| | " + " | ".join([heads[0], f"to {self.reference}", *heads[1:]]) + " |"
        yield "| --- |" + " ---: |" * (len(heads) + 1)
        for row in self.contestants:
            cells = [self._cell(self.rows[row], column) for column in self.columns]
            ratio = f"{self.ratio(row, first.name):.2f}" if self.reference in self.rows else ""
            yield "| " + " | ".join([row, cells[0], ratio, *cells[1:]]) + " |"

    def _cell(self, figures: dict[str, list[float]], column: Column) -> str:
        if not (values := [value * column.scale for value in figures.get(column.name, [])]):
            return ""
        median, low, high = (f"{value:,.{column.digits}f}" for value in (statistics.median(values), *spread(values)))
        return f"{median} ({low} to {high})" if low != high else median


def spread(values: list[float]) -> tuple[float, float]:
    return min(values), max(values)


def percentile(values: list[float], percent: float) -> float:
    ascending = sorted(values)
    return ascending[min(len(ascending) - 1, int(len(ascending) * percent / 100))]
