"""A program that sends trades: it prints a line when it is ready, reads one, and then sends as fast as it can."""

import argparse
import socket
import sys
import time
from collections.abc import Callable

import zmq

from trading_app.messages import SIDES, Trade, encode
from trading_app.publisher import TradePublisher


def say(word: str) -> None:
    print(word, flush=True)


def hear() -> None:
    sys.stdin.readline()


def push(address: str, session: str, count: int) -> None:
    """Tracked trades that were made before, so that there is the least to do between two of them."""
    now = time.time()
    messages = [
        encode(Trade(SIDES[seq % 2], 1.0 + seq % 8 / 8, now + seq / 1e6, session, seq)) for seq in range(1, count + 1)
    ]
    with zmq.Context() as context, context.socket(zmq.PUSH) as sender:
        sender.connect(address)
        say("ready")
        hear()
        for message in messages:
            sender.send(message)


def statsd(address: str, _: str, count: int) -> None:
    """The same trades as statsd has them: datagrams of three metrics, made before."""
    host, port = address.rsplit(":", 1)
    now = time.time()
    messages = [
        f"trades.{(side := SIDES[seq % 2])}:1|c\nvolume.{side}:{1.0 + seq % 8 / 8}|c\nlast_trade_ts:{now + seq / 1e6}|g"
        for seq in range(count)
    ]
    datagrams = [message.encode() for message in messages]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect((host, int(port)))
        say("ready")
        hear()
        for datagram in datagrams:
            sender.send(datagram)


def publish(address: str, url: str, count: int) -> None:
    """The publisher with a memory outbox. It says when all is published, and ends when all is committed."""
    with TradePublisher(address, sidecar_url=url) as publisher:
        publisher.publish("buy")
        say("ready")
        hear()
        for number in range(1, count):
            publisher.publish(SIDES[number % 2])
        say("published")
        while not publisher.flush(1.0):
            continue


def publish_at_nobody(address: str, _: str, count: int) -> None:
    """The publisher, to a receiver that nobody can ask what it has committed."""
    with TradePublisher(address, sidecar_url="http://127.0.0.1:9") as publisher:
        publisher.publish("buy")
        say("ready")
        hear()
        for number in range(1, count):
            publisher.publish(SIDES[number % 2])
        hear()


def steady(address: str, url: str, rate: int) -> None:
    """Sells at a steady ``rate`` a second, until the end."""
    with TradePublisher(address, sidecar_url=url) as publisher:
        say("ready")
        started = time.perf_counter()
        number = 0
        while True:
            publisher.publish("sell")
            number += 1
            if (ahead := started + number / rate - time.perf_counter()) > 0.001:
                time.sleep(ahead)


KINDS: dict[str, Callable[[str, str, int], None]] = {
    "push": push,
    "statsd": statsd,
    "publish": publish,
    "publish-at-nobody": publish_at_nobody,
    "steady": steady,
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("address")
    parser.add_argument("session")
    parser.add_argument("count", type=int)
    arguments = parser.parse_args()
    KINDS[arguments.kind](arguments.address, arguments.session, arguments.count)
