"""The night's page, and the picture of a run's timeline in it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gameday.model import Digest, Evidence, Finding, Measure, RunResult, Sample, Step, Tally, Verdict, Window
from gameday.reports import html, svg
from gameday.reports.page import SIGNS, TEMPLATES
from gameday.reports.timeline import ALL, Timeline, _streams, timeline
from tests.unit import evidence
from tests.unit.markup import Page

CSS = (TEMPLATES / "site.css").read_text()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic night: a pass, a fail, a held fault, and a run that was aborted before it had evidence."""
    out = tmp_path_factory.mktemp("night") / "report.html"
    findings = (Finding("selftest", Verdict.PASS, "every planted fault was caught"),)
    runs = [*evidence.night(), (evidence.aborted(), None)]
    return html.render(evidence.NIGHT, runs, out, findings=findings, prefect="http://127.0.0.1:4200")


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    return Page(written.read_text())


def rendered(tmp_path: Path, run: tuple[RunResult, Evidence | None], **more: object) -> str:
    return html.render("n1", [run], tmp_path / "report.html", **more).read_text()  # type: ignore[arg-type]


# ---- the page --------------------------------------------------------------------------------------------------------


def test_the_page_needs_nothing_but_itself(written: Path, page: Page) -> None:
    """No script, and nothing that a browser would fetch: it opens from disk, on a machine without a network."""
    page.check_alone()
    assert not re.search(r"@import|url\((?!#)", CSS)
    assert "default-src 'none'" in written.read_text()


def test_verdicts_come_first(page: Page) -> None:
    """Before any picture stand the night in a sentence, every verdict with its seconds, and what went wrong."""
    words = page.words()
    assert "Night of 19 February 2026, 02:00 UTC" in words
    assert "Of 4 runs, 1 failed, 1 ended without a verdict and 2 passed." in words
    first_picture = words.index("Timeline of")
    for wanted in (
        "3.1–3.3 s of 120 s",
        "silver lost 13 of",
        "What went wrong, and what to do",
        "runbooks/trades/clickhouse_restart.md",
    ):
        assert words.index(wanted) < first_picture
    assert "gameday run clickhouse_restart -p how=sigkill" in words


def test_a_failure_says_why_and_what_to_do(page: Page) -> None:
    """The reason in words, the advice of the failed check, the ids; then the rows that differ, already open."""
    words = page.words()
    assert "feed that range again" in words
    assert "812044–812056" in words
    assert "−13" in words
    opened = [path for tag, a, path in page.elements if tag == "details" and "open" in a]
    assert len(opened) >= 2


def test_every_run_shows_what_was_done_and_its_proof(page: Page) -> None:
    """The journal names the fault, when, the proof, and who mended it."""
    words = page.words("table")
    for wanted in (
        "stop handler-binance",
        "grace_s=5.0",
        "supervisor wants it stopped",
        "+11.30 s by this run",
        "02:00:10.000",
    ):
        assert wanted in words


def test_a_run_without_evidence_still_has_its_place(page: Page) -> None:
    """Aborted before anything was measured: the page says so, and shows no zeros in place of figures."""
    words = page.words("section")
    last = words[words.rindex("aborted: postgres did not answer") :]
    for wanted in (
        "No samples",
        "Nothing was judged",
        "No hop was digested",
        "Nothing was done to the stack",
        "not measured",
    ):
        assert wanted in last


def test_nothing_a_platform_says_becomes_markup(tmp_path: Path) -> None:
    """Text from anywhere in a result or its evidence is shown as text, without control characters."""
    result, known = evidence.clickhouse_restart()
    evil = evidence.EVIL
    args = {"component": evil, evil: evil}
    act = replace(result.acts[0], fault=evil, args=args, proof=evil, by=evil, healed_by=evil, healed_why=evil)
    finding = Finding(evil, Verdict.FAIL, evil, {evil: [evil]})
    told: dict[str, Any] = {"test": evil, "params": {evil: evil}, "stack": evil, "acts": (act,)}
    measures = {**result.measures, evil: Measure(None, None, evil)}
    lists: dict[str, Any] = {"findings": (finding,), "steps": (Step(evil, evil, False, evil, 0.1),)}
    bad = replace(result, **told, **lists, why=evil, started=evil, id=evil, measures=measures)
    digest = Digest(evil, evil, evil, {(evil, evil): Tally(2, 1, 1, 1, 1, 1)})
    samples = {**known.samples, f"component/{evil}/x": [Sample(1, 1, None)], f"{evil}/x": [Sample(1, 1, 1.0)]}
    symptoms = {"trouble": {evil: evil}, evil: evil}
    seen = replace(known, **told, component=evil, symptoms=symptoms, digests=(digest, digest), samples=samples)
    text = rendered(
        tmp_path,
        (bad, seen),
        findings=[finding],
        links={evil: f"javascript:{evil}"},
        diagnoses={evil: [evil]},
        prefect=f"https://x/{evil}",
    )
    page = Page(text)
    page.check_harmless()
    assert "<script>alert('x')</script>" in page.words()


def test_the_page_can_be_read_aloud_and_by_keyboard(page: Page) -> None:
    """Headings without a skipped level, landmarks, captions, scopes, labelled pictures, reachable scroll areas."""
    page.check_structure()
    assert len([a for tag, a, _ in page.elements if tag == "svg" and a.get("class") == "timeline"]) == 6


def test_a_verdict_is_never_colour_alone(written: Path) -> None:
    """Beside each coloured verdict stand its word and a sign, and no two verdicts share a sign."""
    assert len(set(SIGNS.values())) == len(Verdict)
    badges = re.findall(
        r'<span class="verdict (\w+)"><span aria-hidden="true">(.)</span> (\w+)</span>', written.read_text()
    )
    assert badges
    assert all(name == word and SIGNS[Verdict[name.upper()]] == sign for name, sign, word in badges)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(scheme: str) -> None:
    """Every colour that text has keeps a contrast of 4.5 (WCAG 2.2, AA) on the page and on raised ground."""
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\n *\}", CSS, re.S)[:2]
    )
    colours = light if scheme == "light" else {**light, **dark}
    assert set(dark) >= {"paper", "ink", "fail", "pass"}
    for name in ("ink", "quiet", "link", "fail", "invalid", "unknown", "pass", "skipped"):
        for ground in ("paper", "raised"):
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, "contrast ratio"."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_page_stays_small(written: Path) -> None:
    """Three runs of 26 000 samples each make a page of some hundred kilobytes."""
    assert sum(len(s) for _, known in evidence.night() for s in known.samples.values()) > 60_000
    assert written.stat().st_size < 500_000


def test_the_page_is_replaced_whole(tmp_path: Path) -> None:
    """Writing again leaves one file, the new one."""
    rendered(tmp_path, (evidence.aborted(), None))
    assert "aborted: postgres" in rendered(tmp_path, (evidence.aborted(), None))
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_missed_target_stands_out(tmp_path: Path) -> None:
    """What took longer than promised, or was not back at all, is emphasised beside its target."""
    result, known = evidence.broker_restart()
    late = {
        "mttr": Measure(121.0, 121.1),
        "drain": Measure(125.0, None, "still behind"),
        "restore": Measure(121.0, 121.1),
    }
    text = rendered(tmp_path, (replace(result, verdict=Verdict.FAIL, measures={**result.measures, **late}), known))
    assert re.findall(r'<strong class="bad">([^<]*)</strong></td><td class="nowrap">(\d+ s)', text) == [
        ("over 125.0 s", "120 s"),
        ("121.0–121.1 s", "120 s"),
    ]


def test_what_is_worse_than_its_history_stands_out(tmp_path: Path) -> None:
    """A pass that was slower than the passes before it says so beside its verdict, and by how much in its times."""
    (slow, known), *_ = evidence.tonight()
    words = Page(rendered(tmp_path, (slow, known))).words()
    assert words.count("▲ MTTR worse than its own history") == 2, "in the table, and at the run"
    assert "Worse than its own history: broker_restart. Stale runbook: broker_restart." in words
    assert "median 2.9 s, p95 3.1 s ▲ worse, p = 0.004 of 29 runs" in words
    assert "median 4.1 s, p95 4.6 s of 29 runs" in words, "within its history: no mark"
    calm = Page(rendered(tmp_path, (replace(slow, trends=()), known))).words()
    assert "▲" not in calm


@pytest.mark.parametrize(("ok", "stale"), [(False, True), (True, False), (None, False)])
def test_a_runbook_is_stale_when_a_step_failed(ok: bool | None, stale: bool, tmp_path: Path) -> None:
    """The steps are listed with what came out; one that failed marks the run's runbook, one left out does not."""
    step = Step("diagnosis", "read the last commit", ok, "expected 12 rows, got 9", 1.2)
    words = Page(rendered(tmp_path, (replace(evidence.aborted(), steps=(step,)), None))).words()
    assert "read the last commit diagnosis" in words
    assert "expected 12 rows, got 9" in words
    assert ("! runbook stale" in words) is stale


def test_a_long_reason_is_a_list(tmp_path: Path) -> None:
    """Thirty streams that were all late are readable one by one."""
    why = "; ".join(f"silver is 14.7 s behind exchange in stream {n}" for n in range(30))
    text = rendered(tmp_path, (replace(evidence.aborted(), why=why), None))
    assert "<li>silver is 14.7 s behind exchange in stream 29</li>" in text


@pytest.mark.parametrize(
    ("verdicts", "lead"),
    [
        ([], "No failure test was run."),
        ([Verdict.PASS], "The run passed"),
        ([Verdict.PASS] * 3, "All 3 runs passed"),
        ([Verdict.PASS, Verdict.FAIL], "Of 2 runs, 1 failed and 1 passed."),
        ([Verdict.INVALID], "Of 1 run, 1 proved nothing"),
        ([Verdict.SKIPPED], "Of 1 run, 1 skipped."),
    ],
)
def test_the_night_in_a_sentence(verdicts: list[Verdict], lead: str, tmp_path: Path) -> None:
    """Whatever the mix, the first sentence says how many ended how."""
    runs = [(replace(evidence.aborted(), verdict=v), None) for v in verdicts]
    assert lead in Page(html.render("n1", runs, tmp_path / "r.html").read_text()).words()


def test_trouble_of_the_night_itself_is_in_the_first_sentence(tmp_path: Path) -> None:
    """When the selftest missed something, passes alone must not read as good news."""
    finding = Finding("selftest", Verdict.UNKNOWN, "a dropped row was not caught")
    words = Page(rendered(tmp_path, evidence.broker_restart(), findings=[finding])).words()
    assert "The night's own checks found trouble: selftest." in words


# ---- the timeline ----------------------------------------------------------------------------------------------------


def drawn(known: Evidence) -> tuple[Timeline, str]:
    made = timeline(known)
    assert made is not None
    return made, str(svg.draw(made, svg.WIDE, "t"))


def test_the_marks_are_where_the_measures_say() -> None:
    """Fault at zero, then impact, the mending of a held fault, restore and drain, each with its interval."""
    made, _ = drawn(evidence.feed_handler_crash()[1])
    assert [(m.name, round(m.low_s, 2), round(m.high_s, 2)) for m in made.marks] == [
        ("fault", 0.0, 0.0),
        ("impact", 0.01, 0.06),
        ("mended", 11.3, 11.3),
        ("restore", 12.3, 12.35),
        ("drain", 13.75, 13.8),
    ]
    assert made.words[0] == "fault: stop handler-binance"


def test_rows_tell_the_struck_from_the_others() -> None:
    """The held venue falls behind for as long as it was down, the others do not; its handler alone was silent."""
    made, _ = drawn(evidence.feed_handler_crash()[1])
    behind = {row.name: (row.struck, row.worst_s) for row in made.streams}
    assert behind["binance"][0]
    assert behind["binance"][1] == pytest.approx(12.7, abs=0.2)
    assert not behind["kraken"][0]
    assert behind["kraken"][1] < 1
    assert [row.name for row in made.bands if row.silent] == ["handler-binance"]
    assert made.bands[0].silent[0] == pytest.approx((0.05, 11.9), abs=0.06)


def test_a_single_unanswered_probe_is_seen() -> None:
    """However long the record, 50 ms without an answer are drawn wide enough to see, and told in words."""
    known = evidence.feed_handler_crash()[1]
    series = list(known.samples["component/broker/protocol"])
    for after_s in (5, 30):
        hit = next(i for i, s in enumerate(series) if s.at_ns > (known.inject_ns or 0) + after_s * 1_000_000_000)
        series[hit] = replace(series[hit], value=None)
    made, picture = drawn(replace(known, samples={**known.samples, "component/broker/protocol": series}))
    (row,) = [row for row in made.bands if row.name == "broker"]
    assert len(row.silent) == 2
    assert row.note.startswith("silent 0.1")
    widths = [float(width) for width in re.findall(r'width="([\d.]+)" height="9" class="silent', picture)]
    assert len(widths) == 3
    assert min(widths) >= 1.5


def test_trouble_long_after_the_run_is_not_cut_off() -> None:
    """What is drawn reaches as far as anything was bad, and the caption says what was left out."""
    known = evidence.broker_restart()[1]
    calm, _ = drawn(known)
    assert calm.shown[1] < 10
    assert "of a record from −10 to 42 s" in calm.caption
    series = list(known.samples["component/postgres/query"])
    series[-10] = replace(series[-10], value=None)
    late, _ = drawn(replace(known, samples={**known.samples, "component/postgres/query": series}))
    assert late.shown[1] > 39


def test_a_spike_between_two_pixels_is_drawn() -> None:
    """One late sample among thousands reaches the picture at its full height."""
    known = evidence.broker_restart()[1]
    name = "head/silver/kraken/SOL%2FUSD"
    series = list(known.samples[name])
    hit = next(i for i, s in enumerate(series) if s.at_ns > (known.inject_ns or 0) + 30_000_000_000)
    series[hit] = replace(series[hit], value=(series[hit].value or 0) - 33 * 8)
    made, picture = drawn(replace(known, samples={**known.samples, name: series}))
    (row,) = [row for row in made.streams if row.name == "kraken"]
    assert row.worst_s == pytest.approx(8.4, abs=0.3)
    heights = [
        float(y) for line in re.findall(r'polyline points="([^"]+)"', picture) for y in re.findall(r",([\d.]+)", line)
    ]
    bases = sorted({float(y) for y in re.findall(r'y1="([\d.]+)" y2="\1" class="base"', picture)})
    top = min(y for y in heights if bases[1] - 41 < y <= bases[1])
    assert bases[1] - top == pytest.approx(40 * row.worst_s / 10, abs=0.5)


def test_a_gap_of_the_sampler_is_no_outage() -> None:
    """Seconds without samples are shown as not asked, and no line is drawn through them."""
    known = evidence.broker_restart()[1]
    start = (known.inject_ns or 0) + 5_000_000_000
    cut = {
        name: [s for s in samples if not start < s.at_ns < start + 2_000_000_000]
        for name, samples in known.samples.items()
    }
    made, picture = drawn(replace(known, samples=cut))
    assert all(row.unseen for row in (*made.streams, *made.bands))
    assert not [row.name for row in made.bands if row.silent and row.name not in ("broker", "serving (12 slots)")]
    assert 'class="unseen' in picture
    assert len(re.findall("<polyline", picture)) == 2 * len(made.streams)


def test_an_alert_is_a_mark_and_a_row() -> None:
    """When the platform's alert waited and fired is a row below the components, its first firing a mark."""
    (_, known), *_ = evidence.tonight()
    assert known is not None
    made, picture = drawn(known)
    assert [mark.text for mark in made.marks if mark.name == "alert"] == ["alert 1.9–2.1 s"]
    row = made.bands[-1]
    assert (row.name, row.note) == ("alert BrokerDown", "fired 5.0 s")
    assert row.firing == ((2.0, 7.0),)
    assert row.pending == ((1.5, 2.0),)
    assert "alert BrokerDown: fired 5.0 s (2.00 to 7.00 s)" in made.words
    assert len(re.findall('class="(?:firing|pending) ', picture)) == 2
    quiet = {name: [replace(s, value=0.0) for s in some] for name, some in known.samples.items() if "alert" in name}
    assert drawn(replace(known, samples={**known.samples, **quiet}))[0].bands[-1].note == "did not fire"


def test_the_target_is_drawn_where_it_fits() -> None:
    """A target inside the picture is a line in it; one beyond is named in the caption."""
    known = evidence.broker_restart()[1]
    assert "target" not in drawn(known)[1]
    assert "The target for restore, 120 s, lies to the right" in drawn(known)[0].caption
    made, picture = drawn(replace(known, mttr_max_s=3.0))
    assert ">target 3 s</text>" in picture
    assert "lies to the right" not in made.caption


def test_labels_do_not_cover_each_other() -> None:
    """Marks within milliseconds of each other keep their own place, on wide and narrow pages."""
    known = evidence.broker_restart()[1]
    close = {name: Measure(0.01 * n, 0.01 * n + 0.005) for n, name in enumerate(("impact", "restore", "drain"), 1)}
    made, _ = drawn(replace(known, measures=close))
    for layout in (svg.WIDE, svg.NARROW):
        picture = str(svg.draw(made, layout, "t"))
        places = re.findall(r'<text y="([\d.]+)" class="mark', picture)
        assert len(places) == len(set(places)) == 4


def test_without_samples_there_is_no_picture() -> None:
    """Nothing is drawn from nothing; a run that was never broken is drawn from its first sample."""
    known = evidence.broker_restart()[1]
    assert timeline(replace(known, samples={})) is None
    calm = timeline(replace(known, inject_ns=None, clock_ns=None, acts=(), measures={}))
    assert calm is not None
    assert calm.marks == ()
    assert calm.shown[0] == 0


def test_a_stream_without_groups_has_a_row() -> None:
    """One for all of its records."""
    samples = {f"head/{hop}": [Sample(n * 10**8, 10**6, float(n)) for n in range(50)] for hop in ("log", "table")}
    bare = Evidence("t", {}, "s", ledger="log", visible="table", samples=samples, window=Window({(): 0}, {(): 9}))
    assert [row.name for row in _streams(bare, 0)[0]] == [ALL]


def test_what_is_normal_and_what_is_quiet_is_told(tmp_path: Path) -> None:
    """How fine recovery can be told, where a sink writes in batches; and which groups had nothing new."""
    result, told = evidence.broker_restart()
    assert told.baseline is not None
    assert (html._normal(told), html._quiet(told)) == ("a record is seen within 0.71 s (p99)", None)
    shop = ("shop-7",)
    series = [Sample(s.at_ns, s.took_ns, 7.0) for s in told.samples["head/exchange/binance/BTCUSDT"]]
    heads = {**told.baseline.marks.heads, told.ledger: {**told.baseline.marks.heads.get(told.ledger, {}), shop: 7}}
    base = replace(told.baseline, delay_p99_s=5.1, marks=replace(told.baseline.marks, heads=heads))
    told = replace(told, baseline=base, samples={**told.samples, "head/exchange/shop-7": series})
    text = rendered(tmp_path, (result, told))
    assert "a record is seen within 5.1 s (p99): recovery is told no finer than that" in text
    assert "groups, of which nothing new came: shop-7" in text
