"""A program that sends trades: it prints a line when it is ready, reads one, and then sends as fast as it can."""

import argparse
import socket
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial

import zmq

from trading_app.messages import SIDES, Trade, encode
from trading_app.publisher import TradePublisher

BATCH = 500


def say(word: str) -> None:
    print(word, flush=True)


def wait_for_line() -> None:
    sys.stdin.readline()


def trades(session: str, count: int, symbols: int = 0) -> list[bytes]:
    """Encoded tracked trades, of alternating symbols, or without symbol and price."""
    now = time.time()
    names = [f"SYM{number}-USD" for number in range(symbols)]

    def trade(seq: int) -> Trade:
        symbol, price = (names[seq // 2 % symbols], 100.0 + seq % 64 / 8) if symbols else (None, None)
        return Trade(SIDES[seq % 2], 1.0 + seq % 8 / 8, now, session, seq, symbol, price)

    return [encode(trade(seq)) for seq in range(1, count + 1)]


def push(address: str, frames: Iterable[bytes]) -> None:
    """Send frames that were encoded before, so that as little as possible happens between two of them."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as sender:
        sender.connect(address)
        say("ready")
        wait_for_line()
        for frame in frames:
            sender.send(frame)


def singles(arguments: argparse.Namespace) -> None:
    push(arguments.address, trades(arguments.session, arguments.count))


def batches(arguments: argparse.Namespace, symbols: int = 0) -> None:
    lines = trades(arguments.session, arguments.count, symbols)
    push(arguments.address, [b"\n".join(lines[start : start + BATCH]) for start in range(0, len(lines), BATCH)])


def statsd(arguments: argparse.Namespace) -> None:
    """Send the same trades to statsd: datagrams of three metrics, encoded before."""
    host, port = arguments.address.rsplit(":", 1)
    now = time.time()
    datagrams = [
        f"trades.{(side := SIDES[seq % 2])}:1|c\nvolume.{side}:{1.0 + seq % 8 / 8}|c\nlast_trade_ts:{now}|g".encode()
        for seq in range(arguments.count)
    ]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((host, int(port)))
        say("ready")
        wait_for_line()
        for datagram in datagrams:
            sender.send(datagram)


def publish(arguments: argparse.Namespace) -> None:
    """Run the publisher. It is ready when one trade is committed; it prints when all are published, and committed."""
    with TradePublisher(
        arguments.address,
        sidecar_url=arguments.url,
        outbox=arguments.outbox,
        capacity=2 * arguments.count,
        curve=arguments.curve,
    ) as publisher:
        publisher.publish("buy")
        while not publisher.flush(1.0):
            continue
        say("ready")
        wait_for_line()
        for number in range(1, arguments.count):
            publisher.publish(SIDES[number % 2])
        say("published")
        while not publisher.flush(1.0):
            continue
        say("committed")
        wait_for_line()


KINDS: dict[str, Callable[[argparse.Namespace], None]] = {
    "singles": singles,
    "batches": batches,
    "batches-of-1-symbol": partial(batches, symbols=1),
    "batches-of-100-symbols": partial(batches, symbols=100),
    "statsd": statsd,
    "publish": publish,
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--address")
    parser.add_argument("--url")
    parser.add_argument("--session")
    parser.add_argument("--count", type=int)
    parser.add_argument("--outbox")
    parser.add_argument("--curve")
    arguments = parser.parse_args()
    KINDS[arguments.kind](arguments)
