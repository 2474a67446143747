"""Points: declared once, armed, hit in threads, tasks and child processes; exactly the hits that the term names act."""

from __future__ import annotations

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest

from failpoints import ArmError, Failure, Panic, Point, Return, UnknownPoint, callback, metrics, point, points, scenario
from failpoints.trail import Trail
from gameday.state import ROOT
from gameday.system.polling import until

WRITE = point("test::write", "the disk refuses")
READ = point("test::read", "another value is read", returns=int)
OTHER = point("test::other", "something else")


def acted(at: Point, times: int) -> list[int]:
    """Which of the next hits acted."""
    found = []
    for hit in range(1, times + 1):
        try:
            if at() is not None:
                found.append(hit)
        except Failure:
            found.append(hit)
    return found


# ---- which hits act -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("term", "hits"),
    [
        ("off", []),
        ("return(1)", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        ("3,7,11@return(1)", [3, 7, 11]),
        ("11-@return(1)", [11, 12]),
        ("2-4,9@return(1)", [2, 3, 4, 9]),
        ("2*return(1)", [1, 2]),
        ("3*off->1*return(1)", [4]),
        ("3*off->1*return(1)->3*off->1*return(1)->3*off->1*return(1)->off", [4, 8, 12]),
        ("10*off->return(1)", [11, 12]),
        ("5-@2*return(1)", [5, 6]),
        ("2@raise->5@return(1)", [2, 5]),
        ("100%return(1)", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        ("2@off->return(1)", [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
    ],
)
def test_the_first_term_that_takes_a_hit_acts(term: str, hits: list[int]) -> None:
    """A chain is walked on every hit; n* counts acts of its term, hits@ counts hits since arming."""
    with scenario(f"test::read={term}", must_fire=False) as s:
        assert acted(READ, 12) == hits
        assert s["test::read"].hits == 12
        s["test::read"].assert_fired(len(hits))


def test_a_seed_gives_the_same_sequence_and_another_seed_another() -> None:
    """Each point has a generator of its own: other points' hits don't change its luck."""

    def sequence(seed: int, disturbed: bool = False) -> list[int]:
        with scenario("test::read=30%return(1);test::other=30%print()", seed=seed, must_fire=False):
            found = []
            for hit in range(200):
                if disturbed:
                    OTHER()
                if READ() is not None:
                    found.append(hit)
            return found

    assert sequence(1) == sequence(1) == sequence(1, disturbed=True) != sequence(2)
    assert 30 < len(sequence(1)) < 90


def test_exactly_the_named_hits_act_under_eight_threads() -> None:
    """No hit is lost and none counted twice, whoever comes first."""
    with scenario("test::read=2-40,500,777-799@return(1)->1*return(2)") as s:
        start = threading.Barrier(8)

        def work() -> list[Any]:
            start.wait()
            return [got.value for _ in range(1000) if (got := READ()) is not None]

        with ThreadPoolExecutor(8) as pool:
            futures = [pool.submit(s.run, work) for _ in range(8)]
        values = [value for future in futures for value in future.result()]
        assert (values.count(1), values.count(2)) == (39 + 1 + 23, 1)
        assert s["test::read"].hits == 8000
        s["test::read"].assert_fired(64)


# ---- what is done ---------------------------------------------------------------------------------------------------


def test_return_gives_the_value_that_the_point_makes_of_the_text() -> None:
    """Nothing else is returned than what the point says that it takes."""
    with scenario("test::read=return(42)"):
        got = READ()
    assert isinstance(got, Return)
    assert got.value == 42


@pytest.mark.parametrize(
    ("term", "kind", "message"),
    [
        ("raise", Failure, "failpoint test::write"),
        ("raise(OSError)", OSError, "failpoint test::write"),
        ("raise(OSError: no space: left)", OSError, "no space: left"),
        ("raise(concurrent.futures.BrokenExecutor: gone)", RuntimeError, "gone"),
        ("panic(now)", Panic, "now"),
    ],
)
def test_raise_and_panic_raise(term: str, kind: type[BaseException], message: str) -> None:
    """A built-in exception, one of an imported module, or one that passes every `except Exception`."""
    with scenario(f"test::write={term}"), pytest.raises(kind, match=message):
        WRITE()
    assert not issubclass(Panic, Exception)


def test_sleep_and_delay_take_their_milliseconds() -> None:
    """One gives the processor away, the other keeps it; both last."""
    for action in ("sleep", "delay"):
        with scenario(f"test::write={action}(30)"):
            began = monotonic()
            WRITE()
            assert 0.03 <= monotonic() - began < 5


def test_print_and_yield_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    """The code sees nothing of it."""
    with scenario("test::write=1*print(seen)->yield") as s:
        assert WRITE() is WRITE() is None
        s["test::write"].assert_fired(2)
    assert capsys.readouterr().err == "seen\n"


def test_call_calls_only_what_the_program_offers() -> None:
    """A name that nobody offered is an arming error with near names."""
    called: list[int] = []
    callback("test_note", lambda: called.append(1))
    with scenario("test::write=call(test_note)"):
        WRITE()
    assert called == [1]
    with pytest.raises(ArmError, match="Did you mean test_note"), scenario("test::write=call(test_nota)"):
        pass


def test_pause_holds_until_released_and_holds_again() -> None:
    """release lets go who waits; the end of the scenario lets go the rest."""
    passed = threading.Semaphore(0)

    def work() -> None:
        for _ in range(2):
            WRITE()
            passed.release()

    with scenario("test::write=pause") as s:
        thread = threading.Thread(target=s.run, args=(work,))
        thread.start()
        s["test::write"].wait_fired(1)
        assert not passed.acquire(timeout=0.05)
        until(lambda: s["test::write"].release(), within_s=5)
        assert passed.acquire(timeout=5)
        s["test::write"].wait_fired(2)
        assert not passed.acquire(timeout=0.05)
    thread.join(5)
    assert passed.acquire(timeout=0)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("test::write=return", "test::write: return means nothing there"),
        ("test::write=return(1)", "test::write: return means nothing there"),
        ("test::read=return", "invalid literal for int"),
        ("test::read=return(x)", "invalid literal for int"),
        ("test::write=raise(Nonesuch)", "'Nonesuch' is no exception"),
        ("test::write=raise(KeyboardInterrupt)", "is no exception that is built in"),
        ("test::write=raise(UnicodeDecodeError: x)", "can't be made"),
        ("test::wriet=off", r"no point 'test::wriet' is declared here. Did you mean test::write"),
    ],
)
def test_what_makes_no_sense_at_a_point_is_refused(text: str, problem: str) -> None:
    """When it is armed, not when it would have fired; and nothing is armed then."""
    with pytest.raises(ArmError, match=problem), scenario(f"test::other=off;{text}"):
        pass
    assert WRITE.on is READ.on is OTHER.on is None


def test_an_unknown_name_is_told_from_a_wrong_term() -> None:
    """UnknownPoint is an ArmError of its own."""
    with pytest.raises(UnknownPoint):
        points.find("nonesuch")


def test_a_point_is_declared_once_and_under_a_proper_name() -> None:
    """The error names both places."""
    with pytest.raises(ValueError, match=r"declared twice: .*test_failpoints_points.py:\d+ and .*points.py:\d+"):
        point("test::write", "again")
    with pytest.raises(ValueError, match="is no name"):
        point("a b", "a space")


# ---- forms ----------------------------------------------------------------------------------------------------------


def test_as_a_decorator_it_is_hit_before_each_call() -> None:
    """`return` takes the call's place; a coroutine function stays one."""

    @READ.before
    def read(n: int) -> int:
        return n

    @READ.before
    async def read_later(n: int) -> int:
        return n

    with scenario("test::read=2,4@return(7)"):
        assert [read(1), read(2)] == [1, 7]
        assert [asyncio.run(read_later(3)), asyncio.run(read_later(4))] == [3, 7]
    assert (read(5), read.__name__) == (5, "read")


def test_as_a_context_it_is_hit_on_entering() -> None:
    """What it raises comes out of the `with`; what it returns is what `as` gives."""
    with scenario("test::write=2@raise"):
        with WRITE:
            pass
        with pytest.raises(Failure), WRITE:
            raise AssertionError("the block was entered")
    with scenario("test::read=return(3)"), READ as instead:
        assert instead is not None
        assert instead.value == 3


def test_in_a_coroutine_waiting_leaves_the_loop_to_others() -> None:
    """sleep and pause of hit_async hold their task only; a release comes from any thread."""

    async def main() -> list[str]:
        order: list[str] = []

        async def held() -> None:
            await WRITE.hit_async()
            order.append("held")

        with scenario("test::write=pause") as s:
            task = asyncio.create_task(held())
            await asyncio.to_thread(s["test::write"].wait_fired)
            order.append("others")
            await asyncio.to_thread(until, s["test::write"].release, 5)
            await task
        with scenario("test::write=1*sleep(20)->1*yield"):
            task = asyncio.create_task(held())
            await asyncio.sleep(0)
            order.append("others")
            await task
            async with WRITE:
                pass
        return order

    assert asyncio.run(main()) == ["others", "held", "others", "held"]


# ---- who sees it ----------------------------------------------------------------------------------------------------


def test_parallel_scenarios_do_not_see_each_other() -> None:
    """Two threads and two tasks with the same point, each with its own term and counts; a third party sees nothing."""
    together = threading.Barrier(3)

    def armed(value: int) -> list[Any]:
        with scenario(f"test::read={value}-@return({value})") as s:
            together.wait()
            found = [got.value if (got := READ()) else None for _ in range(4)]
            together.wait()
            s["test::read"].assert_fired(4 - value + 1)
            return found

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.submit(armed, 1), pool.submit(armed, 2)
        together.wait()
        assert READ() is None
        together.wait()
    assert (one.result(), two.result()) == ([1, 1, 1, 1], [None, 2, 2, 2])

    async def task(value: int) -> Any:
        with scenario(f"test::read=return({value})"):
            await asyncio.sleep(0)
            got = await asyncio.to_thread(READ)
            return got and got.value

    async def both() -> list[Any]:
        return list(await asyncio.gather(task(1), task(2)))

    assert asyncio.run(both()) == [1, 2]


def test_a_scenario_everywhere_reaches_threads_that_it_did_not_start() -> None:
    """For code with threads of its own; a second one at the same point is refused, and leaves the first alone."""
    go, done = threading.Event(), threading.Event()
    got: list[Any] = []

    def work() -> None:
        go.wait(5)
        got.append(READ())
        done.set()

    threading.Thread(target=work, daemon=True).start()
    with scenario("test::read=return(5)", everywhere=True) as s:
        with pytest.raises(ArmError, match="already: test::read"), scenario("test::read=off", everywhere=True):
            pass
        go.set()
        assert done.wait(5)
        s["test::read"].assert_fired(1)
    assert got[0].value == 5
    assert READ.on is None


def test_a_scenario_inside_another_adds_to_it_and_ends_alone() -> None:
    """The inner one has its points to itself, the outer one the others, and all again afterwards."""
    with scenario("test::read=return(1);test::write=raise"):
        with scenario("test::read=return(2)"):
            inner = READ()
            with pytest.raises(Failure):
                WRITE()
        outer = READ()
    assert inner is not None
    assert outer is not None
    assert (inner.value, outer.value) == (2, 1)


def test_a_scenario_always_disarms() -> None:
    """After an error, and in a task or context that outlives it."""
    with pytest.raises(Failure), scenario("test::write=raise"):  # noqa: PT012 - both belong to the block
        outlives = contextvars.copy_context()
        WRITE()
    assert WRITE.on is None
    with scenario("test::write=raise", must_fire=False):
        assert outlives.run(WRITE) is None


def test_a_scenario_whose_point_never_fired_fails() -> None:
    """It would test nothing; an error of the block's own is not covered up."""
    with pytest.raises(AssertionError, match="test::write=2@raise fired 0 times, not at all; it was hit 1 times"):  # noqa: SIM117 - raised by leaving the inner one
        with scenario("test::write=2@raise"):
            WRITE()
    with pytest.raises(ZeroDivisionError), scenario("test::write=raise"):
        raise ZeroDivisionError
    with scenario("test::write=off", must_fire=False) as s, pytest.raises(AssertionError, match="not 1 times"):
        s["test::write"].assert_fired(1)


CHILD = """
import failpoints
WRITE = failpoints.point("test::write", "in a child")
failpoints.listen()
for _ in range(3):
    try:
        WRITE()
    except failpoints.Failure:
        print("failed", end=" ")
"""


def child(code: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_a_child_process_is_in_the_scenario_that_gives_it_its_environment() -> None:
    """Its firings count, also those of a child that died of one."""
    with scenario("test::write=2@raise->3@exit(5)") as s:
        done = child(CHILD, s.environment())
        assert done.returncode == 5, done.stderr
        s["test::write"].assert_fired(2)
    s["test::write"].assert_fired(2)


def test_a_forked_child_goes_on_with_the_locks_of_a_busy_parent() -> None:
    """A fork in the middle of another thread's hit leaves no lock that nobody will release."""
    with scenario("test::write=off", everywhere=True, must_fire=False):
        over = threading.Event()

        def hot() -> None:
            while not over.is_set():
                WRITE()

        thread = threading.Thread(target=hot)
        thread.start()
        try:
            for _ in range(20):
                pid = os.fork()
                if pid == 0:
                    WRITE()
                    os._exit(0)
                until(lambda pid=pid: os.waitpid(pid, os.WNOHANG)[0], within_s=5, what="the child's end")  # type: ignore[misc]
        finally:
            over.set()
            thread.join()


# ---- for the whole process ------------------------------------------------------------------------------------------


@pytest.fixture
def disarmed() -> Any:
    """Whatever a test arms for the whole process is over with it."""
    yield
    for name in points.known():
        points.disarm(name)
    points.configure(Trail())


@pytest.mark.usefixtures("disarmed")
def test_a_time_to_live_disarms() -> None:
    """Who is paused goes on, later hits do nothing, and the point is as cheap again as before."""
    points.arm("test::write", "pause", ttl_s=0.05)
    began = monotonic()
    WRITE()
    assert 0.04 <= monotonic() - began < 5
    assert WRITE() is None
    assert WRITE.on is None


@pytest.mark.usefixtures("disarmed")
def test_arming_and_disarming_all_the_time_under_a_hot_point() -> None:
    """1,000 times while four threads hit it: every hit gives a whole answer, and none acts once disarm has returned."""
    over = threading.Event()
    ended: list[tuple[int, Any]] = []
    wrong: list[object] = []

    def hot() -> None:
        while not over.is_set():
            if READ.on is not None and (got := READ()) is not None and got.value not in (1, 2):
                wrong.append(got)

    threads = [threading.Thread(target=hot) for _ in range(4)]
    for thread in threads:
        thread.start()
    began = monotonic()
    for n in range(1000):
        armed = points.arm("test::read", f"return({1 + n % 2})", ttl_s=60)
        if n % 3:
            points.disarm("test::read")
            ended.append((armed.fired, armed))
    points.disarm("test::read")
    took_s = monotonic() - began
    over.set()
    for thread in threads:
        thread.join()
    assert (wrong, READ.on) == ([], None)
    assert [fired for fired, _ in ended] == [armed.fired for _, armed in ended]
    assert took_s < 30


@pytest.mark.usefixtures("disarmed")
def test_counters_are_kept_over_armings() -> None:
    """loaded, evaluated, fired, as Prometheus reads them."""
    counted = point("test::counted", "only here")
    for _ in range(2):
        points.arm("test::counted", "2@print()")
        for _ in range(3):
            counted()
    points.disarm("test::counted")
    counted()
    lines = list(metrics())
    assert 'failpoint_loaded_total{point="test::counted"} 2' in lines
    assert 'failpoint_evaluated_total{point="test::counted"} 6' in lines
    assert 'failpoint_fired_total{point="test::counted"} 2' in lines


@pytest.mark.usefixtures("disarmed")
def test_what_cannot_be_proved_is_not_done(caplog: pytest.LogCaptureFixture) -> None:
    """A full disk under the evidence: the point does not act, and the log says why."""
    points.configure(Trail(evidence=os.open("/dev/full", os.O_WRONLY)))
    armed = points.arm("test::write", "raise")
    assert WRITE() is None
    assert (armed.hits, armed.fired) == (1, 0)
    assert "its evidence can't be written" in caplog.text


@pytest.mark.parametrize(
    "hit",
    [
        pytest.param(lambda: WRITE() if WRITE.on is not None else None, id="recommended"),
        pytest.param(WRITE, id="call"),
        pytest.param(WRITE.before(lambda: None), id="decorator"),
    ],
)
def test_a_disarmed_point_allocates_nothing(hit: Callable[[], object]) -> None:
    """However often it is hit."""
    rounds = [None] * 1000
    for _ in rounds:
        hit()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in rounds:
            hit()
        grown, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown - before < 200
    assert peak - before < 1000
