"""Kills, freezes, starves and reloads real processes under load, and checks that every trade is counted exactly once.

bin/chaos                       every scenario at full size
bin/chaos kill --trades 30000   one scenario, smaller
bin/chaos fuzz --seconds 60     fuzzes the decoder instead, see bin/chaos fuzz --help
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Self

from harness.chaos_publisher import RECORD, Task, orders
from harness.databases import Prometheus
from harness.ports import free_port
from harness.program import Program
from harness.sidecar import Sidecar
from harness.tools import ROOT, find_tool, make_keys
from harness.waiting import eventually
from trading_app.publisher import TradePublisher
from trading_app.recovery import read_segments

PUBLISHERS = 3
SIDECARS = 4


@dataclass
class Plan:
    """The size of a run: trades and sidecar kills in all, and kills of each publisher."""

    trades: int = 300_000
    sidecar_kills: int = 30
    publisher_kills: int = 5
    seed: int = 1

    @property
    def seconds(self) -> float:
        """The duration of publishing: long enough for a sidecar to start between two kills."""
        return 2.0 * self.sidecar_kills

    def one_in(self, kills: int) -> int:
        """The number of disturbances that take longer than a kill: one for so many kills, and at least one."""
        return max(1, self.sidecar_kills // kills)


@dataclass
class Verdict:
    """The number of trades published, and the differences from what the sidecar counted; none if all is exact."""

    published: int = 0
    problems: list[str] = field(default_factory=list)

    def expect(self, what: str, actual: object, expected: object) -> None:
        if actual != expected:
            self.problems.append(f"{what} is {actual}, not {expected}")


class Publisher(Program):
    """A process that publishes its share of the trades. Started again, it publishes the rest."""

    def __init__(self, folder: Path, number: int, sidecar: Sidecar, share: int, rate: float, **task: Any) -> None:
        super().__init__(folder / f"publisher-{number}.log", [])
        self._number = number
        self._starts = 0
        self._share = share
        self.records = folder / f"records-{number}"
        self.records.mkdir()
        self.kept: dict[str, int] = {}
        outbox = task.pop("outboxes", folder) / f"outbox-{number}"
        self._task = Task(sidecar.address, sidecar.url, str(outbox), str(self.records), "", share, rate, **task)

    def start(self) -> None:
        self._starts += 1
        published = sum(count for _, _, count in read_records(self.records))
        task = replace(self._task, seed=f"{self._number}/{self._starts}", count=max(0, self._share - published))
        self.command = [sys.executable, Path(__file__).with_name("chaos_publisher.py"), json.dumps(asdict(task))]
        super().start()

    def end(self) -> None:
        """Kill it, and record the highest sequence number of each session that its outbox still has."""
        super().end()
        self.record_kept()

    def record_kept(self) -> None:
        for path in sorted(Path(self._task.outbox).glob("*.journal")):
            self.kept |= {segment.session: segment.next_seq - 1 for segment in read_segments(path)}

    def finish(self) -> int | None:
        """Wait until it is done, and return its exit status; None if it runs for two more minutes."""
        try:
            # It may kill itself.
            while (status := self.wait(120)) == -signal.SIGKILL:
                self.record_kept()
                self.start()
        except subprocess.TimeoutExpired:
            return None
        return status


def read_records(folder: Path) -> Iterator[tuple[str, str, int]]:
    """The session, the seed and the number of trades of each start of a publisher."""
    for path in folder.iterdir():
        content = path.read_bytes()
        if len(content) > RECORD.size:
            yield path.name, content[RECORD.size :].decode(), RECORD.unpack_from(content)[0]


class Arena:
    """One sidecar and its publishers, in their own folder."""

    def __init__(
        self, folder: Path, plan: Plan, sidecar: Sidecar, *, publishers: int = PUBLISHERS, **task: Any
    ) -> None:
        self.plan = plan
        self.rng = random.Random(plan.seed)
        self.sidecar = sidecar
        share = plan.trades // publishers
        rate = share / plan.seconds
        self.publishers = [Publisher(folder, number, sidecar, share, rate, **task) for number in range(publishers)]
        self.programs: list[Program] = [sidecar, *self.publishers]

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as started:
            for program in self.programs:
                started.callback(program.end)
                program.start()
            self._started = started.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._started.close()

    def disturb(self, what: str, times: int, disturbance: Callable[[], None]) -> None:
        """Call ``disturbance`` at random instants while the trades are published."""
        print(f"  {what}, {times} times in {self.plan.seconds:.0f} s")
        instants = sorted(self.rng.uniform(0, self.plan.seconds) for _ in range(times))
        started = time.monotonic()
        for instant in instants:
            time.sleep(max(0.0, started + instant - time.monotonic()))
            disturbance()

    def verdict(self) -> Verdict:
        """Wait until the publishers are done, and compare what they published with what the sidecar counted."""
        verdict = Verdict()
        for number, publisher in enumerate(self.publishers):
            if (status := publisher.finish()) != 0:
                sidecar = "answers" if self.sidecar.is_up() else "does not answer"
                verdict.problems.append(
                    f"publisher {number} did not get everything committed: "
                    f"its exit status is {status}, the sidecar {sidecar}"
                )
                return verdict
        self.compare(verdict)
        return verdict

    def compare(self, verdict: Verdict) -> None:
        """Compare the published trades with the sidecar's cursors and totals."""
        # The last disturbance may have come after the last trade.
        self.sidecar.wait_until_up()
        trades, volume = {"buy": 0, "sell": 0}, {"buy": 0.0, "sell": 0.0}
        for publisher in self.publishers:
            for session, seed, returned in read_records(publisher.records):
                put = self.sidecar.next_seq(session) - 1
                # A publisher may be killed after a trade is in the outbox and before the call has returned.
                least = max(returned, publisher.kept.get(session, 0))
                if not least <= put <= returned + 1:
                    verdict.problems.append(f"{session} is at {put}, not at {least}")
                for side, qty in islice(orders(seed), put):
                    trades[side] += 1
                    volume[side] += qty
        samples = self.sidecar.samples()
        for side in "buy", "sell":
            verdict.expect(f"trades_total of {side}", samples[f'trades_total{{side="{side}"}}'], trades[side])
            verdict.expect(f"volume_total of {side}", samples[f'volume_total{{side="{side}"}}'], volume[side])
        verdict.expect("trades_lost_total", samples["trades_lost_total"], 0)
        verdict.published = sum(trades.values())
        print(f"  {verdict.published:,} trades published in {self.sessions} sessions, {volume} units")

    @property
    def sessions(self) -> int:
        return sum(1 for publisher in self.publishers for _ in publisher.records.iterdir())


def kill(folder: Path, plan: Plan) -> Verdict:
    """SIGKILL at random instants: the sidecar, and each of the publishers."""
    return kill_all(Arena(folder, plan, Sidecar(folder)))


def curve(folder: Path, plan: Plan) -> Verdict:
    """The same with CURVE: each new connection is encrypted and authenticated."""
    keys = make_keys(folder, "bot")
    sidecar = Sidecar(folder, SIDECAR_CURVE=str(keys / "server"))
    return kill_all(Arena(folder, plan, sidecar, curve=str(keys / "bot")))


def kill_all(arena: Arena) -> Verdict:
    """Kill the sidecar and the publishers repeatedly."""
    plan = arena.plan
    with arena:
        kill_each(arena, [*[arena.sidecar] * plan.sidecar_kills, *arena.publishers * plan.publisher_kills])
        return arena.verdict()


def kill_each(arena: Arena, victims: list[Program]) -> None:
    """Kill each victim at a random instant while the arena publishes, and start it again."""
    arena.rng.shuffle(victims)

    def kill_next() -> None:
        victim = victims.pop()
        victim.end()
        victim.start()

    arena.disturb("kill -9 a sidecar or a publisher", len(victims), kill_next)


def fleet(folder: Path, plan: Plan) -> Verdict:
    """A fleet of sidecars with two publishers each, all killed at random: Prometheus sums up what the journals have."""
    share = replace(plan, trades=plan.trades // SIDECARS)
    arenas = []
    for number in range(SIDECARS):
        own = folder / f"sidecar-{number}"
        arenas.append(Arena(own, share, Sidecar(own), publishers=2))
    targets = [arena.sidecar.url.removeprefix("http://") for arena in arenas]
    verdict = Verdict()
    with contextlib.ExitStack() as running:
        prometheus = running.enter_context(Prometheus(folder / "prometheus", targets[0], free_port()))
        prometheus.set_targets("metrics-sidecar", *targets[1:])
        for arena in arenas:
            running.enter_context(arena)
        sidecars = [arena.sidecar for arena in arenas]
        publishers = [publisher for arena in arenas for publisher in arena.publishers]
        victims = [arenas[0].rng.choice(sidecars) for _ in range(plan.sidecar_kills)]
        kill_each(arenas[0], [*victims, *publishers * plan.publisher_kills])
        for arena in arenas:
            part = arena.verdict()
            verdict.published += part.published
            verdict.problems += part.problems
        eventually(lambda: prometheus.value("sum(trades_total)") == verdict.published)
        verdict.expect("sum(trades_total) in Prometheus", prometheus.value("sum(trades_total)"), verdict.published)
        resets = prometheus.value("sum(resets(trades_total[1h]))")
        verdict.expect("the number of totals that decreased between two scrapes", resets, 0)
    return verdict


def freeze(folder: Path, plan: Plan) -> Verdict:
    """SIGSTOP for up to two seconds, then SIGCONT."""
    with Arena(folder, plan, Sidecar(folder)) as arena:

        def freeze_one() -> None:
            victim = arena.rng.choice(arena.programs)
            victim.send(signal.SIGSTOP)
            time.sleep(arena.rng.uniform(0, 2))
            victim.send(signal.SIGCONT)

        arena.disturb("SIGSTOP, SIGCONT", plan.one_in(3), freeze_one)
        return arena.verdict()


def close_port(folder: Path, plan: Plan) -> Verdict:
    """The sidecar stops, and its ports are closed for up to three seconds."""
    with Arena(folder, plan, Sidecar(folder)) as arena:

        def stop_for_a_while() -> None:
            arena.sidecar.stop()
            time.sleep(arena.rng.uniform(0, 3))
            arena.sidecar.start()

        arena.disturb("stop the sidecar for a while", plan.one_in(5), stop_for_a_while)
        return arena.verdict()


def fill_disk(folder: Path, plan: Plan) -> Verdict:
    """The sidecar's small disk is full for up to two seconds; half of the time the sidecar is killed as well."""
    with (
        small_disk(folder / "disk", "4m") as disk,
        Arena(folder, plan, Sidecar(folder, SIDECAR_STATE=str(disk / "state.sqlite3"))) as arena,
    ):

        def fill_for_a_while() -> None:
            ballast = disk / "ballast"
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            time.sleep(arena.rng.uniform(0, 2))
            if arena.rng.random() < 0.5:
                arena.sidecar.end()
            ballast.unlink()
            arena.sidecar.supervise()

        arena.disturb("fill the sidecar's disk", plan.one_in(5), fill_for_a_while)
        return arena.verdict()


def rollover(folder: Path, plan: Plan) -> Verdict:
    """Publishers are killed while they make or delete small segments; the sidecar is killed as well."""
    deaths = 5 * plan.publisher_kills / (plan.trades / PUBLISHERS / 30)
    with Arena(folder, plan, Sidecar(folder), segment_bytes=4096, deaths=deaths / 4) as arena:

        def kill_the_sidecar() -> None:
            arena.sidecar.end()
            arena.sidecar.start()
            for publisher in arena.publishers:
                if not publisher.runs:
                    publisher.record_kept()
                    publisher.start()

        arena.disturb("kill -9 the sidecar", plan.one_in(3), kill_the_sidecar)
        return arena.verdict()


def fill_outbox(folder: Path, plan: Plan) -> Verdict:
    """The publishers' small disk fills up while the sidecar is down, and publishers are killed."""
    with (
        small_disk(folder / "disk", "128k") as disk,
        Arena(folder, plan, Sidecar(folder), outboxes=disk, segment_bytes=4096) as arena,
    ):

        def fill_for_a_while() -> None:
            arena.sidecar.end()
            time.sleep(arena.rng.uniform(1, 2))
            victim = arena.rng.choice(arena.publishers)
            victim.end()
            arena.sidecar.start()
            victim.start()

        arena.disturb("stop the sidecar until the publishers' disk is full", plan.one_in(3), fill_for_a_while)
        verdict = arena.verdict()
        logs = [path.read_text() for path in folder.glob("publisher-*.log")]
        verdict.expect("the disk was full", any("No space left" in log for log in logs), True)
        return verdict


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of that size."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def reload(folder: Path, plan: Plan) -> Verdict:
    """Hot reload: a source file of the sidecar is saved repeatedly."""
    source = folder / "src"
    shutil.copytree(ROOT / "metrics-sidecar/src", source)
    with Arena(folder, plan, Sidecar(folder, "--reload", PYTHONPATH=str(source))) as arena:
        saved = source / "metrics_sidecar/ledger.py"

        def save() -> None:
            saved.write_text(saved.read_text() + "\n")

        arena.disturb("save a source file", plan.one_in(2), save)
        return arena.verdict()


def overflow(folder: Path, plan: Plan) -> Verdict:
    """The memory journal overflows while the sidecar is down: delivered + lost = published."""
    verdict = Verdict(published=plan.trades)
    sidecar = Sidecar(folder)
    capacity = plan.trades // 3
    with (
        contextlib.ExitStack() as started,
        TradePublisher(sidecar.address, sidecar_url=sidecar.url, capacity=capacity) as publisher,
    ):
        publish(publisher, plan.trades)
        started.enter_context(sidecar)
        verdict.expect("everything committed", publisher.flush(120), True)
        lost = int(sidecar.samples()["trades_lost_total"])
        # Whole segments are dropped. A frame that the sender already has may still be delivered.
        verdict.expect("as many are lost as the publisher has dropped", 0 <= publisher.lost - lost <= 1000, True)
        verdict.expect("at least seven eighths of the capacity are used", lost <= plan.trades - 7 * capacity // 8, True)
        expect_counts(verdict, sidecar, counted=plan.trades - lost, lost=lost)
        print(f"  {plan.trades:,} trades published, {publisher.lost:,} lost")
    return verdict


def amnesia(folder: Path, plan: Plan) -> Verdict:
    """The sidecar is killed and its state file deleted: earlier trades are lost, later ones are counted."""
    verdict = Verdict(published=plan.trades)
    sidecar = Sidecar(folder)
    half = plan.trades // 2
    with (
        sidecar,
        TradePublisher(sidecar.address, sidecar_url=sidecar.url, outbox=folder / "outbox") as publisher,
    ):
        publish(publisher, half)
        verdict.expect("the first half committed", publisher.flush(120), True)
        sidecar.end()
        for path in folder.glob("sidecar.sqlite3*"):
            path.unlink()
        sidecar.start()
        publish(publisher, plan.trades - half)
        verdict.expect("the second half committed", publisher.flush(120), True)
        expect_counts(verdict, sidecar, counted=plan.trades - half, lost=half)
    print(f"  {plan.trades:,} trades published, {half:,} lost with the state file")
    return verdict


def publish(publisher: TradePublisher, count: int) -> None:
    for side, qty in islice(orders("chaos"), count):
        publisher.publish(side, qty)


def expect_counts(verdict: Verdict, sidecar: Sidecar, counted: int, lost: int) -> None:
    samples = sidecar.samples()
    trades = sum(samples[f'trades_total{{side="{side}"}}'] for side in ("buy", "sell"))
    verdict.expect("trades counted", trades, counted)
    verdict.expect("trades_lost_total", samples["trades_lost_total"], lost)


SCENARIOS = {
    "kill": kill,
    "curve": curve,
    "fleet": fleet,
    "freeze": freeze,
    "close-port": close_port,
    "rollover": rollover,
    "fill-disk": fill_disk,
    "fill-outbox": fill_outbox,
    "reload": reload,
    "overflow": overflow,
    "amnesia": amnesia,
}


def main() -> int:
    # On SIGTERM, exit normally and end the child processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    scenarios = "\n".join(f"  {name:12}{run.__doc__}" for name, run in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="bin/chaos",
        description=f"{__doc__}\nscenarios:\n{scenarios}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "scenario", nargs="*", choices=[*SCENARIOS, []], metavar="scenario", help="the scenarios to run (all)"
    )
    parser.add_argument("--trades", type=int, default=Plan.trades, help="trades in all (%(default)s)")
    parser.add_argument(
        "--sidecar-kills", type=int, default=Plan.sidecar_kills, help="how often the sidecar is killed (%(default)s)"
    )
    parser.add_argument(
        "--publisher-kills",
        type=int,
        default=Plan.publisher_kills,
        help="how often each publisher is killed (%(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=random.randrange(1_000_000), help="seed of the disturbances (random)"
    )
    arguments = parser.parse_args()
    plan = Plan(arguments.trades, arguments.sidecar_kills, arguments.publisher_kills, arguments.seed)
    print(f"{plan.trades:,} trades, seed {plan.seed}")
    failed = 0
    for name in arguments.scenario or SCENARIOS:
        print(f"{name}: {SCENARIOS[name].__doc__}")
        if name.startswith("fill") and (sys.platform != "linux" or os.geteuid() != 0):
            print("  skipped: a small disk needs Linux and root")
            continue
        if name == "fleet" and not find_tool("prometheus"):
            print("  skipped: prometheus is not installed")
            continue
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            verdict = SCENARIOS[name](Path(folder), plan)
        failed += bool(verdict.problems)
        print(f"  {'WRONG: ' + '; '.join(verdict.problems) if verdict.problems else 'exact'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
