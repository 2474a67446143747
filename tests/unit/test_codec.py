"""Values to JSON and back, files that are whole or not there, and the sampler's files as series."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gameday import codec
from gameday.errors import GamedayError
from gameday.model import (
    Act,
    Baseline,
    Digest,
    Evidence,
    Finding,
    JobRun,
    Marks,
    Measure,
    Now,
    RunResult,
    Sample,
    Tally,
    Verdict,
    Window,
)
from gameday.plan import Await
from gameday.verdict import selftest

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
groups = st.lists(names, max_size=3).map(tuple)
whole = st.integers(-(1 << 63), 1 << 64)
real = st.floats(allow_nan=False, allow_infinity=False)
plain = st.recursive(
    st.none() | st.booleans() | whole | real | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
maybe = st.none() | whole

measures = st.builds(Measure, low_s=st.none() | real, high_s=st.none() | real, why=names)
windows = st.builds(
    Window, lo=st.dictionaries(groups, whole, max_size=3), hi=st.dictionaries(groups, whole, max_size=3)
)
tallies = st.builds(Tally, whole, whole, whole, whole, whole, whole, maybe)
digests = st.builds(Digest, names, names, names, st.dictionaries(groups, tallies, max_size=3))
acts = st.builds(
    Act,
    names,
    names,
    whole,
    whole,
    names,
    names,
    st.dictionaries(names, plain, max_size=3),
    plain,
    names,
    st.none() | names,
    maybe,
)
marks = st.builds(
    Marks,
    whole,
    whole,
    st.dictionaries(names, st.dictionaries(groups, whole, max_size=3), max_size=2),
    st.dictionaries(names, st.dictionaries(names, whole, max_size=3), max_size=2),
    st.dictionaries(names, st.dictionaries(names, whole, max_size=3), max_size=2),
    st.dictionaries(names, plain, max_size=3),
)
findings = st.builds(Finding, names, st.sampled_from(Verdict), names, plain)
samples = st.builds(Sample, whole, whole, st.none() | real)
baselines = st.builds(Baseline, marks, real, real, st.dictionaries(groups, real, max_size=3))
jobs = st.builds(JobRun, names, names, names, maybe, maybe, names)
evidences = st.builds(
    Evidence,
    names,
    st.dictionaries(names, plain, max_size=3),
    names,
    component=st.none() | names,
    affected=st.lists(groups, max_size=3).map(tuple),
    acts=st.lists(acts, max_size=2).map(tuple),
    samples=st.dictionaries(names, st.lists(samples, max_size=3), max_size=2),
    baseline=st.none() | baselines,
    inject_ns=maybe,
    window=st.none() | windows,
    digests=st.lists(digests, max_size=2).map(tuple),
    measures=st.dictionaries(names, measures, max_size=3),
    jobs=st.lists(jobs, max_size=2).map(tuple),
    symptoms=st.dictionaries(names, plain, max_size=2),
)
counts = st.dictionaries(names, st.dictionaries(names, whole, max_size=3), max_size=2)
results = st.builds(
    RunResult,
    *(names, names, names),
    st.dictionaries(names, plain, max_size=3),
    names,
    st.sampled_from(Verdict),
    *(names, names, real, real, real),
    st.dictionaries(names, measures, max_size=3),
    counts,
    st.lists(findings, max_size=2).map(tuple),
    st.lists(acts, max_size=1).map(tuple),
)


@given(st.one_of(measures, windows, tallies, digests, acts, marks, findings, baselines, jobs, evidences, results))
@settings(max_examples=60)
def test_every_value_comes_back_as_it_was(value: Any) -> None:
    """Through text, whatever the names hold: slashes, percent signs, nothing at all."""
    assert codec.decode(type(value), json.loads(codec.dumps(value))) == value


def test_a_group_reads_well_and_keeps_its_slash() -> None:
    """The key of kraken's BTC/USD is told apart from a group of three."""
    window = Window(lo={("kraken", "BTC/USD"): 1, ("kraken", "BTC", "USD"): 2}, hi={})
    assert codec.encode(window)["lo"] == {"kraken/BTC%2FUSD": 1, "kraken/BTC/USD": 2}


def test_equal_values_give_equal_text() -> None:
    """Keys are sorted, so files can be compared and diffed."""
    assert codec.dumps({"b": 1, "a": {"d": 1, "c": 2}}) == codec.dumps({"a": {"c": 2, "d": 1}, "b": 1})


@pytest.mark.parametrize(
    "value",
    [np.int64(1), np.float64(1), np.array([1]), float("nan"), float("inf"), {1: 2}, {1, 2}, b"x", Path("x")],
    ids=repr,
)
def test_what_would_come_back_as_something_else_is_refused(value: Any) -> None:
    """numpy scalars above all: they look like numbers until json meets them. The error tells where."""
    with pytest.raises(TypeError, match="where"):
        codec.encode({"where": value} if not isinstance(value, dict) else {"where": {"deep": value}})


def test_code_is_no_value() -> None:
    """A condition can't come back from JSON, so it does not go in."""
    with pytest.raises(TypeError):
        codec.encode(Await(lambda now: isinstance(now, Now), 1.0))


@pytest.mark.parametrize(
    ("found", "told"),
    [
        ({"lo": {}, "hi": []}, r"Window\.hi is \[\], expected dict"),
        ({"lo": {}, "hi": {"a": "1"}}, r"Window\.hi\.a is '1', expected int"),
        ({"lo": {}, "hi": {"a": True}}, r"Window\.hi\.a is True, expected int"),
        ({"lo": {}}, "expected a value for hi"),
        ({"lo": {}, "hi": {}, "mid": {}}, r"Window\.mid is \{\}, expected nothing of that name"),
    ],
)
def test_wrong_json_is_named_with_its_place(found: Any, told: str) -> None:
    """Which field, what was found, what was expected."""
    with pytest.raises(GamedayError, match=told):
        codec.decode(Window, found)


def test_an_unknown_verdict_is_named() -> None:
    """The error lists the verdicts that exist."""
    with pytest.raises(GamedayError, match=r"Finding\.verdict is 'great', expected one of pass, skipped"):
        codec.decode(Finding, {"check": "c", "verdict": "great", "why": ""})


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    """A value that can't be written leaves the old file, and no scraps."""
    path = tmp_path / "sub" / "r.json"
    codec.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        codec.write_json(path, {"a": np.int64(2)})
    assert codec.read_json(path) == {"a": 1}
    assert os.listdir(path.parent) == ["r.json"]


def test_half_a_surrogate_pair_ends_nothing(tmp_path: Path) -> None:
    """JSON from a platform may hold one; UTF-8 may not."""
    codec.write_json(tmp_path / "a.json", {"a": "é\ud800"})
    assert codec.read_json(tmp_path / "a.json") == {"a": "é\ud800"}
    assert codec.dumps("\ud800").encode() == b'"\\ud800"'


def test_a_file_that_fails_to_replace_leaves_no_scraps(tmp_path: Path) -> None:
    """Where the target can't be replaced (a folder stands there), the temporary file goes and the path is named."""
    path = tmp_path / "r.json"
    (path / "in the way").mkdir(parents=True)
    with pytest.raises(GamedayError, match=r"r\.json can't be written"):
        codec.write_json(path, {})
    assert os.listdir(tmp_path) == ["r.json"]


@pytest.mark.parametrize("text", [None, "{", "\xff\xfe"], ids=["absent", "torn", "binary"])
def test_an_unreadable_file_is_named(tmp_path: Path, text: str | None) -> None:
    """The error says which file, not which line of json."""
    path = tmp_path / "result.json"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(GamedayError, match=r"result\.json"):
        codec.read_json(path)


def write(folder: Path, *lines: str, name: str = "1.jsonl") -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text("\n".join(lines))


def test_samples_become_series(tmp_path: Path) -> None:
    """An unanswered reading counts in every series of its probe; a suffix with a dot is appended without a slash."""
    write(
        tmp_path,
        '{"series": "component/h/health"}',
        "[30, 5, null]",
        '[10, 2, {"": 1, ".connects": 3, "a": 4}]',
        '[20, 2, {"": 1, "a": 5}]',
        "[40, 1",
    )
    assert codec.read_samples(tmp_path) == {
        "component/h/health": [Sample(10, 2, 1), Sample(20, 2, 1), Sample(30, 5, None)],
        "component/h/health.connects": [Sample(10, 2, 3), Sample(20, 2, None), Sample(30, 5, None)],
        "component/h/health/a": [Sample(10, 2, 4), Sample(20, 2, 5), Sample(30, 5, None)],
    }


def test_a_probe_that_never_answered_is_a_series_of_silence(tmp_path: Path) -> None:
    """Its name is the probe's own; nothing sampled is nothing, not an error."""
    write(tmp_path / "s", '{"series": "component/b/p"}', "[1, 2, null]", "")
    assert codec.read_samples(tmp_path / "s") == {"component/b/p": [Sample(1, 2, None)]}
    assert codec.read_samples(tmp_path / "none") == {}


@pytest.mark.parametrize("line", ["nonsense", "{}", "[1, 2]", "7"])
def test_a_broken_line_is_an_error(tmp_path: Path, line: str) -> None:
    """Only the last, unended line may be broken: anything else was changed by someone."""
    write(tmp_path, '{"series": "x"}', line, "[1, 2, null]", "")
    with pytest.raises(GamedayError, match=r"1\.jsonl"):
        codec.read_samples(tmp_path)


def test_a_run_is_judged_again_from_its_folder(tmp_path: Path) -> None:
    """Evidence saved and loaded is equal, the samples coming from the sampler's own files."""
    evidence = selftest.clean().evidence()
    codec.save_evidence(tmp_path, evidence)
    for number, (series, found) in enumerate(evidence.samples.items()):
        lines = [json.dumps([s.at_ns, s.took_ns, None if s.value is None else {"": s.value}]) for s in found]
        write(tmp_path / "samples", json.dumps({"series": series}), *lines, "", name=f"{number}.jsonl")
    assert codec.load_evidence(tmp_path) == evidence
    assert len(codec.read_json(tmp_path / "evidence.json")["samples"]) == 0
