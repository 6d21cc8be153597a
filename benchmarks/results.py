"""The results: one value per figure and round."""

import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Column:
    """A figure of every contestant, in ``unit``: values are multiplied by ``scale``.

    If it is ``compared``, the next column shows its ratio to the reference.
    """

    name: str
    unit: str
    scale: float = 1.0
    digits: int = 0
    compared: bool = False


@dataclass
class Table:
    """One measurement. Ratios are to the contestant ``reference``.

    Rows are in the order of ``order``; other contestants follow in the order of their results.
    """

    title: str
    reference: str
    columns: tuple[Column, ...]
    order: tuple[str, ...] = ()
    rows: dict[str, dict[str, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))

    def add(self, row: str, **figures: float) -> None:
        """Add the result of one round for a contestant: one value per column, by the columns' names."""
        for column in self.columns:
            self.rows[row][column.name].append(figures[column.name])

    @property
    def contestants(self) -> list[str]:
        return [*(row for row in self.order if row in self.rows), *(row for row in self.rows if row not in self.order)]

    def median(self, row: str, column: str) -> float:
        return statistics.median(self.rows[row][column])

    def worst(self, row: str, column: str) -> float:
        return max(self.rows[row][column])

    def ratio(self, row: str, column: str, reference: str = "") -> float:
        """The median of the ratios to the reference, each within one round."""
        pairs = zip(self.rows[row][column], self.rows[reference or self.reference][column], strict=True)
        return statistics.median(value / other for value, other in pairs)

    def markdown(self) -> Iterator[str]:
        heads = [head for column in self.columns for head in self._heads(column)]
        yield "| | " + " | ".join(heads) + " |"
        yield "| --- |" + " ---: |" * len(heads)
        for row in self.contestants:
            cells = [cell for column in self.columns for cell in self._cells(row, column)]
            yield "| " + " | ".join([row, *cells]) + " |"

    def _heads(self, column: Column) -> Iterator[str]:
        yield f"{column.name}, {column.unit}" if column.unit else column.name
        if column.compared:
            yield f"x {self.reference}"

    def _cells(self, row: str, column: Column) -> Iterator[str]:
        values = [value * column.scale for value in self.rows[row][column.name]]
        median, low, high = (f"{value:,.{column.digits}f}" for value in (statistics.median(values), *spread(values)))
        yield f"{median} ({low} to {high})" if low != high else median
        if column.compared:
            yield f"{self.ratio(row, column.name):.2f}" if self.reference in self.rows else ""


def spread(values: list[float]) -> tuple[float, float]:
    return min(values), max(values)


def percentile(values: list[float], percent: float) -> float:
    ascending = sorted(values)
    return ascending[min(len(ascending) - 1, int(len(ascending) * percent / 100))]
