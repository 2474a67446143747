"""Which tests run together: `make test` is the suite `test`, `make test-long SUITE=NAME` is any other.

A test belongs to the suite that its nearest mark `@pytest.mark.suite("NAME")` names (its own, else its module's), and
to `test` without one. `pytest --suite NAME` keeps the tests of one suite; without it pytest runs all that it is given.

    python -m tests.suites run NAME [LAYER ...]   one suite, or some layers of it
    python -m tests.suites long                   every long suite
    python -m tests.suites ci                     after `make test`: the long suites that fit into the time left

A run of a suite adds the seconds of its tests to .durations/NAME.jsonl; tests/durations.py makes docs/tests.md of them.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from gameday.state import ROOT
from tests.durations import FOLDER, add, additions_s, known

__all__ = ["LAYERS", "SHORT", "SUITES", "Suite", "main", "only_in", "suite_of", "turned"]

SHORT = "test"

LAYERS: Mapping[str, int] = {"unit": 2, "tidy": 1, "contract": 3, "e2e": 1, "docker": 1}
"""Folder in tests/ -> processes that share its files. Tests against servers wait for most of their time, so that three
processes keep two cores busy. End-to-end tests share one stack, and so one process."""

CI_WITHIN_S = 4_500
"""What all suites of one run of continuous integration may take together; its own limit is 90 minutes."""

SPARE = 1.15
"""A suite may take so much longer than it did last, on a machine of the same speed."""


@dataclass(frozen=True)
class Suite:
    """about: what it holds, and which change asks for it. layers: where its tests are, in the order in which they run.
    lacks: why it can't run on this machine; None: it can."""

    about: str
    layers: tuple[str, ...]
    lacks: Callable[[], str | None] = lambda: None


def _engine() -> str | None:
    from compose.engine import unavailable  # docker's client takes a second to import

    return unavailable()


SUITES: Mapping[str, Suite] = {
    SHORT: Suite("one of each kind, for every change", ("unit", "tidy", "contract", "e2e")),
    "kills": Suite(
        "each of those killed that a run needs, while something is broken; after a change of undo, lease or run",
        ("contract", "e2e"),
    ),
    "stack": Suite("up, down, and each server's end; the route of alerts; after a change of compose", ("e2e",)),
    "trades": Suite(
        "the trades platform on bad days, and made worse; after a change of flows, tasks, checks or pipelines",
        ("contract", "e2e"),
    ),
    "events": Suite(
        "a platform of web events that is none of ours; after a change of sampling, baseline, records or Postgres",
        ("e2e",),
    ),
    "cdc": Suite(
        "the platform of change data capture; after a change of pipelines/cdc, states or the ledger of changes",
        ("contract", "e2e"),
    ),
    "variants": Suite("every failure test's other parameter sets; after a change of flows or faults", ("e2e",)),
    "offload": Suite(
        "the offload killed at each point of its code; after a change of the archive, its checks or the offload",
        ("contract", "e2e"),
    ),
    "members": Suite(
        "three brokers, a consumer group of two, a lag, a broker full of noise; after a change of roles, of served, of "
        "what a log keeps, or of init's look at brokers",
        ("contract",),
    ),
    "brokers": Suite(
        "NATS and Redis: logins, TLS, each defect of a log; S3 in init; after a change of these or of drivers/_log",
        ("contract",),
    ),
    "router": Suite(
        "the router over JetStream, Kafka and Valkey, on bad days, and made worse; after a change of pipelines/router",
        ("contract", "e2e"),
    ),
    "docker": Suite("the same in containers, on an engine of its own; as root", ("docker",), _engine),
    "foreign": Suite(
        "a platform in containers that gameday init describes; after a change of init, canary or the general tests",
        ("docker",),
        _engine,
    ),
    "foreign-cdc": Suite(
        "the same of a table that Debezium copies; after a change of init, states or the Postgres driver",
        ("docker",),
        _engine,
    ),
    "foreign-secured": Suite(
        "the same of three brokers behind TLS and a consumer of two; after a change of init, roles or Kafka's client",
        ("docker",),
        _engine,
    ),
    "soak": Suite("nights one after the other; after a change of what runs for long", ("e2e",)),
}
"""Every suite, the short one first."""


# ---- for pytest ------------------------------------------------------------------------------------------------------


def suite_of(item: pytest.Item) -> str:
    """The name of the item's suite. pytest.UsageError where a mark names none that exists."""
    own = [mark.args for mark in item.own_markers if mark.name == "suite"]
    if len(own) > 1:
        raise pytest.UsageError(f"{item.nodeid} is in more than one suite: {own}. Remedy: one mark")
    mark = item.get_closest_marker("suite")
    name = SHORT if mark is None else ", ".join(mark.args)
    if name not in SUITES:
        raise pytest.UsageError(f"{item.nodeid}: no suite {name!r}. Known: {', '.join(SUITES)} (tests/suites.py)")
    return name


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option, off by default."""
    parser.addoption("--suite", choices=[*SUITES], help="only the tests of this suite")


def pytest_configure(config: pytest.Config) -> None:
    """The mark, known to --strict-markers."""
    config.addinivalue_line("markers", f"suite(name): the one suite of these tests: {', '.join(SUITES)}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what --suite names. A wrong mark is found whether or not a suite was asked for."""
    suites = [suite_of(item) for item in items]
    if wanted := config.getoption("suite"):
        left_out = [item for item, suite in zip(items, suites, strict=True) if suite != wanted]
        items[:] = [item for item, suite in zip(items, suites, strict=True) if suite == wanted]
        config.hook.pytest_deselected(items=left_out)


def only_in(suite: str, *cases: object) -> list[ParameterSet]:
    """Cases of pytest.mark.parametrize that belong to this suite: those beside the representative of their kind."""
    marks = pytest.mark.suite(suite)
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=marks) for case in cases]


# ---- for make and .ci/run --------------------------------------------------------------------------------------------


def run(name: str, layers: Sequence[str] = ()) -> int:
    """Run the suite's layers one after the other, all in spite of failures; the first exit code that is not 0."""
    file = FOLDER / f"{name}.jsonl"
    if not layers or layers[0] == SUITES[name].layers[0]:
        file.unlink(missing_ok=True)  # the suite begins anew
    codes = [_pytest(name, layer, file) for layer in layers or SUITES[name].layers]
    return next((code for code in codes if code), 0)


def _pytest(name: str, layer: str, file: Path) -> int:
    command = [sys.executable, "-m", "pytest", "--suite", name, "--durations-to", str(file), f"tests/{layer}"]
    if LAYERS[layer] > 1:
        command += ["-n", str(LAYERS[layer]), "--dist", "loadfile"]
    began_s = time.monotonic()
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    add(file, kind="layer", name=layer, wall_s=time.monotonic() - began_s, additions_s=additions_s())
    return code


def turned(names: Sequence[str], number: int) -> list[str]:
    """The names in their order, begun at another one for each number."""
    first = number % len(names)
    return [*names[first:], *names[:first]]


def _long(within_s: float = math.inf, number: int = 0, said: Sequence[str] = ()) -> int:
    """Run the long suites, begun at another one for each number, as many as fit by their last known durations; a
    closing line says which ran and why the others were left out. 1 when a suite failed. said: what ran before."""
    last, speed_s = known(), additions_s()
    began_s = time.monotonic()
    ran, left_out, failed = [*said], [], False
    for name in turned([name for name in SUITES if name != SHORT], number):
        left_s = within_s - (time.monotonic() - began_s)
        takes_s = SPARE * speed_s * last[name] if name in last else math.inf
        if why := SUITES[name].lacks():
            left_out.append(f"{name} ({why})")
        elif name not in last and within_s < math.inf:
            left_out.append(f"{name} (never measured; remedy: make test-long SUITE={name}, make durations)")
        elif takes_s > left_s:
            left_out.append(f"{name} (takes {takes_s:.0f} s, {max(0.0, left_s):.0f} s are left)")
        else:
            since_s = time.monotonic()
            code = run(name)
            failed |= code != 0
            ran.append(f"{name} {'FAILED' if code else 'passed'} in {time.monotonic() - since_s:.0f} s")
    print(f"suites that ran: {', '.join(ran)}; left out: {', '.join(left_out) or 'none'}", flush=True)
    return int(failed)


def _commit_number() -> int:
    """How many commits led here; 0 outside of version control."""
    counted = subprocess.run(["git", "rev-list", "--count", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return int(counted.stdout) if counted.returncode == 0 else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The commands above; exit code 0 when all that ran passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.suites", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="one suite, or some layers of it")
    one.add_argument("name", choices=[*SUITES])
    one.add_argument("layers", nargs="*", help=f"of {', '.join(LAYERS)}; all of the suite's when left out")
    commands.add_parser("long", help="every long suite")
    ci = commands.add_parser("ci", help="the long suites that fit into the time of continuous integration")
    ci.add_argument("--spent-s", type=float, required=True, help="what `make test` took of that time")
    options = parser.parse_args(arguments)
    if options.command == "run":
        if unknown := set(options.layers) - set(SUITES[options.name].layers):
            parser.error(f"suite {options.name} has no {', '.join(sorted(unknown))}")
        return run(options.name, options.layers)
    if options.command == "long":
        return _long()
    return _long(CI_WITHIN_S - options.spent_s, _commit_number(), [f"{SHORT} passed in {options.spent_s:.0f} s"])


if __name__ == "__main__":
    sys.exit(main())
