"""The supervisor's contract, held by real processes: small Python programs and real signals."""

from __future__ import annotations

import http.server
import itertools
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from compose.ports import free_ports
from compose.service import Service, answers
from compose.supervisor import READY_STEADY_S, READY_TIMEOUT_S, ask, launch, pid_of
from gameday.errors import DriverError, TooLate
from gameday.hosts.local import Host
from gameday.state import ROOT, State
from gameday.system.polling import until
from gameday.system.process import Process, boot_id
from tests.contract.sockets import END_SEEN_S

WITHIN_S = 20.0
AT_REST_S = READY_STEADY_S + 1.0
ANSWER_S = 2 * READY_TIMEOUT_S + 1.0
"""For two looks at a frozen process, and what a busy machine adds."""


SLEEPER = "import time; time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
SERVER = """
import http.server, os, sys, time
while len(sys.argv) > 2 and not os.path.exists(sys.argv[2]):
    time.sleep(0.01)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
COUNTING_SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        open(sys.argv[2], "a").write(".")
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Stack:
    """A supervisor of a few programs in a state folder of its own."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.specs: list[Service] = []

    def add(self, name: str, program: str, *args: str, **more: Any) -> Service:
        folder = self.state.servers / name
        folder.mkdir(parents=True)
        spec = Service(name, (sys.executable, "-c", textwrap.dedent(program), *args), str(folder), **more)
        self.specs.append(spec)
        return spec

    def launch(self, start: bool = True) -> None:
        launch(self.state, self.specs)
        for spec in self.specs if start else ():
            self.order("start", spec.name)

    def order(self, op: str, name: str, **more: Any) -> None:
        ask(self.state, op=op, name=name, **more)

    def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = ask(self.state, op="status")["processes"][name]
        return found

    def process(self, name: str) -> Process:
        found = self.status(name)
        return Process(found["pid"], found["start_ticks"], boot_id())

    def until(self, name: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        return until(lambda: s if holds(s := self.status(name)) else None, WITHIN_S, what=f"a state of {name}")

    def end(self) -> None:
        pid = pid_of(self.state)
        if pid is not None:
            ask(self.state, op="shutdown")
            _, status = os.waitpid(pid, 0)
            assert status == 0


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    found = Stack(State(tmp_path / "state").ensure())
    yield found
    found.end()


def test_nothing_runs_before_it_is_wanted(stack: Stack) -> None:
    """A supervisor starts nothing by itself: the order of the first start is up's."""
    stack.add("a", SLEEPER)
    stack.launch(start=False)
    status = stack.status("a")
    assert (status["want"], status["pid"], status["ready"], status["restarts"]) == (False, None, None, 0)


def test_start_returns_once_the_process_exists_and_status_identifies_it(stack: Stack) -> None:
    """After start, status names a live process by pid, start ticks and wall-clock start."""
    stack.add("a", SLEEPER)
    before_us = time.time_ns() // 1000
    stack.launch()
    status = stack.status("a")
    assert stack.process("a").alive
    assert before_us - 10_000 <= status["started_us"] <= time.time_ns() // 1000
    assert ask(stack.state, op="status")["boot_id"] == boot_id()
    assert ask(stack.state, op="status")["pid"] == pid_of(stack.state)


def test_ready_means_that_the_protocol_answers(stack: Stack, tmp_path: Path) -> None:
    """A running process that does not serve yet is not ready; once it answers, it is."""
    (port,) = free_ports(1)
    stack.add("a", SERVER, str(port), str(tmp_path / "open"), ready=f"http://127.0.0.1:{port}/")
    stack.launch()
    assert stack.status("a")["ready"] is False
    (tmp_path / "open").touch()
    stack.until("a", lambda s: s["ready"] is True)


def test_a_frozen_server_stops_being_ready(stack: Stack) -> None:
    """SIGSTOP leaves the port open, yet readiness ends, for nobody answers; SIGCONT brings it back."""
    (port,) = free_ports(1)
    stack.add("a", SERVER, str(port), ready=f"http://127.0.0.1:{port}/")
    stack.launch()
    stack.until("a", lambda s: s["ready"] is True)
    stack.process("a").send(signal.SIGSTOP)
    stack.until("a", lambda s: s["ready"] is False and s["state"] == "T")
    stack.process("a").send(signal.SIGCONT)
    stack.until("a", lambda s: s["ready"] is True)


def test_a_process_that_serves_is_asked_only_when_somebody_wants_to_know(stack: Stack, tmp_path: Path) -> None:
    """At rest nothing is asked; each status then tells what is true when it is asked, and who runs needs no asking."""
    (port,) = free_ports(1)
    asked = tmp_path / "asked"
    stack.add("a", COUNTING_SERVER, str(port), str(asked), ready=f"http://127.0.0.1:{port}/")
    stack.launch()
    stack.until("a", lambda s: s["ready"] is True)
    process, before = stack.process("a"), asked.stat().st_size
    with pytest.raises(TooLate):
        until(lambda: asked.stat().st_size > before, within_s=AT_REST_S)
    assert stack.status("a")["ready"] is True
    assert asked.stat().st_size == before + 1
    with pytest.raises(TooLate):
        until(lambda: asked.stat().st_size > before + 1, within_s=AT_REST_S)
    process.send(signal.SIGSTOP)
    until(lambda: process.stopped, WITHIN_S, what="the server's freezing")
    began = time.monotonic()
    status = ask(stack.state, op="status", ready=False)["processes"]["a"]
    assert (status["state"], status["pid"]) == ("T", process.pid)
    assert time.monotonic() - began < READY_TIMEOUT_S
    assert stack.status("a")["ready"] is False
    assert time.monotonic() - began < ANSWER_S
    process.send(signal.SIGCONT)


def test_a_foreign_server_on_the_port_is_not_the_childs_readiness(stack: Stack) -> None:
    """Whatever answers on the child's port, the child counts only when it holds the port itself."""
    asked = threading.Semaphore(0)

    class Foreign(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            asked.release()

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Foreign) as server:
        threading.Thread(target=server.serve_forever, args=(END_SEEN_S,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        assert answers(url, 1.0)
        stack.add("a", SLEEPER, ready=url)
        stack.launch()
        for _ in range(10):
            assert asked.acquire(timeout=WITHIN_S)
        assert stack.status("a")["ready"] is False
        server.shutdown()


def test_what_crash_loops_on_a_taken_port_does_not_serve(stack: Stack) -> None:
    """Its process exists again and again, and somebody else answers on its port: neither makes it mended. Once the port
    is free it serves."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        stack.add("a", SERVER, str(port), ready=f"http://127.0.0.1:{port}/")
        stack.launch()
        host = Host(str(stack.state.supervisor_socket), {"a": "a"})
        stack.until("a", lambda s: s["restarts"] >= 2)
        for _ in range(3):
            host.start("a")
            assert host.unserved("a")
            assert not host.stopped("a")
    until(lambda: host.identity("a") and host.unserved("a") is None, WITHIN_S, what="the component to serve")
    host.stop("a", 1.0)
    assert (host.unserved("a"), host.stopped("a")) == ("it does not run", True)


def test_a_killed_process_is_revived_at_once(stack: Stack) -> None:
    """SIGKILL from outside: another process of the same name runs soon, and the restart is counted."""
    stack.add("a", SLEEPER)
    stack.launch()
    first = stack.process("a")
    killed = time.monotonic()
    first.send(signal.SIGKILL)
    status = stack.until("a", lambda s: s["pid"] not in (None, first.pid))
    assert time.monotonic() - killed < 3.0
    assert status["restarts"] == 1
    assert not first.alive


def test_revival_backs_off(stack: Stack, tmp_path: Path) -> None:
    """A process that dies at once is tried again after 0.1, 0.2, 0.4, 0.8 s and so on."""
    times = tmp_path / "times"
    stack.add("a", f"import time; open({str(times)!r}, 'a').write(f'{{time.monotonic()}}\\n')")
    stack.launch()
    times.touch()
    lines = until(lambda: n if len(n := times.read_text().split()) >= 5 else None, WITHIN_S, what="five starts")
    gaps = [later - sooner for sooner, later in itertools.pairwise(map(float, lines[:5]))]
    for gap_s, at_least_s in zip(gaps, (0.1, 0.2, 0.4, 0.8), strict=True):
        assert at_least_s <= gap_s < at_least_s + 1.0


def test_stop_returns_when_it_is_gone_and_it_stays_gone_until_start(stack: Stack) -> None:
    """stop ends the process and its revival; start brings a new one at once, whatever the back-off was."""
    stack.add("a", SLEEPER)
    stack.launch()
    first = stack.process("a")
    stack.order("stop", "a", grace_s=5)
    assert not first.alive
    assert stack.status("a") == {**stack.status("a"), "want": False, "pid": None, "ready": None, "restarts": 0}
    stack.order("stop", "a", grace_s=5)
    stack.order("start", "a")
    assert stack.process("a").alive
    second = stack.process("a")
    stack.order("start", "a")
    assert stack.process("a") == second


def test_stop_kills_what_ignores_its_stop_signal(stack: Stack) -> None:
    """After the grace comes SIGKILL: stop takes about the grace, and the process is gone."""
    deaf = stack.add("a", DEAF)
    stack.launch()
    until(lambda: "deaf" in deaf.log.read_text(), WITHIN_S, what="the handler")
    process, began = stack.process("a"), time.monotonic()
    stack.order("stop", "a", grace_s=0.5)
    assert 0.5 <= time.monotonic() - began < 3.0
    assert not process.alive


def test_a_process_that_ends_between_two_signals_is_gone(stack: Stack) -> None:
    """However quickly a process obeys its stop signal, stop sees its end, and start works again."""
    folder = stack.state.servers / "a"
    folder.mkdir(parents=True)
    stack.specs.append(Service("a", ("/bin/sleep", "600"), str(folder)))
    stack.launch(start=False)
    for _ in range(50):
        stack.order("start", "a")
        began = time.monotonic()
        stack.order("stop", "a", grace_s=5)
        assert time.monotonic() - began < 5


def test_stop_uses_the_processs_own_signal(stack: Stack) -> None:
    """A process whose stop signal is SIGINT gets that, not SIGTERM."""
    spec = stack.add(
        "a",
        """
        import signal, sys
        signal.signal(signal.SIGINT, lambda *_: (print("interrupted", flush=True), sys.exit(0)))
        print("here", flush=True)
        while True: signal.pause()
        """,
        stop_signal=signal.SIGINT,
    )
    stack.launch()
    until(lambda: "here" in spec.log.read_text(), WITHIN_S, what="the handler")
    stack.order("stop", "a", grace_s=10)
    assert "interrupted" in spec.log.read_text()


def test_a_paused_process_is_stopped_without_sitting_out_its_grace(stack: Stack) -> None:
    """SIGSTOP doesn't delay stop: the process is woken to take its stop signal."""
    stack.add("a", SLEEPER)
    stack.launch()
    process = stack.process("a")
    process.send(signal.SIGSTOP)
    stack.until("a", lambda s: s["state"] == "T")
    began = time.monotonic()
    stack.order("stop", "a", grace_s=30)
    assert time.monotonic() - began < 5.0
    assert not process.alive


def test_children_die_with_a_killed_supervisor(stack: Stack) -> None:
    """SIGKILL of the supervisor takes its children along: nothing runs that nobody minds."""
    stack.add("a", DEAF)
    stack.add("b", SLEEPER)
    stack.launch()
    processes = [stack.process("a"), stack.process("b")]
    pid = pid_of(stack.state)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    until(lambda: not any(p.alive for p in processes), WITHIN_S, what="the children's end")


def test_the_supervisor_survives_whoever_started_it(stack: Stack) -> None:
    """The process group of the caller is killed; supervisor and children go on."""
    stack.add("a", SLEEPER)
    program = f"""
import os, pickle, signal
from pathlib import Path
from compose import supervisor
from gameday.state import State
supervisor.launch(State(Path({str(stack.state.root)!r})), pickle.loads({__import__("pickle").dumps(stack.specs)!r}))
os.killpg(0, signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, start_new_session=True, check=False)
    assert done.returncode == -signal.SIGKILL
    stack.order("start", "a")
    assert stack.process("a").alive
    pid = pid_of(stack.state)
    assert pid is not None
    supervisor = Process.of(pid)
    assert supervisor is not None
    ask(stack.state, op="shutdown")
    until(lambda: not supervisor.alive, WITHIN_S, what="the supervisor's end")


def test_shutdown_stops_all_in_reverse_order_and_leaves_no_descendant(stack: Stack, tmp_path: Path) -> None:
    """The last of the list ends first, an orphaned grandchild ends too, and the socket is gone."""
    order = tmp_path / "order"
    polite = f"""
    import signal, sys, subprocess
    def leave(*_):
        open({str(order)!r}, "a").write(sys.argv[1] + "\\n")
        sys.exit(0)
    signal.signal(signal.SIGTERM, leave)
    if sys.argv[1] == "b":
        child = subprocess.Popen([sys.executable, "-c", {SLEEPER!r}], start_new_session=True)
        print(child.pid, flush=True)
    print("here", flush=True)
    while True: signal.pause()
    """
    specs = [stack.add(name, polite, name) for name in ("a", "b", "c")]
    stack.launch()
    until(lambda: all("here" in s.log.read_text() for s in specs), WITHIN_S, what="the handlers")
    grandchild = Process.of(int(specs[1].log.read_text().split()[0]))
    assert grandchild is not None
    stack.end()
    assert order.read_text().split() == ["c", "b", "a"]
    assert not grandchild.alive
    assert not stack.state.supervisor_socket.exists()


def test_orphans_do_not_stay_zombies(stack: Stack) -> None:
    """What a dead child leaves behind becomes the supervisor's, and its end is taken note of."""
    spec = stack.add(
        "a",
        """
        import os, sys, time
        middle = os.fork()
        if middle == 0:
            orphan = os.fork()
            if orphan == 0:
                time.sleep(0.2)
            else:
                print(orphan, flush=True)
            os._exit(0)
        os.waitpid(middle, 0)
        time.sleep(600)
        """,
    )
    stack.launch()
    until(lambda: spec.log.read_text().strip(), WITHIN_S, what="the orphan")
    orphan = Path("/proc") / spec.log.read_text().strip()
    until(lambda: not orphan.exists(), WITHIN_S, what="the orphan's end")
    assert stack.process("a").alive


def test_only_one_supervisor_runs_a_stack(stack: Stack) -> None:
    """A second one on the same state folder ends with the reason, and the first goes on."""
    stack.add("a", SLEEPER)
    stack.launch()
    argv = [sys.executable, "-m", "compose.supervisor", str(stack.state.root)]
    second = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert second.returncode == 1
    assert "another supervisor" in second.stderr
    assert stack.process("a").alive


def test_the_socket_is_the_owners_alone(stack: Stack) -> None:
    """Mode 0600: whoever may connect may stop everything."""
    stack.add("a", SLEEPER)
    stack.launch(start=False)
    assert stack.state.supervisor_socket.stat().st_mode & 0o777 == 0o600


def test_a_state_folder_with_a_long_path_works(tmp_path: Path) -> None:
    """The kernel's limit of 108 bytes for socket paths isn't the user's problem."""
    stack = Stack(State(tmp_path / ("long" * 30)).ensure())
    stack.add("a", SLEEPER)
    stack.launch()
    assert stack.process("a").alive
    stack.end()


def test_wrong_orders_are_refused_with_what_is_known(stack: Stack) -> None:
    """Unknown operation, unknown name, no JSON: an answer that says what there is, and the next order works."""
    stack.add("a", SLEEPER)
    stack.launch(start=False)
    with pytest.raises(DriverError, match=r"no process 'b'. Known: a"):
        stack.order("start", "b")
    with pytest.raises(DriverError, match="unknown op 'dance'"):
        stack.order("dance", "a")
    with socket.socket(socket.AF_UNIX) as s, s.makefile("rwb") as lines:
        s.connect(str(stack.state.supervisor_socket))
        for line in (b"dance\n", b"[]\n"):
            lines.write(line)
            lines.flush()
            assert b'"ok": false' in lines.readline()
    stack.order("start", "a")


def test_a_program_that_does_not_exist_is_named(stack: Stack) -> None:
    """start reports why nothing could be spawned, and doesn't try for ever."""
    folder = stack.state.servers / "a"
    folder.mkdir(parents=True)
    stack.specs.append(Service("a", ("/no/such/program",), str(folder)))
    stack.launch(start=False)
    with pytest.raises(DriverError, match="/no/such/program"):
        stack.order("start", "a")
    assert stack.status("a")["want"] is False


def test_processes_see_no_more_of_the_environment_than_said(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of whoever calls `up` (say, another Prefect's address) doesn't reach the servers."""
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere")
    spec = stack.add("a", "import os; print(sorted(os.environ), flush=True); " + SLEEPER, env={"GIVEN": "1"})
    stack.launch()
    seen = until(lambda: spec.log.read_text(), WITHIN_S, what="the environment")
    assert "GIVEN" in seen
    assert "PREFECT_API_URL" not in seen


def test_a_process_yields_to_others_with_its_whole_session(stack: Stack) -> None:
    """By its niceness, and, where the kernel groups tasks by session, by that of its group."""
    stack.add("late", SLEEPER, niceness=7)
    stack.add("live", SLEEPER)
    stack.launch()
    inherited = os.getpriority(os.PRIO_PROCESS, 0)  # a process inherits its parent's; the group of a new session, none
    for name, niceness, of_group in (("late", 7, 7), ("live", inherited, 0)):
        pid = stack.process(name).pid
        assert os.getpriority(os.PRIO_PROCESS, pid) == niceness
        group = Path(f"/proc/{pid}/autogroup")
        assert not group.exists() or group.read_text().endswith(f" nice {of_group}\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_process_can_run_as_another_user(stack: Stack) -> None:
    """`user` is honoured when root supervises, and the death signal holds for it too."""
    folder = stack.state.servers / "a"
    folder.mkdir(parents=True)
    stack.specs.append(Service("a", ("/bin/sleep", "600"), str(folder), user=65534, cwd="/"))
    stack.launch()
    process = stack.process("a")
    assert Path(f"/proc/{process.pid}").stat().st_uid == 65534
    pid = pid_of(stack.state)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    until(lambda: not process.alive, WITHIN_S, what="the child's end")
