"""What the decoder takes and what it rejects. The contract's own examples are tested in the workspace."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metrics_sidecar.messages import REASONS, GapFill, Rejected, Trade, decode, tracked_decoder

type Fields = tuple[str, float, float, str, int]

decode_tracked = tracked_decoder(["ui-0", "ui-1"])

TRADE = {"type": "trade", "side": "buy", "qty": 2.5, "ts": 1790000000.5}


def encode(**changes: Any) -> bytes:
    return json.dumps({**TRADE, **changes}).encode()


def test_a_trade() -> None:
    assert decode(encode()) == Trade("buy", 2.5, 1790000000.5)


def test_a_tracked_trade() -> None:
    assert decode(encode(session="ui-1", seq=7)) == Trade("buy", 2.5, 1790000000.5, "ui-1", 7)


def test_a_gap_fill() -> None:
    assert decode(b'{"type":"gap_fill","session":"ui-1","new_seq":9}') == GapFill("ui-1", 9)


@pytest.mark.parametrize(
    "frame",
    [
        encode(qty=0),
        encode(qty=3, ts=1790000000),
        encode(venue="XNAS", legs=[{"qty": -1}]),
        b'{"ts":1,"qty":1,"side":"sell","type":"trade"}',
        b' {"type" : "trade",\n"side":"sell", "qty":1e2,"ts":1 }\r\n',
    ],
)
def test_what_is_unusual_but_right_is_a_trade(frame: bytes) -> None:
    assert isinstance(decode(frame), Trade)


@pytest.mark.parametrize(
    "frame, reason",
    [
        (encode(note="x" * 2**20), "too_large"),
        (b"x" * 2**20, "too_large"),
        (b"\xff\xfe", "not_utf8"),
        (encode(note="?").replace(b"?", b"\xe9"), "not_utf8"),
        (b"", "not_json"),
        (b"hello", "not_json"),
        (encode()[:-1], "not_json"),
        (encode() + encode(), "not_json"),
        (b"[" * 10_000 + b"]" * 10_000, "not_json"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "not_json"),
        (b"[]", "not_object"),
        (b"42", "not_object"),
        (b"null", "not_object"),
        (b'"trade"', "not_object"),
        (encode(type="quote"), "unknown_type"),
        (b"{}", "missing_field"),
        (b'{"type":"trade","side":"buy","qty":1}', "missing_field"),
        (encode(seq=1), "missing_field"),
        (encode(session="a"), "missing_field"),
        (encode(side="short"), "invalid_field"),
        (encode(qty=-0.001), "invalid_field"),
        (encode(qty=float("nan")), "invalid_field"),
        (encode(qty=float("inf")), "invalid_field"),
        (encode(qty=1).replace(b": 1,", b": 1e999,"), "invalid_field"),
        (encode(qty="1"), "invalid_field"),
        (encode(qty=True), "invalid_field"),
        (encode(ts=float("-inf")), "invalid_field"),
        (encode(ts=None), "invalid_field"),
        (encode(session="a", seq=0), "invalid_field"),
        (encode(session="a", seq=2**63 + 1), "invalid_field"),
        (encode(session="a", seq=10**30), "invalid_field"),
        (encode(session="a" * 65, seq=1), "invalid_field"),
        (encode(session="a b", seq=1), "invalid_field"),
        (encode(session="a\n", seq=1), "invalid_field"),
    ],
)
def test_what_breaks_the_contract_is_rejected_for_a_reason(frame: bytes, reason: str) -> None:
    with pytest.raises(Rejected) as rejection:
        decode(frame)
    assert rejection.value.reason == reason


def test_a_rejection_names_the_field() -> None:
    with pytest.raises(Rejected, match="qty"):
        decode(encode(qty=-1))


@given(st.binary())
@example(b"\xef\xbb\xbf{}")
def test_any_bytes_are_a_message_or_a_rejection(frame: bytes) -> None:
    decode_or_reject(frame)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["trade", "gap_fill"]) | values,
            "side": st.sampled_from(["buy", "sell"]) | values,
            "session": st.just("ui-1") | values,
            **dict.fromkeys(("qty", "ts", "seq", "new_seq"), values),
        },
    ),
    st.booleans(),
)
def test_any_object_is_a_message_or_a_rejection(message: dict[str, Any], ascii_only: bool) -> None:
    decode_or_reject(json.dumps(message, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass"))


@given(st.data())
def test_any_damage_to_a_message_leaves_a_message_or_a_rejection(data: st.DataObject) -> None:
    frame = bytearray(encode(session="ui-1", seq=7))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    decode_or_reject(bytes(frame))


def decode_or_reject(frame: bytes) -> None:
    """Whatever the bytes, the two ways to read them agree, but for what one of them leaves to the other."""
    plain = tracked(frame)
    try:
        message = decode(frame)
    except Rejected as rejection:
        reason = rejection.reason
    else:
        assert isinstance(message, Trade | GapFill)
        assert plain is None or (isinstance(message, Trade) and plain == fields(message))
        return
    assert reason in REASONS
    assert plain is None


def tracked(frame: bytes) -> Fields | None:
    try:
        return fields(decode_tracked(frame))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def fields(message: Trade) -> Fields:
    return message.side, message.qty, message.ts, message.session, message.seq


def test_a_plain_tracked_trade_of_a_known_session() -> None:
    assert tracked(encode(session="ui-1", seq=7)) == ("buy", 2.5, 1790000000.5, "ui-1", 7)


@pytest.mark.parametrize("session", ["", "ui-1"])
def test_who_knows_no_session_reads_none(session: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        tracked_decoder([])(encode(session=session, seq=7))


@pytest.mark.parametrize(
    "frame",
    [
        encode(session="ui-1", seq=7).replace(b'"type": "trade", ', b""),
        encode(session="?", seq=7).replace(b"?", b"\xe9"),
        encode(session="ui-1", seq=7, note="?").replace(b"?", b"\xe9"),
        encode(session="ui-2", seq=7),
        encode(session="ui-1"),
        encode(seq=7),
        encode(),
    ],
)
def test_what_is_no_plain_tracked_trade_is_not_read_as_one(frame: bytes) -> None:
    assert tracked(frame) is None
