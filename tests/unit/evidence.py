"""Nights that never were: one of three runs with samples, digests and acts as a real one leaves them, and those before.

The platform is simulated in closed form: the ledger's head grows evenly, the visible head follows a fixed delay behind,
stands still during an outage and catches up afterwards. Everything follows from a seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from statistics import median, quantiles

from gameday import codec
from gameday.model import (
    Act,
    Baseline,
    Digest,
    Evidence,
    Finding,
    Group,
    Json,
    Marks,
    Measure,
    RunResult,
    Sample,
    Samples,
    Step,
    Tally,
    Trend,
    Verdict,
    Window,
)
from gameday.reports import html, results, site
from gameday.state import State
from gameday.verdict import diagnose

__all__ = [
    "EVIL",
    "aborted",
    "broker_restart",
    "clickhouse_restart",
    "feed_handler_crash",
    "night",
    "nights",
    "tonight",
]

NIGHT = "20260219T020000-nightly-7c1e"
VENUES = {
    "binance": ("BTCUSDT", "ETHUSDT", "SOLUSDT"),
    "kraken": ("BTC/USD", "ETH/USD", "SOL/USD"),
    "coinbase": ("BTC-USD", "ETH-USD", "SOL-USD"),
}
GROUPS: tuple[Group, ...] = tuple((venue, symbol) for venue, symbols in VENUES.items() for symbol in symbols)
RATE_HZ = 33.0  # trades a second in each group
STEADY_S = 0.42  # the visible head's usual delay
FLUSH_S = 0.25  # how often rows become visible
BOOT_NS = 81_234_000_000_000
WALL_US = 1_771_466_400_000_000  # 2026-02-19 02:00:00 UTC
EVIL = "<script>alert('x')</script> & \"quotes\" \x1b[31m\x00"
"""Text as a hostile platform may answer it; no report may let it act."""


@dataclass(frozen=True)
class Outage:
    """Seconds since the first sample: when the component answers nothing, when no rows come, when all have come."""

    component: str
    groups: tuple[Group, ...]
    down: tuple[float, float]
    frozen: tuple[float, float]
    drained: float
    blind: bool = False
    """Whether the visible hop itself can't be asked while the component is down."""


@cache
def broker_restart() -> tuple[RunResult, Evidence]:
    """A pass: 3 s without a broker, everything there afterwards, some rows sent twice and shown as such."""
    outage = Outage("broker", GROUPS, down=(10.06, 12.91), frozen=(10.1, 13.2), drained=14.4)
    act = _act(
        "broker_restart",
        1,
        10.0,
        "restart",
        {"component": "broker", "how": "graceful"},
        done=0.31,
        healed=40.0,
        proof="broker answered nothing for 2.9 s; pid 4121 became 5310",
    )
    measures = {
        "impact": Measure(0.043, 0.092),
        "restore": Measure(3.151, 3.204),
        "drain": Measure(4.352, 4.401),
        "mttr": Measure(3.151, 3.204),
    }
    digests = _digests(1_500, again={("binance", "ETHUSDT"): 17, ("kraken", "BTC/USD"): 4})
    findings = (
        Finding("no_loss", Verdict.PASS, "13 503 trades of 9 streams are at every hop", {"keys": 13503}),
        Finding("no_duplicates", Verdict.PASS, "silver shows each trade once; the log holds 21 twice", {"again": 21}),
        Finding("unchanged", Verdict.PASS, "every hop's row hashes equal the ledger's"),
        Finding("order", Verdict.PASS, "the log holds the first of each id in order"),
        Finding("offsets_advance", Verdict.PASS, "12 of 12 slots were committed beyond the restart"),
        Finding("recovered", Verdict.PASS, "MTTR 3.2 s of 120 s, drained after 4.4 s of 120 s"),
        Finding("continuous", Verdict.PASS, "the largest gap in bronze is 3.6 s of 30 s", {"kraken": 3.6}),
    )
    return _run("broker_restart", {"how": "graceful"}, outage, (act,), measures, digests, findings, mttr_max_s=120.0)


@cache
def clickhouse_restart() -> tuple[RunResult, Evidence]:
    """A fail: back in time, but silver lacks 13 trades that bronze has."""
    outage = Outage("clickhouse", GROUPS, down=(10.02, 11.24), frozen=(10.02, 11.7), drained=12.9, blind=True)
    act = _act(
        "clickhouse_restart",
        1,
        10.0,
        "restart",
        {"component": "clickhouse", "how": "sigkill"},
        done=0.05,
        healed=40.0,
        proof="clickhouse answered nothing for 1.2 s; pid 4177 became 5502",
    )
    measures = {
        "impact": Measure(0.012, 0.061),
        "restore": Measure(1.71, 1.77),
        "drain": Measure(2.85, 2.9),
        "mttr": Measure(1.71, 1.77),
    }
    lost: dict[str, dict[Group, int]] = {"silver": {("kraken", "ETH/USD"): 13}}
    findings = (
        Finding(
            "no_loss",
            Verdict.FAIL,
            "silver lost 13 of 1 500 trades of kraken/ETH/USD: ids 812044–812056; bronze still has them",
            {"silver": {"kraken/ETH/USD": [[812044, 812056]]}},
        ),
        Finding("no_duplicates", Verdict.PASS, "silver shows each trade once"),
        Finding("unchanged", Verdict.PASS, "what is there equals the ledger"),
        Finding("upstream_flows", Verdict.PASS, "the log's end moved on by 366 rows during the outage"),
        Finding("resumed", Verdict.PASS, "12 of 12 slots went on from the committed offset"),
        Finding("recovered", Verdict.PASS, "MTTR 1.8 s of 180 s, drained after 2.9 s of 120 s"),
        Finding("served", Verdict.SKIPPED, "this test does not ask the topic's leaders"),
    )
    return _run(
        "clickhouse_restart",
        {"how": "sigkill"},
        outage,
        (act,),
        measures,
        _digests(1_500, lost=lost),
        findings,
        mttr_max_s=180.0,
        counts={"lost": {"broker": 0, "bronze": 0, "silver": 13, "gold": 1}},
        symptoms={
            "differences": {
                "silver kraken/ETH/USD": {
                    "missing": {"count": 13, "ids": list(range(812044, 812054))},
                    "extra": {"count": 0, "ids": []},
                    "doubled": {"count": 0, "ids": []},
                    "changed": {"count": 0, "ids": [], "rows": []},
                }
            }
        },
    )


@cache
def feed_handler_crash() -> tuple[RunResult, Evidence]:
    """A pass with a held fault: one venue is kept down until it is 10 s behind; the others notice nothing."""
    groups = tuple(g for g in GROUPS if g[0] == "binance")
    outage = Outage("handler-binance", groups, down=(10.03, 21.9), frozen=(10.05, 22.35), drained=23.8)
    act = _act(
        "feed_handler_crash",
        1,
        10.0,
        "stop",
        {"component": "handler-binance", "grace_s": 5.0},
        done=0.22,
        healed=11.3,
        proof="handler-binance has no process; supervisor wants it stopped",
    )
    measures = {
        "impact": Measure(0.011, 0.06),
        "restore": Measure(12.3, 12.35),
        "drain": Measure(13.75, 13.8),
        "mttr": Measure(1.0, 1.05),
    }
    findings = (
        Finding("no_loss", Verdict.PASS, "13 482 trades of 9 streams are at every hop"),
        Finding("isolation", Verdict.PASS, "6 other streams were good in 100 % of 246 samples, at most 0.9 s behind"),
        Finding("served", Verdict.PASS, "4 of 4 slots of market.crypto.trades.binance kept their leader"),
        Finding("recovered", Verdict.PASS, "MTTR 1.1 s of 60 s, drained after 13.8 s of 120 s"),
    )
    return _run(
        "feed_handler_crash",
        {"venue": "binance", "how": "graceful"},
        outage,
        (act,),
        measures,
        _digests(1_498),
        findings,
        mttr_max_s=60.0,
        clock_s=21.3,
    )


def aborted() -> RunResult:
    """A run that ended before anything was injected: no measure, no count, no evidence."""
    return RunResult(
        id=f"{NIGHT[:15]}-clickhouse_restart-0dd0",
        night=NIGHT,
        test="clickhouse_restart",
        params={"how": "graceful"},
        stack="trades",
        verdict=Verdict.UNKNOWN,
        why="aborted: postgres did not answer within 30 s of preflight",
        started="2026-02-19T02:09:00.000+00:00",
        took_s=31.2,
        mttr_max_s=180.0,
        drain_max_s=120.0,
        measures={},
        counts={},
        findings=(),
        acts=(),
    )


def night() -> list[tuple[RunResult, Evidence]]:
    """The three runs, in the night's order."""
    return [broker_restart(), clickhouse_restart(), feed_handler_crash()]


# ---- many nights -----------------------------------------------------------------------------------------------------

KINDS: tuple[tuple[str, Mapping[str, Json], float, float], ...] = (
    ("broker_restart", {"how": "graceful"}, 3.1, 120.0),
    ("broker_restart", {"how": "sigkill"}, 4.4, 120.0),
    ("clickhouse_restart", {"how": "sigkill"}, 1.7, 180.0),
    ("feed_handler_crash", {"venue": "binance", "how": "graceful"}, 1.0, 60.0),
    ("network_partition", {"link": "broker-clickhouse", "how": "cut"}, 0.35, 300.0),
    ("object_store_outage", {"how": "stop"}, 8.8, 20.0),
    ("offload_failure", {"point": "after_data_file", "victim": "flow"}, 10.2, 900.0),
)
"""Test, parameters, usual MTTR and target in seconds."""

SELFTEST = (Finding("selftest", Verdict.PASS, "every planted fault was caught"),)
STEPS = (
    Step("diagnosis", "ask who leads each partition", True, "", 0.4),
    Step("diagnosis", "read the consumer's last commit", False, "expected 12 rows, got 9", 1.2),
    Step("recovery", "start the broker again", None, "it came back by itself", 0.0),
    Step("verify", "offsets advance", True, "", 2.1),
)


def tonight() -> list[tuple[RunResult, Evidence | None]]:
    """The newest night: `night`, with an alert, a trend, a runbook carried out; and the aborted run."""
    (broker, seen), *others = night()
    measures = {**broker.measures, "alert": Measure(1.9, 2.05)}
    trends = (
        Trend("mttr", 29, 2.9, 3.1, 0.004, True),
        Trend("drain", 29, 4.1, 4.6, 0.21, False),
    )
    first = replace(broker, measures=measures, trends=trends, steps=STEPS)
    alert = [Sample(_ns(t / 2), 4_000_000, 2.0 if 24 <= t < 34 else 1.0 if t == 23 else 0.0) for t in range(100)]
    known = replace(seen, measures=measures, samples={**seen.samples, "alert/BrokerDown": alert})
    return [(first, known), *others, (aborted(), None)]


def nights(root: Path, number: int) -> State:
    """A state folder with so many nights, each with its results and its page, the newest `tonight`'s."""
    state = State(root)
    rng = random.Random(number)
    newest = datetime.strptime(NIGHT[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    before: dict[int, list[float]] = {n: [] for n in range(len(KINDS))}
    for back in range(number - 1, 0, -1):
        began = newest - timedelta(days=back)
        name = f"{began:%Y%m%dT%H%M%S}-nightly-{back:04x}"
        made = [
            _past(rng, name, began, kind, before[kind], back) for kind in range(len(KINDS)) if kind or back % 9 != 4
        ]
        publish(state, name, made)
        html.render(name, [(result, None) for result in made], state.report(name), findings=SELFTEST)
    runs = tonight()
    publish(state, NIGHT, [result for result, _ in runs])
    site.write(
        state,
        NIGHT,
        runs,
        findings=SELFTEST,
        prefect="http://127.0.0.1:4200",
        diagnoses={r.id: diagnose.explain(e, r.findings) for r, e in runs if e is not None},
    )
    site.refresh(state)
    return state


def publish(state: State, name: str, runs: Sequence[RunResult]) -> None:
    """A night's results.json, as a night leaves it."""
    codec.write_json(state.night(name) / "results.json", results.to_json(name, runs, SELFTEST))


def _past(rng: random.Random, name: str, began: datetime, kind: int, before: list[float], back: int) -> RunResult:
    test, params, usual_s, target_s = KINDS[kind]
    odd = rng.random()
    verdict = (
        Verdict.FAIL
        if odd < 0.03
        else Verdict.UNKNOWN
        if odd < 0.05
        else Verdict.SKIPPED
        if odd < 0.06
        else Verdict.PASS
    )
    mttr_s = (
        usual_s * (1 + 0.06 * rng.random()) * (1 + (0.35 * (30 - back) / 30 if test == "object_store_outage" else 0))
    )
    measured = verdict in (Verdict.PASS, Verdict.FAIL)
    mttr_s = mttr_s * 3.5 if verdict is Verdict.FAIL else mttr_s
    measures = {
        "impact": Measure(0.04, 0.09),
        "restore": Measure(mttr_s, mttr_s + 0.05),
        "drain": Measure(mttr_s + 1.1, mttr_s + 1.15),
        "mttr": Measure(mttr_s, mttr_s + 0.05),
    }
    trends: tuple[Trend, ...] = ()
    if len(before) >= 10 and measured:
        p = 0.003 if mttr_s > 1.02 * max(before) else 0.4
        trends = (Trend("mttr", len(before), median(before), quantiles(before, n=20)[-1], p, p < 0.01),)
    if verdict is Verdict.PASS:
        before.append(mttr_s)
    started = began + timedelta(seconds=60 * kind + 11)
    clean = dict.fromkeys(("broker", "bronze", "silver", "gold"), 0)
    return RunResult(
        id=f"{started:%Y%m%dT%H%M%S}-{test}-{back:04x}",
        night=name,
        test=test,
        params=params,
        stack="trades",
        verdict=verdict,
        why={Verdict.PASS: "as promised", Verdict.FAIL: f"MTTR {mttr_s:.1f} s of {target_s:g} s",
             Verdict.SKIPPED: "the stack has no archive"}.get(verdict, "postgres did not answer within 30 s"),
        started=started.isoformat(timespec="milliseconds"),
        took_s=52.4,
        mttr_max_s=target_s,
        drain_max_s=120.0,
        measures=measures if measured else {},
        counts={"lost": clean, "doubled": clean, "changed": clean} if measured else {},
        findings=(Finding("recovered", verdict, f"MTTR {mttr_s:.1f} s"),) if measured else (),
        acts=(),
        trends=trends,
        steps=STEPS[:1] if test == "broker_restart" else (),
    )  # fmt: skip


# ---- the pieces ------------------------------------------------------------------------------------------------------


def _run(
    test: str,
    params: Mapping[str, Json],
    outage: Outage,
    acts: tuple[Act, ...],
    measures: Mapping[str, Measure],
    digests: tuple[Digest, ...],
    findings: tuple[Finding, ...],
    mttr_max_s: float,
    counts: Mapping[str, Mapping[str, int]] | None = None,
    clock_s: float = 10.0,
    symptoms: Mapping[str, Json] | None = None,
) -> tuple[RunResult, Evidence]:
    clean = dict.fromkeys(("broker", "bronze", "silver", "gold"), 0)
    verdict = max(f.verdict for f in findings)
    result = RunResult(
        id=_run_id(test),
        night=NIGHT,
        test=test,
        params=params,
        stack="trades",
        verdict=verdict,
        why="; ".join(f.why for f in findings if f.verdict is Verdict.FAIL) or "as promised",
        started="2026-02-19T02:00:11.482+00:00",
        took_s=52.4,
        mttr_max_s=mttr_max_s,
        drain_max_s=120.0,
        measures=measures,
        counts={"lost": clean, "doubled": clean, "changed": clean, **(counts or {})},
        findings=findings,
        acts=acts,
    )
    reference = digests[0].groups
    evidence = Evidence(
        test=test,
        params=params,
        stack="trades",
        component=outage.component,
        affected=outage.groups,
        mttr_max_s=mttr_max_s,
        drain_max_s=120.0,
        acts=acts,
        samples=_samples(test, outage),
        baseline=Baseline(Marks(BOOT_NS, WALL_US), 0.71, bound_s=2.13, rates=dict.fromkeys(GROUPS, RATE_HZ)),
        inject_ns=_ns(10.0),
        clock_ns=_ns(clock_s),
        measures=measures,
        digests=digests,
        window=Window({g: t.lo - 1 for g, t in reference.items()}, {g: t.hi for g, t in reference.items()}),
        symptoms={
            "bronze.ingest_gap_s": {"market.crypto.trades.kraken": 3.6},
            "silver.not_first": 0,
            **(symptoms or {}),
        },
    )
    return result, evidence


def _run_id(test: str) -> str:
    return f"{NIGHT[:15]}-{test}-4b1d"


def _ns(at_s: float) -> int:
    return BOOT_NS + round(at_s * 1e9)


def _act(
    test: str, number: int, at_s: float, fault: str, args: Mapping[str, Json], *, done: float, healed: float, proof: str
) -> Act:
    run = _run_id(test)
    return Act(
        id=f"{run}-{number}",
        run=run,
        at_ns=_ns(at_s),
        at_us=WALL_US + round(at_s * 1e6),
        kind="fault",
        fault=fault,
        args=args,
        before={"identity": {"pid": 4121, "start_ticks": 81911, "boot_id": "b0"}},
        by=run,
        proof=proof,
        done_ns=_ns(at_s + done),
        healed_ns=_ns(at_s + healed),
        healed_by=run,
        healed_why="the plan's heal",
    )


def _samples(test: str, outage: Outage, until_s: float = 52.0) -> Samples:
    rng = random.Random(test)
    series: dict[str, list[Sample]] = {}
    probes = {
        "broker/protocol": 20.0,
        "clickhouse/ping": 20.0,
        "clickhouse/metrics": 2.0,
        "exchange/rest": 20.0,
        "postgres/query": 5.0,
        **{f"handler-{venue}/health": 20.0 for venue in VENUES},
    }
    for name, rate in probes.items():
        down = outage.down if name.partition("/")[0] == outage.component else None
        series[f"component/{name}"] = [
            _sample(rng, at_s, None if down and down[0] <= at_s < down[1] else 1.0)
            for at_s in _times(rng, until_s, rate)
        ]
    for number, group in enumerate(GROUPS):
        base = 700_000 + 100_000 * number
        struck = outage if group in outage.groups else None
        path = codec.key_of(group)
        times = list(_times(rng, until_s, 20.0))
        series[f"head/exchange/{path}"] = [_sample(rng, t, float(base + int(RATE_HZ * t))) for t in times]
        series[f"head/silver/{path}"] = [
            _sample(
                rng,
                t,
                None
                if outage.blind and outage.down[0] <= t < outage.down[1]
                else float(base + int(RATE_HZ * _visible_until(t, struck))),
            )
            for t in times
        ]
    slots = [f"market.crypto.trades.{venue}/{partition}" for venue in VENUES for partition in range(4)]
    for slot in slots:
        down = outage.down if outage.component == "broker" else None
        series[f"serving/{slot}"] = [
            _sample(rng, t, None if down and down[0] <= t < down[1] else 1.0) for t in _times(rng, until_s, 2.0)
        ]
    return series


def _visible_until(at_s: float, outage: Outage | None) -> float:
    """Up to which second of the ledger the visible head has come at at_s: in flushes, and not at all while frozen."""
    seen_s = int(at_s / FLUSH_S) * FLUSH_S - STEADY_S + FLUSH_S / 2
    if outage is None or not outage.frozen[0] <= at_s < outage.drained:
        return max(seen_s, 0.0)
    stood = outage.frozen[0] - STEADY_S
    if at_s < outage.frozen[1]:
        return stood
    done = (at_s - outage.frozen[1]) / (outage.drained - outage.frozen[1])
    return stood + done * (outage.drained - STEADY_S - stood)


def _times(rng: random.Random, until_s: float, rate_hz: float) -> Iterable[float]:
    """Open-loop sending times, with the jitter of a busy machine."""
    return (n / rate_hz + abs(rng.gauss(0.0, 0.001)) for n in range(int(until_s * rate_hz)))


def _sample(rng: random.Random, at_s: float, value: float | None) -> Sample:
    took_s = 1.0 if value is None and rng.random() < 0.1 else abs(rng.gauss(0.004, 0.002))
    return Sample(_ns(at_s), round(took_s * 1e9), value)


def _digests(
    keys: int,
    lost: Mapping[str, Mapping[Group, int]] | None = None,
    again: Mapping[Group, int] | None = None,
) -> tuple[Digest, ...]:
    """Every hop's digests. lost: hop -> group -> rows missing there; again: rows that the log holds twice."""
    lost, again = lost or {}, again or {}

    def hop(stream: str, name: str, view: str, groups: Mapping[Group, int], repeat: bool = False) -> Digest:
        missing = lost.get(name, {})
        tallies = {
            g: _tally(
                g, n - missing.get(g, 0), again.get(g, 0) if repeat else 0, ordered=view == "log", differs=g in missing
            )
            for g, n in groups.items()
        }
        return Digest(stream, name, view, tallies)

    trades = dict.fromkeys(GROUPS, keys)
    offsets: dict[Group, int] = {(f"market.crypto.trades.{v}", str(p)): keys * 3 // 4 for v in VENUES for p in range(4)}
    bars: dict[Group, int] = {(*g, i): n for g in GROUPS for i, n in (("1m", 2), ("5m", 1), ("1h", 1), ("1d", 1))}
    return (
        hop("trades", "exchange", "final", trades),
        hop("trades", "broker", "log", trades, repeat=True),
        hop("trades", "bronze", "raw", trades, repeat=True),
        hop("trades", "silver", "raw", trades, repeat=True),
        hop("trades", "silver", "final", trades),
        hop("offsets", "broker", "log", offsets),
        hop("offsets", "bronze", "raw", offsets),
        hop("bars", "exchange", "final", bars),
        hop("bars", "silver", "final", bars),
        hop("bars", "gold", "final", bars),
    )


def _tally(group: Group, keys: int, again: int, *, ordered: bool, differs: bool) -> Tally:
    lo = 811_001
    total = sum(map(ord, "".join(group))) * 0x9E3779B97F4A7C15 % 2**64
    return Tally(keys + again, keys, lo, lo + keys - 1, total ^ int(differs), back=0 if ordered else None)
