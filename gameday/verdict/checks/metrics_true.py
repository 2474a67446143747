"""Do the platform's own metrics tell what happened, under the names and labels of their contract?"""

from __future__ import annotations

import bisect
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from gameday.model import Evidence, Finding, Sample, Samples, Verdict
from gameday.sampling.timings import NS, fall
from gameday.stack.contract import Contract, Metric, Rise
from gameday.verdict.streams import whole

__all__ = ["LAG_S", "SAMPLED_S", "metrics_true"]

LAG_S = 3.0
"""A counter and what it is held against count the same event, one later than the other, by so much at most."""

SAMPLED_S = 4 * LAG_S
"""Both must have been sampled for this long: a rise is told but for LAG_S at either end, and its bounds but for twice
that."""

TOLD_MAX = 3


@whole
def metrics_true(evidence: Evidence) -> Finding:
    """Passes when every program's series are those of the contract from its first answer on, and each counter of
    `rises` rose as much as what it is compared with.

    The series are the samples metrics/<program>/<name>{<labels>}; the contract is the symptom "contract". When a
    process ends, its counts since its last answer are lost. A rise that is smaller by so much is no fail.
    """
    told = evidence.symptoms.get("contract")
    programs = {} if told is None else _programs(evidence.samples)
    if told is None or not programs:
        lacks = "no contract is named" if told is None else "no program's metrics were sampled"
        return Finding("metrics_true", Verdict.UNKNOWN, f"there is nothing to judge: {lacks}")
    contract = Contract.model_validate(told)
    if mute := sorted(name for name, one in programs.items() if not one.series):
        return Finding("metrics_true", Verdict.UNKNOWN, f"{', '.join(mute)} told no metrics")
    bad = [why for one in programs.values() for why in one.breaks(contract)]
    judged = [_Judged(evidence, programs, rise) for rise in contract.rises]
    bad += [one.wrong for one in judged if one.wrong]
    if bad:
        more = f", and {len(bad) - TOLD_MAX} more" if len(bad) > TOLD_MAX else ""
        return Finding("metrics_true", Verdict.FAIL, "; ".join(bad[:TOLD_MAX]) + more, bad)
    if open_ := [one.untold for one in judged if one.untold]:
        return Finding("metrics_true", Verdict.UNKNOWN, "; ".join(open_), open_)
    count = sum(len(one.series) for one in programs.values())
    why = "; ".join(
        [f"{count} series of {len(programs)} programs are as the contract has them", *(j.why for j in judged)]
    )
    return Finding("metrics_true", Verdict.PASS, why, {one.rise.metric: one.counted for one in judged})


# ---- names and labels ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Program:
    """One scrape: (name, labels as JSON) -> samples; metric -> the type that it says; how many series it had at most;
    when it first answered; when each later process first answered."""

    name: str
    series: Mapping[tuple[str, str], Sequence[Sample]]
    types: Mapping[str, str]
    most: int
    since_ns: int
    begins_ns: Sequence[int] = ()

    def breaks(self, contract: Contract) -> Iterator[str]:
        """What of it is not as in the contract, in words."""
        variant = self._variant(contract)
        for (name, labels), _ in self.series.items():
            if name.startswith(contract.prefixes):
                yield from self._wrong(contract, variant, name, json.loads(labels))
        for name, metric in contract.metrics.items():
            if variant in metric.absent or (metric.of and self.name not in metric.of):
                continue
            if (said := self.types.get(name)) not in (None, metric.type):
                yield f"{self.name} says that {name} is a {said}, and it is a {metric.type}"
            yield from self._late(contract, variant, name, metric)

    def _variant(self, contract: Contract) -> str | None:
        """The value that its series have in the label of the variants."""
        label = contract.variants.label if contract.variants else None
        told = (json.loads(labels).get(label) for (name, labels) in self.series if name.startswith(contract.prefixes))
        return next((value for value in told if value is not None), None)

    def _wrong(self, contract: Contract, variant: str | None, name: str, labels: dict[str, str]) -> Iterator[str]:
        """What is wrong with one series."""
        metric = contract.metrics.get(_base(name, contract))
        if metric is None or variant in metric.absent:
            yield f"{self.name} tells {name}, which the contract has not" + (f" over {variant}" if metric else "")
            return
        known = dict(metric.values(variant))
        if contract.variants:
            known[contract.variants.label] = (variant,) if variant in contract.variants.values else ()
        for label in known.keys() - labels.keys() - set(metric.optional):
            yield f"{name} of {self.name} has no label {label}"
        for label, value in labels.items():
            if label not in known:
                yield f"{name} of {self.name} has the label {label}, which the contract has not ({self.most} series)"
            elif value not in known[label] and not (value == "" and label in metric.optional):
                yield f"{name} of {self.name} has {label}={value!r}, none of {', '.join(known[label])}"

    def _late(self, contract: Contract, variant: str | None, name: str, metric: Metric) -> Iterator[str]:
        """Which series are not there, or were not from the first answer on."""
        own = {contract.variants.label: variant} if contract.variants else {}
        for labels in metric.series(variant):
            key = json.dumps({**own, **labels}, sort_keys=True)
            told = self.series.get((name, key)) or self.series.get((f"{name}_count", key))
            if told is None:
                yield f"{self.name} does not tell {name}{key}"
            elif told[0].at_ns > self.since_ns:
                yield f"{self.name} tells {name}{key} only since its first event"


def _base(name: str, contract: Contract) -> str:
    """The metric that a series is of: a histogram has some under names of their own."""
    stem = name.removesuffix("_sum").removesuffix("_count")
    return stem if name not in contract.metrics and stem in contract.metrics else name


def _programs(samples: Samples) -> dict[str, _Program]:
    """Every scrape by its name."""
    found: dict[str, _Program] = {}
    names = dict.fromkeys(one.split("/")[1].removesuffix(".series") for one in samples if one.startswith("metrics/"))
    for program in names:
        prefix = f"metrics/{program}/"
        own = {one.removeprefix(prefix): told for one, told in samples.items() if one.startswith(prefix)}
        types = {one.split()[2]: one.split()[1] for one in own if one.startswith("# ")}
        series = {(n, "{" + rest): told for one, told in own.items() for n, _, rest in [one.partition("{")] if rest}
        counts = [s.value for s in samples.get(f"metrics/{program}.series", ()) if s.value is not None]
        since_ns = min((told[0].at_ns for told in series.values()), default=0)
        counters = [told for (name, _), told in series.items() if types.get(name) == "counter"]
        found[program] = _Program(program, series, types, int(max(counts, default=0)), since_ns, _begins(counters))
    return found


def _begins(counters: Iterable[Sequence[Sample]]) -> list[int]:
    """When a later process was first seen: one of the program's counters fell. Others may have risen meanwhile to where
    they were, or never have begun to."""
    begins: set[int] = set()
    for counter in counters:
        last = None
        for sample in counter:
            if sample.value is not None:
                if last is not None and sample.value < last:
                    begins.add(sample.at_ns)
                last = sample.value
    return sorted(begins)


# ---- rises -----------------------------------------------------------------------------------------------------------


class _Judged:
    """One rise. counted: by how much the counters rose, and by how much they had to, at least and at most."""

    def __init__(self, evidence: Evidence, programs: Mapping[str, _Program], rise: Rise) -> None:
        self.rise, self.wrong, self.untold, self.why = rise, "", "", ""
        self.counted: tuple[float, float, float] | None = None
        counters = [_Counter(told, one.begins_ns) for one in programs.values() for told in _of(one, rise)]
        silent = sorted(one.name for one in programs.values() for told in _of(one, rise) if _is_silent(told))
        sampled = evidence.samples.get(rise.account, ())
        account = [s for s in sampled if s.value is not None]
        struck = sorted(evidence.touched & set(rise.unless_struck))
        if struck:
            self.why = f"{rise.metric} is not held against {rise.account}, which may fall back with {', '.join(struck)}"
        elif not account or not counters:
            self.untold = f"{rise.metric}: {rise.account if not account else 'no such series'} was not sampled"
        elif fell := fall(account):
            self.untold = f"{rise.account} fell from {fell[0]:g} to {fell[1]:g}, so nothing is held against it"
        elif _is_silent(sampled):
            self.untold = f"{rise.account} was not told at the end, so the rest is held against nothing"
        elif silent:
            self.untold = f"{', '.join(silent)} told nothing of {rise.metric} at the end, so the rest is not known"
        else:
            self._judge(counters, account)

    def _judge(self, counters: Sequence[_Counter], account: Sequence[Sample]) -> None:
        lag_ns = int(LAG_S * NS)
        begin = max(account[0].at_ns, *(one.begin_ns for one in counters))
        end = min(account[-1].at_ns, *(one.end_ns for one in counters))
        if end - begin < SAMPLED_S * NS:
            self.untold = f"{self.rise.metric} was sampled for {(end - begin) / NS:.1f} s, of {SAMPLED_S:g} s at least"
            return
        rose = sum(one.at(end - lag_ns) - one.at(begin + lag_ns) for one in counters)
        lost = sum(_rise(account, a - lag_ns, b + lag_ns) for one in counters for a, b in one.gaps)
        most = _rise(account, begin, end)
        least = max(0.0, _rise(account, begin + 2 * lag_ns, end - 2 * lag_ns) - lost)
        self.counted = rose, least, most
        bounds = f"{least:g}" if least == most else f"{least:g} to {most:g}"
        self.why = f"{self.rise.metric} rose by {rose:g}, and {self.rise.account} by {bounds}"
        if not least <= rose <= most:
            self.wrong = self.why


def _of(program: _Program, rise: Rise) -> Iterator[Sequence[Sample]]:
    for (name, labels), told in program.series.items():
        if name == rise.metric and rise.where.items() <= json.loads(labels).items():
            yield told


def _is_silent(samples: Sequence[Sample]) -> bool:
    """Whether nothing was told for the last two LAG_S of the samples: what happened then is in no count."""
    told_ns = [sample.at_ns for sample in samples if sample.value is not None]
    return bool(told_ns) and samples[-1].at_ns - told_ns[-1] > 2 * LAG_S * NS


class _Counter:
    """A counter over the lives of its process, each of which begins at 0. begins_ns: the first answer of each but the
    first. gaps: from the last answer of one life to the first of the next."""

    def __init__(self, samples: Sequence[Sample], begins_ns: Sequence[int]) -> None:
        self.gaps: list[tuple[int, int]] = []
        self._told: list[tuple[int, float]] = []
        before, last, life = 0.0, None, 0
        for sample in samples:
            if sample.value is None:
                continue
            was, life = life, bisect.bisect_right(begins_ns, sample.at_ns)
            if last is not None and life != was:
                before += last
                self.gaps.append((self._told[-1][0], sample.at_ns))
            last = sample.value
            self._told.append((sample.at_ns, before + last))
        self.begin_ns, self.end_ns = (self._told[0][0], self._told[-1][0]) if self._told else (0, 0)

    def at(self, at_ns: int) -> float:
        """What it had counted in all by the last answer before."""
        return _last(self._told, at_ns)


def _rise(samples: Sequence[Sample], from_ns: int, to_ns: int) -> float:
    told = [(s.at_ns, s.value) for s in samples if s.value is not None]
    return _last(told, to_ns) - _last(told, from_ns)


def _last(told: Sequence[tuple[int, float]], at_ns: int) -> float:
    """The last value by then; the first one where that came later."""
    return next((value for at, value in reversed(told) if at <= at_ns), told[0][1])
