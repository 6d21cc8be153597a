"""The histogram: inclusive upper bounds and cumulative buckets, as in Prometheus."""

from bisect import bisect_left
from math import inf, nextafter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_sidecar.histogram import Histogram

BOUNDS = (0.001, 0.01, 0.1)


def counts(*values: float) -> list[float]:
    histogram = Histogram(*BOUNDS)
    histogram.observe(values)
    return [count for _, count in histogram.buckets()]


def test_an_empty_histogram_has_all_buckets() -> None:
    assert Histogram(*BOUNDS).buckets() == [("0.001", 0.0), ("0.01", 0.0), ("0.1", 0.0), ("+Inf", 0.0)]


@pytest.mark.parametrize("place, bound", list(enumerate(BOUNDS)))
def test_a_value_on_a_bound_belongs_to_its_bucket(place: int, bound: float) -> None:
    assert counts(bound) == [0.0] * place + [1.0] * (4 - place)
    assert counts(nextafter(bound, inf)) == [0.0] * (place + 1) + [1.0] * (3 - place)


def test_values_below_the_first_and_above_the_last_bound_count() -> None:
    assert counts(0.0) == [1.0, 1.0, 1.0, 1.0]
    assert counts(1e9) == [0.0, 0.0, 0.0, 1.0]


def test_a_copy_is_independent() -> None:
    histogram = Histogram(*BOUNDS)
    histogram.observe([0.005])
    copy = histogram.copy()
    histogram.observe([0.005])
    assert (copy.buckets()[-1], copy.sum) == (("+Inf", 1.0), 0.005)


@given(st.lists(st.floats(0, 1) | st.sampled_from(BOUNDS), min_size=1))
def test_observing_a_batch_equals_observing_each_value(values: list[float]) -> None:
    expected = [0.0] * 4
    for value in values:
        for place in range(bisect_left(BOUNDS, value), 4):
            expected[place] += 1
    assert counts(*values) == expected
