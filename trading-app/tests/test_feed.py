"""Order flow: the program, and the files it reads."""

import json
import os
import signal
import subprocess
import threading
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from app_process import FakeSidecar, program, run

from trading_app.orders import FileError, at_speed, play, read, simulate
from trading_app.publisher import TradePublisher


def summary(output: str) -> dict[str, Any]:
    (line,) = output.splitlines()
    result: dict[str, Any] = json.loads(line)
    return result


def test_it_sends_as_many_as_told_and_sums_up(sidecar: FakeSidecar) -> None:
    ended = run("feed", "--rate", "5000", "--count", "300", **sidecar.environ)
    assert ended.returncode == 0, ended.stderr
    trades = sidecar.receive_all()
    assert len(trades) == 300
    result = summary(ended.stdout)
    assert result["published"] == 300
    assert result["pending"] == result["lost"] == 0
    for side in "buy", "sell":
        quantities = [trade["qty"] for trade in trades if trade["side"] == side]
        assert result["trades"][side] == len(quantities)
        assert result["volume"][side] == pytest.approx(sum(quantities))


def test_it_stops_when_told_the_time_and_keeps_its_rate(sidecar: FakeSidecar) -> None:
    ended = run("feed", "--rate", "100", "--duration", "0.5", **sidecar.environ)
    assert summary(ended.stdout)["published"] == 50
    times = [trade["ts"] for trade in sidecar.receive_all()]
    assert times[-1] - times[0] >= 0.48


def test_ctrl_c_stops_it_cleanly(sidecar: FakeSidecar) -> None:
    environ = {**os.environ, **sidecar.environ}
    with subprocess.Popen(program("feed", "--rate", "100"), env=environ, stdout=subprocess.PIPE, text=True) as process:
        sidecar.receive()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert summary(output)["published"] >= 1


def test_trades_that_nobody_took_are_told(absent: FakeSidecar) -> None:
    ended = run("feed", "--rate", "1000", "--count", "3", **absent.environ)
    assert ended.returncode == 1
    assert summary(ended.stdout)["pending"] == 3
    assert "has not committed 3 trades" in ended.stderr


def test_trades_that_nobody_took_wait_for_the_next_feed(absent: FakeSidecar, tmp_path: Path) -> None:
    environ = {**absent.environ, "WEBAPP_OUTBOX": str(tmp_path)}
    run("feed", "--rate", "1000", "--count", "3", **environ)
    absent.open()
    ended = run("feed", "--rate", "1000", "--count", "1", **environ)
    assert ended.returncode == 0
    assert summary(ended.stdout)["published"] == 1
    assert len(absent.receive_all()) == 4


def test_the_same_seed_makes_the_same_flow() -> None:
    def flow(seed: int) -> list[Any]:
        return list(islice(simulate(10.0, seed), 100))

    assert flow(1) == flow(1)
    assert flow(1) != flow(2)
    assert {order.side for order in flow(1)} == {"buy", "sell"}
    assert all(order.qty > 0 for order in flow(1))
    assert [order.at for order in flow(1)][:3] == [0.0, 0.1, 0.2]


@pytest.mark.parametrize(
    "name, text",
    [
        ("trades.csv", "type,side,qty,ts,venue\ntrade,buy,2,100.5,X\ntrade,sell,0.5,101\n"),
        ("trades.csv", "\ufeffqty,side,ts\r\n2,buy,100.5\r\n\r\n0.5,sell,101\r\n"),
        (
            "trades.jsonl",
            '{"type":"trade","side":"buy","qty":2,"ts":100.5,"venue":"X"}\n\n{"side":"sell","qty":0.5,"ts":101}',
        ),
    ],
)
def test_a_file_is_replayed(sidecar: FakeSidecar, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, newline="")
    ended = run("feed", "--file", str(tmp_path / name), "--rate", "1000", **sidecar.environ)
    assert ended.returncode == 0, ended.stderr
    assert [(trade["side"], trade["qty"]) for trade in (sidecar.receive(), sidecar.receive())] == [
        ("buy", 2),
        ("sell", 0.5),
    ]


def test_a_replay_by_ts_keeps_the_distances(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    path.write_text("side,qty,ts\nbuy,1,1000\nbuy,2,1001\nbuy,3,1005\n")
    assert [order.at for order in at_speed(read(path), 10)] == pytest.approx([0, 0.1, 0.5])


@pytest.mark.parametrize(
    "name, text, complaint",
    [
        ("t.csv", "side,qty\nbuy,1\nbuy,0\n", "line 3: qty: Input should be greater than 0"),
        ("t.csv", "side,qty\nbuy,-1\n", "line 2: qty"),
        ("t.csv", "side,qty\nbuy,many\n", "line 2: qty"),
        ("t.csv", "side,qty\nbuy,nan\n", "line 2: qty"),
        ("t.csv", "side,qty\nbuy\n", "line 2: qty: Field required"),
        ("t.csv", "buy,1\nsell,2\n", "line 2: side: Field required"),
        ("t.csv", "side,qty\nshort,1\n", "line 2: side"),
        ("t.jsonl", '{"side":"buy","qty":1}\n\n{"side":"buy","qty":"1"}\n', "line 3: qty"),
        ("t.jsonl", '{"side":"buy","qty":true}\n', "line 1: qty"),
        ("t.jsonl", '{"side":"buy"\n', "line 1: "),
        ("t.jsonl", "[]\n", "line 1: "),
        ("t.txt", "side,qty\nbuy,1\n", "neither a .csv nor a .jsonl file"),
    ],
)
def test_a_file_with_a_bad_line_is_refused_whole(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(FileError, match=complaint):
        read(tmp_path / name)


def test_a_bad_file_ends_the_program_with_one_line_and_nothing_sent(sidecar: FakeSidecar, tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    path.write_text("side,qty\nbuy,1\nbuy,zero\n")
    ended = run("feed", "--file", str(path), **sidecar.environ)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"trading-feed: {path}: line 3: qty: ")
    assert ended.stderr.count("\n") == 1
    assert sidecar.is_silent()


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    path.write_bytes(b"side,qty\nbuy,1\n\xff\xff,2\n")
    with pytest.raises(FileError, match="utf-8"):
        read(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"trades.csv: No such file"):
        read(tmp_path / "trades.csv")


def test_speed_needs_a_ts_in_every_line(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    for last in "buy,2,", "buy,2,999":
        path.write_text(f"side,qty,ts\nbuy,1,1000\n{last}\n")
        with pytest.raises(FileError, match="needs a ts"):
            at_speed(read(path), 1.0)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rate", "0"],
        ["--rate", "nan"],
        ["--rate", "inf"],
        ["--duration", "1e400"],
        ["--count", "0"],
        ["--duration", "-1"],
        ["--count", "1", "--duration", "1"],
        ["--speed", "2"],
        ["--file", "t.csv", "--speed", "2", "--rate", "1"],
        ["--file", "t.csv", "--seed", "1"],
    ],
)
def test_options_that_make_no_sense_are_refused(arguments: list[str]) -> None:
    ended = run("feed", *arguments)
    assert ended.returncode == 2
    assert "Error: " in ended.stderr


def test_a_flow_stops_between_two_orders(sidecar: FakeSidecar) -> None:
    stop = threading.Event()
    with TradePublisher(sidecar.address, sidecar_url=sidecar.url) as publisher:
        flow = play(publisher, simulate(1000.0), stop)
        next(flow)
        stop.set()
        assert list(flow) == []


def test_a_simulated_flow_has_the_symbols_it_is_told_and_prices_that_walk(sidecar: FakeSidecar) -> None:
    ended = run("feed", "--rate", "5000", "--count", "200", "--symbols", "BTC-USD, ETH-USD", **sidecar.environ)
    assert ended.returncode == 0, ended.stderr
    trades = sidecar.receive_all()
    assert {trade["symbol"] for trade in trades} == {"BTC-USD", "ETH-USD"}
    prices = [trade["price"] for trade in trades if trade["symbol"] == "BTC-USD"]
    assert len(set(prices)) > len(prices) / 2
    assert all(90 < price < 110 for price in prices)


def test_a_file_may_have_symbols_and_prices(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    path.write_text("side,qty,symbol,price\nbuy,1,BTC-USD,64250.5\nsell,2,,\n")
    assert [(row.symbol, row.price) for row in read(path)] == [("BTC-USD", 64250.5), (None, None)]


@pytest.mark.parametrize("line", ["buy,1e13,,", "buy,1,BTC USD,1", "buy,1,BTC,-1", "buy,1,BTC,1e13"])
def test_a_file_with_a_trade_that_breaks_the_contract_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "trades.csv"
    path.write_text(f"side,qty,symbol,price\n{line}\n")
    with pytest.raises(FileError, match=r"line 2: (qty|symbol|price): "):
        read(path)


def test_a_symbol_that_is_none_is_refused(absent: FakeSidecar) -> None:
    ended = run("feed", "--symbols", "BTC USD", **absent.environ)
    assert ended.returncode == 2
    assert "the symbol must be 1 to 32 of" in ended.stderr
