"""The router's metrics are those of their contract, and so are its page and its rules."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from gameday.drivers.openmetrics import Probe
from gameday.errors import ConfigError
from gameday.model import Evidence, Finding, Sample, Verdict
from gameday.samplelog import series_name
from gameday.stack.contract import Contract, read
from gameday.state import ROOT
from gameday.verdict.checks import metrics_true
from pipelines.router.metrics import CONTRACT, DEFECTS, Metrics
from pipelines.router.metrics_page import page

BACKENDS = ("jetstream", "kafka", "valkey")
S = 1_000_000_000
RULES = ROOT / "compose" / "router" / "alerts.yml"
METRIC = re.compile(r"\b((?:router|store|broker)_\w+)(?:\{([^}]*)\})?")
TARGETS = ("component", "job", "instance")
"""Labels of whom Prometheus asks."""
CONTRACTED = read(CONTRACT)


def test_the_page_is_made_of_the_contract() -> None:
    """Remedy: python -m pipelines.router.metrics_page > docs/metrics-router.md."""
    assert (ROOT / "docs" / "metrics-router.md").read_text() == page()


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_series_is_there_before_its_first_event(backend: str) -> None:
    """Those of the contract, and no others."""
    told = _scraped(Metrics(backend))
    expected = {
        f"{name}{series}"
        for name, metric in CONTRACTED.metrics.items()
        if backend not in metric.absent
        for series in (_labels({"backend": backend, **one}) for one in metric.series(backend))
    }
    assert {name for name in told if "{" in name} == expected


@pytest.mark.parametrize(
    "count",
    [
        lambda m: m.delivered("id-7", 1, "id-7"),
        lambda m: m.published("requests", "perhaps"),
        lambda m: m.dead("requests", "exhausted"),  # over Kafka the broker does that
    ],
)
def test_a_value_outside_of_its_set_is_refused(count: Any) -> None:
    """Where it is counted: nothing else could keep an id out of the series."""
    with pytest.raises(ValueError, match="is not in the contract"):
        count(Metrics("kafka"))


def test_rules_ask_for_nothing_that_nobody_tells() -> None:
    """A rule on a metric that nobody tells never fires: the programs tell what the contract has, the observer the
    rest; Prometheus itself adds who was asked."""
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    code = "".join((ROOT / "pipelines" / "router" / f"{name}.py").read_text() for name in ("observer", "accounts"))
    observed = set(re.findall(r'yield "(\w+)"', code))
    wrong = []
    for rule in rules:
        for name, matchers in METRIC.findall(rule["expr"]):
            metric = CONTRACTED.metrics.get(name)
            used = set(re.findall(r"(\w+)\s*(?:=|!=|=~|!~)\s*\"", matchers))
            if metric is None and name not in observed:
                wrong.append(f"{rule['alert']} asks for {name}")
            elif metric is not None and used - {"backend", *metric.labels, *TARGETS}:
                wrong.append(f"{rule['alert']} asks {name} for {sorted(used)}")
    assert rules
    assert wrong == []


# ---- held against what happened --------------------------------------------------------------------------------------


def _labels(labels: dict[str, str]) -> str:
    import json

    return json.dumps(labels, sort_keys=True)


def _scraped(metrics: Metrics) -> dict[str, float]:
    """What the sampler's probe makes of what a program answers."""
    return Probe("http://127.0.0.1:1", 1.0, ("router_",))._series(metrics.text().decode())


def _run(
    defect: str = "",
    killed: bool = False,
    counted: int = 8,
    struck: str = "router-a",
    mute_from_s: float = 99,
    observed_until_s: float = 99,
) -> Finding:
    """Forty seconds of a router, sampled twice a second: at 15 s a request comes five times, which is answered each
    time, at 20 s four come again that nobody had answered. killed: then it ends, and begins anew. counted: how many
    deliveries beyond the first the observer tells. mute_from_s, observed_until_s: when the answers of
    the router, and of the observer, end."""
    metrics = Metrics("jetstream", defect)
    samples: dict[str, list[Sample]] = {}

    def note(series: str, at_ns: int, value: float | None) -> None:
        samples.setdefault(series, []).append(Sample(at_ns, 1, value))

    for half in range(81):
        if half == 30:
            for attempt in range(1, 6):
                metrics.delivered("requests", attempt, "poison")
                metrics.answered("requests", "nak" if attempt < 5 else "dead", True, "poison")
        if half == 40:
            for one in "abcd":
                metrics.delivered("requests", 2, one)
                metrics.answered("requests", "ack", True, one)
        if half == 44 and killed:
            metrics = Metrics("jetstream", defect)
        at_ns = half * S // 2
        for suffix, value in _scraped(metrics).items():
            note(series_name("metrics/router-a", suffix), at_ns, value if at_ns < mute_from_s * S else None)
        account = min(4.0, counted) * (half >= 31) + max(0.0, counted - 4) * (half >= 41)
        note("account.redeliveries", at_ns, account if at_ns < observed_until_s * S else None)
    symptoms = {"contract": CONTRACTED.model_dump(mode="json", by_alias=True)}
    return metrics_true(Evidence("t", {}, "s", component=struck, samples=samples, symptoms=symptoms))


def test_eight_redeliveries_are_eight() -> None:
    """Also where the process that had counted them is gone."""
    for killed in (False, True):
        found = _run(killed=killed)
        assert (found.verdict, "redelivered_total rose by 8" in found.why) == (Verdict.PASS, True), found.why


@pytest.mark.parametrize(("before", "lost"), [(3, 0), (0, 2)])
def test_a_counter_that_is_no_lower_after_a_restart_has_begun_anew(before: int, lost: int) -> None:
    """One that had counted less than came at once to its next process; and one that lost its first counts, and stands
    at 0 again. That another process answers its other counters tell."""
    samples: dict[str, list[Sample]] = {}
    metrics = Metrics("jetstream")
    for half in range(81):
        if half == 5:
            for number in range(50):
                metrics.delivered("requests", 1, f"f{number}")
        if half == 30:
            for number in range(before):
                metrics.delivered("requests", 2, f"b{number}")
        if half == 34:
            for number in range(lost):  # counted by a process that nobody has asked since
                metrics.delivered("requests", 2, f"l{number}")
        if half == 44:
            metrics = Metrics("jetstream")
            for number in range(20 if before else 0):
                metrics.delivered("requests", 2, f"a{number}")
        at_ns, away = half * S // 2, 34 <= half < 44
        for suffix, value in _scraped(metrics).items():
            name = series_name("metrics/router-a", suffix)
            samples.setdefault(name, []).append(Sample(at_ns, 1, None if away else value))
        account = before * (half >= 31) + lost * (half >= 35) + (20 if before else 0) * (half >= 45)
        samples.setdefault("account.redeliveries", []).append(Sample(at_ns, 1, float(account)))
    symptoms = {"contract": CONTRACTED.model_dump(mode="json", by_alias=True)}
    found = metrics_true(Evidence("t", {}, "s", component="router-a", samples=samples, symptoms=symptoms))
    assert found.verdict is Verdict.PASS, found.why


def test_a_program_that_tells_nothing_at_the_end_leaves_it_unknown() -> None:
    """What it has counted since, or not, nobody can say: that the numbers agree up to there is no pass."""
    assert _run(mute_from_s=30).verdict is Verdict.UNKNOWN
    assert _run(mute_from_s=37).verdict is Verdict.PASS
    found = _run(observed_until_s=30)
    assert (found.verdict, "account.redeliveries was not told at the end" in found.why) == (Verdict.UNKNOWN, True)


@pytest.mark.parametrize("counted", [0, 7, 9, 16])
def test_an_account_that_tells_another_number_is_a_fail(counted: int) -> None:
    """One too many, or one too few."""
    found = _run(counted=counted)
    assert (found.verdict, f"rose by 8, and account.redeliveries by {counted}" in found.why) == (Verdict.FAIL, True)


def test_an_account_that_may_have_fallen_back_judges_nothing() -> None:
    """Its broker was struck, and counts anew."""
    found = _run(counted=3, struck="broker")
    assert (found.verdict, "may fall back with broker" in found.why) == (Verdict.PASS, True)


@pytest.mark.parametrize(
    ("defect", "told"),
    [
        ("counts_twice", "rose by 16, and account.redeliveries by 8"),
        ("counts_nak", "rose by 4, and account.redeliveries by 8"),
        ("label_missing", "has no label stream"),
        ("label_ids", "has the label id, which the contract has not"),
        ("never_told", "only since its first event"),
    ],
)
def test_each_defect_of_the_metrics_is_found(defect: str, told: str) -> None:
    """And said in words that tell which it is."""
    found = _run(defect)
    assert found.verdict is Verdict.FAIL
    assert told in "; ".join(found.evidence)
    assert defect in DEFECTS


def test_no_defect_is_left_out() -> None:
    """Each that there is has a row above."""
    (mark,) = test_each_defect_of_the_metrics_is_found.pytestmark  # type: ignore[attr-defined]
    assert {row[0] for row in mark.args[1]} == set(DEFECTS)


def test_what_was_not_sampled_is_unknown() -> None:
    """No answer is no proof."""
    symptoms = {"contract": CONTRACTED.model_dump(mode="json", by_alias=True)}
    nothing = Evidence("t", {}, "s", symptoms=symptoms)
    mute = replace(nothing, samples={"metrics/router-a": [Sample(0, 1, None)]})
    assert [metrics_true(one).verdict for one in (nothing, mute, Evidence("t", {}, "s"))] == [Verdict.UNKNOWN] * 3


# ---- the contract itself ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"prefixes": ["worker_"]}, "none of the prefixes"),
        ({"rises": [{"metric": "router_pending", "as": "x"}]}, "is no counter"),
        ({"rises": [{"metric": "router_connects_total", "where": {"stream": "x"}, "as": "x"}]}, "labels has not"),
        ({"variants": {"label": "backend", "values": ["kafka"], "more": 1}}, "extra inputs"),
        ({"variants": {"label": "backend", "values": ["redis"]}}, "variants.values has not"),
    ],
)
def test_a_contract_that_contradicts_itself_is_refused(change: dict[str, Any], why: str, tmp_path: Path) -> None:
    """With the key that is wrong."""
    whole = CONTRACTED.model_dump(mode="json", by_alias=True)
    with pytest.raises(ValidationError, match=re.compile(why, re.IGNORECASE)):
        Contract.model_validate({**whole, **change})
    wrong = tmp_path / "contract.toml"
    wrong.write_text('prefixes = ["a_"]\n[metrics.b]\ntype = "counter"\nhelp = "b"\n')
    with pytest.raises(ConfigError, match=r"contract.file: .*none of the prefixes"):
        read(wrong)
