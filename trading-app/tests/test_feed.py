"""trading-feed: the program, and the files it reads."""

import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from app_process import FakeSidecar, environ, program, run
from click.testing import CliRunner

from trading_app.feed import main
from trading_app.orders import FileError, Order, at_speed, play, read, simulate
from trading_app.publisher import TradePublisher

pytestmark = pytest.mark.slow


def summary(output: str) -> dict[str, Any]:
    (line,) = output.splitlines()
    result: dict[str, Any] = json.loads(line)
    return result


def test_count_limits_the_flow_and_the_summary_adds_up(sidecar: FakeSidecar) -> None:
    ended = run("feed", "--rate", "5000", "--count", "300", **sidecar.environ)
    assert ended.returncode == 0, ended.stderr
    trades = sidecar.receive_distinct()
    assert len(trades) == 300
    result = summary(ended.stdout)
    assert result["published"] == 300
    assert result["pending"] == result["lost"] == 0
    for side in "buy", "sell":
        quantities = [trade["qty"] for trade in trades if trade["side"] == side]
        assert result["trades"][side] == len(quantities)
        assert result["volume"][side] == pytest.approx(sum(quantities))


def test_duration_limits_the_flow_and_the_rate_is_kept(sidecar: FakeSidecar) -> None:
    ended = run("feed", "--rate", "100", "--duration", "0.5", **sidecar.environ)
    assert summary(ended.stdout)["published"] == 50
    times = [trade["ts"] for trade in sidecar.receive_all()]
    assert times[-1] - times[0] >= 0.48


def test_trades_dropped_from_a_full_journal_end_the_feed_with_an_error(
    absent: FakeSidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SmallPublisher(TradePublisher):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options, capacity=80)

        def close(self, timeout: float = 0.0) -> None:
            super().close(timeout)

    for name, value in absent.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("trading_app.feed.TradePublisher", SmallPublisher)
    ended = CliRunner().invoke(main, ["--rate", "1000000", "--count", "100"])
    assert ended.exit_code == 1
    assert re.search(r"^trading-feed: \d+ trades were dropped from the full journal$", ended.output, re.MULTILINE)
    assert "trading-feed: the sidecar has not committed" in ended.output


def test_a_defect_in_the_flow_ends_the_feed_with_its_error(
    sidecar: FakeSidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise LookupError("a defect")

    for name, value in sidecar.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("trading_app.feed.play", fail)
    assert repr(CliRunner().invoke(main, ["--count", "1"]).exception) == "LookupError('a defect')"


def test_ctrl_c_stops_the_flow_with_a_summary(sidecar: FakeSidecar) -> None:
    command, settings = program("feed", "--rate", "100"), sidecar.environ
    with subprocess.Popen(command, env=environ(**settings), stdout=subprocess.PIPE, text=True) as process:
        sidecar.receive()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert summary(output)["published"] >= 1


def test_ctrl_c_during_the_first_trade_stops_the_flow(monkeypatch: pytest.MonkeyPatch, sidecar: FakeSidecar) -> None:
    """Ctrl-C may arrive before the main thread waits for the flow."""

    def orders(*_: object, **__: object) -> Iterator[Order]:
        os.kill(os.getpid(), signal.SIGINT)
        yield from simulate(0.1)

    for name, value in sidecar.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("trading_app.feed.simulate", orders)
    for _ in range(20):
        ended = CliRunner().invoke(main)
        assert ended.exit_code == 0, ended.output
        assert summary(ended.stdout)["published"] <= 1


def test_a_feed_in_the_background_ignores_ctrl_c(sidecar: FakeSidecar) -> None:
    feed = program("feed", "--rate", "100", "--count", "50")
    command = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *feed]
    with subprocess.Popen(command, env=environ(**sidecar.environ), stdout=subprocess.PIPE, text=True) as process:
        sidecar.receive()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=20)
    assert summary(output)["published"] == 50


def test_undelivered_trades_are_reported_and_sent_by_the_next_feed(absent: FakeSidecar, tmp_path: Path) -> None:
    settings = {**absent.environ, "WEBAPP_OUTBOX": str(tmp_path)}
    ended = run("feed", "--rate", "1000", "--count", "3", **settings)
    assert ended.returncode == 1
    assert summary(ended.stdout)["pending"] == 3
    assert "trading-feed: the sidecar has not committed 3 trades. Is it running?" in ended.stderr
    absent.open()
    ended = run("feed", "--rate", "1000", "--count", "1", **settings)
    assert ended.returncode == 0
    assert summary(ended.stdout)["published"] == 1
    assert len(absent.receive_distinct()) == 4


def test_a_full_disk_ends_the_flow_with_the_reason(absent: FakeSidecar, tmp_path: Path) -> None:
    limited = ["bash", "-c", 'ulimit -f 8; exec "$@"', "bash", *program("feed", "--rate", "1000", "--count", "3")]
    settings = {**absent.environ, "WEBAPP_OUTBOX": str(tmp_path)}
    ended = subprocess.run(limited, env=environ(**settings), capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert summary(ended.stdout)["published"] == 0
    assert f"trading-feed: stopped early: {tmp_path}/feed: File too large. " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_seed_makes_the_simulation_reproducible() -> None:
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
        pytest.param("t.csv", "type,side,qty,ts,venue\ntrade,buy,2,100.5,X\ntrade,sell,0.5,101\n", id="csv"),
        pytest.param("t.csv", "\ufeffqty,side,ts\r\n2,buy,100.5\r\n\r\n0.5,sell,101\r\n", id="csv of Excel"),
        pytest.param(
            "t.jsonl",
            '{"type":"trade","side":"buy","qty":2,"ts":100.5,"venue":"X"}\n\n{"side":"sell","qty":0.5,"ts":101}',
            id="jsonl",
        ),
    ],
)
def test_a_file_is_read_in_order_and_other_columns_are_ignored(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, newline="")
    assert [(row.side, row.qty, row.ts) for row in read(tmp_path / name)] == [("buy", 2, 100.5), ("sell", 0.5, 101)]


def test_the_trades_of_a_file_are_published(sidecar: FakeSidecar, tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    path.write_text("side,qty,symbol,price\nbuy,2,BTC-USD,64250.5\nsell,0.5,,\n")
    ended = run("feed", "--file", str(path), "--rate", "1000", **sidecar.environ)
    assert ended.returncode == 0, ended.stderr
    first, second = sidecar.receive(), sidecar.receive()
    assert [first[key] for key in ("side", "qty", "symbol", "price")] == ["buy", 2, "BTC-USD", 64250.5]
    assert (second["side"], second["qty"]) == ("sell", 0.5)


def test_a_replay_by_ts_keeps_the_intervals(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    path.write_text("side,qty,ts\nbuy,1,1000\nbuy,2,1001\nbuy,3,1005\n")
    assert [order.at for order in at_speed(read(path), 10)] == pytest.approx([0, 0.1, 0.5])


@pytest.mark.parametrize(
    "name, text, complaint",
    [
        pytest.param("t.csv", "side,qty\nbuy,1\nbuy,0\n", "line 3: qty: Input should be greater than 0", id="qty 0"),
        pytest.param("t.csv", "side,qty\nbuy,-1\n", "line 2: qty: Input should be greater than 0", id="negative qty"),
        pytest.param("t.csv", "side,qty\nbuy,many\n", "line 2: qty: Input should be a valid number", id="qty a word"),
        pytest.param("t.csv", "side,qty\nbuy,nan\n", "line 2: qty: Input should be a finite number", id="qty nan"),
        pytest.param("t.csv", "side,qty\nbuy,1e13\n", "line 2: qty: Input should be less than", id="qty too large"),
        pytest.param("t.csv", "side,qty\nbuy\n", "line 2: qty: Field required", id="no qty"),
        pytest.param("t.csv", "buy,1\nsell,2\n", "line 2: side: Field required", id="no header"),
        pytest.param("t.csv", "side,qty\nshort,1\n", "line 2: side: Input should be 'buy'", id="unknown side"),
        pytest.param("t.csv", "side,qty,symbol\nbuy,1,BTC USD\n", "line 2: symbol: String should match", id="symbol"),
        pytest.param("t.csv", "side,qty,price\nbuy,1,-1\n", "line 2: price: Input should be greater", id="low price"),
        pytest.param("t.csv", "side,qty,price\nbuy,1,1e13\n", "line 2: price: Input should be less", id="high price"),
        pytest.param(
            "t.jsonl",
            '{"side":"buy","qty":1}\n\n{"side":"buy","qty":"1"}\n',
            "line 3: qty: Input should be a valid number",
            id="jsonl qty a string",
        ),
        pytest.param("t.jsonl", '{"side":"buy","qty":true}\n', "line 1: qty: Input should", id="jsonl qty a boolean"),
        pytest.param("t.jsonl", '{"side":"buy"\n', "line 1: line: Invalid JSON", id="jsonl truncated"),
        pytest.param("t.jsonl", "[]\n", "line 1: line: Input should be an object", id="jsonl array"),
        pytest.param("t.txt", "side,qty\nbuy,1\n", "not a .csv or .jsonl file", id="other suffix"),
    ],
)
def test_a_file_with_an_invalid_line_is_refused(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(FileError, match=f"^{re.escape(f'{path}: {complaint}')}"):
        read(path)


def test_an_invalid_file_ends_the_program_before_the_first_trade(sidecar: FakeSidecar, tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    path.write_text("side,qty\nbuy,1\nbuy,zero\n")
    ended = run("feed", "--file", str(path), **sidecar.environ)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"trading-feed: {path}: line 3: qty: ")
    assert ended.stderr.count("\n") == 1
    assert sidecar.is_silent()


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    path.write_bytes(b"side,qty\nbuy,1\n\xff\xff,2\n")
    with pytest.raises(FileError, match=r"trades\.csv: after line \d: 'utf-8' codec can't decode"):
        read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"trades\.csv: No such file or directory$"):
        read(tmp_path / "trades.csv")


def test_speed_requires_ascending_ts_in_every_line(tmp_path: Path) -> None:
    path = tmp_path / "trades.csv"
    for last in "buy,2,", "buy,2,999":
        path.write_text(f"side,qty,ts\nbuy,1,1000\n{last}\n")
        with pytest.raises(FileError, match=r"^--speed needs a ts in every line of the file, in ascending order$"):
            at_speed(read(path), 1.0)


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ("--rate 0", "'--rate': 0.0 is not in the range"),
        ("--rate nan", "'--rate': 'nan' is not a number"),
        ("--rate inf", "'--rate': inf is not in the range"),
        ("--duration 1e400", "'--duration': inf is not in the range"),
        ("--duration -1", "'--duration': -1.0 is not in the range"),
        ("--count 0", "'--count': 0 is not in the range"),
        ("--count 1 --duration 1", "--count and --duration exclude each other."),
        ("--speed 2", "--speed requires --file, and excludes --rate."),
        ("--file t.csv --speed 2 --rate 1", "--speed requires --file, and excludes --rate."),
        ("--file t.csv --seed 1", "--seed applies to a simulation, not to --file."),
        ("--file t.csv --symbols A", "--symbols applies to a simulation. A file has a column for them."),
        ("--symbols BTC*USD", "'--symbols': the symbol must be 1 to 32 characters from"),
    ],
)
def test_invalid_options_are_refused(arguments: str, complaint: str) -> None:
    ended = CliRunner().invoke(main, arguments.split())
    assert ended.exit_code == 2
    assert f"Error: {complaint}" in ended.output.replace("Invalid value for ", "")


def test_stop_ends_the_flow_between_two_orders(sidecar: FakeSidecar) -> None:
    stop = threading.Event()
    with TradePublisher(sidecar.address, sidecar_url=sidecar.url) as publisher:
        flow = play(publisher, simulate(1000.0), stop)
        next(flow)
        stop.set()
        assert list(flow) == []


def test_a_simulation_has_a_price_for_each_symbol(sidecar: FakeSidecar) -> None:
    ended = run("feed", "--rate", "5000", "--count", "200", "--symbols", "BTC-USD, ETH-USD", **sidecar.environ)
    assert ended.returncode == 0, ended.stderr
    trades = sidecar.receive_all()
    assert {trade["symbol"] for trade in trades} == {"BTC-USD", "ETH-USD"}
    prices = [trade["price"] for trade in trades if trade["symbol"] == "BTC-USD"]
    assert len(set(prices)) > len(prices) / 2
    assert all(90 < price < 110 for price in prices)


def test_stop_ends_a_flow_that_is_behind_its_schedule(sidecar: FakeSidecar) -> None:
    stop = threading.Event()
    stop.set()
    with TradePublisher(sidecar.address, sidecar_url=sidecar.url) as publisher:
        assert list(play(publisher, islice(simulate(1e9), 1000), stop)) == []


def test_settings_of_page_and_api_do_not_matter(sidecar: FakeSidecar) -> None:
    ended = run("feed", "--count", "1", **{**sidecar.environ, "PORT": "abc", "WEBAPP_GRAFANA_URL": "grafana"})
    assert ended.returncode == 0, ended.stderr
