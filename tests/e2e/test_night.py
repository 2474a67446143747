"""The main job on real servers: a night of all failure tests, and the same through the worker."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gameday import codec
from gameday.model import Sample
from gameday.reports import results as published
from gameday.sampling import sampler
from gameday.stack.reading import load
from gameday.state import State
from tests.e2e.command import gameday, results

RATE_HZ = 20.0

UNSEEN = ("offload_failure",)
"""Nothing of the stream is ever bad: only the archive is late."""

NIGHT_S = 900
"""Six tests on a machine that has other things to do; the README tells what they take on one that hasn't."""


pytestmark = pytest.mark.timeout(NIGHT_S + 120)


@pytest.fixture(scope="module")
def night(stack_state: State, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """One night of all tests: its output, results and JUnit file."""
    folder = tmp_path_factory.mktemp("night")
    found, junit = folder / "r.json", folder / "r.xml"
    done = gameday(stack_state, "run", "--all", "--json", str(found), "--junit", str(junit), within_s=NIGHT_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, found, junit


def measures(found: Path) -> list[dict[str, Any]]:
    return [r["measures"] for r in results(found)]


def test_a_night_passes_and_says_so(night: tuple[str, Path, Path]) -> None:
    """Six passes; the terminal shows each test with its MTTR, what was broken until when and how to stop it."""
    output, found, _ = night
    assert {r["test"]: r["verdict"] for r in results(found)} == {
        "broker_restart": "pass",
        "clickhouse_restart": "pass",
        "feed_handler_crash": "pass",
        "offload_failure": "pass",
        "object_store_outage": "pass",
        "network_partition": "pass",
    }
    assert "to stop it: gameday abort" in output
    assert "selftest: pass" in output
    assert "history: pass" in output


def test_people_are_told_before_and_after(stack_state: State, night: tuple[str, Path, Path]) -> None:
    """By the stack's channel: what will be broken and how to stop it, then the night; nothing between them, for
    nothing failed."""
    _, found, _ = night
    name = json.loads(found.read_text())["night"]
    inbox = (stack_state.servers / "pager" / "alerts.jsonl").read_text().splitlines()
    told = [json.loads(line["alert"]) for line in map(json.loads, inbox) if line["sender"] == "gameday"]
    announced, ended = [body for body in told if body["night"] == name]
    assert (announced["kind"], len(announced["data"]["tests"])) == ("announce", 6)
    assert any("gameday abort" in fact["value"] for fact in announced["facts"])
    assert (ended["kind"], ended["verdict"], len(ended["data"]["results"])) == ("night", "pass", 6)
    assert Path(ended["links"]["Report"]).exists()


def test_its_results_follow_the_published_schema(night: tuple[str, Path, Path]) -> None:
    """results.json validates, and nothing was lost, doubled or changed at any hop."""
    _, found, junit = night
    document = json.loads(found.read_text())
    jsonschema.validate(document, published.schema())
    for result in document["results"]:
        assert all(n == 0 for hops in result["counts"].values() for n in hops.values()), result["counts"]
        exported = {"archive"} if result["test"] in ("offload_failure", "object_store_outage") else set()
        assert set(result["counts"]["lost"]) >= {"broker", "bronze", "silver", "gold"} | exported
    assert len(ET.parse(junit).getroot().findall(".//testcase")) >= 6


def test_recovery_is_measured_sharply(night: tuple[str, Path, Path]) -> None:
    """Every measure was taken, but for the impact of what is seen at its end alone; the MTTR's intervals are at most
    0.15 s wide in the median and 0.5 s each, and its high end is within the target."""
    _, found, _ = night
    for result in results(found):
        shown = () if result["test"] in UNSEEN else ("impact",)
        assert all(result["measures"][name]["high_s"] is not None for name in (*shown, "restore", "drain", "mttr"))
    widths = [one["mttr"]["high_s"] - one["mttr"]["low_s"] for one in measures(found)]
    assert statistics.median(widths) <= 0.15, widths
    assert max(widths) <= 0.5, widths
    assert all(r["measures"]["mttr"]["high_s"] <= r["mttr_max_s"] for r in results(found))


def test_the_sampler_kept_its_rate(night: tuple[str, Path, Path], stack_state: State) -> None:
    """At least 95 % of the samples that 20 Hz asks for were taken, of every component and of both heads. The time in
    which as many questions for heads were open as may be does not count: there it is the server that was slow."""
    _, found, _ = night
    for result in results(found):
        samples = codec.read_samples(stack_state.samples(result["id"]))
        fast = [s for s in samples if s.startswith(("component/broker/", "component/clickhouse/ping", "head/"))]
        assert fast
        for series in fast:
            taken = samples[series]
            asked_s = (taken[-1].at_ns - taken[0].at_ns) / 1e9
            if series.startswith("head/"):
                asked_s -= full_s(taken)
            assert len(taken) >= 0.95 * RATE_HZ * asked_s, series


def full_s(samples: Sequence[Sample]) -> float:
    """For how long as many questions were open as the sampler leaves open."""
    sent = [(s.at_ns, 1) for s in samples]
    answered = [(s.at_ns + s.took_ns, -1) for s in samples]
    full_ns = open_now = before_ns = 0
    for at_ns, change in sorted(sent + answered):
        full_ns += (at_ns - before_ns) * (open_now >= sampler.TELLING_MAX)
        open_now, before_ns = open_now + change, at_ns
    return full_ns / 1e9


def test_the_night_leaves_its_files_and_its_history(night: tuple[str, Path, Path], stack_state: State) -> None:
    """report.html stands alone, the index leads to it, and the history knows the runs, also as the Markdown table."""
    _, found, _ = night
    page = (stack_state.night(json.loads(found.read_text())["night"]) / "report.html").read_text()
    assert "<svg" in page
    assert not any(f'{attribute}="http' in page for attribute in ("src", "srcset"))
    index = Path(gameday(stack_state, "report").stdout.strip())
    assert f'href="{json.loads(found.read_text())["night"]}/report.html"' in index.read_text()
    table = gameday(stack_state, "history", "--markdown").stdout
    assert table.startswith("| Test | Run Date | Result | MTTR | Notes |")
    assert table.count("broker_restart") >= 1
    past = json.loads(gameday(stack_state, "history", "--json").stdout)["results"]
    assert {r["id"] for r in results(found)} <= {r["id"] for r in past}


def test_every_runbook_was_right_about_the_real_failure(night: tuple[str, Path, Path], stack_state: State) -> None:
    """Each diagnosis pointed at what was broken while it was, what was stopped was started by its runbook, and each
    verification agrees; and the evidence lies ready to be applied."""
    output, found, _ = night
    for result in results(found):
        steps = {(s["kind"], s["title"]): (s["ok"], s["why"]) for s in result["steps"]}
        assert {kind for kind, _ in steps} >= {"diagnosis", "verify"}, result["test"]
        assert {step: told for step, told in steps.items() if told[0] is not True} == {}, result["test"]
        mended = [a["healed_why"] for a in result["acts"] if (a["healed_why"] or "").startswith("by the runbook: ")]
        assert bool(mended) is (result["test"] in ("feed_handler_crash", "object_store_outage"))
        assert {a["healed_by"] for a in result["acts"]} == {result["id"]}
    diff = (stack_state.night(json.loads(found.read_text())["night"]) / "runbooks.diff").read_text()
    assert diff.count("--- a/runbooks/") == len(results(found))
    assert "Every step came out as this text says" in diff
    assert "git apply" in output


def test_a_deployment_does_the_same_through_the_worker(stack_state: State) -> None:
    """`prefect deployment run` ends Completed, and its run is in the history and has its page like any other."""
    config = load(state=stack_state)
    before = {r["id"] for r in json.loads(gameday(stack_state, "history", "--json").stdout)["results"]}
    prefect = str(Path(sys.executable).with_name("prefect"))
    done = subprocess.run(
        [prefect, "deployment", "run", "clickhouse-restart/trades", "-p", "how=sigkill", "--watch"],
        env={
            **os.environ,
            **config.prefect.environment,
            "PREFECT_HOME": str(stack_state.prefect),
            "COLUMNS": "200",
        },
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    after = json.loads(gameday(stack_state, "history", "--json").stdout)["results"]
    new = [r for r in after if r["id"] not in before]
    assert [(r["test"], r["params"]["how"], r["verdict"]) for r in new] == [("clickhouse_restart", "sigkill", "pass")]
    assert stack_state.report(new[0]["night"]).exists()


@pytest.mark.suite("trades")
def test_a_killed_handler_is_revived_by_the_platform(stack_state: State, tmp_path: Path) -> None:
    """The other way to crash a feed handler: nobody holds it down, and its supervisor brings it back."""
    found = tmp_path / "r.json"
    done = gameday(
        stack_state, "run", "feed_handler_crash", "-p", "how=sigkill", "-p", "venue=kraken", "--json", str(found)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert results(found)[0]["params"] == {"venue": "kraken", "how": "sigkill"}


def test_status_and_check_show_what_there_is(stack_state: State) -> None:
    """Components, streams, links and holders of a stack that is well; every hop found, every test able to run."""
    status, check = gameday(stack_state, "status"), gameday(stack_state, "check")
    assert (status.returncode, check.returncode) == (0, 0), status.stdout + check.stdout
    for text in ("handler-kraken", "coinbase/BTC-USD", "broker-clickhouse", "whole", "no run holds the stack"):
        assert text in status.stdout, status.stdout
    for text in ("hops.gold", "archive", "cursors.clickhouse", "test offload_failure", "can run"):
        assert text in check.stdout, check.stdout
