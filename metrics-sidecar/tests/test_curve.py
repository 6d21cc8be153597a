"""CURVE: only trades from allowed keys count, and changes to the folder of keys take effect within a second."""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import zmq
from failing_store import FailingStore
from sidecar_process import Sidecar, eventually, free_port
from zmq.auth import create_certificates, load_certificate

from metrics_sidecar.curve import Keys
from metrics_sidecar.engine import Engine
from metrics_sidecar.exposition import Snapshot
from metrics_sidecar.store import Store

BUY = b'{"type":"trade","side":"buy","qty":0.5,"ts":1790000000}'
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x04PUSH"
FRAME = b"\x00" + bytes([len(BUY)]) + BUY
# Bytes of a peer that sends a trade without a handshake, with the current protocol and with that of ZeroMQ 2.
RAW = {"ZMTP 3": GREETING + READY + FRAME, "ZMTP 1": b"\x01\x00" + bytes([len(BUY) + 1]) + b"\x00" + BUY}


class Pair(NamedTuple):
    public: bytes
    secret: bytes


class Folder:
    """A folder for SIDECAR_CURVE, with the publishers' secret keys."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._clients = path / "clients"
        self._clients.mkdir(parents=True)
        create_certificates(path, "server")
        self.server_key = load_certificate(path / "server.key")[0]
        (path / "server.key_secret").chmod(0o600)

    def allow(self, name: str) -> Pair:
        """Create a publisher's keys and allow them."""
        _, path = create_certificates(self._clients, name)
        public, secret = load_certificate(path)
        assert secret
        return Pair(public, secret)

    def remove(self, name: str) -> Path:
        return (self._clients / f"{name}.key").rename(self._clients / f"{name}.removed")


type Connect = Callable[[str, dict[int, Any]], zmq.Socket[bytes]]
type Dial = Callable[..., zmq.Socket[bytes]]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "curve")


@pytest.fixture
def bot(folder: Folder) -> Pair:
    """The keys of a publisher that is allowed from the start."""
    return folder.allow("bot")


@pytest.fixture
def engine(folder: Folder, bot: Pair) -> Iterator[Engine]:  # noqa: ARG001 - creates the key file first
    engine = Engine("tcp://127.0.0.1:*", Store(None), keys=Keys(folder.path))
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connects PUSH sockets with socket options to an endpoint."""
    with zmq.Context() as context:
        sockets: list[zmq.Socket[bytes]] = []

        def connect_with(endpoint: str, options: dict[int, Any]) -> zmq.Socket[bytes]:
            push = context.socket(zmq.PUSH)
            sockets.append(push)
            push.setsockopt(zmq.SNDTIMEO, 10_000)
            for option, value in options.items():
                push.setsockopt(option, value)
            push.connect(endpoint)
            return push

        yield connect_with
        for connected in sockets:
            connected.close(linger=0)


@pytest.fixture
def dial(folder: Folder, connect: Connect) -> Dial:
    """Connects PUSH sockets with CURVE to an endpoint."""

    def dial_with(endpoint: str, pair: Pair | None = None, server_key: bytes | None = None) -> zmq.Socket[bytes]:
        options: dict[int, Any] = {zmq.CURVE_SERVERKEY: server_key or folder.server_key}
        if pair:
            options |= {zmq.CURVE_PUBLICKEY: pair.public, zmq.CURVE_SECRETKEY: pair.secret}
        return connect(endpoint, options)

    return dial_with


def snapshot(engine: Engine) -> Snapshot:
    return asyncio.run(engine.ask(engine.snapshot))


def bought(engine: Engine) -> int:
    return int(snapshot(engine).totals.series["buy", ""].trades)


def refused(engine: Engine) -> int:
    return snapshot(engine).refused


def expect_only_the_allowed_to_count(engine: Engine, bot: Pair, dial: Dial) -> None:
    """Send a trade from an allowed key, and check that it is the only message received."""
    dial(engine.endpoint, bot).send(BUY)
    assert eventually(lambda: bought(engine))
    assert (snapshot(engine).received, bought(engine)) == (1, 1)


def test_trades_from_an_allowed_key_count(engine: Engine, bot: Pair, dial: Dial) -> None:
    push = dial(engine.endpoint, bot)
    for _ in range(2500):
        push.send(BUY)
    push.send(b"\n".join([BUY] * 500))
    push.send_multipart([BUY] * 10)
    assert eventually(lambda: bought(engine) == 3010)
    assert refused(engine) == 0


UNKNOWN = Pair(*zmq.curve_keypair())


@pytest.mark.parametrize(
    "pair, server_key, cause",
    [
        pytest.param(None, None, "the peer has a wrong server key, or no key of its own", id="no key"),
        pytest.param(UNKNOWN, None, "no file in clients/ has this key", id="unknown key"),
        pytest.param(
            UNKNOWN, UNKNOWN.public, "the peer has a wrong server key, or no key of its own", id="wrong server key"
        ),
    ],
)
def test_a_curve_peer_without_an_allowed_key_is_refused(  # noqa: PLR0913, PLR0917 - one parameter for each fixture
    engine: Engine,
    bot: Pair,
    dial: Dial,
    pair: Pair | None,
    server_key: bytes | None,
    cause: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    offer(dial(engine.endpoint, pair, server_key))
    assert eventually(lambda: refused(engine))
    sender = f" from key {UNKNOWN.public.decode()}" if "clients/" in cause else ""
    assert caplog.messages[0] == f"refused a connection{sender}: {cause}"
    expect_only_the_allowed_to_count(engine, bot, dial)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="NULL"),
        pytest.param({zmq.PLAIN_USERNAME: b"bot", zmq.PLAIN_PASSWORD: b"x"}, id="PLAIN"),
    ],
)
def test_a_peer_without_curve_is_refused(  # noqa: PLR0913, PLR0917 - one parameter for each fixture
    engine: Engine, bot: Pair, dial: Dial, connect: Connect, options: dict[int, Any], caplog: pytest.LogCaptureFixture
) -> None:
    offer(connect(engine.endpoint, options))
    assert eventually(lambda: refused(engine))
    # The peer notices the mismatch as well. If it closes first, the sidecar sees no reason.
    assert caplog.messages[0].removeprefix("refused a connection: ") in {
        "the peer does not use CURVE",
        "the handshake failed",
    }
    expect_only_the_allowed_to_count(engine, bot, dial)


@pytest.mark.parametrize("protocol", RAW)
def test_a_peer_that_skips_the_handshake_is_disconnected(engine: Engine, bot: Pair, dial: Dial, protocol: str) -> None:
    with closing(raw(engine)) as peer:
        peer.sendall(RAW[protocol])
        assert eventually(lambda: is_closed(peer))
    expect_only_the_allowed_to_count(engine, bot, dial)


def test_every_refusal_is_counted_and_one_a_second_is_logged(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    started = time.monotonic()
    for _ in range(500):
        send_greeting(engine)
    assert eventually(lambda: refused(engine) == 500)
    lines = [line for line in caplog.messages if line.startswith("refused ")]
    assert 1 <= len(lines) <= time.monotonic() - started + 1


def test_peers_are_still_refused_while_commits_fail(folder: Folder, bot: Pair, dial: Dial) -> None:
    store = FailingStore()
    engine = Engine("tcp://127.0.0.1:*", store, keys=Keys(folder.path))
    engine.start()
    dial(engine.endpoint, bot).send(BUY)
    assert eventually(lambda: bought(engine) == 1)
    store.full = True
    dial(engine.endpoint, bot).send(BUY)
    assert eventually(lambda: asyncio.run(engine.ask(engine.check_health)))
    # More than ZeroMQ's default limit on queued events.
    for _ in range(2500):
        send_greeting(engine)
    store.full = False
    assert eventually(lambda: (bought(engine), refused(engine)) == (2, 2500))
    engine.stop()


def test_removing_a_key_stops_its_open_connection_within_a_second(
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


def test_refused_connections_do_not_hide_a_refused_frame(  # noqa: PLR0913, PLR0917 - one parameter for each fixture
    engine: Engine,
    folder: Folder,
    bot: Pair,
    dial: Dial,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("metrics_sidecar.throttle.INTERVAL", 3600.0)
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


def test_a_removed_key_cannot_connect(
    engine: Engine, folder: Folder, dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    pair = folder.allow("other")
    wait_until_it_counts(engine, dial, pair)
    counted = refused(engine)
    with caplog.at_level(logging.INFO):
        folder.remove("other")
        assert eventually(lambda: "allowed keys: 1" in caplog.messages, timeout=1.0)
    offer(dial(engine.endpoint, pair))
    assert eventually(lambda: refused(engine) > counted)
    assert bought(engine) == 1


def test_an_added_key_can_send_within_a_second(engine: Engine, folder: Folder, dial: Dial) -> None:
    started = time.monotonic()
    wait_until_it_counts(engine, dial, folder.allow("other"))
    assert time.monotonic() - started < 1.0


def test_without_the_clients_folder_everyone_is_refused(engine: Engine, folder: Folder, bot: Pair, dial: Dial) -> None:
    push = dial(engine.endpoint, bot)
    push.send(BUY)
    assert eventually(lambda: bought(engine) == 1)
    (folder.path / "clients").rename(folder.path / "gone")
    assert eventually(lambda: (push.send(BUY), refused(engine))[1])


def test_a_file_without_a_key_is_logged_and_allows_nobody(
    engine: Engine, folder: Folder, bot: Pair, dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    (folder.path / "clients/broken.key").write_bytes(b"\xff rubbish")
    assert eventually(lambda: "broken.key" in caplog.text)
    expect_only_the_allowed_to_count(engine, bot, dial)
    assert [line for line in caplog.messages if "broken.key" in line] == [
        f"{folder.path}/clients/broken.key holds no public key"
    ]


def test_a_file_with_a_name_but_no_key_allows_nobody(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    path = folder.path / "clients/broken.key"
    path.write_text("public-key\n")
    key = folder.allow("bot").public.decode()
    assert Keys(folder.path).allows(key)
    assert caplog.messages == [f"{path} holds no public key"]


def test_a_key_stays_allowed_while_its_file_is_unreadable(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    key = folder.allow("bot").public.decode()
    keys = Keys(folder.path)
    path = folder.path / "clients/bot.key"
    path.unlink()
    path.mkdir()  # Opening it fails, as it would without a free file descriptor.
    keys.read()
    assert keys.allows(key)
    assert caplog.messages == [f"{path}: Is a directory"]
    path.rmdir()
    keys.read()
    assert not keys.allows(key)


def test_all_keys_stay_allowed_while_their_folder_is_unreadable(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    key = folder.allow("bot").public.decode()
    keys = Keys(folder.path)
    path = folder.path / "clients"
    path.rename(folder.path / "away")
    path.symlink_to(path)  # Listing it fails, as it would without a free file descriptor.
    keys.read()
    assert keys.allows(key)
    path.unlink()
    (folder.path / "away").rename(path)
    folder.remove("bot")
    keys.read()
    assert not keys.allows(key)
    problem = f"{path}: Too many levels of symbolic links"
    assert caplog.messages == [problem, "all public keys are readable again"]


def test_a_failed_rebind_is_reported_and_releases_the_state_file(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failed = threading.Event()
    monkeypatch.chdir(tmp_path)  # The path of a socket must be short.
    Path("sockets").mkdir()
    state = Path("state.sqlite3")
    engine = Engine("ipc://sockets/zmq", Store(state), memory_limit=-(2**40), keys=Keys(folder.path))
    engine.on_failure = failed.set
    Path("sockets").rename("gone")
    engine.start()  # It rebinds at once.
    assert failed.wait(10)
    assert "BindError: No such file or directory" in caplog.text
    Store(state).close()
    engine.stop()


def test_the_gate_still_refuses_after_the_socket_was_rebound(folder: Folder, bot: Pair, dial: Dial) -> None:
    engine = Engine("tcp://127.0.0.1:*", Store(None), memory_limit=-(2**40), keys=Keys(folder.path))
    engine.start()  # It rebinds many times a second.
    with closing(raw(engine)) as peer:
        peer.sendall(RAW["ZMTP 3"])
        assert eventually(lambda: is_closed(peer))
    push = dial(engine.endpoint, bot)
    assert eventually(lambda: (push.send(BUY, zmq.DONTWAIT) if push.poll(0, zmq.POLLOUT) else None, bought(engine))[1])
    engine.stop()


@pytest.mark.slow
def test_the_program_counts_over_curve_and_reports_refusals(
    sidecar: Callable[..., Sidecar], folder: Folder, bot: Pair, dial: Dial, connect: Connect
) -> None:
    program = sidecar(SIDECAR_CURVE=str(folder.path))
    endpoint = program.settings["SIDECAR_ZMQ_BIND"]
    offer(connect(endpoint, {}))
    assert eventually(lambda: program.samples()["sidecar_refused_total"] >= 1)
    dial(endpoint, bot).send(BUY)
    assert eventually(lambda: program.samples()['trades_total{side="buy"}'] == 1)
    program.stop()
    assert "Traceback" not in program.output
    assert "without SIDECAR_CURVE" not in program.output


def test_a_secret_key_readable_by_everyone_is_logged(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    (folder.path / "server.key_secret").chmod(0o644)
    Keys(folder.path)
    assert "chmod 600" in caplog.text


@pytest.mark.parametrize(
    "bind, curve, warned",
    [
        ("tcp://0.0.0.0:{}", False, True),
        ("tcp://*:{}", False, True),
        ("tcp://[::]:{}", False, True),
        ("tcp://127.0.0.1:{}", False, False),
        ("tcp://localhost:{}", False, False),
        ("tcp://[::1]:{}", False, False),
        ("ipc:///tmp/sidecar", False, False),
        ("tcp://0.0.0.0:{}", True, False),
    ],
)
def test_a_socket_open_to_everyone_is_logged(  # noqa: PLR0913, PLR0917 - one parameter for each fixture
    main_with: Callable[..., None],
    folder: Folder,
    bind: str,
    curve: bool,
    warned: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    endpoint = bind.format(free_port())
    # Hot reload, because it binds no socket in this process.
    main_with(["--reload"], SIDECAR_ZMQ_BIND=endpoint, SIDECAR_CURVE=str(folder.path) if curve else "")
    advice = "Set SIDECAR_CURVE (bin/keys makes its files), or SIDECAR_ZMQ_BIND=tcp://127.0.0.1:5555"
    line = (
        f"SIDECAR_ZMQ_BIND={endpoint} without SIDECAR_CURVE: everyone who reaches this port can send trades. {advice}"
    )
    assert caplog.messages == [line] * warned


@pytest.mark.parametrize("arguments", [[], ["--reload"]], ids=["serve", "reload"])
@pytest.mark.parametrize(
    "damage, line",
    [
        pytest.param(
            lambda path: (path / "server.key_secret").unlink(),
            "there is no {}/server.key_secret. Make it with bin/keys NAME",
            id="no secret key",
        ),
        pytest.param(
            lambda path: (path / "clients").rmdir(),
            "there is no {}/clients. Make it with bin/keys NAME",
            id="no clients",
        ),
        pytest.param(
            lambda path: path.rename(path.with_name("gone")),
            "there is no {}/server.key_secret. Make it with bin/keys NAME",
            id="no folder",
        ),
        pytest.param(
            lambda path: (path / "server.key").replace(path / "server.key_secret"),
            "{}/server.key_secret holds no secret key. Make another with bin/keys NAME",
            id="public key only",
        ),
        pytest.param(
            lambda path: (path / "server.key_secret").write_bytes(b"\xff"),
            "{}/server.key_secret holds no secret key. Make another with bin/keys NAME",
            id="not a key",
        ),
        pytest.param(
            lambda path: ((path / "server.key_secret").unlink(), (path / "server.key_secret").mkdir()),
            "{}/server.key_secret: Is a directory. Let this user read it",
            id="not a file",
        ),
    ],
)
def test_an_unusable_folder_of_keys_is_reported_in_one_line(
    exit_line: Callable[..., str], folder: Folder, arguments: list[str], damage: Callable[[Path], object], line: str
) -> None:
    damage(folder.path)
    said = exit_line(arguments, SIDECAR_CURVE=str(folder.path))
    assert said == f"metrics-sidecar: SIDECAR_CURVE={folder.path}: {line.format(folder.path)}"


def offer(push: zmq.Socket[bytes]) -> None:
    """Send a trade, unless ZeroMQ has already given up the refused connection."""
    with suppress(zmq.Again):
        push.send(BUY, zmq.DONTWAIT)


def wait_until_it_counts(engine: Engine, dial: Dial, pair: Pair) -> zmq.Socket[bytes]:
    """Connect until a trade counts. ZeroMQ does not reconnect after a key was refused."""
    counted = bought(engine)
    while True:
        push = dial(engine.endpoint, pair)
        offer(push)
        if eventually(lambda: bought(engine) > counted, timeout=0.1):
            return push


def raw(engine: Engine) -> socket.socket:
    """A plain TCP connection to the engine."""
    return socket.create_connection(("127.0.0.1", int(engine.endpoint.rsplit(":", 1)[1])), timeout=10)


def send_greeting(engine: Engine) -> None:
    """Open a connection without CURVE, and wait until the engine closes it."""
    with closing(raw(engine)) as peer:
        peer.sendall(GREETING)
        while peer.recv(1000):
            continue


def is_closed(peer: socket.socket) -> bool:
    """Whether the other side has closed the connection."""
    try:
        return not peer.recv(4096)
    except ConnectionError:
        return True
