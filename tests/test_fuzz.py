"""The rules of ``bin/chaos fuzz``: the decoder follows them, and each rule detects a decoder that breaks it."""

import time
from collections.abc import Callable, Iterable

import pytest
from harness import fuzz, fuzz_rules
from harness.tools import ROOT

from metrics_sidecar.messages import GapFill, Message, Rejected, Trade, decode

SEEDS = fuzz.seeds()


@pytest.fixture(scope="module")
def stretching() -> fuzz_rules.Clock:
    return fuzz_rules.Clock(fuzz_rules.STRETCHED_SHARE)


@pytest.mark.parametrize("seed", SEEDS, ids=range(len(SEEDS)))
def test_the_decoder_follows_the_rules_for_every_seed(seed: bytes, stretching: fuzz_rules.Clock) -> None:
    fuzz_rules.check(seed, stretching)


def raises(*_: bytes) -> Iterable[Message]:
    raise ValueError("unexpected")


def raises_when_read(*frames: bytes) -> Iterable[Message]:
    yield from decode(*frames)
    raise ValueError("unexpected")


def accepts_any_quantity(*frames: bytes) -> Iterable[Message]:
    return [Trade("buy", 1e300, 1.0), *decode(*frames)]


def accepts_any_session(*frames: bytes) -> Iterable[Message]:
    return [GapFill("no session", 2), *decode(*frames)]


def rejects_for_another_reason(*_: bytes) -> Iterable[Message]:
    return [Rejected("unknown", "", b"")]  # type: ignore[arg-type]


def joins_frames(*frames: bytes) -> Iterable[Message]:
    return decode(b"".join(frames))


def stops_at_the_first_rejection(*frames: bytes) -> Iterable[Message]:
    for message in decode(*frames):
        yield message
        if isinstance(message, Rejected):
            return


def rejects_a_frame_for_one_line(*frames: bytes) -> Iterable[Message]:
    for frame in frames:
        messages = list(decode(frame))
        yield from [message for message in messages if isinstance(message, Rejected)][:1] or messages


def skips_lines(*frames: bytes) -> Iterable[Message]:
    for frame in frames:
        yield from list(decode(frame))[-2:]


def use_processor(seconds: float) -> None:
    deadline = time.thread_time() + seconds
    while time.thread_time() < deadline:
        continue


def is_slow(*frames: bytes) -> Iterable[Message]:
    use_processor(0.02)
    return decode(*frames)


def takes_quadratic_time(*frames: bytes) -> Iterable[Message]:
    for frame in frames:
        use_processor(2e-10 * len(frame) ** 2)
    return decode(*frames)


@pytest.mark.parametrize(
    "broken, rule",
    [
        (raises, "decode raises"),
        (raises_when_read, "decode raises"),
        (accepts_any_quantity, "outside the contract"),
        (accepts_any_session, "outside the contract"),
        (rejects_for_another_reason, "outside the contract"),
        (joins_frames, "other frames make a difference"),
        (stops_at_the_first_rejection, "other frames make a difference"),
        (rejects_a_frame_for_one_line, "a valid line at the end does not count"),
        (skips_lines, "lines alone are"),
        (is_slow, "takes too long"),
    ],
)
def test_a_decoder_that_breaks_a_rule_is_detected(
    broken: Callable[..., Iterable[Message]],
    rule: str,
    monkeypatch: pytest.MonkeyPatch,
    stretching: fuzz_rules.Clock,
) -> None:
    monkeypatch.setattr(fuzz_rules, "decode", broken)
    with pytest.raises(fuzz_rules.DefectError, match=rule):
        fuzz_rules.check(b"[]\n" + fuzz_rules.LINE + b"\n{", stretching)


def test_a_decoder_that_takes_quadratic_time_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_rules, "SMALL", 2**12)
    monkeypatch.setattr(fuzz_rules, "LARGE", 2**16)
    fuzz_rules.check_growth(b"{}\n")
    monkeypatch.setattr(fuzz_rules, "decode", takes_quadratic_time)
    with pytest.raises(fuzz_rules.DefectError, match="faster than the size"):
        fuzz_rules.check_growth(b"{}\n")


def test_only_the_lock_of_the_fuzzer_contains_atheris() -> None:
    locks = [*ROOT.glob("locks/*.txt"), *ROOT.glob("*/locks/*.txt")]
    assert [lock for lock in locks if "atheris==" in lock.read_text()] == [ROOT / "locks/fuzz.txt"]
