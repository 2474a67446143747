"""The sampler as the process that it is: how it starts, what it leaves, and that it ends with its owner."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks import sampler as benchmark
from compose.ports import free_ports
from compose.servers import clickhouse
from gameday import codec
from gameday.drivers.clickhouse import Hop
from gameday.drivers.http import Probe
from gameday.errors import GamedayError
from gameday.sampling import sampler
from gameday.sampling.sampler import Sampler, Tail
from gameday.stack.live import Stack, open_stack
from gameday.stack.probes import Heads, ProbeSpec
from gameday.state import ROOT, State
from gameday.system.polling import until
from tests.contract.conftest import PASSWORD, freeze, serving
from tests.contract.sockets import END_SEEN_S, silent
from tests.trades import TAPED, TRADES

RUN = "20261123T020000-a_test-0000"
GONE_WITHIN_S = 5.0

CONFIG = """
name = "small"
history = "postgresql://nobody"
prefect = {{ api_url = "http://127.0.0.1:1/api" }}
hosts.local = {{}}
components.web = {{ probes.answer = {{ driver = "http", url = "{web}/healthz", fields = ["connects"] }} }}
components.hung = {{ probes.answer = {{ driver = "{driver}", url = "{hung}", timeout_s = 0.3 }} }}
""" + TAPED.format(url="{web}", role="web")


class Web(BaseHTTPRequestHandler):
    """Answers everything at once."""

    def do_GET(self) -> None:
        answer = {"connects": 2, "heads": {"kraken": {"BTC/USD": 41}}}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_: object) -> None:
        """Nothing: stderr is the test's."""


@pytest.fixture
def addresses() -> Iterator[dict[str, str]]:
    """A server that answers, and one that hangs."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Web) as server, silent() as hung:
        threading.Thread(target=server.serve_forever, args=(END_SEEN_S,), daemon=True).start()
        yield {"web": f"http://127.0.0.1:{server.server_port}", "hung": f"http://127.0.0.1:{hung}"}
        server.shutdown()


@pytest.fixture
def stack(addresses: dict[str, str], tmp_path: Path) -> Stack:
    return make(tmp_path, addresses)


def make(folder: Path, addresses: dict[str, str], driver: str = "http") -> Stack:
    config = folder / "gameday.toml"
    config.write_text(CONFIG.format(**addresses, driver=driver))
    return open_stack(config, State(folder / "state").ensure())


def test_it_is_started_when_every_probe_has_a_reading_and_leaves_what_it_read(stack: Stack) -> None:
    """One series a probe and suffix; the hung component has samples without value, and delays no other."""
    sampler = Sampler.start(stack, RUN)
    tail = Tail(stack.state.samples(RUN))
    try:
        assert {"component/web/answer", "head/silver/kraken/BTC%2FUSD"} <= set(tail.recent(10))
        until(lambda: len(tail.recent(60)["component/web/answer"]) > 40, within_s=30, what="two seconds of samples")
    finally:
        sampler.stop()
    assert not sampler.alive
    found = codec.read_samples(stack.state.samples(RUN))
    assert {"machine/late", "machine/stolen"} <= set(found)
    assert {name for name in found if not name.startswith("machine/")} == {
        "component/web/answer",
        "component/web/answer.connects",
        "component/hung/answer",
        "head/exchange/kraken/BTC%2FUSD",
        "head/silver/kraken/BTC%2FUSD",
    }
    assert {s.value for s in found["component/hung/answer"]} == {None}
    assert {s.value for s in found["component/web/answer.connects"]} == {2.0}
    assert {s.value for s in found["head/silver/kraken/BTC%2FUSD"]} == {41.0}
    gaps_ms = sorted((b.at_ns - a.at_ns) / 1e6 for a, b in pairwise(found["component/web/answer"]))
    assert 45 < gaps_ms[len(gaps_ms) // 2] < 55
    for samples in found.values():
        assert samples == sorted(samples, key=lambda s: s.at_ns)


def test_a_frozen_clickhouse_is_not_buried_under_probes(tmp_path: Path) -> None:
    """Two connections of a probe at most and four of one that tells heads, on the server's side too, however long it
    answers nothing; awake again, it answers at once."""
    (port,) = free_ports(1)
    with serving(clickhouse.process(tmp_path / "clickhouse", port, PASSWORD)) as server:
        url = clickhouse.url(port, PASSWORD)
        ping = Probe(f"http://127.0.0.1:{port}/ping", 1.0)
        table = Hop(url, "once", "one", TRADES, heads_table="(SELECT 'a' AS venue, 'b' AS symbol, 1 AS trade_id)")
        specs = (ProbeSpec("component/c/ping", ping, 20.0, 1.0), ProbeSpec("head/silver", Heads(table), 20.0, 1.0))
        folder, (ended, end) = tmp_path / "samples", os.pipe()
        loop = threading.Thread(target=sampler.sample, args=(specs, folder, (ended,), sampler.Lateness()))
        loop.start()
        tail = Tail(folder)
        try:
            until(lambda: tail.update() and tail.begun, within_s=10, what="the first readings")
            until(lambda: len(tail.recent(60).get("head/silver/a/b", [])) > 5, within_s=10, what="heads")
            freeze(server.pid)
            most, before = 0, connections(port)

            def silent_for(seconds: float) -> bool:
                nonlocal most, before
                most, before = max(most, len(before & (now := connections(port)))), now
                unanswered = [s for s in tail.recent(60)["component/c/ping"] if s.value is None]
                return bool(unanswered) and unanswered[-1].at_ns - unanswered[0].at_ns > seconds * 1e9

            until(lambda: silent_for(8.0), within_s=30, every_s=0.02, what="eight seconds of silence")
            os.kill(server.pid, signal.SIGCONT)
            awake_ns = time.monotonic_ns()
            until(lambda: answered_since(tail, awake_ns), within_s=5, every_s=0.02, what="answers of both probes")
        finally:
            os.kill(server.pid, signal.SIGCONT)
            os.close(end)
            loop.join()
            os.close(ended)
    assert 1 <= most <= sampler.IN_FLIGHT_MAX + sampler.TELLING_MAX


def answered_since(tail: Tail, at_ns: int) -> bool:
    series = (tail.recent(60).get(name, []) for name in ("component/c/ping", "head/silver/a/b"))
    return all(any(s.value is not None and s.at_ns > at_ns for s in samples) for samples in series)


def connections(port: int) -> set[str]:
    """The other ends of the connections that a server on this port has: also of those that nobody accepted. The kernel
    doesn't list them at one moment; those of two lists were there at the same time."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {
        other for _, local, other, state, *_ in rows if int(local.rpartition(":")[2], 16) == port and state not in IDLE
    }


IDLE = ("0A", "06")
"""Listening, and over."""


def test_sigterm_ends_it(stack: Stack) -> None:
    """In good order, exit code 0."""
    sampler = Sampler.start(stack, RUN)
    os.kill(sampler.pid, signal.SIGTERM)
    until(lambda: not sampler.alive, within_s=GONE_WITHIN_S, what="its end")
    assert sampler.end == "exit code 0"


def test_ctrl_c_in_the_terminal_does_not_end_it(stack: Stack) -> None:
    """The whole foreground group gets the signal; the run has to heal first, and is watched until then."""
    sampler = Sampler.start(stack, RUN)
    tail = Tail(stack.state.samples(RUN))
    os.kill(sampler.pid, signal.SIGINT)
    before = len(tail.recent(60)["component/web/answer"])
    until(lambda: len(tail.recent(60)["component/web/answer"]) > before + 5, within_s=10, what="samples after Ctrl-C")
    sampler.stop()
    assert sampler.end == "exit code 0"


def test_its_death_is_seen(stack: Stack) -> None:
    """A run without its sampler can prove nothing, and must know."""
    sampler = Sampler.start(stack, RUN)
    os.kill(sampler.pid, signal.SIGKILL)
    until(lambda: not sampler.alive, within_s=GONE_WITHIN_S, what="its end")
    assert sampler.end == "exit code -9"
    sampler.stop()


def test_it_ends_when_its_owner_is_killed(stack: Stack) -> None:
    """Its stdin is the owner's pipe; nothing samples on behalf of the dead."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(stack.path), str(stack.state.root), RUN], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    assert Path(f"/proc/{pid}").exists()
    owner.kill()
    owner.wait()
    owner.stdout.close()
    until(lambda: not Path(f"/proc/{pid}").exists(), within_s=GONE_WITHIN_S, what="the sampler's end")


OWNER = textwrap.dedent(
    """
    import sys, threading
    from pathlib import Path
    from gameday.sampling.sampler import Sampler
    from gameday.stack.live import open_stack
    from gameday.state import State
    sampler = Sampler.start(open_stack(Path(sys.argv[1]), State(Path(sys.argv[2]))), sys.argv[3])
    print(sampler.pid, flush=True)
    threading.Event().wait()
    """
)


def test_a_configuration_that_it_cannot_use_is_told_with_its_log(addresses: dict[str, str], tmp_path: Path) -> None:
    """The run learns at once, not by waiting."""
    with pytest.raises(GamedayError, match="there is no 'carrier-pigeon' in gameday/drivers"):
        Sampler.start(make(tmp_path, addresses, driver="carrier-pigeon"), RUN)


def test_its_benchmark_shows_no_figures_where_a_probe_never_answered(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A table of what refusing costs would look like a good one: it names the probe instead, and exits with 3."""
    monkeypatch.setenv("GAMEDAY_STATE", str(stack.state.root))
    monkeypatch.setenv("GAMEDAY_CONFIG", str(stack.path))
    monkeypatch.setattr("sys.argv", ["sampler", "--seconds", "1"])
    assert benchmark.main() == 3
    output = capsys.readouterr()
    assert output.out == ""
    assert "component/hung/answer never answered" in output.err
