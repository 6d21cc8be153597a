"""Warnings about what senders do are limited to one of each kind per second."""

import pytest

from metrics_sidecar.messages import GapFill, Rejected
from metrics_sidecar.throttle import Throttle


def test_the_next_warning_has_the_number_of_suppressed_ones(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    throttle = Throttle()
    monkeypatch.setattr("metrics_sidecar.throttle.INTERVAL", 3600.0)
    for number in range(3):
        throttle.warn("frame", f"line {number}")
    assert caplog.messages == ["line 0"]
    monkeypatch.setattr("metrics_sidecar.throttle.INTERVAL", 0.0)
    throttle.warn("frame", "line 3")
    throttle.warn("frame", "line 4")
    assert caplog.messages[1:] == ["line 3 (2 similar warnings suppressed)", "line 4"]


def test_each_kind_and_each_reason_is_limited_separately(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    throttle = Throttle()
    monkeypatch.setattr("metrics_sidecar.throttle.INTERVAL", 3600.0)
    for _ in range(2):
        throttle.warn_of(Rejected("not_json", "bad", b"x"))
        throttle.warn_of(Rejected("not_utf8", "bad\n", b"\xff"))
        throttle.warn_of(GapFill("a", 7))
    assert caplog.messages == [
        "rejected not_json: bad: b'x'",
        r"rejected not_utf8: bad\n: b'\xff'",
        "session a: trades before seq 7 that were not counted are lost",
    ]
