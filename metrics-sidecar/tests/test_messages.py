"""Decoding frames: which messages are valid, and the reason for each rejection.

The examples of the contract itself are tested in the workspace.
"""

import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from metrics_sidecar.messages import MAX_BYTES, REASONS, GapFill, Message, Rejected, Trade, decode

TRADE = {"type": "trade", "side": "buy", "qty": 2.5, "ts": 1790000000.5}


def encode(**changes: Any) -> bytes:
    return json.dumps({**TRADE, **changes}).encode()


def only(*frames: bytes) -> Message:
    (message,) = decode(*frames)
    return message


def outcomes(*frames: bytes) -> list[str]:
    """For each message its type, or the reason for its rejection."""
    return [message.reason if isinstance(message, Rejected) else type(message).__name__ for message in decode(*frames)]


def test_a_trade_with_required_fields_only() -> None:
    assert only(encode()) == Trade("buy", 2.5, 1790000000.5)


def test_a_trade_with_all_fields() -> None:
    message = only(encode(session="ui-1", seq=7, symbol="BTC-USD", price=64250.5))
    assert message == Trade("buy", 2.5, 1790000000.5, "ui-1", 7, "BTC-USD", 64250.5)


def test_a_gap_fill() -> None:
    assert only(b'{"type":"gap_fill","session":"ui-1","new_seq":9}') == GapFill("ui-1", 9)


@pytest.mark.parametrize(
    "frame",
    [
        encode(qty=0),
        encode(qty=3, ts=1790000000),
        encode(venue="XNAS", legs=[{"qty": -1}]),
        encode(note="é").decode("unicode_escape").encode(),
        b'{"ts":1,"qty":1,"side":"sell","type":"trade"}',
        b' {"type" : "trade",\n"side":"sell", "qty":1e2,"ts":1 }\r\n',
    ],
)
def test_unusual_but_valid_trades_are_accepted(frame: bytes) -> None:
    assert isinstance(only(frame), Trade)


@pytest.mark.parametrize(
    "frame, reason",
    [
        (b"x" * (MAX_BYTES + 1), "too_large"),
        (encode().ljust(MAX_BYTES + 1), "too_large"),
        (b"\xff\xfe", "not_utf8"),
        (encode(note="?").replace(b"?", b"\xe9"), "not_utf8"),
        (b"hello", "not_json"),
        (encode()[:-1], "not_json"),
        (b"\xef\xbb\xbf" + encode(), "not_json"),
        (encode() + b"," + encode(), "not_json"),
        (b"[" * 10_000 + b"]" * 10_000, "not_json"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "not_json"),
        (b"[]", "not_object"),
        (b"[\n1,\n2\n]", "not_object"),
        (b"42", "not_object"),
        (b"9" * 10_000, "not_object"),
        (b"null", "not_object"),
        (b'"trade"', "not_object"),
        (encode(type="quote"), "unknown_type"),
        (encode(type=[]), "unknown_type"),
        (b"{}", "missing_field"),
        (b'{"type":"trade","side":"buy","qty":1}', "missing_field"),
        (encode(seq=1), "missing_field"),
        (encode(session="a"), "missing_field"),
        (encode(side="short"), "invalid_field"),
        (encode(qty=-0.001), "invalid_field"),
        (encode(qty=1.1e12), "invalid_field"),
        (encode(qty=float("nan")), "invalid_field"),
        (encode(qty=float("inf")), "invalid_field"),
        (encode(qty=1).replace(b": 1,", b": 1e999,"), "invalid_field"),
        (encode(qty="1"), "invalid_field"),
        (encode(qty=True), "invalid_field"),
        (encode(ts=float("-inf")), "invalid_field"),
        (encode(ts=-1), "invalid_field"),
        (encode(ts=1790000000000), "invalid_field"),
        (encode(ts=None), "invalid_field"),
        (encode(session="a", seq=0), "invalid_field"),
        (encode(session="a", seq=10**12 + 1), "invalid_field"),
        (encode(session="a", seq=10**30), "invalid_field"),
        (encode(session="a", seq=1.0), "invalid_field"),
        (encode(session="a" * 65, seq=1), "invalid_field"),
        (encode(session="a b", seq=1), "invalid_field"),
        (encode(session="a\n", seq=1), "invalid_field"),
        (encode(symbol=""), "invalid_field"),
        (encode(symbol="a" * 33), "invalid_field"),
        (encode(symbol="a b"), "invalid_field"),
        (encode(symbol=None), "invalid_field"),
        (encode(price=-1), "invalid_field"),
        (encode(price=None), "invalid_field"),
        (b'{"type":"gap_fill","session":"a b","new_seq":9}', "invalid_field"),
    ],
)
def test_a_message_that_breaks_the_contract_is_rejected_with_a_reason(frame: bytes, reason: str) -> None:
    assert outcomes(frame) == [reason]
    assert outcomes(encode(), frame, encode()) == ["Trade", reason, "Trade"]


@pytest.mark.parametrize(
    "frame, expected",
    [
        (b"", []),
        (b" \r\n\t\n", []),
        (encode() + encode(), ["Trade", "Trade"]),
        (encode() + b"\r\n\r\n" + encode() + b"\n", ["Trade", "Trade"]),
        (encode() + b"\n" + b'{"type":"gap_fill","session":"a","new_seq":2}', ["Trade", "GapFill"]),
        (json.dumps(TRADE, indent=1).encode(), ["Trade"]),
        (json.dumps({**TRADE, "qty": -1}, indent=1).encode(), ["invalid_field"]),
        (json.dumps({**TRADE, "note": "?"}, indent=1).encode().replace(b"?", b"\xff"), ["not_utf8"]),
        (encode() + b"\nrubbish\n" + encode(), ["Trade", "not_json", "Trade"]),
        (encode() + b"\n" + encode(note="?").replace(b"?", b"\xff") + b"\n" + encode(), ["Trade", "not_utf8", "Trade"]),
        (encode() + b"\n \n{}\n\n" + encode(seq=1) + b"\r\n", ["Trade", "missing_field", "missing_field"]),
        (encode(session="a", seq=1) + b"\n" + encode(session="a", seq=10), ["Trade", "Trade"]),
        (encode(session="a", seq=1) + b"\n" + encode(session="a"), ["Trade", "missing_field"]),
        (encode(seq=1) + b"\n" + encode(session="a"), ["missing_field", "missing_field"]),
        (encode() + b"\n" + encode()[:20] + b"\n" + encode()[20:], ["Trade", "not_json", "not_json"]),
    ],
)
def test_a_frame_may_contain_any_number_of_messages(frame: bytes, expected: list[str]) -> None:
    assert outcomes(frame) == expected


def test_frames_are_never_joined() -> None:
    assert outcomes(encode()[:20], encode()[20:]) == ["not_json", "not_json"]
    halves = encode(note="é").decode("unicode_escape").encode().split(b"\xc3")
    assert outcomes(halves[0] + b"\xc3", halves[1]) == ["not_utf8", "not_utf8"]
    assert outcomes(b"[", b"1", b"]") == ["not_json", "not_object", "not_json"]


def test_an_invalid_frame_does_not_affect_its_neighbours() -> None:
    frames = [encode() + b"\n" + encode(), b"rubbish", b"", b"x" * (MAX_BYTES + 1), encode(qty="1"), encode()]
    assert outcomes(*frames) == ["Trade", "Trade", "not_json", "too_large", "invalid_field", "Trade"]


def test_a_rejection_names_the_field_and_has_the_first_80_bytes() -> None:
    rejection = only(encode(qty=-1))
    assert isinstance(rejection, Rejected)
    assert "qty" in rejection.detail
    assert rejection.start == encode(qty=-1)[:80]


@pytest.mark.parametrize(
    "changes, position",
    [
        ({"qty": -1}, ("a", 7)),
        ({"qty": float("nan")}, ("a", 7)),
        ({"symbol": "a b"}, ("a", 7)),
        ({"type": "quote"}, ("", 0)),
        ({"qty": -1, "session": "a b"}, ("", 0)),
        ({"qty": -1, "session": 1}, ("", 0)),
        ({"qty": -1, "seq": 0}, ("", 0)),
        ({"qty": -1, "seq": 7.0}, ("", 0)),
        ({"qty": -1, "seq": True}, ("", 0)),
        ({"qty": -1, "seq": 10**12 + 1}, ("", 0)),
    ],
)
def test_a_rejection_has_session_and_seq_if_both_are_valid(changes: dict[str, Any], position: tuple[str, int]) -> None:
    rejection = only(encode(**{"session": "a", "seq": 7, **changes}))
    assert isinstance(rejection, Rejected)
    assert (rejection.session, rejection.seq) == position


def test_a_trade_with_a_missing_field_keeps_session_and_seq() -> None:
    rejection = only(b'{"type":"trade","session":"a","seq":7}')
    assert isinstance(rejection, Rejected)
    assert (rejection.reason, rejection.session, rejection.seq) == ("missing_field", "a", 7)


def test_invalid_messages_are_decoded_lazily() -> None:
    count = 20_000
    started = time.perf_counter()
    assert sum(1 for _ in decode(b"{}\n" * count)) == count
    all_of_them = time.perf_counter() - started
    started = time.perf_counter()
    assert isinstance(next(iter(decode(b"{}\n" * count))), Rejected)
    assert time.perf_counter() - started < all_of_them / 10


VALID = encode() + b"\n"
HOSTILE: dict[str, Callable[[int], bytes]] = {
    "brackets": lambda size: b"[" * size,
    "brackets in lines": lambda size: b"[\n" * (size // 2),
    "objects in lines": lambda size: b"{}\n" * (size // 3),
    "objects": lambda size: b"{}" * (size // 2),
    "braces": lambda size: b"{" * size,
    "nested objects": lambda size: b'{"a":' * (size // 5),
    "an integer": lambda size: b"9" * size,
    "a fraction": lambda size: b"0." + b"0" * (size - 3) + b"1",
    "backslashes": lambda size: b'"' + b"\\" * (size - 2) + b'"',
    "quotes": lambda size: b'"' * size,
    "blank lines": lambda size: b"\n" * (size - 1) + b"x",
    "not UTF-8": lambda size: b"\xff" * size,
    "not UTF-8 in lines": lambda size: b"\xff\n" * (size // 2),
    "valid lines, then garbage": lambda size: VALID * (size // len(VALID) - 1) + b"x",
    "a long side": lambda size: encode(side="s" * (size - 100)),
    "infinities": lambda size: b"1e999\n" * (size // 6),
    "keys": lambda size: b"{" + b",".join(b'"%x":0' % number for number in range(size // 12)) + b"}x",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_decoding_takes_linear_time_for_hostile_input(name: str) -> None:
    def seconds(size: int) -> float:
        frame = HOSTILE[name](size)
        started = time.process_time()
        Counter(map(type, decode(frame)))
        return time.process_time() - started

    small, large = min(seconds(MAX_BYTES // 128) for _ in range(2)), seconds(MAX_BYTES // 8)
    # Quadratic time would be 256 times as much. The constant covers shapes that take almost no time.
    assert large < 64 * small + 0.02


@given(st.binary())
@example(b"\xef\xbb\xbf{}")
def test_any_bytes_decode_to_messages_or_rejections(frame: bytes) -> None:
    assert_each_is_a_message_or_a_rejection(frame)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
objects = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["trade", "gap_fill"]) | values,
        "side": st.sampled_from(["buy", "sell"]) | values,
        "session": st.just("ui-1") | values,
        **dict.fromkeys(("qty", "ts", "seq", "new_seq", "symbol", "price"), values),
    },
)


@given(objects, st.booleans())
def test_any_object_decodes_to_a_message_or_a_rejection(message: dict[str, Any], ascii_only: bool) -> None:
    assert_each_is_a_message_or_a_rejection(
        json.dumps(message, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    )


@given(st.data())
def test_a_damaged_frame_decodes_to_messages_and_rejections(data: st.DataObject) -> None:
    frame = bytearray(encode(session="ui-1", seq=7) + b"\n" + encode() + b"\n" + encode(symbol="é"))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    assert_each_is_a_message_or_a_rejection(bytes(frame))


lines = st.sampled_from(
    [encode(), encode(session="a", seq=1), encode(qty=-1), b"{", b"}", b"[1]", b"", b"\xff", b"x\r"]
)


@given(st.lists(st.lists(lines).map(b"\n".join)))
def test_decoding_frames_together_equals_decoding_each(frames: list[bytes]) -> None:
    assert list(decode(*frames)) == [message for frame in frames for message in decode(frame)]


def assert_each_is_a_message_or_a_rejection(frame: bytes) -> None:
    for message in decode(frame):
        assert isinstance(message, Trade | GapFill) or message.reason in REASONS


def test_a_trade_that_is_not_utf8_keeps_session_and_seq() -> None:
    rejection = only(encode(session="a", seq=7, note="?").replace(b"?", b"\xff"))
    assert isinstance(rejection, Rejected)
    assert (rejection.reason, rejection.session, rejection.seq) == ("not_utf8", "a", 7)
