"""Both projects keep the contract: the sidecar accepts exactly what it allows, the publisher sends nothing else."""

import json
from typing import Any

import pytest
from harness.tools import ROOT
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from metrics_sidecar.messages import GapFill, Rejected, Trade, decode
from trading_app import messages as publisher_messages
from trading_app.messages import SIDES
from trading_app.messages import encode as encode_line
from trading_app.publisher import TradePublisher

SCHEMA = json.loads((ROOT / "contract/trade.schema.json").read_text())
EXAMPLES = json.loads((ROOT / "contract/examples.json").read_text())
CONTRACT = Draft202012Validator(SCHEMA)


def by_name(examples: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(example, id=example["name"]) for example in examples]


def encode(message: Any) -> bytes:
    return json.dumps(message).encode()


def test_the_schema_is_valid() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("example", by_name(EXAMPLES["valid"]))
def test_the_sidecar_accepts_a_valid_example(example: dict[str, Any]) -> None:
    assert CONTRACT.is_valid(example["message"])
    (message,) = decode(encode(example["message"]))
    assert not isinstance(message, Rejected)
    for field, value in example["message"].items():
        assert getattr(message, field, value) == value


@pytest.mark.parametrize("example", by_name(EXAMPLES["invalid"]))
def test_the_sidecar_rejects_an_invalid_example_for_the_stated_reason(example: dict[str, Any]) -> None:
    assert not CONTRACT.is_valid(example["message"])
    assert outcome(encode(example["message"])) == [example["reason"]]


@pytest.mark.parametrize("example", by_name(EXAMPLES["frames"]))
def test_the_sidecar_reads_a_frame_as_its_example_says(example: dict[str, Any]) -> None:
    frame = whole(example)
    assert outcome(frame) == example["outcome"]
    # Other frames that arrive with it make no difference.
    assert outcome(b"{}", frame, b"[]") == ["missing_field", *example["outcome"], "not_object"]


def whole(example: dict[str, Any]) -> bytes:
    """The bytes of the frame: hexadecimal, or text, or text followed by a repeated part up to a number of bytes."""
    if "hex" in example:
        return bytes.fromhex(example["hex"])
    frame: bytes = example["text"].encode()
    if "repeat" in example:
        repeated = example["repeat"].encode()
        frame += (repeated * (example["bytes"] // len(repeated) + 1))[: example["bytes"] - len(frame)]
    return frame


def outcome(*frames: bytes) -> list[str]:
    """The kind of each accepted message and the reason of each rejection, in order."""
    names = {Trade: "trade", GapFill: "gap_fill"}
    return [message.reason if isinstance(message, Rejected) else names[type(message)] for message in decode(*frames)]


# Integers are whole numbers only: the schema accepts 1.0 as an integer, but on the wire integers have no fraction.
numbers = st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False).filter(
    lambda number: not number.is_integer()
)
anything = st.none() | st.booleans() | numbers | st.text(max_size=3) | st.lists(st.none(), max_size=1)
sessions = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True) | anything
symbols = st.from_regex(r"[A-Za-z0-9._:/-]{1,32}", fullmatch=True) | anything
sequence_numbers = st.integers(-1, 3) | st.integers(10**12 - 2, 10**12 + 3) | st.integers(2**63 - 2, 2**64) | anything
amounts = st.floats(0, 1e12) | st.integers(-1, 10**12 + 1) | anything
near_misses = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["trade", "gap_fill"]) | anything,
        "side": st.sampled_from(SIDES) | anything,
        "qty": amounts,
        "ts": amounts,
        "symbol": symbols,
        "price": amounts,
        "session": sessions,
        "seq": sequence_numbers,
        "new_seq": sequence_numbers,
        "other": anything,
    },
)


@given(near_misses | anything)
def test_the_sidecar_accepts_exactly_what_the_schema_allows(message: Any) -> None:
    (decoded,) = decode(encode(message))
    assert CONTRACT.is_valid(message) != isinstance(decoded, Rejected)


@given(st.lists(near_misses | anything, min_size=1))
def test_the_sidecar_accepts_exactly_the_lines_of_a_frame_that_the_schema_allows(messages: list[Any]) -> None:
    frame = b"\n".join(map(encode, messages))
    assert [reason in {"trade", "gap_fill"} for reason in outcome(frame)] == list(map(CONTRACT.is_valid, messages))


@given(
    st.sampled_from(SIDES),
    st.floats(0, 1e12, exclude_min=True) | st.integers(1, 10**12),
    st.none() | st.from_regex(r"[A-Za-z0-9._:/-]{1,32}", fullmatch=True),
    st.none() | st.floats(0, 1e12),
)
def test_the_sidecar_accepts_every_trade_that_the_publisher_accepts(
    side: Any, qty: float, symbol: Any, price: Any
) -> None:
    publisher = TradePublisher("tcp://127.0.0.1:9", sidecar_url="http://127.0.0.1:9", capacity=8)
    trade = publisher.publish(side, qty, symbol=symbol, price=price)
    publisher.close(timeout=0)
    line = encode_line(trade)
    assert CONTRACT.is_valid(json.loads(line))
    assert [type(message) for message in decode(line)] == [Trade]


@given(st.integers(1, 10**12 + 1))
def test_the_sidecar_accepts_every_gap_fill_that_the_publisher_sends(new_seq: int) -> None:
    line = encode_line(publisher_messages.GapFill("0123456789abcdef", new_seq))
    assert CONTRACT.is_valid(json.loads(line))
    assert [type(message) for message in decode(line)] == [GapFill]


@pytest.mark.parametrize("example", by_name(EXAMPLES["valid"]))
def test_the_publisher_reads_every_tracked_example_from_its_journal(example: dict[str, Any]) -> None:
    if "session" in example["message"]:
        publisher_messages.decode(encode(example["message"]))
