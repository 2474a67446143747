"""How long each test and each fixture takes: `pytest --durations-to FILE` adds one JSON line for each.

A test's line has its seconds of set-up, call and teardown. A fixture's line has the seconds of its own set-up, without
those of the fixtures that it asks for. The processes of pytest-xdist add to the same file. A layer's line, from
tests/suites.py, has the wall's seconds, and how fast the machine was.

`python -m tests.durations` (make durations) writes docs/tests.md and tests/durations.json from the suites that were run
last: what isn't known again stays as it was.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from gameday.state import ROOT

__all__ = ["FOLDER", "Measured", "add", "additions_s", "known", "main", "measured", "page"]

FOLDER = ROOT / ".durations"
"""One file for each suite that was run here."""

KNOWN = ROOT / "tests" / "durations.json"
PAGE = ROOT / "docs" / "tests.md"

ADDITIONS = 10_000_000
SHOWN_S = 2.0
"""What takes less is not listed by its name."""


def known() -> dict[str, float]:
    """Suite -> how long it took last, by tests/durations.json, as a multiple of ten million additions there."""
    suites = json.loads(KNOWN.read_text()) if KNOWN.exists() else {}
    return {name: one["wall_s"] / one["additions_s"] for name, one in suites.items()}


def additions_s() -> float:
    """How long this Python takes for ten million additions, now: 0.6 s where the suites' limits are meant."""
    began_s = time.monotonic()
    total = 0
    for one in range(ADDITIONS):
        total += one
    return time.monotonic() - began_s


def add(file: Path, **line: object) -> None:
    """Add one line; several processes may."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in line.items()}
    with file.open("a") as out:
        out.write(json.dumps(rounded) + "\n")


# ---- for pytest ------------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option, off by default."""
    parser.addoption("--durations-to", metavar="FILE", help="add the seconds of tests and fixtures to FILE")


def pytest_configure(config: pytest.Config) -> None:
    """Measure where it is asked for; the process that only hands tests out to others has nothing to measure."""
    file = config.getoption("durations_to")
    if file and not config.getoption("numprocesses", None):
        config.pluginmanager.register(Meter(Path(file)))


class Meter:
    """Hooks of pytest that measure."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._parts: dict[str, float] = {}
        self._nested_s = [0.0]

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object]) -> Generator[None, object, object]:
        """A fixture's own seconds: those of fixtures that start inside of it are theirs."""
        began_s = time.monotonic()
        self._nested_s.append(0.0)
        try:
            return (yield)
        finally:
            took_s = time.monotonic() - began_s
            own_s = took_s - self._nested_s.pop()
            self._nested_s[-1] += took_s
            add(self._file, kind="fixture", name=fixturedef.argname, setup_s=own_s)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test's three parts, written with the last."""
        self._parts[f"{report.when}_s"] = report.duration
        if report.when == "teardown":
            add(self._file, kind="test", name=report.nodeid, **self._parts)
            self._parts.clear()


# ---- the table -------------------------------------------------------------------------------------------------------


@dataclass
class Measured:
    """What one run of a suite took, in seconds. layers: of the wall. tests: all of a test's parts. fixtures: every
    set-up of that name in that suite, added up."""

    additions_s: float
    wall_s: float
    count: int
    layers: Mapping[str, float]
    tests: Mapping[str, float]
    fixtures: Mapping[str, float]


def measured(lines: Iterable[Mapping[str, Any]]) -> Measured:
    """One suite's file, added up. What takes less than SHOWN_S is counted, and not named."""
    layers: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    fixtures: Counter[str] = Counter()
    speeds = [0.0]
    for line in lines:
        match line["kind"]:
            case "layer":
                layers[line["name"]] += line["wall_s"]
                speeds.append(line["additions_s"])
            case "test":
                tests[line["name"]] += sum(line.get(f"{part}_s", 0.0) for part in ("setup", "call", "teardown"))
            case "fixture":
                fixtures[line["name"]] += line["setup_s"]
    return Measured(
        round(max(speeds), 2),
        round(sum(layers.values())),
        len(tests),
        {name: round(took_s) for name, took_s in layers.items()},
        _long(tests),
        _long(fixtures),
    )


def _long(took_s: Mapping[str, float]) -> dict[str, float]:
    shown = sorted(took_s.items(), key=lambda item: -item[1])
    return {name: round(seconds, 1) for name, seconds in shown if seconds >= SHOWN_S}


def page(suites: Mapping[str, Measured], about: Mapping[str, str]) -> str:
    """docs/tests.md."""
    lines = [
        "# Tests: suites, and where their time goes",
        "",
        "Made by `make durations` from the suites that were run last. `python -c` of ten million additions, which took "
        "the seconds of the last column beside each suite, tells how fast that machine was: `make test` may take 20 "
        "minutes where it is 0.6 s, and 30 where it is 1.2 s.",
        "",
        "| suite | what it holds; which change asks for it | tests | wall, s | of that | additions, s |",
        "|---|---|---:|---:|---|---:|",
    ]
    for name, one in suites.items():
        layers = ", ".join(f"{layer} {took_s:.0f}" for layer, took_s in one.layers.items())
        lines.append(
            f"| `{name}` | {about.get(name, '')} | {one.count} | {one.wall_s:.0f} | {layers} | {one.additions_s:.2f} |"
        )
    lines += [
        "",
        f"Every test, and every fixture (its own set-ups, added up), that takes {SHOWN_S:g} s or more:",
        "",
        "| s | what | suite |",
        "|---:|---|---|",
    ]
    rows = [(s, f"`{test}`", name) for name, one in suites.items() for test, s in one.tests.items()]
    rows += [(s, f"fixture `{fixture}`", name) for name, one in suites.items() for fixture, s in one.fixtures.items()]
    lines += [f"| {s:.1f} | {what.replace('|', '¦')} | {name} |" for s, what, name in sorted(rows, reverse=True)]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write both files; exit code 3 when no suite was run here."""
    from tests.suites import SUITES  # which measures with this module

    kept = json.loads(KNOWN.read_text()) if KNOWN.exists() else {}
    found = {name: Measured(**values) for name, values in kept.items()}
    for name in SUITES:
        if (file := FOLDER / f"{name}.jsonl").exists():
            new = measured(map(json.loads, file.read_text().splitlines()))
            if set(new.layers) == set(SUITES[name].layers):  # else it was interrupted, or only a part was asked for
                found[name] = new
    if not found:
        print(f"no suite was run here: {FOLDER} has nothing. Remedy: make test", file=sys.stderr)
        return 3
    ordered = {name: found[name] for name in SUITES if name in found}
    KNOWN.write_text(json.dumps({name: asdict(one) for name, one in ordered.items()}, indent=1) + "\n")
    PAGE.write_text(page(ordered, {name: suite.about for name, suite in SUITES.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
