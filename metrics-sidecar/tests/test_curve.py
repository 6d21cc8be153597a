"""CURVE: only keys on the list get anything counted, and the list is what the folder holds now."""

import asyncio
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import zmq
from failing_store import FailingStore
from sidecar_process import PROGRAM, Sidecar, eventually, free_port, run
from zmq.auth import create_certificates, load_certificate

from metrics_sidecar.curve import Keys
from metrics_sidecar.engine import Engine
from metrics_sidecar.exposition import Snapshot
from metrics_sidecar.store import Store

BUY = b'{"type":"trade","side":"buy","qty":0.5,"ts":1790000000}'
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x04PUSH"
FRAME = b"\x00" + bytes([len(BUY)]) + BUY
# A peer that does not wait for an answer, with today's protocol and with that of ZeroMQ 2.
RAW = {"ZMTP 3": GREETING + READY + FRAME, "ZMTP 1": b"\x01\x00" + bytes([len(BUY) + 1]) + b"\x00" + BUY}


class Pair(NamedTuple):
    public: bytes
    secret: bytes


class Folder:
    """What SIDECAR_CURVE names, and the publishers' keys."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._clients = path / "clients"
        self._clients.mkdir(parents=True)
        create_certificates(path, "server")
        self.server_key = load_certificate(path / "server.key")[0]
        (path / "server.key_secret").chmod(0o600)

    def allow(self, name: str) -> Pair:
        """Make a publisher's keys and allow them."""
        _, path = create_certificates(self._clients, name)
        public, secret = load_certificate(path)
        assert secret
        return Pair(public, secret)

    def remove(self, name: str) -> Path:
        return (self._clients / f"{name}.key").rename(self._clients / f"{name}.removed")


type Dial = Callable[..., zmq.Socket[bytes]]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "curve")


@pytest.fixture
def bot(folder: Folder) -> Pair:
    """A publisher's keys that the sidecar finds when it starts."""
    return folder.allow("bot")


@pytest.fixture
def engine(folder: Folder, bot: Pair) -> Iterator[Engine]:  # noqa: ARG001 - it must be there first
    engine = Engine("tcp://127.0.0.1:*", Store(None), keys=Keys(folder.path))
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture
def dial(folder: Folder) -> Iterator[Dial]:
    """Connects PUSH sockets with a pair of keys to an endpoint."""
    with zmq.Context() as context:
        sockets: list[zmq.Socket[bytes]] = []

        def connect(endpoint: str, pair: Pair | None = None, server_key: bytes | None = None) -> zmq.Socket[bytes]:
            options: dict[int, Any] = {zmq.CURVE_SERVERKEY: server_key or folder.server_key}
            if pair:
                options |= {zmq.CURVE_PUBLICKEY: pair.public, zmq.CURVE_SECRETKEY: pair.secret}
            return connect_with(endpoint, options)

        def connect_with(endpoint: str, options: dict[int, Any]) -> zmq.Socket[bytes]:
            push = context.socket(zmq.PUSH)
            sockets.append(push)
            push.setsockopt(zmq.SNDTIMEO, 10_000)
            for option, value in options.items():
                push.setsockopt(option, value)
            push.connect(endpoint)
            return push

        connect.with_options = connect_with  # type: ignore[attr-defined]
        yield connect
        for connected in sockets:
            connected.close(linger=0)


def snapshot(engine: Engine) -> Snapshot:
    return asyncio.run(engine.ask(engine.snapshot))


def bought(engine: Engine) -> int:
    return int(snapshot(engine).totals.series["buy", ""].trades)


def refused(engine: Engine) -> int:
    return snapshot(engine).refused


def expect_only_the_allowed_to_count(engine: Engine, bot: Pair, dial: Dial) -> None:
    """What a publisher sends that is allowed counts, and nothing else has, nor does."""
    dial(engine.endpoint, bot).send(BUY)
    assert eventually(lambda: bought(engine))
    assert (snapshot(engine).received, bought(engine)) == (1, 1)


def test_an_allowed_key_counts(engine: Engine, bot: Pair, dial: Dial) -> None:
    push = dial(engine.endpoint, bot)
    for _ in range(2500):
        push.send(BUY)
    push.send(b"\n".join([BUY] * 500))
    push.send_multipart([BUY] * 10)
    assert eventually(lambda: bought(engine) == 3010)
    assert refused(engine) == 0


@pytest.mark.parametrize("intruder", ["no key", "unknown key", "wrong server key", "NULL", "PLAIN"])
def test_nothing_counts_of_a_peer_without_an_allowed_key(
    engine: Engine, bot: Pair, dial: Any, intruder: str, caplog: pytest.LogCaptureFixture
) -> None:
    unknown = Pair(*zmq.curve_keypair())
    match intruder:
        case "no key":
            push = dial(engine.endpoint)
        case "unknown key":
            push = dial(engine.endpoint, unknown)
        case "wrong server key":
            push = dial(engine.endpoint, bot, server_key=unknown.public)
        case "NULL":
            push = dial.with_options(engine.endpoint, {})
        case _:
            push = dial.with_options(engine.endpoint, {zmq.PLAIN_USERNAME: b"bot", zmq.PLAIN_PASSWORD: b"x"})
    offer(push)
    assert eventually(lambda: refused(engine))
    assert any(line.startswith("refused a connection") for line in caplog.messages)
    assert intruder != "unknown key" or unknown.public.decode() in caplog.text
    expect_only_the_allowed_to_count(engine, bot, dial)


@pytest.mark.parametrize("protocol", RAW)
def test_nothing_counts_of_a_peer_that_skips_the_handshake(
    engine: Engine, bot: Pair, dial: Dial, protocol: str
) -> None:
    with closing(raw(engine)) as peer:
        peer.sendall(RAW[protocol])
        # It is sent away.
        assert eventually(lambda: is_closed(peer))
    expect_only_the_allowed_to_count(engine, bot, dial)


def test_refusals_are_all_counted_and_logged_once_a_second(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    started = time.monotonic()
    for _ in range(3000):
        send_greeting(engine)
    assert eventually(lambda: refused(engine) == 3000)
    lines = [line for line in caplog.messages if line.startswith("refused ")]
    assert 1 <= len(lines) <= time.monotonic() - started + 1


def test_peers_are_refused_while_nothing_can_be_committed(folder: Folder, bot: Pair, dial: Dial) -> None:
    store = FailingStore()
    engine = Engine("tcp://127.0.0.1:*", store, keys=Keys(folder.path))
    engine.start()
    dial(engine.endpoint, bot).send(BUY)
    assert eventually(lambda: bought(engine) == 1)
    store.full = True
    dial(engine.endpoint, bot).send(BUY)
    assert eventually(lambda: asyncio.run(engine.ask(engine.problem)))
    for _ in range(3000):
        send_greeting(engine)
    store.full = False
    assert eventually(lambda: (bought(engine), refused(engine)) == (2, 3000))
    engine.stop()


def test_a_removed_key_is_shut_out_within_a_second_on_its_open_connection_too(
    engine: Engine, folder: Folder, bot: Pair, dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    push, other = dial(engine.endpoint, bot), wait_until_it_counts(engine, dial, folder.allow("other"))
    push.send(BUY)
    assert eventually(lambda: bought(engine) == 2)
    before = refused(engine)
    removed = folder.remove("bot")

    def is_refused() -> bool:
        push.send(BUY)
        return refused(engine) > before

    assert eventually(is_refused, timeout=1.0)
    counted = bought(engine)
    for _ in range(500):
        push.send(BUY)
    assert eventually(lambda: refused(engine) > before + 500)
    other.send(BUY)
    assert eventually(lambda: bought(engine) == counted + 1)
    lines = [
        line
        for line in caplog.messages
        if line.startswith(f"refused a frame from key {bot.public.decode()} at 127.0.0.1")
    ]
    assert 1 <= len(lines) <= 3
    removed.rename(removed.with_suffix(".key"))

    def is_counted() -> bool:
        push.send(BUY)
        return bought(engine) > counted + 1

    assert eventually(is_counted, timeout=1.0)


def test_refused_connections_do_not_hide_a_refused_frame(  # noqa: PLR0913, PLR0917 - one parameter a fixture
    engine: Engine,
    folder: Folder,
    bot: Pair,
    dial: Dial,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("metrics_sidecar.throttle._INTERVAL", 3600.0)
    push = dial(engine.endpoint, bot)
    push.send(BUY)
    assert eventually(lambda: bought(engine))
    dial(engine.endpoint, Pair(*zmq.curve_keypair()))
    assert eventually(lambda: refused(engine))
    folder.remove("bot")

    def is_logged() -> bool:
        push.send(BUY)
        snapshot(engine)
        return any(line.startswith(f"refused a frame from key {bot.public.decode()}") for line in caplog.messages)

    assert eventually(is_logged)


def test_a_removed_key_cannot_connect(engine: Engine, folder: Folder, dial: Dial) -> None:
    pair = folder.allow("other")
    wait_until_it_counts(engine, dial, pair)
    folder.remove("other")
    counted = refused(engine)
    time.sleep(1)  # what is promised
    offer(dial(engine.endpoint, pair))
    assert eventually(lambda: refused(engine) > counted)
    assert bought(engine) == 1


def test_an_added_key_gets_in_within_a_second(engine: Engine, folder: Folder, dial: Dial) -> None:
    started = time.monotonic()
    wait_until_it_counts(engine, dial, folder.allow("other"))
    assert time.monotonic() - started < 1.0


def test_a_removed_folder_shuts_everyone_out(engine: Engine, folder: Folder, bot: Pair, dial: Dial) -> None:
    push = dial(engine.endpoint, bot)
    push.send(BUY)
    assert eventually(lambda: bought(engine) == 1)
    (folder.path / "clients").rename(folder.path / "gone")
    assert eventually(lambda: (push.send(BUY), refused(engine))[1])


def test_a_file_without_a_key_lets_nobody_in_and_is_named(
    engine: Engine, folder: Folder, bot: Pair, dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    (folder.path / "clients/broken.key").write_bytes(b"\xff rubbish")
    assert eventually(lambda: "broken.key" in caplog.text)
    expect_only_the_allowed_to_count(engine, bot, dial)
    assert [line for line in caplog.messages if "broken.key" in line] == [
        f"{folder.path}/clients/broken.key holds no public key"
    ]


def test_what_cannot_be_read_for_now_stays_allowed(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    key = folder.allow("bot").public.decode()
    keys = Keys(folder.path)
    path = folder.path / "clients/bot.key"
    path.unlink()
    path.mkdir()  # it opens no more than a file does without a free descriptor
    keys.read()
    assert keys.allow(key)
    assert caplog.messages == [f"{path}: Is a directory"]
    path.rmdir()
    keys.read()
    assert not keys.allow(key)


def test_the_gate_still_holds_after_memory_was_relieved(folder: Folder, bot: Pair, dial: Dial) -> None:
    engine = Engine("tcp://127.0.0.1:*", Store(None), memory_limit=-(2**40), keys=Keys(folder.path))
    engine.start()  # it closes and binds again ten times a second
    with closing(raw(engine)) as peer:
        peer.sendall(RAW["ZMTP 3"])
        assert eventually(lambda: is_closed(peer))
    push = dial(engine.endpoint, bot)
    assert eventually(lambda: (push.send(BUY, zmq.DONTWAIT) if push.poll(0, zmq.POLLOUT) else None, bought(engine))[1])
    engine.stop()


def test_the_program_counts_over_curve_and_shows_what_it_refused(
    sidecar: Callable[..., Sidecar], folder: Folder, bot: Pair, dial: Any
) -> None:
    program = sidecar(SIDECAR_CURVE=str(folder.path))
    endpoint = program.settings["SIDECAR_ZMQ_BIND"]
    offer(dial.with_options(endpoint, {}))
    assert eventually(lambda: program.samples()["sidecar_refused_total"] >= 1)
    dial(endpoint, bot).send(BUY)
    assert eventually(lambda: program.samples()['trades_total{side="buy"}'] == 1)
    program.stop()
    assert "Traceback" not in program.output


def test_a_secret_that_everyone_can_read_is_warned_of(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    (folder.path / "server.key_secret").chmod(0o644)
    Keys(folder.path)
    assert "chmod 600" in caplog.text


@pytest.mark.parametrize("arguments", [[], ["--reload"]])
@pytest.mark.parametrize("bind, warned", [("tcp://0.0.0.0:{}", 1), ("tcp://*:{}", 1), ("tcp://127.0.0.1:{}", 0)])
def test_an_open_socket_is_warned_of_once(
    sidecar: Callable[..., Sidecar], folder: Folder, arguments: list[str], bind: str, warned: int
) -> None:
    endpoint = bind.format(free_port())
    program = sidecar([*PROGRAM, *arguments], SIDECAR_ZMQ_BIND=endpoint)
    assert len(re.findall("SIDECAR_CURVE.*SIDECAR_ZMQ_BIND=tcp://127.0.0.1:5555", program.output)) == warned
    program.stop()
    guarded = sidecar([*PROGRAM, *arguments], SIDECAR_ZMQ_BIND=endpoint, SIDECAR_CURVE=str(folder.path))
    assert "without SIDECAR_CURVE" not in guarded.output


@pytest.mark.parametrize("arguments", [[], ["--reload"]])
@pytest.mark.parametrize(
    "break_it, line",
    [
        (lambda path: (path / "server.key_secret").unlink(), "there is no {}/server.key_secret. Make it with bin/keys"),
        (lambda path: (path / "clients").rmdir(), "there is no {}/clients. Make it with bin/keys"),
        (lambda path: path.rename(path.with_name("gone")), "there is no {}/server.key_secret. Make it with"),
        (
            lambda path: (path / "server.key").replace(path / "server.key_secret"),
            "{}/server.key_secret holds no secret",
        ),
        (lambda path: (path / "server.key_secret").write_bytes(b"\xff"), "{}/server.key_secret holds no secret key. "),
    ],
)
def test_keys_that_cannot_work_end_it_with_one_line(
    tmp_path: Path, folder: Folder, arguments: list[str], break_it: Callable[[Path], object], line: str
) -> None:
    break_it(folder.path)
    ended = run(Sidecar(tmp_path, [*PROGRAM, *arguments], SIDECAR_CURVE=str(folder.path)))
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"metrics-sidecar: SIDECAR_CURVE={folder.path}: {line.format(folder.path)}")
    assert ended.stderr.count("\n") == 1


def offer(push: zmq.Socket[bytes]) -> None:
    """Send a trade, unless the connection has been refused by then: ZeroMQ has given the socket up."""
    with suppress(zmq.Again):
        push.send(BUY, zmq.DONTWAIT)


def wait_until_it_counts(engine: Engine, dial: Dial, pair: Pair) -> zmq.Socket[bytes]:
    """A connection with a trade of which has counted. ZeroMQ gives up for good where a key is not allowed yet."""
    counted = bought(engine)
    while True:
        push = dial(engine.endpoint, pair)
        offer(push)
        if eventually(lambda: bought(engine) > counted, timeout=0.1):
            return push


def raw(engine: Engine) -> socket.socket:
    """A TCP connection to the engine."""
    return socket.create_connection(("127.0.0.1", int(engine.endpoint.rsplit(":", 1)[1])), timeout=10)


def send_greeting(engine: Engine) -> None:
    """Open a connection without CURVE, and wait until the engine closes it."""
    with closing(raw(engine)) as peer:
        peer.sendall(GREETING)
        while peer.recv(1000):
            continue


def is_closed(peer: socket.socket) -> bool:
    """Whether the other side has closed the connection, after whatever it sent."""
    try:
        return not peer.recv(4096)
    except ConnectionError:
        return True
