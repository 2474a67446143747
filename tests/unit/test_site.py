"""The report's pages over many nights: the index, each test's history, and how they are kept up to date."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from gameday import cli, codec
from gameday.model import Json, Measure, RunResult, Trend, Verdict
from gameday.reports import plot, site
from gameday.reports.results import complete
from gameday.state import State
from tests.unit import evidence
from tests.unit.markup import Page

NIGHTS = 8


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> State:
    return evidence.nights(tmp_path_factory.mktemp("state"), NIGHTS)


@pytest.fixture
def state(made: State, tmp_path: Path) -> State:
    """The same nights, in another place, to be changed."""
    shutil.copytree(made.nights, tmp_path / "moved" / "nights")
    return State(tmp_path / "moved")


def pages(state: State) -> dict[Path, Page]:
    return {path: Page(path.read_text()) for path in sorted(state.nights.rglob("*.html"))}


def index(state: State) -> str:
    return Page(state.index.read_text()).words()


def few(root: Path, *nights: tuple[str, list[RunResult]]) -> State:
    """A state folder with these nights' results and nothing else."""
    state = State(root)
    for name, runs in nights:
        evidence.publish(state, name, runs)
    site.refresh(state)
    return state


def timed(mttr_s: float | None, verdict: Verdict = Verdict.PASS, **more: Any) -> RunResult:
    """A run with this MTTR."""
    measures = {} if mttr_s is None else {"mttr": Measure(mttr_s - 0.05, mttr_s)}
    return complete(replace(evidence.broker_restart()[0], verdict=verdict, measures=measures, **more))


def check_links(state: State) -> None:
    """Every relative link leads to a page that is there, and to an element of it."""
    known = pages(state)
    for path, page in known.items():
        for link in page.links:
            place, _, fragment = link.partition("#")
            target = (path.parent / unquote(place)).resolve() if place else path
            assert target in known, f"{path.name}: {link}"
            assert not fragment or fragment in known[target].ids, f"{path.name}: {link}"


# ---- the pages -------------------------------------------------------------------------------------------------------


def test_every_link_leads_somewhere(state: State) -> None:
    """Between all pages, also after the folder was copied elsewhere."""
    check_links(state)
    assert len(pages(state)) == 1 + NIGHTS + 6


def test_every_page_stands_alone_and_can_be_read_aloud(made: State) -> None:
    """Index, nights and tests alike."""
    for page in pages(made).values():
        page.check_alone()
        page.check_structure()


def test_the_index_begins_with_the_newest_night_and_what_needs_attention(made: State) -> None:
    """A fail first, then what proved nothing, then what passed but slower, or with a runbook that led astray."""
    words = index(made)
    assert words.index("fail Night of 19 February 2026, 02:00 UTC") < words.index("Needs attention")
    attention = words[words.index("Needs attention") : words.index("Median: of the passes")]
    order = ("silver lost 13", "aborted: postgres", "▲ MTTR worse than its own history ! runbook stale")
    places = [attention.index(text) for text in order]
    assert places == sorted(places)
    assert words.index("19 Feb 2026, 02:00") < words.index("18 Feb 2026, 02:00") < words.index("12 Feb 2026, 02:00")


def test_a_night_of_passes_needs_no_attention(tmp_path: Path) -> None:
    """The index is calm when all is well."""
    state = few(tmp_path, ("20260218T020000-n", [timed(3.0)]))
    assert "Nothing: each test passed when it last ran" in index(state)


def test_each_history_has_its_own_place(made: State) -> None:
    """The two ways of broker_restart are two histories on one page, each with its plots, its strip and all its runs."""
    page = Page(made.history("broker_restart").read_text())
    words = page.words()
    assert "2 sets of parameters" in words
    sections = [a for tag, a, _ in page.elements if tag == "section"]
    assert len(sections) == 2
    graceful = words[words.rindex("broker_restart how=graceful") :]
    for wanted in ("MTTR", "Drain", "Alert", "Runbook, as carried out on 19 Feb", "19 Feb, 02:00", "median 2.9 s"):
        assert wanted in graceful
    runs = sum(
        r.params == {"how": "graceful"} for night in made.published() for r in published(night, "broker_restart")
    )
    links = [link for link in page.links if link.startswith("../2")]
    assert len(links) == runs + NIGHTS - 1, "every night of both ways"


def published(path: Path, test: str) -> list[RunResult]:
    told = json.loads(path.read_text())["results"]
    return [run for run in (codec.decode(RunResult, one) for one in told) if run.test == test]


def test_nothing_that_a_result_says_becomes_markup(tmp_path: Path) -> None:
    """Whatever text is in results.json, and however a night's folder is called; a test without a name that gameday
    gives has no page, and so no link."""
    evil = evidence.EVIL.replace("\0", "")
    name = "20260218T020000-<script>alert(1)<&\"'#?%"
    for test in (evil, "../../escaped", "broker_restart"):
        run = replace(
            timed(3.0, Verdict.FAIL),
            test=test,
            params={evil: evil},
            stack=evil,
            why=evil,
            started=evil,
            id=evil,
            counts={"lost": {evil: 3}},
            steps=(replace(evidence.STEPS[1], kind=evil, title=evil, why=evil),),
            trends=(Trend("mttr", 12, 1.0, 2.0, 0.001, True), Trend(evil, 12, 1.0, 2.0, None, True)),
        )
        state = few(tmp_path / str(len(test)), (name, [run]))
        site.write(state, name, [(run, None)])
        for page in pages(state).values():
            page.check_harmless()
            assert "<script>alert('x')</script>" in page.words()
        check_links(state)
        known = (
            {path.name for path in (state.nights / "tests").glob("*")} if (state.nights / "tests").exists() else set()
        )
        assert known == ({"broker_restart.html"} if test == "broker_restart" else set())
    assert not list(tmp_path.rglob("escaped*"))


def test_halves_of_characters_are_left_out(tmp_path: Path) -> None:
    """JSON can hold text that no file can: the page is written all the same."""
    state = State(tmp_path)
    evidence.publish(state, "20260218T020000-n", [timed(3.0)])
    path = state.published()[0]
    path.write_text(path.read_text().replace('"as promised"', '"as \\ud800promised"'))
    site.refresh(state)
    assert "as promised" in Page(state.history("broker_restart").read_text()).words()


# ---- kept up to date -------------------------------------------------------------------------------------------------


def test_a_night_touches_its_own_pages_only(state: State) -> None:
    """Written again: the index, the night, the tests that it ran. Nothing else."""
    before = {path: path.stat().st_ino for path in pages(state)}
    run = timed(3.0, night="20260220T020000-n")
    evidence.publish(state, "20260220T020000-n", [run])
    out = site.write(state, "20260220T020000-n", [(run, None)])
    after = {path: path.stat().st_ino for path in pages(state)}
    assert {path for path in after if before.get(path) != after[path]} == {
        out, state.index, state.history("broker_restart")
    }  # fmt: skip
    check_links(state)


def test_what_was_deleted_is_gone(state: State) -> None:
    """After nights were deleted, no page shows or links them; a test of which no run is left says so."""
    kept, *_ = state.published()[-1:]
    for path in state.published():
        if path != kept:
            shutil.rmtree(path.parent)
    site.refresh(state)
    assert "18 Feb 2026" not in index(state)
    check_links(state)
    words = Page(state.history("network_partition").read_text()).words()
    assert "No run of it is left among the nights that are kept." in words


def test_it_reaches_back_so_far_and_no_further(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many nights are kept, a night's end reads and shows the same number of them."""
    read: list[Path] = []
    monkeypatch.setattr(site, "NIGHTS_MAX", 5)

    def counted(path: Path) -> Json:
        read.append(path)
        return codec.read_json(path)

    monkeypatch.setattr(site, "read_json", counted)
    site.refresh(state)
    assert len(read) == 5
    words = index(state)
    assert "15 Feb 2026, 02:00" in words
    assert "14 Feb 2026, 02:00" not in words
    assert f"{NIGHTS - 5} older nights are kept" in words


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"results": [{"test": 1}]}', "\x80"])
def test_a_night_that_cannot_be_read_hides_no_other(text: str, tmp_path: Path) -> None:
    """It is told on the index, with the reason; the others stand."""
    state = few(tmp_path, ("20260218T020000-n", [timed(3.0)]), ("20260219T020000-n", [timed(3.1)]))
    (state.night("20260219T020000-n") / "results.json").write_text(text, encoding="latin-1")
    site.refresh(state)
    words = index(state)
    assert "19 Feb 2026, 02:00 not readable" in words
    assert "18 Feb 2026, 02:00 ✓ pass" in words


def test_without_a_night_the_index_says_what_to_do(tmp_path: Path) -> None:
    """An empty folder is no error."""
    assert "gameday run --all" in Page(site.refresh(State(tmp_path)).read_text()).words()


# ---- plots -----------------------------------------------------------------------------------------------------------


def drawn(runs: list[RunResult], name: str = "mttr", target_s: float | None = 120.0) -> str:
    made = plot.trend(runs, name, target_s, plot.WIDE, "k")
    assert made is not None
    return str(made)


def line_y(picture: str, name: str) -> float:
    (y,) = re.findall(rf'<line x1="[\d.]+" x2="[\d.]+" y1="([\d.]+)" y2="[\d.]+" class="{name}"', picture)
    return float(y)


def dots(picture: str) -> list[float]:
    return [float(y) for y in re.findall(r'cy="([\d.]+)" r="[\d.]+" class="dot', picture)]


def test_a_run_stands_where_its_mttr_says() -> None:
    """Twice as long is twice as high; the target is a line at its own height."""
    picture = drawn([timed(10.0), timed(20.0)], target_s=20.0)
    low, high = dots(picture)
    base = plot.WIDE.height + 20
    assert (base - high) == pytest.approx(2 * (base - low), abs=0.3)
    assert line_y(picture, "target") == pytest.approx(high, abs=0.11)


def test_a_target_far_above_is_beyond_a_break() -> None:
    """It is always there as a line, above all runs, and the break of the scale is drawn."""
    picture = drawn([timed(3.0), timed(3.2)])
    assert line_y(picture, "target") < min(dots(picture)) - 10
    assert 'class="break"' in picture
    assert ">target 120 s<" in picture
    assert 'class="break"' not in drawn([timed(3.0)], target_s=5.0)


def test_a_missed_target_lies_above_the_line() -> None:
    """And is a cross, not a dot; the words say how often."""
    picture = drawn([timed(3.0), timed(30.0, Verdict.FAIL)], target_s=20.0)
    cross = [
        float(y) for y in re.findall(r'<polyline points="[\d.]+,([\d.]+) [\d.]+,[\d.]+" class="dot fail"', picture)
    ]
    assert len(cross) == 2
    assert max(cross) < line_y(picture, "target")
    assert "missed by 1 run" in picture


def test_what_was_not_measured_is_no_zero() -> None:
    """A run without the measure is a question mark; what is never measured has no plot at all."""
    picture = drawn([timed(3.0), timed(None, Verdict.UNKNOWN)])
    assert len(dots(picture)) == 1
    assert len(re.findall(r'class="unmeasured">\?', picture)) == 1
    assert plot.trend([timed(None)], "mttr", 120.0, plot.WIDE, "k") is None
    beyond = replace(timed(3.0), measures={"mttr": Measure(40.0, None)}, verdict=Verdict.FAIL)
    assert 'class="beyond fail"' in drawn([timed(3.0), beyond])


def test_decline_is_marked_in_the_plot() -> None:
    """A run that was worse than its own history has a ring, and its day is told in words."""
    worse = replace(timed(5.0), trends=(Trend("mttr", 20, 3.0, 3.3, 0.001, True),))
    picture = drawn([timed(3.0), worse])
    assert picture.count('class="worse"') == 1
    assert "worse than its own history on 19 Feb" in picture
    assert ">median 3.0 s<" in picture
    assert 'class="worse"' not in drawn([timed(3.0), timed(5.0)])


def test_the_strip_tells_verdicts_by_form() -> None:
    """No two of pass, fail and unknown have one height; it shows the newest, and counts them in words."""
    runs = [timed(3.0), timed(3.0, Verdict.FAIL), timed(3.0, Verdict.UNKNOWN), timed(3.0)]
    picture = str(plot.strip(runs, 3))
    cells = dict(re.findall(r'height="([\d.]+)" class="(\w+)"', picture)[::-1])
    assert len(cells) == 3
    assert 'aria-label="3 runs, newest pass: 1 pass, 1 unknown and 1 fail"' in picture


def test_the_median_of_a_narrow_plot_covers_no_run() -> None:
    """Its name stands above the plot, for there is no room beside it."""
    worse = replace(timed(3.0), trends=(Trend("mttr", 20, 3.0, 3.3, 0.4, False),))
    picture = str(plot.trend([worse], "mttr", 120.0, plot.NARROW, "k"))
    assert re.search(r'y="9" text-anchor="start" class="name median">', picture)


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "nights/index.html"),
        (("last",), f"{evidence.NIGHT}/report.html"),
        (("20260219",), f"{evidence.NIGHT}/report.html"),
        (("202602",), "is more than one night"),
        (("2031",), f"is no night; the newest is {evidence.NIGHT}"),
    ],
)
def test_the_command_says_where_the_report_is(
    words: tuple[str, ...], told: str, state: State, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The index, or the one night that is meant; an id that means none or several is told."""
    monkeypatch.setenv("GAMEDAY_STATE", str(state.root))
    monkeypatch.setattr("sys.argv", ["gameday", "report", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capfd.readouterr()
    assert told in printed.out + printed.err
    assert ended.value.code == (2 if told.startswith("is") else 0)


def test_the_command_mends_the_index(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nights may have been deleted by hand: what it opens shows those that are there, and opens that page."""
    opened: list[str] = []
    shutil.rmtree(state.night(evidence.NIGHT))
    monkeypatch.setenv("GAMEDAY_STATE", str(state.root))
    monkeypatch.setattr("sys.argv", ["gameday", "report", "--open"])

    def browse(url: str) -> bool:
        opened.append(url)
        return True

    monkeypatch.setattr("webbrowser.open", browse)
    with pytest.raises(SystemExit):
        cli.main()
    assert opened == [state.index.as_uri()]
    assert "19 Feb 2026, 02:00" not in index(state)
